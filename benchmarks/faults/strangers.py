"""Strangers: files made to do harm, another user of the machine, the network, and what the source must never hold."""

import ast
import contextlib
import hashlib
import http.client
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import urllib.response
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
from terminal import Terminal

import tuidl
from faults import evil, evil_runs, other_user  # noqa: F401 - they register what they hold
from faults.box import CASES, Box, carry_out, make_template
from faults.campaign import Trials, campaign
from faults.lab import BOOK, Trial, attempts, hold
from tuidl.cli import main, show, steer  # noqa: F401 - loaded before a child cannot read them any more
from tuidl.errors import DataError
from tuidl.runs import (
    RunPaths,
    read_state,
)
from tuidl.spec.datasets import DATASETS, DataFile, DataSet, Download
from tuidl.spec.layers import ACTIVATIONS, INITS
from tuidl.spec.regularizers import REGULARIZERS
from tuidl.spec.run import CHOICES
from tuidl.spec.tasks import TASKS

TUIDL = [sys.executable, "-P", "-m", "tuidl"]


@campaign(
    "evil", "a stranger's file never runs, never writes outside, never hangs: it is plainly refused",
    small=len(CASES), full=500,
)  # fmt: skip
def evil_files(root: Path, count: int) -> Trials:
    template = make_template(root / "template")

    def one(trial: Trial) -> None:
        name, prepare = CASES[trial.number % len(CASES)]
        trial.note(name)
        box = Box(root / f"trial-{trial.number}", trial.random, template)
        with box.stack:
            box.stack.callback(shutil.rmtree, box.root, ignore_errors=True)
            carry_out(box, prepare(box))

    yield from attempts("evil", count, one)


# ---------------------------------------------------------------------- the network

HOOK = """
import os, sys
def hear(event, args):
    if event in ("socket.bind", "socket.connect", "socket.listen", "socket.getaddrinfo", "socket.sendto"):
        with open(os.environ["HEARD"], "a") as file:
            file.write(f"{event} {args[1:]!r}\\n")
sys.addaudithook(hear)
open(os.environ["HEARD"], "a").close()
"""


class Listener:
    """Hears of every address that tuidl, and what it starts, opens or asks."""

    def __init__(self, root: Path) -> None:
        self.heard, self.runs, self.looks = root / "heard", root / "runs", 0
        (root / "hook").mkdir()
        (root / "hook" / "sitecustomize.py").write_text(HOOK)
        (root / "book.txt").write_text(BOOK * 100)
        names = ("HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
        self.environ = os.environ | dict.fromkeys(names, str(root)) | {
            "PYTHONPATH": f"{root / 'hook'}{os.pathsep}{Path(tuidl.__file__).parent.parent}", "HEARD": str(self.heard),
            "TUIDL_RUNS_DIR": str(self.runs), "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        settings = {"data.name": "text", "data.path": root / "book.txt", "model.width": 8, "model.embedding": 4,
                    "training.threads": 1, "training.epochs": 100_000, "precision": "fp32"}  # fmt: skip
        spy = "import socket; socket.create_server(('127.0.0.1', 0))"
        subprocess.run([sys.executable, "-c", spy], env=self.environ, check=True)
        hold("socket.bind" in self.heard.read_text(), "nobody listens")
        self.heard.write_text("")
        self.train = [*TUIDL, "run", "char-lstm", "--name", "a", "--offline", "--quiet", "--device", "cpu"]
        self.train += [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]

    def look(self, process: "subprocess.Popen[Any]", seconds: float) -> None:
        """Look at all open sockets of a process and its children for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and process.poll() is None:
            for each in (found := psutil.Process(process.pid)), *found.children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    hold(not (opened := each.net_connections("inet")), f"open: {opened}")
                    self.looks += 1
            time.sleep(0.05)

    def check(self) -> None:
        """Raise BrokenError where anything was heard."""
        hold(self.looks > 5, "nobody has looked")
        hold(not (said := self.heard.read_text()), f"heard: {said[:300]}")


def _run_is_silent(root: Path) -> None:
    listener, paths = Listener(root), RunPaths(root / "runs" / "a")
    silent: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(listener.train, env=listener.environ, **silent)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and read_state(paths)[1] != "running":
            listener.look(process, 0.1)
        hold(read_state(paths)[1] == "running", "the run has not begun")
        listener.look(process, 1.0)
    finally:
        process.kill()
        process.wait()
    listener.check()


def _screen_is_silent(root: Path) -> None:
    """Home with its companion, and the dashboard on a run."""
    listener = Listener(root)
    make_template(root / "made")
    shutil.move(root / "made" / "runs", listener.runs)
    for words, shown in (((), b"template"), (("attach", "template"), b"template")):
        terminal = Terminal([*TUIDL, *words], listener.environ)
        try:
            hold(terminal.wait_for(shown, 0, 60) is not None, "the screen has not come up")
            listener.look(terminal.process, 4.0 if not words else 1.0)  # the companion loads torch
        finally:
            terminal.close()
    listener.check()


def _downloads_are_checked(root: Path) -> None:
    from tuidl.train.data import fetch

    for dataset in DATASETS.values():
        for download in dataset.downloads:
            sound = re.fullmatch("[0-9a-f]{64}", download.sha256) and download.size > 0
            hold(sound and all(url.startswith("https://") for url in download.urls), f"{download.path} is not pinned")
    right = os.urandom(5000)
    sum_of = hashlib.sha256(right).hexdigest()

    def attempt(url: str, name: str) -> str:
        """Return why the download was refused, and make sure that it has left nothing."""
        place = root / name
        download = Download("t/a", sum_of, len(right), (url,))
        file = DataFile("t/a", sum_of, len(right), "all", download)
        try:
            fetch.fetch(DataSet("evil", "", "", "", "text", "text", files=(file,)), place)
        except DataError as error:
            hold(not [path for path in place.rglob("*") if path.name == "a" or path.suffix == ".part"], "left behind")
            return str(error)
        hold((place / "t/a").read_bytes() == right, "the wrong content was taken")
        return ""

    address = "https://one.example/a"
    answers = {"wrong": right[:-1] + bytes([right[-1] ^ 1]), "short": right[:-1], "long": right + b"x", "none": b"",
               "a page": b"<html>please log in</html>"}  # fmt: skip
    for name, answer in answers.items():
        with mock.patch.object(fetch, "open_url", lambda request, timeout, answer=answer: io.BytesIO(answer)):
            hold(attempt(address, name), f"{name} bytes were taken")
    with mock.patch.object(fetch, "open_url", lambda request, timeout: io.BytesIO(right)):
        hold(attempt(address, "right") == "", "the right bytes were refused")
        for url in ("http://one.example/a", "ftp://one.example/a", "file:///etc/hostname", "HTTP://one.example/a"):
            hold("not an https address" in attempt(url, re.sub(r"\W", "-", url)), f"{url} was opened")
    real = urllib.request.build_opener
    for target in ("http://one.example/b", "ftp://one.example/b", "file:///etc/hostname", "https://two.example/b"):
        server = _Redirecting(address, target, right)
        with mock.patch.object(urllib.request, "build_opener", lambda *given, server=server: real(*given, server)):
            refused = bool(attempt(address, re.sub(r"\W", "-", f"to {target}")))
        hold(
            refused != target.startswith("https"), f"a redirect to {target} was {'refused' if refused else 'followed'}"
        )
        hold(all(url.startswith("https://") for url in server.asked), f"asked: {server.asked}")
    with _plain_server(right) as port:  # speaks http where https is asked for
        hold("127.0.0.1" in attempt(f"https://127.0.0.1:{port}/a", "plain"), "a server without TLS was believed")


class _Redirecting(urllib.request.BaseHandler):
    """All servers of the world: one address leads to `target`, every other one has the right bytes."""

    handler_order = 100  # before those that would really go there

    def __init__(self, address: str, target: str, right: bytes) -> None:
        self.address, self.target, self.right, self.asked = address, target, right, list[str]()

    def https_open(self, req: urllib.request.Request) -> Any:
        """Answer without a network."""
        self.asked.append(req.full_url)
        headers = http.client.HTTPMessage()
        leads = req.full_url == self.address
        if leads:
            headers["Location"] = self.target
        content = io.BytesIO(b"" if leads else self.right)
        answer = urllib.response.addinfourl(content, headers, req.full_url, 302 if leads else 200)
        answer.msg = "Found" if leads else "OK"  # type: ignore[attr-defined]
        return answer

    http_open = ftp_open = file_open = https_open


@contextlib.contextmanager
def _plain_server(content: bytes) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    line, _ = server.accept()
                    with line:
                        line.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content))

        threading.Thread(target=answer, daemon=True).start()
        yield server.getsockname()[1]


@campaign(
    "network", "a run and the screen open no address; a download is https and exactly what is pinned", small=3, full=3
)
def network(root: Path, count: int) -> Trials:
    parts = (_run_is_silent, _screen_is_silent, _downloads_are_checked)

    def one(trial: Trial) -> None:
        act = parts[trial.number % len(parts)]
        trial.note(act.__name__.strip("_").replace("_", " "))
        place = root / f"trial-{trial.number}"
        place.mkdir()
        act(place)

    yield from attempts("network", count, one)


# ---------------------------------------------------------------------- the source

MODULES = {
    "pickle",
    "_pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "joblib",
    "marshal",
    "shelve",
    "yaml",
    "runpy",
    "code",
}
CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.load", "torch.save", "numpy.load",
    "subprocess.getoutput", "subprocess.getstatusoutput", "tempfile.mktemp", "tempfile.mkstemp", "tempfile.gettempdir",
    "tempfile.NamedTemporaryFile", "torch.hub.load", "torch.jit.load",
}  # fmt: skip
KEYWORDS = {"weights_only", "allow_pickle", "shell"}
# Where code is loaded, or an attribute read, by a name that does not stand there: each of them has been looked at.
IMPORTED = {
    "cli/__init__.py": {"f'tuidl.cli.{name}'"},  # the commands in that file
    "cli/machine.py": {"name"},  # the packages that doctor tells the versions of
    "runs/__init__.py": {"f'{__name__}.{_MODULE_OF[name]}'"},
    "spec/__init__.py": {"f\"{__name__}.{('run' if name == 'RunSpec' else 'load')}\""},
    "train/answers.py": {"'tuidl.train.session'"},
    "train/companion.py": {"'tuidl.train.answers'"},
    "train/models/layers.py": {"module"},  # of a registry entry, see below
}
LOOKED_UP = {
    "runs/__init__.py": {"name"},
    "spec/__init__.py": {"name"},
    "spec/load.py": {"part"},  # of a setting that has been found among the fields
    "spec/own.py": {"name", "key"},  # fields of the model
    "spec/run.py": {"group"},
    "spec/schema.py": {"name", "key"},
    "train/models/layers.py": {"attribute"},  # of a registry entry, see below
    "train/tasks/classification.py": {"name"},  # train, val and test
    "train/tasks/gan.py": {"name"},
    "train/tasks/language.py": {"name"},
    "train/updater.py": {"key"},  # of the regularizers
    "tui/app.py": {"name"},  # fields of the screen's settings
    "tui/draw/chart.py": {"ROLES[curve.role].behind", "ROLES[series.role].style"},
    "tui/form.py": {"group", "key"},  # fields of the model
    "tui/settings.py": {"item.name"},
}
BAD = (
    "import pickle", "from pickle import loads", "import torch\ntorch.load('x')", "from torch import load", "eval('1')",
    "f(weights_only=False)", "f(shell=True)", "import os\nos.system('x')", "from os import system", "exec('1')",
    "import yaml", "import tempfile\ntempfile.mktemp()", "import numpy as np\nnp.load('x')", "open('/tmp/x')",
    "import importlib\nimportlib.import_module(x)", "from importlib import import_module as f\nf(x)", "getattr(a, b)",
    "setattr(a, b, c)", "import torch as t\nt.load('x')",
)  # fmt: skip


def _faults_of(source: str, imported: set[str], looked_up: set[str]) -> list[str]:
    """Return what of `source` could run what stands in a file."""
    tree, found, names = ast.parse(source), [], {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            base = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            for item in node.names:
                full = base + item.name
                names[item.asname or item.name.split(".")[0]] = full if base or item.asname else item.name.split(".")[0]
                if full.split(".")[0] in MODULES or full in CALLS:
                    found.append(f"import of {full}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("/tmp"):
            found.append(f"a path {node.value}")
        if not isinstance(node, ast.Call):
            continue
        first, dot, rest = ast.unparse(node.func).partition(".")
        called = names.get(first, first) + dot + rest
        if called in CALLS:
            found.append(f"call of {called}")
        found += [f"keyword {word.arg}" for word in node.keywords if word.arg in KEYWORDS]
        given = [ast.unparse(argument) for argument in node.args]
        if called == "importlib.import_module" and given[0] not in imported:
            found.append(f"import of what {given[0]} says")
        by_name = called in ("getattr", "setattr", "hasattr", "delattr")
        if by_name and not isinstance(node.args[1], ast.Constant) and given[1] not in looked_up:
            found.append(f"attribute named by {given[1]}")
    return found


@campaign("static", "no source file can run what stands in a file", small=1, full=1)
def static(root: Path, count: int) -> Trials:
    def one(trial: Trial) -> None:
        missed = [text for text in BAD if not _faults_of(text, set(), set())]
        hold(not missed, f"not seen: {missed}")
        base, used = Path(tuidl.__file__).parent, set()
        for path in sorted(base.rglob("*.py")):
            name, source = str(path.relative_to(base)), path.read_text("utf-8")
            wrong = _faults_of(source, IMPORTED.get(name, set()), LOOKED_UP.get(name, set()))
            hold(not wrong, f"{name}: {'; '.join(wrong)}")
            used |= {name} if "import_module(" in source else set()
        hold(used == set(IMPORTED), f"importlib is used in {sorted(used)}")
        entries = [*TASKS.values(), *ACTIVATIONS.values(), *INITS.values()]
        entries += [item.entry for item in REGULARIZERS.values()]
        entries += [each.entry for registry in CHOICES.values() for each in registry.classes()]
        named = {entry.implementation for entry in entries} - {""}
        hold(len(named) > 30, "the registries are not found")
        strange = [name for name in named if not re.fullmatch(r"(tuidl\.train|torch)[\w.]*:\w+", name)]
        hold(not strange, f"registries name {strange}")

    yield from attempts("static", count, one)
