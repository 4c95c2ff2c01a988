"""Follows a run directory and makes snapshots of it. Blocks on the disk, so it runs beside the screen's own thread."""

import contextlib
import os
import time
from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from tuidl.errors import StorageError, TuidlError, UsageError
from tuidl.files import open_regular
from tuidl.runs import LIVE_STATES, RunPaths, RunReader, as_float, read_state
from tuidl.spec import RunSpec, validate, with_live_change
from tuidl.text import clean
from tuidl.tui.history import History
from tuidl.tui.snapshot import Artifact, Change, Points, Snapshot

SLICE = 4 << 20  # bytes of metrics read before the clock is looked at
BUDGET = 0.3  # seconds that one poll may read; a long run opens in several
LOG_TAIL = 8192  # bytes of the trainer's log that are shown
MOST_ARTIFACTS = 20_000  # remembered of one kind; the oldest are let go


class Feed:
    """The reading end of one run. `poll` and `artifact` may be called from any one thread at a time."""

    def __init__(self, paths: RunPaths) -> None:
        self.paths = paths
        self.more = True  # whether there is more to read at once
        self._artifact = lru_cache(maxsize=64)(lambda path: self._reader.artifact(path))
        self._begin()

    def _begin(self) -> None:
        self._reader = RunReader(self.paths)
        self._history = History()
        self._spec: RunSpec | None = None
        self._preset = ""
        self._facts: dict[str, Any] = {}
        self._events: list[Mapping[str, Any]] = []
        self._points: dict[str, list[tuple[int, float, float]]] = defaultdict(list)
        self._changes: list[Change] = []
        self._artifacts: dict[str, list[Artifact]] = defaultdict(list)
        self._log: tuple[str, ...] = ()
        self._log_seen: tuple[int, int] | None = None
        self._told: dict[str, Any] = {}  # the parts of the last snapshot that follow from events

    def artifact(self, artifact: Artifact) -> bytes:
        """Return the content of an artifact. Raises TuidlError."""
        return self._artifact(artifact.path)

    def poll(self) -> Snapshot:
        """Read what is new and return the run as it stands. Never raises for what is wrong with the run's files."""
        problem = ""
        status, state = read_state(self.paths)
        try:
            self._read_spec()
            self._read_events()
            self._read_metrics()
            if self._reader.restarted:
                self._begin()
                self.more = True
        except (StorageError, UsageError) as error:
            problem, self.more = str(error), False
        self._read_log(state)
        return Snapshot(
            name=self.paths.name, directory=str(self.paths.directory), spec=self._spec, facts=self._facts,
            status=status, state=state, history=self._history, log=self._log, problem=problem,
            damaged=self._reader.damaged, preset=self._preset, **self._told,
        )  # fmt: skip

    def _read_spec(self) -> None:
        if self._spec is not None:
            return
        stored = self._reader.spec()
        preset = stored.get("preset")
        self._preset = str(preset.get("name", "")) if isinstance(preset, dict) else ""
        self._spec = validate(stored.get("spec", {}), where="run.json")

    def _read_events(self) -> None:
        found = self._reader.events()
        for event in found:
            try:
                self._take(event)
            except (KeyError, TypeError, ValueError, AttributeError):
                continue  # whole, but not what such an event holds
        if found or not self._told:
            self._events += found
            self._told = {
                "events": tuple(self._events),
                "changes": tuple(self._changes),
                "artifacts": {kind: tuple(items) for kind, items in self._artifacts.items()},
                "points": {
                    name: Points(*(tuple(part) for part in zip(*rows, strict=True)))
                    for name, rows in self._points.items()
                },
            }

    def _take(self, event: Mapping[str, Any]) -> None:
        step, elapsed = int(event["step"]), as_float(event.get("elapsed") or 0.0)
        match event["event"]:
            case "started":
                self._facts = dict(event)
            case "resumed":
                self._forget_after(step, dict(event["live"]))
            case "evaluation":
                for name, value in dict(event["metrics"]).items():
                    self._points[str(name)].append((step, elapsed, as_float(value)))
            case "change":
                change = Change(step, elapsed, str(event["key"]), event["before"], event["after"])
                self._changes.append(change)
                self._apply(change.key, change.after)
        for item in event.get("artifacts", ()):
            stem = item["path"].partition("/")[2].partition("-")[0].partition(".")[0]
            kind = stem if item.get("kind") == "grid" else str(item.get("kind"))
            known = self._artifacts[kind]
            known.append(Artifact(kind, step, elapsed, str(item["path"]), dict(item)))
            del known[:-MOST_ARTIFACTS]

    def _forget_after(self, step: int, live: Mapping[str, Any]) -> None:
        """Let go what a resumed run has left behind, and put the live settings back to what they were then."""
        for name, rows in self._points.items():
            self._points[name] = [row for row in rows if row[0] <= step]
        for kind, items in self._artifacts.items():
            self._artifacts[kind] = [item for item in items if item.step <= step]
        self._changes = [change for change in self._changes if change.step <= step]
        for key, value in live.items():
            self._apply(str(key), value)

    def _apply(self, key: str, value: Any) -> None:
        if self._spec is not None:
            text = str(list(value) if isinstance(value, list | tuple) else value)
            with contextlib.suppress(TuidlError):  # of another version; the curves still show where it was
                self._spec = with_live_change(self._spec, key, text)

    def _read_metrics(self) -> None:
        deadline = time.monotonic() + BUDGET
        while True:
            for block in self._reader.metrics(most=SLICE):
                self._history.append(block)
            self.more = self._reader.more
            if not self.more or time.monotonic() > deadline:
                return

    def _read_log(self, state: str) -> None:
        """Read the end of the trainer's log where it has changed."""
        try:
            with open_regular(self.paths.trainer_log) as file:
                info = os.fstat(file.fileno())
                seen = (info.st_size, info.st_mtime_ns)
                if seen == self._log_seen:
                    return
                file.seek(max(0, info.st_size - LOG_TAIL))
                text = file.read(LOG_TAIL).decode("utf-8", "replace")
        except (OSError, ValueError):  # absent, or no file
            return
        self._log_seen = seen
        lines = text.splitlines()[1 if info.st_size > LOG_TAIL else 0 :]
        self._log = tuple(clean(line, limit=500) for line in lines[-200:] if line.strip())


def rate(snapshot: Snapshot) -> float:
    """Return the steps a second over the last seconds of training; 0 where that is not known."""
    length = snapshot.history.length
    if length < 2:
        return 0.0
    steps, elapsed = snapshot.history.steps, snapshot.history.elapsed
    first = int(elapsed[:length].searchsorted(elapsed[length - 1] - 5.0))
    first = min(first, length - 2)
    seconds = float(elapsed[length - 1] - elapsed[first])
    return float(steps[length - 1] - steps[first]) / seconds if seconds > 0 else 0.0


def remaining(snapshot: Snapshot) -> float | None:
    """Return the seconds until the planned end at the pace of the whole run, evaluations included, or None."""
    status, length = snapshot.status, snapshot.history.length
    if status is None or not status.total_steps or length < 2 or snapshot.state not in LIVE_STATES:
        return None
    done, seconds = int(snapshot.history.steps[length - 1]), float(snapshot.history.elapsed[length - 1])
    return (status.total_steps - done) * seconds / done if done and seconds > 1 else None
