"""Shared by the tests of the commands: commands in this process, and runs that several tests look at."""

import json
import re
import signal
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from tuidl.cli import main

ESCAPE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # what a terminal could act on, save newline and tab


@dataclass
class Said:
    """What a command in this process returned and printed."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def cli(tuidl, monkeypatch, capsys):
    """Returns a function that runs a command in this process, with small stand-ins so that it is quick."""
    from tuidl.train.data import load

    monkeypatch.setattr(load, "STAND_IN_SIZES", (1500, 300))
    for name, value in tuidl.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tuidl.root)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}

    def run(*words: object) -> Said:
        capsys.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as end:
            code = end.code
        return Said(code, *capsys.readouterr())

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


DIGITS = [
    "run", "mnist-mlp", "--offline", "--max-steps", "20",
    "--set", "data.train_limit=1000", "--set", "training.threads=1",
]  # fmt: skip


@pytest.fixture
def digits():
    """The arguments of a short run on drawn digits."""
    return list(DIGITS)


@pytest.fixture(scope="session")
def json_run(shared_tuidl):
    """A finished run on the stand-in, with --json, in a process of its own."""
    done = shared_tuidl(*DIGITS, "--name", "digits", "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return SimpleNamespace(done=done, lines=lines, reader=shared_tuidl.reader("digits"), name="digits")


@pytest.fixture(scope="session")
def plain_run(shared_tuidl):
    """A finished run with plain lines, in a process of its own."""
    done = shared_tuidl(*shared_tuidl.language("--name", "plain"))
    return SimpleNamespace(done=done, reader=shared_tuidl.reader("plain"), name="plain")


@pytest.fixture(scope="session")
def one_line():
    """Check that an error is told in exactly one line of plain text, without a traceback, and return it."""

    def check(err: str) -> str:
        lines = err.splitlines()
        assert len(lines) == 1, err
        assert lines[0].startswith("tuidl: ") and len(lines[0]) < 700
        assert not ESCAPE.search(lines[0]) and "Traceback" not in err
        return lines[0]

    return check


@pytest.fixture(scope="session")
def escapes():
    """Finds the first control character in a text."""
    return ESCAPE.search
