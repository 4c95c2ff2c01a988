"""Exactly one trainer owns a run: each claims it under the next number, and the newest claim holds.

A claim is a file `owner-N.json` that names a process. It appears whole or not at all, and only one process can make
that of one number. A trainer whose claim is no longer the newest has been taken for dead, on a machine that went silent
for example; it looks before each checkpoint, and writes no more.
"""

import re
from pathlib import Path

from pydantic import ValidationError

from tuidl.errors import OwnershipError, StorageError, UsageError
from tuidl.files import read_capped
from tuidl.runs.atomic import write_atomic
from tuidl.runs.files import storage_error
from tuidl.runs.identity import Identity, alive
from tuidl.runs.layout import RunPaths
from tuidl.text import clean

_CLAIM = re.compile(r"owner-([1-9][0-9]{0,8})\.json")
_MAX_CLAIM = 4096  # bytes
_RELEASED = b"{}"


class Claim:
    """The right to write into a run directory."""

    def __init__(self, paths: RunPaths, number: int) -> None:
        self._paths, self.number = paths, number

    def check(self) -> None:
        """Raise OwnershipError when another trainer has taken the run over."""
        if _path(self._paths, self.number + 1).exists():
            raise OwnershipError(f"another trainer has taken run {clean(self._paths.name, limit=80)} over")

    def release(self) -> None:
        """Let the next trainer have the run without asking whether this process is still there. Raises StorageError."""
        write_atomic(_path(self._paths, self.number), _RELEASED)


def claim(paths: RunPaths, take_over: bool = False) -> Claim:
    """Claim a run for this process.

    With `take_over` a claim is ignored whose process cannot be looked for from here; one that surely lives never is.
    Raises UsageError when the run has another owner, StorageError when the directory cannot be written.
    """
    newest = _newest(paths)
    if newest:
        _check_free(paths, newest, take_over)
    try:
        write_atomic(_path(paths, newest + 1), Identity.current().model_dump_json().encode(), exclusive=True)
    except FileExistsError:
        raise _just_taken(paths) from None
    except StorageError:
        if _newest(paths) > newest:  # whose trainer has swept the file that was to become the claim
            raise _just_taken(paths) from None
        raise
    return Claim(paths, newest + 1)


def _just_taken(paths: RunPaths) -> UsageError:
    return UsageError(f"run {clean(paths.name, limit=80)} has just been taken by another trainer")


def _newest(paths: RunPaths) -> int:
    try:
        names = [entry.name for entry in paths.directory.iterdir()]
    except OSError as error:
        raise storage_error(paths.directory, error) from error
    return max((int(found[1]) for name in names if (found := _CLAIM.fullmatch(name))), default=0)


def _check_free(paths: RunPaths, number: int, take_over: bool) -> None:
    name = f"run {clean(paths.name, limit=80)}"
    try:
        data = read_capped(_path(paths, number), _MAX_CLAIM)
        if data == _RELEASED:
            return
        owner = Identity.model_validate_json(data)
    except (OSError, ValidationError, ValueError):
        if take_over:
            return
        raise UsageError(
            f"{name}: who trains it cannot be read; --take-over goes on where you know nobody does"
        ) from None
    running = alive(owner)
    if running:
        raise UsageError(f"{name} is being trained by process {owner.pid}; tuidl attach shows it, tuidl stop ends it")
    if running is None and not take_over:
        where = clean(owner.host, limit=80)
        raise UsageError(f"{name} was begun on {where}; resume it there, or --take-over where that has surely ended")


def _path(paths: RunPaths, number: int) -> Path:
    return paths.directory / f"owner-{number}.json"
