"""A disk that fails on demand, and children in which that is tried: what breaks there breaks nobody else."""

import contextlib
import ctypes
import errno
import functools
import importlib
import io
import json
import mmap
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tuidl
from faults.campaign import NotHere, Trials
from faults.lab import BOOK, PRESETS, BrokenError, Trial

PATIENCE = 60.0  # seconds until a child is given up; what it does takes about one
HUNG = 998  # "exit code" of a child that was given up
KILLED = 137  # exit code of one that a fault has ended

Tell = Callable[[Any], None]
Run = Callable[[Path, int], Trials]

_write = os.write  # as it is before anything breaks


# ---------------------------------------------------------------- an interpreter for each campaign


def apart(run: Run) -> Run:
    """Let a campaign run in an interpreter of its own, which may load torch, be forked and be patched at will."""

    @functools.wraps(run)
    def elsewhere(root: Path, count: int) -> Iterator[str]:
        own = {f"XDG_{name}_HOME": str(root / name.lower()) for name in ("STATE", "DATA", "CACHE", "CONFIG")}
        places = [Path(__file__).parent.parent, Path(tuidl.__file__).parent.parent]
        environ = {
            **os.environ, **own, "HOME": str(root), "PYTHONPATH": os.pathsep.join(map(str, places)),
            "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "TUIDL_PRESETS_DIR": os.devnull,
            "TUIDL_RUNS_DIR": str(root / "runs"), "TUIDL_DATA_DIR": str(root / "no-data"),
        }  # fmt: skip
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", "from faults.broken_disk import serve; serve()",
             run.__module__, run.__name__, str(root), str(count)],
            env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        assert process.stdout
        with process.stdout:
            try:
                for line in process.stdout:
                    told = json.loads(line)
                    if told is None:
                        return
                    if isinstance(told, dict):
                        raise NotHere(told["not here"])
                    yield told
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # its children as well
                process.wait()
        raise RuntimeError(f"the campaign {run.__name__} has broken off")

    return elsewhere


def serve() -> None:
    """Carry out the campaign that the arguments name, and write a JSON line for each trial."""
    module, name, root, count = sys.argv[1:]
    sink = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    campaign: Any = getattr(importlib.import_module(module), name)
    try:
        for line in campaign.__wrapped__(Path(root), int(count)):
            print(json.dumps(line), file=sink)
        print("null", file=sink)
    except NotHere as reason:
        print(json.dumps({"not here": str(reason)}), file=sink)
    sink.close()


# ---------------------------------------------------------------- children


class Child:
    """A fork of this process that does `work(tell)`; what it tells and prints is kept in files beside `log`."""

    def __init__(self, log: Path, work: Callable[[Tell], object]) -> None:
        self._log, self._told = log, log.with_suffix(".told")
        for path in (self._log, self._told):
            path.unlink(missing_ok=True)
        self._code: int | None = None
        self.pid = os.fork()
        if not self.pid:
            self._be(work)

    def _be(self, work: Callable[[Tell], object]) -> None:
        code = 1
        try:
            told = os.open(self._told, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            for number, target in enumerate((os.open(os.devnull, os.O_RDONLY), log, log)):
                os.dup2(target, number)
            work(lambda value: _write(told, json.dumps(value).encode() + b"\n") and None)
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException:
            _write(2, traceback.format_exc().encode())
            code = 1
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        if self._code is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code is None

    def end(self) -> int:
        """Wait for the end and return the exit code; below 0 for a signal, `HUNG` when it had to be killed."""
        deadline = time.monotonic() + PATIENCE
        while self.running and time.monotonic() < deadline:
            time.sleep(0.002)
        self.kill()
        assert self._code is not None
        return self._code

    def kill(self) -> None:
        """End it, where it has not ended."""
        if self.running:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self._code = HUNG

    @property
    def text(self) -> str:
        """What it has printed."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    @property
    def last_line(self) -> str:
        """The last line it has printed."""
        return (self.text.splitlines() or ["it has said nothing"])[-1]

    @property
    def told(self) -> list[Any]:
        """What it has told."""
        return [json.loads(line) for line in self._told.read_bytes().splitlines()] if self._told.exists() else []


def surely(carry_out: Callable[[Trial], None]) -> Callable[[Trial], None]:
    """Let a trial that stumbles over what it finds be a broken one."""

    def carried_out(trial: Trial) -> None:
        try:
            carry_out(trial)
        except BrokenError:
            raise
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            text = f"{type(error).__name__} in {Path(place.filename).name}, line {place.lineno}: {error}"
            raise BrokenError(text) from error

    return carried_out


def load_torch() -> None:
    """Load what a training needs, once for all children, and let the stand-ins be small and drawn once."""
    import torch

    from tuidl.cli import printer, run  # noqa: F401
    from tuidl.train import answers, scorer
    from tuidl.train.data import load

    torch.set_num_threads(1)
    answers.warm_up()
    importlib.import_module("torch._dynamo")  # which the first optimizer loads, in two seconds
    load.STAND_IN_SIZES = (600, 200)
    scorer.JUDGE["training"] = {"epochs": 1, "batch_size": 50}
    drawn = {key: load._draw(load.DATASETS[key]) for key in ("drawn-digits", "drawn-shapes")}
    load._draw = lambda dataset: drawn[dataset.key]


def run_words(preset: str, root: Path, *settings: str) -> list[str]:
    """Return the arguments of `tuidl` that train a preset made small; later settings go before earlier ones."""
    book = root / "book.txt"
    book.write_text(BOOK * 30)
    common = ("device=cpu", "precision=fp32", "training.threads=1", "data.stand_in=none", "evaluation.probes=16")
    chosen = [item.format(book=book) for item in (*common, *(PRESETS | _MORE)[preset], *settings)]
    return ["run", preset, "--offline", *(f"--set={item}" for item in chosen)]


_MORE = {
    "fashion-mlp": PRESETS["mnist-mlp"],
    "cifar-speed": (
        "data.name=drawn-shapes", "data.train_limit=120", "model.channels=[2,2,4,4]", "training.batch_size=20",
        "training.epochs=6", "evaluation.every_steps=7",
    ),
}  # fmt: skip


def command(*words: object) -> None:
    """Be the command `tuidl`; ends this process."""
    from tuidl.cli import main

    sys.exit(main([str(word) for word in words]))


# ---------------------------------------------------------------- calls that fail

CALLS = (
    "open", "write", "fsync", "fdatasync", "replace", "rename", "link", "unlink", "mkdir", "chmod", "fchmod", "read",
    "lseek", "fstat", "stat", "lstat", "scandir", "listdir", "close",
)  # fmt: skip
FAULTS = ("killed before", "killed after", "ENOSPC", "EIO", "EACCES")
WRITE_FAULTS = ("killed half-way", "short", "short, then ENOSPC")


class Calls:
    """Counts what this process asks of its files, and lets the call number `at` fail as `fault` says.

    Nothing is forced to the disk meanwhile: what ends is the process and not the machine.
    """

    def __init__(self, at: int = -1, fault: str = "") -> None:
        self.names: list[str] = []
        self._at, self._fault = at, fault
        self._full = False  # the next write finds the disk full

    def install(self) -> None:
        """Begin; there is no way back."""
        from tuidl.runs import frames

        os.fsync = os.fdatasync = lambda fd: None
        for name in CALLS:
            setattr(os, name, self._around(name, getattr(os, name)))
        io.open = self._around("io.open", io.open)
        frames._datasync = os.fdatasync

    def _around(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*words: Any, **more: Any) -> Any:
            if str(words[:1]).find("/proc") >= 0:  # no disk
                return call(*words, **more)
            number = len(self.names)
            self.names.append(name)
            if self._full and name == "write":
                self._full = False
                raise _error("ENOSPC")
            return self._fail(name, call, *words, **more) if number == self._at else call(*words, **more)

        return called

    def _fail(self, name: str, call: Callable[..., Any], *words: Any, **more: Any) -> Any:
        match self._fault:
            case "killed before":
                os._exit(KILLED)
            case "killed after":
                with contextlib.suppress(OSError):
                    call(*words, **more)
                os._exit(KILLED)
            case "killed half-way":
                call(words[0], words[1][: len(words[1]) // 2])
                os._exit(KILLED)
            case "short" | "short, then ENOSPC":
                self._full = self._fault != "short"
                return call(words[0], words[1][: (len(words[1]) + 1) // 2])
        if name == "close":  # the descriptor is gone nevertheless
            call(*words, **more)
        raise _error(self._fault)


def faults_of(call: str) -> tuple[str, ...]:
    """Return how a call of this name may fail."""
    return FAULTS + WRITE_FAULTS if call == "write" else FAULTS


def _error(name: str) -> OSError:
    code = getattr(errno, name)
    return OSError(code, os.strerror(code))


# ---------------------------------------------------------------- a disk that is full, and one that is forbidden


class Quota:
    """A disk of `limit` bytes at `tree`, for this process and its children; the limit may be moved from outside."""

    def __init__(self, tree: Path, limit: int = 1 << 40) -> None:
        self._tree, self._limit = tree, mmap.mmap(-1, 8)
        self.limit = limit

    @property
    def limit(self) -> int:
        """How many bytes fit."""
        return int.from_bytes(self._limit[:8], "little")

    @limit.setter
    def limit(self, value: int) -> None:
        self._limit[:8] = value.to_bytes(8, "little")

    def used(self) -> int:
        """Return how many bytes there are, in whole blocks as on a disk."""
        total = 0
        for directory, _, names in os.walk(self._tree):
            for name in names:
                with contextlib.suppress(OSError):
                    total += -(-Path(directory, name).lstat().st_size // 4096) * 4096
        return total

    def install(self, names_too: bool) -> None:
        """Begin; with `names_too` no file can even be made once the disk is full."""
        places: dict[int, str] = {}
        below = str(self._tree.absolute()) + os.sep
        opened, written, made, file_opened = os.open, os.write, os.mkdir, io.open

        def check(path: Any) -> None:
            if names_too and os.path.abspath(path).startswith(below) and self.used() >= self.limit:  # noqa: PTH100
                raise _error("ENOSPC")

        def open_(path: Any, flags: int, *words: Any, **more: Any) -> int:
            if flags & os.O_CREAT and not os.path.lexists(path):
                check(path)
            fd = opened(path, flags, *words, **more)
            places[fd] = os.path.abspath(path)  # noqa: PTH100
            return fd

        def write(fd: int, data: Any) -> int:
            if not places.get(fd, "").startswith(below):
                return written(fd, data)
            room = max(0, self.limit - self.used()) + -os.fstat(fd).st_size % 4096
            if room <= 0 and len(data):
                raise _error("ENOSPC")
            return written(fd, data[:room])

        def mkdir(path: Any, *words: Any, **more: Any) -> None:
            check(path)
            made(path, *words, **more)

        def open_file(file: Any, mode: str = "r", *words: Any, **more: Any) -> Any:
            if set(mode) & set("wax") and not isinstance(file, int):
                check(file)
            return file_opened(file, mode, *words, **more)

        os.open, os.write, os.mkdir, io.open = open_, write, mkdir, open_file  # type: ignore[assignment]


def obey_permissions() -> None:
    """Let permissions bind this process from here on, also where it is root's, who may otherwise write anywhere."""
    if os.geteuid():
        return
    header, nothing = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None, use_errno=True).capset(header, nothing):
        raise NotHere("root cannot give its privileges away")


def own_disk(place: Path, megabytes: int) -> None:
    """Mount a new disk of this size at `place`, for this process and its children alone."""
    libc = ctypes.CDLL(None, use_errno=True)
    new_names, recursive_private = 0x20000, 0x4000 | 0x40000
    if not hasattr(libc, "unshare") or libc.unshare(new_names):
        raise NotHere("no disk can be mounted here")
    libc.mount(b"none", b"/", None, recursive_private, None)
    if libc.mount(b"tmpfs", str(place).encode(), b"tmpfs", 0, b"size=%dm" % megabytes):
        raise NotHere(f"no disk can be mounted here: {os.strerror(ctypes.get_errno())}")


def resize(place: Path, megabytes: int) -> None:
    """Let the disk at `place` be larger or smaller."""
    remount = 32
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(None, str(place).encode(), None, remount, b"size=%dm" % megabytes):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
