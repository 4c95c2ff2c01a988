"""Writes the stream of events into the run directory, so that any viewer finds everything there."""

import json
import math
import time
from functools import singledispatchmethod
from typing import Any

from tuidl.runs import Best, RunPaths, RunWriter
from tuidl.spec.load import with_live_change
from tuidl.spec.run import RunSpec
from tuidl.train import events
from tuidl.train.checkpoint import Checkpoints
from tuidl.train.events import Event, Report

STATUS_EVERY = 1.0  # seconds between heartbeats
SYNC_EVERY = 2.0  # seconds between waits for the disk, which also make other hosts see what was written


class Recorder:
    """The trainer's pen. Every method may raise StorageError."""

    def __init__(self, paths: RunPaths, spec: RunSpec) -> None:
        self.writer = RunWriter(paths)
        self.checkpoints = Checkpoints(paths.checkpoints)
        self.spec = spec
        self.elapsed = 0.0
        self._stored: list[str] = []
        self._latest: dict[str, float] = {}
        self._best: Best | None = None
        self._steps_per_epoch = 1
        self._status_at = self._sync_at = time.monotonic()
        self.status(state="starting")

    def record(self, event: Event) -> list[str]:
        """Write `event`, and a heartbeat or a sync where one is due; return the files written for it."""
        self._stored = []
        self._write(event)
        now = time.monotonic()
        if now - self._status_at >= STATUS_EVERY:
            self.status(step=event.step)
        if now - self._sync_at >= SYNC_EVERY:
            self._sync_at = now
            self.writer.sync()
        return self._stored

    def status(self, **changes: Any) -> None:
        """Replace the status."""
        if "step" in changes:
            changes["epoch"] = changes["step"] // self._steps_per_epoch
        self.writer.status.update(latest=self._latest, best=self._best, elapsed=self.elapsed, **changes)
        self._status_at = time.monotonic()

    def fail(self, reason: str, exit_code: int) -> None:
        """Write that the run has failed."""
        self.writer.event("failed", self.writer.status.current.step, elapsed=self.elapsed, reason=reason)
        self.status(state="failed", reason=reason, exit_code=exit_code)

    def close(self) -> None:
        """Close the logs."""
        self.writer.close()

    def _event(self, kind: str, event: Event, **fields: Any) -> None:
        self.writer.event(kind, event.step, elapsed=self.elapsed, **fields)

    def _artifacts(self, report: Report, step: int) -> list[dict[str, Any]]:
        """Store the files of a report under names with the step, and return where they are and what they show."""
        stored = []
        for artifact in report.artifacts:
            stem, dot, suffix = artifact.name.partition(".")
            path = self.writer.artifact(f"{stem}-{step:09d}{dot}{suffix}", artifact.data)
            self._stored.append(path)
            stored.append({"path": path, **artifact.details})
        return stored

    @singledispatchmethod
    def _write(self, event: Event) -> None:
        raise TypeError(f"no record is known for {type(event).__name__}")

    @_write.register
    def _(self, event: events.Started) -> None:
        self._steps_per_epoch = max(1, int(event.facts["steps_per_epoch"]))
        self._event("started", event, **event.facts)
        self.status(
            state="running",
            total_steps=event.facts["steps"],
            total_epochs=math.ceil(event.facts["steps"] / self._steps_per_epoch),
        )

    @_write.register
    def _(self, event: events.Metrics) -> None:
        self.elapsed = event.elapsed[1]
        self.writer.metrics(event.block.first, event.block.columns, event.elapsed)
        self._latest |= {name: values[-1] for name, values in event.block.columns.items()}

    @_write.register
    def _(self, event: events.StateChanged) -> None:
        self._event("state", event, state=event.state)
        self.status(state=event.state, step=event.step)

    @_write.register
    def _(self, event: events.Heartbeat) -> None:
        pass  # `record` renews the status

    @_write.register
    def _(self, event: events.Evaluated) -> None:
        self._latest |= event.report.metrics
        stored = self._artifacts(event.report, event.step)
        self._event(
            "evaluation",
            event,
            epoch=event.epoch,
            metrics=event.report.metrics,
            best=event.best,
            final=event.final,
            artifacts=stored,
        )
        if event.best:
            metric = self.spec.metric
            self._best = Best(metric=metric, value=event.report.metrics[metric], step=event.step)

    @_write.register
    def _(self, event: events.Sampled) -> None:
        self._event("sample", event, artifacts=self._artifacts(event.report, event.step))

    @_write.register
    def _(self, event: events.Checkpoint) -> None:
        self.writer.sync()  # no checkpoint is newer than the metrics that lead to it
        header = {"metrics": event.metrics, "spec": self.spec.model_dump(mode="json")}
        name = self.checkpoints.save(event.step, event.tensors, header, event.best)
        if event.best and self._best:
            self._best = self._best.model_copy(update={"checkpoint": name})
        self._stored.append(f"checkpoints/{name}")
        self._event("checkpoint", event, file=f"checkpoints/{name}", best=event.best)

    @_write.register
    def _(self, event: events.Answered) -> None:
        self.writer.answer(event.id, event.step, ok=event.ok, text=event.text, elapsed=self.elapsed)

    @_write.register
    def _(self, event: events.Changed) -> None:
        self._event("change", event, key=event.key, before=event.before, after=event.after)
        self.spec = with_live_change(
            self.spec, event.key, json.dumps(event.after)
        )  # what later checkpoints are made with

    @_write.register
    def _(self, event: events.Warned) -> None:
        self._event("warning", event, text=event.text)

    @_write.register
    def _(self, event: events.Finished) -> None:
        self.elapsed = event.seconds
        self._latest |= event.metrics
        self._event("finished", event, status=event.status, reason=event.reason, metrics=event.metrics)
        self.writer.sync()
