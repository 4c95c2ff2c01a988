"""Writes the stream of events into the run directory, so that any viewer finds everything there."""

import contextlib
import json
import math
import os
import time
from collections.abc import Callable
from functools import singledispatchmethod
from typing import Any

from tuidl.errors import OwnershipError, StorageError
from tuidl.runs import Best, RunPaths, RunWriter, write_atomic
from tuidl.runs.ownership import Claim
from tuidl.spec.load import with_live_change
from tuidl.spec.run import RunSpec
from tuidl.train import events
from tuidl.train.checkpoint import Checkpoints, name_of
from tuidl.train.events import Event, Report

STATUS_EVERY = 1.0  # seconds between heartbeats
SYNC_EVERY = 2.0  # seconds between waits for the disk, which also make other hosts see what was written
FULL_NAP = 0.5  # seconds between attempts to write while the disk is full
RESERVE = 64 << 10  # bytes held back, so that a full disk has room to say that it is full


class Recorder:
    """The trainer's pen. Every method may raise StorageError, and OwnershipError once another trainer has the run.

    While the disk is full, `record` waits for space or leaves out what cannot be written, as the spec says, and ends
    the wait with the StorageError when `give_up` says so. `tell` is given what cannot be recorded meanwhile.
    """

    def __init__(
        self,
        paths: RunPaths,
        spec: RunSpec,
        claim: Claim | None = None,
        give_up: Callable[[], bool] = lambda: False,
        tell: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self.writer = RunWriter(paths)
        self.checkpoints = Checkpoints(paths.checkpoints, spec.checkpoints.keep)
        self.spec, self._claim, self._give_up, self._tell = spec, claim, give_up, tell
        self.writer.status.guard = self._check_claim
        self._reserve = paths.directory / "reserve"
        self.elapsed = 0.0
        self._stored: list[str] = []
        self._latest: dict[str, float] = {}
        self._best: Best | None = None
        self._steps_per_epoch = 1
        self._status_at = self._sync_at = time.monotonic()
        self._unwritten = 0  # events left out since the disk was last known to be full
        self._step = 0  # of the newest event

    def begin(self) -> None:
        """Say that the run is starting."""
        self.status(state="starting")
        self._hold_back()

    def _check_claim(self) -> None:
        """Look whether the run is still this process's, which may have been asleep for long."""
        if self._claim:
            self._claim.check()

    def record(self, event: Event) -> list[str]:
        """Write `event`, and a heartbeat or a sync where one is due; return the files written for it."""
        self._step = event.step
        if not isinstance(event, events.Heartbeat):
            self._check_claim()
        left: list[Callable[[], None]] = [lambda: self._write_anew(event), lambda: self._renew(event.step)]
        try:
            if self._unwritten:
                self._hold_back()  # first of all: what is left on a full disk is for the status
                self._tell_of_gap(event.step, f"the disk was full: {self._unwritten} records were not written")
                self._unwritten = 0
            _do(left)
        except StorageError as error:
            if not error.full:
                raise
            self._without_space(event, error, left)
        return self._stored

    def _write_anew(self, event: Event) -> None:
        self._stored = []
        self._write(event)

    def _renew(self, step: int) -> None:
        now = time.monotonic()
        if now - self._status_at >= STATUS_EVERY:
            self.status(step=step)
        if now - self._sync_at >= SYNC_EVERY:
            self._sync_at = now
            self.writer.sync()

    def _without_space(self, event: Event, error: StorageError, left: list[Callable[[], None]]) -> None:
        """Wait until there is space again and do then what is `left` for `event`, or go on without it."""
        waits = self.spec.checkpoints.disk_full == "pause" or isinstance(event, events.Finished)
        state, since = self._state_after(event), time.monotonic()
        self._tell_why("paused" if waits else state, error)
        if not waits:
            if not self._unwritten:
                self._tell(events.Warned(event.step, f"{error}; the run goes on unrecorded"))
            self._unwritten += 1
            return
        self._tell(events.Warned(event.step, f"{error}; waiting for space"))
        left += [
            lambda: self._tell_of_gap(
                event.step, f"the disk was full: the run waited {time.monotonic() - since:.0f} s for space"
            ),
            lambda: self.status(state=state, reason="", step=event.step),
        ]
        while left:
            if self._give_up():
                raise error
            time.sleep(FULL_NAP)
            try:
                self._check_claim()
                self._hold_back()
                _do(left)
            except StorageError as again:
                if not again.full:
                    raise
                if time.monotonic() - self._status_at >= STATUS_EVERY:
                    self._tell_why("paused", error)

    def _tell_why(self, state: str, error: StorageError) -> None:
        """Say in the status that the disk is full, with the space that was held back for that."""
        self._reserve.unlink(missing_ok=True)
        with contextlib.suppress(StorageError):
            self.status(state=state, reason=str(error), step=self._step)

    def _state_after(self, event: Event) -> str:
        """Return the state that the status has to show once `event` is written."""
        if isinstance(event, events.StateChanged):
            return event.state
        return "running" if isinstance(event, events.Started) else self.writer.status.current.state

    def _tell_of_gap(self, step: int, text: str) -> None:
        self.writer.event("warning", step, elapsed=self.elapsed, text=text)
        self._tell(events.Warned(step, text))

    def _hold_back(self) -> None:
        """Take some space that a full disk can be told with."""
        if not self._reserve.exists():
            write_atomic(self._reserve, os.urandom(RESERVE), durable=False)  # random, for disks that compress

    def status(self, **changes: Any) -> None:
        """Replace the status."""
        if "step" in changes:
            changes["epoch"] = changes["step"] // self._steps_per_epoch
        self.writer.status.update(latest=self._latest, best=self._best, elapsed=self.elapsed, **changes)
        self._status_at = time.monotonic()

    def fail(self, reason: str, exit_code: int) -> None:
        """Write that the run has failed."""
        self._check_claim()
        self.writer.event("failed", self._step, elapsed=self.elapsed, reason=reason)
        self.status(state="failed", reason=reason, exit_code=exit_code, step=self._step)

    def close(self) -> None:
        """Close the logs and give back what was held back."""
        with contextlib.suppress(StorageError):  # all that counts has been waited for before
            self.writer.close()
        with contextlib.suppress(OSError, OwnershipError):
            self._check_claim()
            self._reserve.unlink(missing_ok=True)

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
            step=event.step,
            total_steps=event.facts["steps"],
            total_epochs=math.ceil(event.facts["steps"] / self._steps_per_epoch),
        )

    @_write.register
    def _(self, event: events.Resumed) -> None:
        self.checkpoints.leave(event.skipped)
        self.elapsed = event.seconds
        if event.best_step:
            metric, name = self.spec.metric, name_of(event.best_step)
            self._best = Best(metric=metric, value=event.best_metrics[metric], step=event.best_step, checkpoint=name)
            self.checkpoints.best = name
        self._event("resumed", event, file=event.file, skipped=list(event.skipped.values()), live=event.live)

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
        name = self.checkpoints.save(event, {"spec": self.spec.model_dump(mode="json")}, self._check_claim)
        if event.best and self._best:
            self._best = self._best.model_copy(update={"checkpoint": name})
        self._stored.append(f"checkpoints/{name}")
        self._event("checkpoint", event, file=f"checkpoints/{name}", best=event.best)

    @_write.register
    def _(self, event: events.Answered) -> None:
        self.writer.answer(event.id, event.verb, event.step, ok=event.ok, text=event.text, elapsed=self.elapsed)

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
        self._event(
            "finished", event, status=event.status, reason=event.reason, metrics=event.metrics, costs=event.costs
        )
        self.writer.sync()
        self._reserve.unlink(missing_ok=True)  # for the last status


def _do(left: list[Callable[[], None]]) -> None:
    """Do one after the other; what is done is no longer in the list, also where a later one fails."""
    while left:
        left[0]()
        del left[0]
