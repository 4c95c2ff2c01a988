"""All runs at a glance, for `tuidl runs` and the screen that lists them."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tuidl.errors import StorageError
from tuidl.runs.layout import RunPaths, run_names
from tuidl.runs.status import Best, read_state
from tuidl.runs.writer import read_spec

_LONGEST_TEXT = 200


@dataclass(frozen=True)
class RunSummary:
    """One line about a run.

    `created` is wall time (UTC). `preset` and `title` are empty when unknown. `state` is the observed one, so also
    `lost`; `unreadable` when the spec or the status is absent or damaged. `seconds` is the time trained.
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


def list_runs(root: Path) -> list[RunSummary]:
    """Return a summary of every run in `root`, the newest first. Raises StorageError when `root` cannot be read."""
    summaries = [summarise(RunPaths(root / name)) for name in run_names(root)]
    return sorted(summaries, key=lambda summary: (summary.created, summary.name), reverse=True)


def summarise(paths: RunPaths) -> RunSummary:
    """Return the summary of one run; whatever is damaged in it shows as state `unreadable`."""
    try:
        spec: dict[str, Any] | None = read_spec(paths)
    except StorageError:
        spec = None
    preset, title = _preset(spec or {})
    status, state = read_state(paths)
    return RunSummary(
        name=paths.name,
        paths=paths,
        created=_created(spec or {}, paths),
        preset=preset,
        title=title,
        state="unreadable" if spec is None else state,
        step=status.step if status else 0,
        total_steps=status.total_steps if status else None,
        best=status.best if status else None,
        seconds=status.elapsed if status else 0.0,
    )


def _preset(spec: dict[str, Any]) -> tuple[str, str]:
    """Return name and title from the spec's `preset`: a name, or a table with `name` and `title`."""
    preset = spec.get("preset")
    if not isinstance(preset, dict):
        preset = {"name": preset}
    name, title = (value if isinstance(value, str) else "" for value in (preset.get("name"), preset.get("title")))
    return name[:_LONGEST_TEXT], (title or name)[:_LONGEST_TEXT]


def _created(spec: dict[str, Any], paths: RunPaths) -> datetime:
    """Return when the run was created: what the spec says, else when its directory last changed."""
    try:
        created = datetime.fromisoformat(spec["created"])
        return created.astimezone(UTC) if created.tzinfo else created.replace(tzinfo=UTC)
    except (KeyError, TypeError, ValueError, OverflowError):
        pass
    try:
        return datetime.fromtimestamp(paths.directory.stat().st_mtime, UTC)
    except (OSError, ValueError, OverflowError):
        return datetime.fromtimestamp(0, UTC)
