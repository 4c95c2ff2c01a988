"""Where runs are, what lies where inside one, and how a run is made and found again."""

import contextlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from tuidl.errors import UsageError
from tuidl.files import SAFE_DIRECTORY, expand
from tuidl.runs.atomic import sync_directory
from tuidl.runs.files import storage_error
from tuidl.runs.names import automatic_name, check_name, is_name
from tuidl.text import clean, did_you_mean

_MOST_SHOWN = 8
_PRIVATE, _SHARED = 0o700, 0o750


@dataclass(frozen=True)
class RunPaths:
    """The places inside one run directory."""

    directory: Path

    @property
    def name(self) -> str:
        """The run's name, which is the name of its directory."""
        return self.directory.name

    @property
    def spec(self) -> Path:
        """`run.json`: the resolved spec and seed; versions, device and data are added once known."""
        return self.directory / "run.json"

    @property
    def metrics(self) -> Path:
        """`metrics.log`: blocks of metrics, appended."""
        return self.directory / "metrics.log"

    @property
    def events(self) -> Path:
        """`events.log`: what happened, with step and time, appended."""
        return self.directory / "events.log"

    @property
    def status(self) -> Path:
        """`status.json`: how the run stands now, replaced as a whole."""
        return self.directory / "status.json"

    @property
    def artifacts(self) -> Path:
        """`artifacts/`: small files that never change."""
        return self.directory / "artifacts"

    @property
    def checkpoints(self) -> Path:
        """`checkpoints/`: the weights of the newest steps and of the best one."""
        return self.directory / "checkpoints"

    @property
    def control(self) -> Path:
        """`control/`: the inbox of commands to the trainer."""
        return self.directory / "control"

    @property
    def trainer_log(self) -> Path:
        """`trainer.log`: what a detached trainer prints."""
        return self.directory / "trainer.log"


def runs_dir(override: Path | None = None) -> Path:
    """Return the directory of all runs, absolute: `override`, else $TUIDL_RUNS_DIR, else the user's state directory.

    Raises UsageError for the home of an unknown user.
    """
    chosen = override or os.environ.get("TUIDL_RUNS_DIR") or platformdirs.user_state_path("tuidl") / "runs"
    return expand(chosen).absolute()  # absolute, because a detached trainer starts somewhere else


def create_run(root: Path, name: str | None, preset_name: str, share: bool = False) -> RunPaths:
    """Make and own a new run directory below `root`, which is made when it is not there.

    It is the user's alone (mode 0700), with `share` also the group's to read (0750), all but the inbox of commands;
    the files in it follow (see `set_mode`). Without `name` the run is named after its preset and the time, with a
    number when that is taken. Raises UsageError for a bad `name` or one that exists: a run is never overwritten.
    Raises StorageError when `root` cannot be written.
    """
    if name is not None:
        check_name(name)
    mode = _SHARED if share else _PRIVATE
    try:
        _make_root(root, mode)
    except OSError as error:
        raise storage_error(root, error) from error
    stem = name or automatic_name(preset_name)
    number = 1
    while True:
        directory = root / (stem if number == 1 else f"{stem}-{number}")
        try:
            directory.mkdir(mode=0o700)  # the claim: of two that try, one succeeds
            return _furnish(RunPaths(directory), mode)
        except FileExistsError:
            if name is not None:
                raise UsageError(f"a run named {name!r} exists already; choose another --name") from None
            number += 1
        except OSError as error:
            raise storage_error(directory, error) from error


def find_run(root: Path, text: str) -> RunPaths:
    """Return the run that `text` means: a run's name, a unique beginning of one, or a path to a run directory.

    Anything with a `/` in it is a path. Raises UsageError when no run or more than one is meant.
    """
    if "/" in text or os.sep in text:
        return check_inside(RunPaths(_run_at(text)))
    check_name(text)
    names = run_names(root)
    if text in names:
        return check_inside(RunPaths(root / text))
    matches = [name for name in names if name.startswith(text)]
    if len(matches) == 1:
        return check_inside(RunPaths(root / matches[0]))
    if matches:
        shown = ", ".join(matches[:_MOST_SHOWN]) + (", …" if len(matches) > _MOST_SHOWN else "")
        raise UsageError(f"{text!r} is the beginning of {len(matches)} runs: {shown}")
    if not names:
        raise UsageError(f"no run named {text!r}: there are no runs in {clean(str(root))} yet")
    raise UsageError(f"no run named {text!r} in {clean(str(root))}; {did_you_mean(text, names)}")


def run_names(root: Path) -> list[str]:
    """Return the names of all run directories in `root`, sorted; none when `root` is absent.

    Symbolic links are left out: a run is a directory here, not a way to another place. Raises StorageError.
    """
    try:
        with os.scandir(root) as entries:
            return sorted(entry.name for entry in entries if is_name(entry.name) and _is_directory(entry))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise storage_error(root, error) from error


def check_inside(paths: RunPaths) -> RunPaths:
    """Return the places of a run, or raise UsageError where one is a link: nothing is written outside of a run."""
    for place in (paths.artifacts, paths.checkpoints, paths.control):
        if place.is_symlink():
            name = clean(paths.name, limit=80)
            raise UsageError(f"run {name} has a link in place of its directory {place.name}, and is not used")
    return paths


def closed_to_group(paths: RunPaths) -> Path | None:
    """Return a directory above a run that the run's group may not enter, so that sharing the run is of no use."""
    try:
        group = paths.directory.stat().st_gid
        for place in paths.directory.resolve().parents:
            info = place.stat()
            if not info.st_mode & (stat.S_IXGRP if info.st_gid == group else stat.S_IXOTH):
                return place
    except OSError:
        pass
    return None


def _make_root(root: Path, mode: int) -> None:
    for place in [*reversed(root.parents), root]:
        if place.is_dir():
            continue
        try:
            place.mkdir(mode=0o700)
            _open_to(place, mode)
        except FileExistsError:  # another process has been faster, or it is no directory
            if not place.is_dir():
                raise


def _open_to(directory: Path, mode: int) -> None:
    """Give the new `directory` its mode, whatever the umask has left of it; a group that it hands on stays so."""
    fd = os.open(directory, SAFE_DIRECTORY)
    try:
        now = stat.S_IMODE(os.fstat(fd).st_mode)
        wanted = mode | now & stat.S_ISGID
        if now != wanted:
            with contextlib.suppress(PermissionError):  # a file system that knows no permissions
                os.fchmod(fd, wanted)
    finally:
        os.close(fd)


def _furnish(paths: RunPaths, mode: int) -> RunPaths:
    try:
        for directory in (paths.artifacts, paths.checkpoints, paths.control):
            directory.mkdir(mode=0o700)
            _open_to(directory, _PRIVATE if directory == paths.control else mode)
        _open_to(paths.directory, mode)
        sync_directory(paths.directory)
        sync_directory(paths.directory.parent)
    except OSError:
        for directory in (paths.artifacts, paths.checkpoints, paths.control, paths.directory):
            with contextlib.suppress(OSError):
                directory.rmdir()  # removes only what is empty, so only what was made here
        raise
    return paths


def _run_at(text: str) -> Path:
    if ".." in Path(text).parts:
        raise UsageError(f"{clean(text, limit=200)!r}: a run's directory is given without '..'; use its full path")
    directory = expand(text)
    try:
        directory = directory.resolve()
        if stat.S_ISREG((directory / "run.json").lstat().st_mode):
            return directory
    except (OSError, ValueError, RuntimeError):  # absent, a NUL in the name, links in a circle
        pass
    raise UsageError(f"{clean(text, limit=200)!r} is not a run: there is no run.json in that directory")


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False
