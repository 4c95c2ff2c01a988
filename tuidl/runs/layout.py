"""Where runs are, what lies where inside one, and how a run is made and found again."""

import contextlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from tuidl.errors import UsageError
from tuidl.runs.atomic import sync_directory
from tuidl.runs.files import storage_error
from tuidl.runs.names import automatic_name, check_name, is_name
from tuidl.text import clean, did_you_mean

_MOST_SHOWN = 8


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
    """Return the directory of all runs, absolute: `override`, else $TUIDL_RUNS_DIR, else the user's state directory."""
    chosen = override or os.environ.get("TUIDL_RUNS_DIR") or platformdirs.user_state_path("tuidl") / "runs"
    return Path(chosen).expanduser().absolute()  # absolute, because a detached trainer starts somewhere else


def create_run(root: Path, name: str | None, preset_name: str) -> RunPaths:
    """Make and own a new run directory (mode 0700) below `root`, which is made when it is not there.

    Without `name` the run is named after its preset and the time, with a number when that is taken. Raises UsageError
    for a bad `name` or one that exists: a run is never overwritten. Raises StorageError when `root` cannot be written.
    """
    if name is not None:
        check_name(name)
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(root, error) from error
    stem = name or automatic_name(preset_name)
    number = 1
    while True:
        directory = root / (stem if number == 1 else f"{stem}-{number}")
        try:
            directory.mkdir(mode=0o700)  # the claim: of two that try, one succeeds
            return _furnish(RunPaths(directory))
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
        return RunPaths(_run_at(text))
    check_name(text)
    names = run_names(root)
    if text in names:
        return RunPaths(root / text)
    matches = [name for name in names if name.startswith(text)]
    if len(matches) == 1:
        return RunPaths(root / matches[0])
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


def _furnish(paths: RunPaths) -> RunPaths:
    try:
        for directory in (paths.artifacts, paths.checkpoints, paths.control):
            directory.mkdir(mode=0o700)
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
    try:
        directory = Path(text).expanduser().resolve()
        if stat.S_ISREG((directory / "run.json").lstat().st_mode):
            return directory
    except (OSError, ValueError, RuntimeError):  # absent, a NUL in the name, an unknown ~user
        pass
    raise UsageError(f"{clean(text, limit=200)!r} is not a run: there is no run.json in that directory")


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False
