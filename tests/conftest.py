"""Shared by all tests: `tuidl` in a process of its own, away from the user's directories."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tuidl.runs import RunPaths, RunReader, read_state

os.environ["TUIDL_PRESETS_DIR"] = os.devnull  # no test sees the user's own presets
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a script's background job; runs would ignore it, too
    signal.signal(signal.SIGINT, signal.default_int_handler)

PATIENCE = 90.0  # seconds until a test gives up waiting; nothing is ever asserted about time
SENTENCES = "the cat sat on the mat. a dog ran over the hill and far away.\n"


@dataclass
class Tuidl:
    """The command, with all of its directories below `root`."""

    root: Path
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def data(self) -> Path:
        return self.root / "data-sets"

    @property
    def environ(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT") if name in os.environ}
        own = {name: str(self.root / name.lower()) for name in ("XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME")}
        return {
            **kept, **own, "HOME": str(self.root), "LC_ALL": "C.UTF-8", "TERM": "xterm-256color",
            "OMP_NUM_THREADS": "1",
            "TUIDL_RUNS_DIR": str(self.runs), "TUIDL_DATA_DIR": str(self.data),
            "TUIDL_PRESETS_DIR": str(self.root / "presets"), **self.extra,
        }  # fmt: skip

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "tuidl"]

    def __call__(self, *words: object, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run `tuidl words` to its end."""
        return subprocess.run(
            [*self.command, *map(str, words)], env=self.environ | environ, cwd=self.root, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip

    def start(self, *words: object) -> "subprocess.Popen[str]":
        """Start `tuidl words` and return at once."""
        return subprocess.Popen(
            [*self.command, *map(str, words)], env=self.environ, cwd=self.root, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def paths(self, name: str) -> RunPaths:
        return RunPaths(self.runs / name)

    def reader(self, name: str) -> RunReader:
        return RunReader(self.paths(name))

    def wait(self, name: str, *states: str) -> None:
        """Wait until the status of the run says one of `states`."""
        wait_until(lambda: read_state(self.paths(name))[1] in states)

    def language(self, *more: object, steps_per_epoch: str = "few") -> list[str]:
        """Return the arguments of a run on a small text that is over at once, or with `many` steps goes on and on."""
        book = self.root / "book.txt"
        book.write_text(SENTENCES * 60)
        settings = {
            "data.name": "text", "data.path": book, "model.width": 8, "model.embedding": 4, "training.threads": 1,
            "evaluation.sample_length": 10, "precision": "fp32",
        }  # fmt: skip
        if steps_per_epoch == "few":
            settings |= {"model.unroll": 8, "training.batch_size": 4, "training.max_steps": 20}
        else:
            settings |= {"model.unroll": 2, "training.batch_size": 1, "training.epochs": 100_000}
        sets = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        return ["run", "char-lstm", *sets, *map(str, more)]


def wait_until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > deadline:
            pytest.fail("waited in vain")
        time.sleep(0.02)


@pytest.fixture
def tuidl(tmp_path) -> Tuidl:
    """The command, in directories of this test alone."""
    return Tuidl(tmp_path)


@pytest.fixture(scope="session")
def shared_tuidl(tmp_path_factory) -> Tuidl:
    """The command, in directories that tests share which only look at runs."""
    return Tuidl(tmp_path_factory.mktemp("shared"))


@pytest.fixture(scope="session")
def until():
    """Wait until a function returns something true, or fail."""
    return wait_until
