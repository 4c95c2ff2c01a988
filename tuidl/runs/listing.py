"""All runs at a glance, for `tuidl runs` and the screen that lists them."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tuidl.errors import StorageError
from tuidl.runs.layout import RunPaths, run_names
from tuidl.runs.status import LIVE_STATES, Best, Status, read_state
from tuidl.runs.writer import read_spec

_LONGEST_TEXT = 200
_Stamps = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True)
class RunSummary:
    """One line about a run.

    `created` is wall time (UTC). `preset`, `title` and `task` are empty when unknown. `state` is the observed one, so
    also `lost`; `unreadable` when the spec or the status is absent or damaged. `reason` says why it has ended.
    `seconds` is the time trained. `heartbeat` grows while the trainer lives.
    """

    name: str
    paths: RunPaths
    created: datetime
    preset: str
    title: str
    state: str
    step: int
    total_steps: int | None
    best: Best | None
    seconds: float
    task: str = ""
    epoch: int = 0
    total_epochs: int | None = None
    reason: str = ""
    heartbeat: int = 0


def list_runs(root: Path) -> list[RunSummary]:
    """Return a summary of every run in `root`, the newest first. Raises StorageError when `root` cannot be read."""
    return RunLister(root).runs()


class RunLister:
    """Lists the runs of one directory again and again, and reads only what has changed since it last did."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[str, tuple[_Stamps, RunSummary]] = {}

    def runs(self) -> list[RunSummary]:
        """Return a summary of every run, the newest first. Raises StorageError when the directory cannot be read."""
        self._known = {name: self._look(name) for name in run_names(self._root)}
        summaries = [summary for _, summary in self._known.values()]
        return sorted(summaries, key=lambda summary: (summary.created, summary.name), reverse=True)

    def _look(self, name: str) -> "tuple[_Stamps, RunSummary]":
        paths = RunPaths(self._root / name)
        stamps = (_stamp(paths.spec), _stamp(paths.status))  # taken first: what changes while it is read is read again
        known = self._known.get(name)
        if known is None or known[0] != stamps or known[1].state in LIVE_STATES:  # a trainer may die without a word
            known = stamps, summarise(paths)
        return known


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Return what tells one version of a file from the next; None when there is no file."""
    try:
        info = path.lstat()
    except OSError:
        return None
    return info.st_mtime_ns, info.st_ino, info.st_size


def summarise(paths: RunPaths) -> RunSummary:
    """Return the summary of one run; whatever is damaged in it shows as state `unreadable`."""
    try:
        stored: dict[str, Any] | None = read_spec(paths)
    except StorageError:
        stored = None
    preset, title = _preset(stored or {})
    status, state = read_state(paths)
    told = status or Status()
    return RunSummary(
        name=paths.name,
        paths=paths,
        created=_created(stored or {}, paths),
        preset=preset,
        title=title,
        state="unreadable" if stored is None else state,
        step=told.step,
        total_steps=told.total_steps,
        best=told.best,
        seconds=told.elapsed,
        task=_task(stored or {}),
        epoch=told.epoch,
        total_epochs=told.total_epochs,
        reason=told.reason,
        heartbeat=told.heartbeat,
    )


def _task(stored: dict[str, Any]) -> str:
    spec = stored.get("spec")
    task = spec.get("task") if isinstance(spec, dict) else None
    return task[:_LONGEST_TEXT] if isinstance(task, str) else ""


def _preset(stored: dict[str, Any]) -> tuple[str, str]:
    """Return name and title from the spec's `preset`: a name, or a table with `name` and `title`."""
    preset = stored.get("preset")
    if not isinstance(preset, dict):
        preset = {"name": preset}
    name, title = (value if isinstance(value, str) else "" for value in (preset.get("name"), preset.get("title")))
    return name[:_LONGEST_TEXT], (title or name)[:_LONGEST_TEXT]


def _created(stored: dict[str, Any], paths: RunPaths) -> datetime:
    """Return when the run was created: what the spec says, else when its directory last changed."""
    try:
        created = datetime.fromisoformat(stored["created"])
        return created.astimezone(UTC) if created.tzinfo else created.replace(tzinfo=UTC)
    except (KeyError, TypeError, ValueError, OverflowError):
        pass
    try:
        return datetime.fromtimestamp(paths.directory.stat().st_mtime, UTC)
    except (OSError, ValueError, OverflowError):
        return datetime.fromtimestamp(0, UTC)
