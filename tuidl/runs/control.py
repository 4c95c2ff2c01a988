"""The one door from the viewers to the trainer: an inbox of small files, one command each.

A sender writes its file aside and renames it into `control/`; the trainer takes the files in the order of their ids
and records an answer for each in the events. The trainer trusts nothing that lies there: it takes only regular files
of its own user, of one name, small and well-formed, and it never waits for one. `kill` is for a trainer that no longer
listens.
"""

import contextlib
import os
import platform
import re
import secrets
import stat
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from tuidl.errors import StorageError, UsageError
from tuidl.files import SAFE_DIRECTORY, open_regular
from tuidl.runs.atomic import write_atomic
from tuidl.runs.files import storage_error
from tuidl.runs.frames import RecordReader
from tuidl.runs.identity import alive, end
from tuidl.runs.jsonio import dump_json, load_object
from tuidl.runs.layout import RunPaths
from tuidl.runs.status import LIVE_STATES, read_status, write_end
from tuidl.text import clean, did_you_mean

MAX_COMMAND = 4096  # bytes
_MOST_AT_ONCE = 100  # commands taken by one poll, so that a flood cannot hold up a step
_POLL_SECONDS = 0.05
_FILE_NAME = re.compile(r"[0-9A-Za-z-]{1,80}\.json")

# verb -> its arguments and the most characters each may have
VERBS: dict[str, dict[str, int]] = {
    "stop": {},
    "pause": {},
    "continue": {},
    "steps": {"count": 12},
    "set": {"key": 100, "value": 1000},
    "evaluate-now": {},
    "sample-now": {},
    "checkpoint": {},
}

_id_lock = threading.Lock()
_last_id = 0


@dataclass(frozen=True)
class Command:
    """A command that is well-formed; whether it can be done is for the trainer to say."""

    id: str
    verb: str
    arguments: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Refused:
    """Something in the inbox that is not a command, and why; the trainer records this as its answer."""

    id: str
    reason: str


def send(paths: RunPaths, verb: str, **arguments: str) -> str:
    """Put a command into the inbox of a run and return its id, by which the answer is known.

    Raises UsageError for a command that no trainer would take and for a run of another user, StorageError when the
    inbox cannot be written.
    """
    try:
        _check(verb, arguments)
        data = dump_json({"verb": verb, "arguments": arguments})
        if len(data) > MAX_COMMAND:
            raise ValueError(f"it is larger than {MAX_COMMAND} bytes")
    except ValueError as error:
        raise UsageError(f"the command cannot be sent: {error}") from None
    _check_inbox(paths)
    identifier = _new_id()
    write_atomic(paths.control / f"{identifier}.json", data, durable=False)
    return identifier


def _check_inbox(paths: RunPaths) -> None:
    """Refuse an inbox that leads elsewhere, or whose owner would not take what this user puts there."""
    try:
        info = paths.control.lstat()
    except OSError as error:
        raise storage_error(paths.control, error) from error
    if not stat.S_ISDIR(info.st_mode):
        raise UsageError(f"the inbox of run {clean(paths.name, limit=80)} is not a directory; nothing is sent")
    if info.st_uid != os.geteuid():
        raise UsageError(f"run {clean(paths.name, limit=80)} belongs to another user; only they can steer it")


def wait_for_answer(paths: RunPaths, identifier: str, timeout: float) -> dict[str, Any] | None:
    """Return the event in which the trainer answers command `identifier`, or None after `timeout` seconds.

    The answer has the fields `ok` (bool) and `text`. Raises StorageError when the events cannot be read.
    """
    reader = RecordReader(paths.events)
    deadline = time.monotonic() + timeout
    while True:
        for record in reader.read():
            if record.get("event") == "answer" and record.get("id") == identifier:
                return record
        if time.monotonic() >= deadline:
            return None
        time.sleep(_POLL_SECONDS)


def kill(paths: RunPaths) -> str:
    """End the trainer of a run at once, wherever it stands, and say in a line what became of the run.

    Only a process of this user on this machine that is surely the trainer is ended. Raises UsageError for any other,
    StorageError when the run's directory cannot be looked at.
    """
    name, status = f"run {clean(paths.name, limit=80)}", read_status(paths)
    identity = status.identity if status else None
    if status is None or identity is None:
        raise UsageError(f"{name} does not say who trains it; there is nothing to kill")
    if status.state not in LIVE_STATES:
        raise UsageError(f"{name} is {status.state}; it has no trainer to kill")
    running = alive(identity)
    if running is None:
        place = "in another container" if identity.host == platform.node() else f"on {clean(identity.host, limit=80)}"
        raise UsageError(f"{name} trains {place}; kill it there")
    if running:
        _check_owners(paths, name)
    try:
        if not running or not end(identity, paths.events):
            raise UsageError(f"the trainer of {name} has ended already; there is nothing to kill")
    except OSError as error:
        raise UsageError(f"the trainer of {name} cannot be killed: {error.strerror or error}") from None
    with contextlib.suppress(StorageError):  # then it is shown as lost, which is true as well
        write_end(paths, status, "failed", "killed by command", 137)
    return f"killed at about step {status.step}; tuidl resume goes on from its last checkpoint"


def _check_owners(paths: RunPaths, name: str) -> None:
    """Refuse what another user may have written: it could name any process of this user as the trainer."""
    try:
        owners = [paths.directory.lstat(), paths.status.lstat()]
    except OSError as error:
        raise storage_error(paths.status, error) from error
    if any(info.st_uid != os.geteuid() or info.st_mode & 0o022 for info in owners):
        raise UsageError(f"the directory of {name} can be written by other users; nothing is killed on its word")


class Inbox:
    """The trainer's side of the door."""

    def __init__(self, paths: RunPaths) -> None:
        self._directory = paths.control
        self._told = False  # an inbox that cannot be used is told once, not at every poll
        self._stuck: set[str] = set()

    def poll(self) -> list[Command | Refused]:
        """Take what lies in the inbox, oldest first. Never raises and never waits."""
        try:
            directory = os.open(self._directory, SAFE_DIRECTORY)
        except OSError as error:
            return self._tell(f"the inbox cannot be opened: {error.strerror}")
        try:
            info = os.fstat(directory)
            if info.st_uid != os.geteuid() or info.st_mode & 0o022:
                return self._tell("the inbox can be written by other users; make it mode 0700")
            return [self._take(directory, name) for name in self._names(directory)]
        except OSError as error:
            return self._tell(f"the inbox cannot be read: {error.strerror}")
        finally:
            os.close(directory)

    def _tell(self, reason: str) -> list[Command | Refused]:
        told, self._told = self._told, True
        return [] if told else [Refused("inbox", reason)]

    def _names(self, directory: int) -> list[str]:
        with os.scandir(directory) as entries:  # a leading dot: still being written, or put aside
            names = [entry.name for entry in entries if not entry.name.startswith(".")]
        return sorted(name for name in names if name not in self._stuck)[:_MOST_AT_ONCE]

    def _take(self, directory: int, name: str) -> Command | Refused:
        identifier = clean(name.removesuffix(".json"), limit=80)
        command: Command | None = None
        reason = "it is not a command file"
        try:
            if _FILE_NAME.fullmatch(name):
                command = _parse(identifier, _read(directory, name))
        except OSError as error:
            reason = f"it cannot be read: {error.strerror}"
        except ValueError as error:
            reason = str(error)
        if not _clear(directory, name):
            # What stays would be obeyed again by the next trainer, so it is not obeyed at all.
            self._stuck.add(name)
            return Refused(identifier, "it cannot be removed from the inbox")
        return command or Refused(identifier, clean(reason, limit=200))


def _new_id() -> str:
    """Return an id that sorts after all earlier ones of this process and, as far as clocks agree, of all others."""
    global _last_id
    with _id_lock:
        _last_id = max(time.time_ns(), _last_id + 1)
        return f"{_last_id:020d}-{os.getpid()}-{secrets.token_hex(4)}"


def _read(directory: int, name: str) -> bytes:
    # Looked at before it is opened, because opening alone does something to a device; and again after, because what
    # has the name may have changed in between.
    if not stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
        raise ValueError("it is not a regular file")
    with open_regular(name, dir_fd=directory) as file:
        info = os.fstat(file.fileno())
        if info.st_uid != os.geteuid():
            raise ValueError("it belongs to another user")
        if info.st_nlink != 1:
            raise ValueError("it has more than one name")
        data = file.read(MAX_COMMAND + 1)
    if len(data) > MAX_COMMAND:
        raise ValueError(f"it is larger than {MAX_COMMAND} bytes")
    return data


def _parse(identifier: str, data: bytes) -> Command:
    try:
        message = load_object(data)
    except ValueError:
        raise ValueError("it is not a JSON object") from None
    if message.keys() != {"verb", "arguments"}:
        raise ValueError("it needs exactly 'verb' and 'arguments'")
    verb, arguments = message["verb"], message["arguments"]
    _check(verb, arguments)
    return Command(identifier, verb, arguments)


def _check(verb: object, arguments: object) -> None:
    if not isinstance(verb, str) or verb not in VERBS:
        shown = clean(str(verb), limit=40)
        raise ValueError(f"unknown command {shown!r}; {did_you_mean(shown, VERBS)}")
    limits = VERBS[verb]
    if not isinstance(arguments, dict) or arguments.keys() != limits.keys():
        raise ValueError(f"{verb!r} takes {' and '.join(limits) or 'no arguments'}")
    for name, longest in limits.items():
        text = arguments[name]
        if not isinstance(text, str) or not text or len(text) > longest:
            raise ValueError(f"the {name} of {verb!r} is text of 1 to {longest} characters")


def _clear(directory: int, name: str) -> bool:
    """Take `name` out of the inbox: remove it, or else put it aside under a name that is not looked at."""
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=directory)
        return True
    with contextlib.suppress(OSError):
        aside = f".refused-{secrets.token_hex(6)}"
        os.rename(name, aside, src_dir_fd=directory, dst_dir_fd=directory)
        return True
    return False
