"""A box to open a stranger's files in: what they make tuidl do outside of it is seen."""

import contextlib
import functools
import io
import os
import random
import shutil
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

from faults.lab import BOOK, BrokenError, hold
from tuidl.errors import TuidlError
from tuidl.runs import RunPaths
from tuidl.runs.launch import prepare_run
from tuidl.spec import build_spec

SLOWEST = 5.0  # seconds that anything may take
LARGEST = 400 << 20  # bytes of memory that anything may take
CODE = ("os:system", "builtins:exec", "subprocess:run", "__class__", "../../../etc/passwd", "tuidl.cli:main", "", "\0")
ESCAPES = "\x1b[2J\x1b]0;owned\x07\r\n\u202e"

Attack = Callable[[], object]


@dataclass
class Box:
    """The place of one trial: what is `inside` may be written; `outside` lies what must stay as it is."""

    root: Path
    random: random.Random
    template: RunPaths

    def __post_init__(self) -> None:
        self.stack = contextlib.ExitStack()  # of what is to be done at the end
        self.inside, self.outside = self.root / "inside", self.root / "outside"
        for directory in (self.inside, self.outside):
            directory.mkdir(parents=True)
        self.canary = self.root / "canary"  # made by every payload that runs
        self.victim = self.outside / "victim"
        self.victim.write_text("precious")

    def run(self) -> RunPaths:
        """Return a run that was stopped and has a sound checkpoint."""
        shutil.copytree(self.template.directory, self.inside / "runs" / "a-run")
        return RunPaths(self.inside / "runs" / "a-run")

    def file(self, name: str, data: bytes | str) -> Path:
        """Write a file inside."""
        path = self.inside / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"))
        return path

    def plant(self, path: Path, what: str) -> None:
        """Put something at `path` that is no file."""
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        if what == "link":
            path.symlink_to(self.victim)
        elif what == "hard link":
            path.hardlink_to(self.victim)
        elif what == "link to directory":
            path.symlink_to(self.outside)
        elif what == "fifo":
            os.mkfifo(path)
        elif what == "endless":
            path.symlink_to("/dev/zero")
        elif what == "socket":
            with socket.socket(socket.AF_UNIX) as door, contextlib.chdir(path.parent):
                door.bind(path.name)
        else:
            path.mkdir()


CASES: list[tuple[str, Callable[[Box], Attack]]] = []


def case(*variants: str) -> Callable[[Callable[[Box, str], Attack]], None]:
    """Register a function that makes an attack ready, once for each variant of it."""

    def register(function: Callable[[Box, str], Attack]) -> None:
        name = function.__name__
        CASES.extend((f"{name}: {what}", functools.partial(function, what=what)) for what in variants)

    return register


class Payload:
    """Makes the canary when it is unpickled."""

    def __init__(self, box: Box) -> None:
        self.calls = [
            (os.system, (f"touch {box.canary}",)), (open, (str(box.canary), "w")), (os.mkdir, (str(box.canary),)),
            (exec, (f"open({str(box.canary)!r}, 'w')",)), (eval, (f"open({str(box.canary)!r}, 'w')",)),
        ]  # fmt: skip
        self.random = box.random

    def __reduce__(self) -> Any:
        return self.random.choice(self.calls)


# ---------------------------------------------------------------------- what is watched

_RUNS = {
    "pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty",
    "subprocess.Popen", "socket.connect", "socket.bind", "os.kill", "signal.pidfd_send_signal", "pty.spawn",
}  # fmt: skip
_WRITES = {
    "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown"
}  # fmt: skip
_CHANGES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Watch:
    """Notes what this process runs, and what it writes outside of `inside`, while that is set."""

    inside: Path | None = None
    seen: list[str] = []  # noqa: RUF012 - of all the process, as the hook is
    hooked = False

    @classmethod
    @contextlib.contextmanager
    def over(cls, inside: Path) -> Iterator[list[str]]:
        """Watch this process; yield what is noted."""
        if not cls.hooked:
            sys.addaudithook(cls._hear)  # stays, and does nothing while nobody watches
            cls.hooked = True
        cls.seen, cls.inside = [], inside.resolve()
        try:
            yield cls.seen
        finally:
            cls.inside = None

    @classmethod
    def _hear(cls, event: str, args: tuple[Any, ...]) -> None:
        if cls.inside is None or not (event in _RUNS or event in _WRITES or event == "open"):
            return
        if event in _RUNS:
            cls.seen.append(f"{event} {args!r:.200}")
        elif event != "open" or (isinstance(args[2], int) and args[2] & _CHANGES):
            for path in args[:2] if event in ("os.rename", "os.link") else args[:1]:
                if isinstance(path, str | bytes | os.PathLike) and not cls._allowed(Path(os.fsdecode(path))):
                    cls.seen.append(f"{event} {path!r:.200}")

    @classmethod
    def _allowed(cls, path: Path) -> bool:
        if path.parts[:2] == ("/", "dev") or "__pycache__" in path.parts or not path.is_absolute():
            return True  # not absolute: below a directory that is open already
        return Path(os.path.realpath(path.parent)).is_relative_to(cls.inside or "/")


class SlowError(BaseException):
    """It took too long; not an Exception, so that nobody takes it for a file's fault."""


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    def ring(number: int, frame: FrameType | None) -> None:
        raise SlowError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, SLOWEST)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _tree(root: Path) -> dict[str, Any]:
    found = {}
    for path in sorted(root.rglob("*")):
        info = path.lstat()
        found[str(path)] = (info.st_mode, info.st_uid, path.read_bytes() if stat.S_ISREG(info.st_mode) else b"")
    return found


def _memory(name: str) -> int:
    """Return a line of this process's memory in bytes; 0 where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith(name)), 0)


def _forget_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def carry_out(box: Box, attack: Attack) -> None:
    """Let tuidl read what was made ready. Raises BrokenError where a promise did not hold."""
    before, out, text = _tree(box.outside), io.StringIO(), ""
    forced = {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1", "HOME": str(box.inside), "XDG_STATE_HOME": str(box.inside)}
    _forget_peak()
    held = _memory("VmRSS")
    with (
        mock.patch.dict(os.environ, forced), contextlib.redirect_stdout(out), contextlib.redirect_stderr(out),
        Watch.over(box.inside) as seen,
    ):  # fmt: skip
        began = time.monotonic()
        try:
            with _time_limit():
                attack()
        except TuidlError as error:
            text = str(error)
        except SlowError:
            raise BrokenError(f"it took more than {SLOWEST:.0f} s") from None
        except Exception as error:
            if isinstance(error, BrokenError):
                raise
            raise BrokenError(f"{type(error).__name__}: {error!s:.300}") from error
    hold(time.monotonic() - began < SLOWEST, "it took too long")
    hold(_memory("VmHWM") - held < LARGEST, f"it took {_memory('VmHWM') - held >> 20} MiB of memory")
    hold(not box.canary.exists(), "a payload has run")
    hold(not seen, f"seen from within: {seen[:3]}")
    hold(_tree(box.outside) == before, "something outside has changed")
    hold(all(sign.isprintable() or sign == "\n" for sign in text), f"a terminal would obey {text!r:.200}")
    hold("internal error" not in out.getvalue(), out.getvalue()[:300])


def make_template(root: Path, share: bool = False) -> RunPaths:
    """Return a run of eight steps below `root` that was stopped after the fourth."""
    from tuidl.train.events import Sampled
    from tuidl.train.session import Door, conduct

    root.mkdir(exist_ok=True)
    (root / "book.txt").write_text(BOOK * 12)
    spec = build_spec({
        "task": "language", "data": {"name": "text", "path": str(root / "book.txt")}, "device": "cpu",
        "model": {"kind": "gru", "width": 8, "embedding": 4, "unroll": 8},
        "training": {"batch_size": 4, "max_steps": 8, "threads": 1}, "precision": "fp32",
        "evaluation": {"every_steps": 4, "sample_length": 10},
    })  # fmt: skip
    paths = prepare_run(spec, "tiny", "template", root / "runs", None, share)
    door = Door(paths)

    def stop(event: object, stored: object) -> None:
        if isinstance(event, Sampled):
            door.signal = signal.SIGINT

    conduct(paths, stop, door)
    return paths


def refused(function: Callable[..., Any], *args: Any, **more: Any) -> None:
    """Call what must raise a TuidlError, in words that no terminal obeys."""
    try:
        found = function(*args, **more)
    except TuidlError as error:
        hold(str(error).isprintable(), f"a terminal would obey {error!s:.100}")
    else:
        raise BrokenError(f"{args!r:.120} gave {found!r:.80}")
