"""The training loop: a generator of typed events that knows no model, no optimizer and no screen.

    for event in fit(task, spec, control):
        ...                     # record it, print it, test it

Pausing is not asking for the next event; cancelling is closing the generator.
"""

import contextlib
import time
from collections.abc import Callable, Generator, Iterator, Mapping

from torch import Tensor

from tuidl.errors import UsageError
from tuidl.spec.run import RunSpec
from tuidl.spec.schedules import Position
from tuidl.text import clean
from tuidl.train import events
from tuidl.train.checkpoint import Saved, all_finite, random_state, restore_random_state
from tuidl.train.events import Event
from tuidl.train.meter import Meter
from tuidl.train.orders import Control, NoControl, Orders
from tuidl.train.state import State, check_same, divergence, state_of
from tuidl.train.tasks.base import Pieces, R, Task

DRAIN_EVERY = 0.1  # seconds between looks at the clock-driven work: metrics, commands

Events = Generator[Event, None, R]


def fit(
    task: Task,
    spec: RunSpec,
    control: Control | None = None,
    clock: Callable[[], float] = time.monotonic,
    saved: Saved | None = None,
) -> Iterator[Event]:
    """Train `task` as `spec` says and yield what happens; the last event is `Finished`.

    With `saved` go on from there, as if nothing had come between. Raises UsageError where it is of another task.
    """
    fitting = Fit(task, spec, control or NoControl(), clock, saved)
    try:
        yield from fitting.run()
    except (RuntimeError, MemoryError):  # out of memory, or a device that failed
        with contextlib.suppress(RuntimeError, MemoryError):
            yield from fitting.tell_rest()
        raise


class Fit:
    """One run of the loop. Read `run` first."""

    def __init__(
        self, task: Task, spec: RunSpec, control: Control, clock: Callable[[], float], saved: Saved | None
    ) -> None:
        self.task, self.spec, self.clock = task, spec, clock
        self.saved = saved
        self.state = State() if saved is None else state_of(saved)
        self.best_weights: dict[str, Tensor] = {}
        self.meter = Meter(task.columns, task.hardware.device, first=self.state.step + 1)
        epochs = spec.training.epochs * task.steps_per_epoch
        self.total = min(epochs, spec.training.max_steps or epochs)
        self.ending: tuple[str, str] | None = None  # status and reason, once the run is to end
        self.orders = Orders(self, control)
        self._mark = self._saved_at = clock()
        self._drained_at = self.state.seconds
        self._saved_step = self.state.step if saved else -1  # of the newest checkpoint

    def run(self) -> Events[None]:
        """Train epoch by epoch, evaluate after each, and test once with the best weights."""
        yield from self._in_pieces(self.task.prepare())
        state = self.state
        if self.saved:
            self._restore(self.saved)
        yield events.Started(
            state.step, {**self.task.facts(), "steps": self.total, "steps_per_epoch": self.task.steps_per_epoch}
        )
        if state.evaluated < state.step and self._time_to_evaluate(state.step % self.task.steps_per_epoch == 0):
            yield from self.evaluate()  # which was due, but the run was saved and ended before
            yield from self.orders.serve()
        while state.step < self.total and not self.ending:
            epoch, index = divmod(state.step, self.task.steps_per_epoch)
            if index == 0:
                self.task.begin_epoch(epoch)
            lr = self.spec.optimizer.lr * self._lr_factor()
            self.meter.write(self.task.step(index, lr), lr)
            state.step += 1
            if self._time_to_drain():
                yield from self.drain()
                yield from self.orders.serve()
                if self._time_to_save():
                    yield from self.drain(wait=True)
                    yield from self.save()
            if self._time_to_evaluate(epoch_ends=index + 1 == self.task.steps_per_epoch):
                yield from self.drain(wait=True)
                yield from self.evaluate()
                yield from self.orders.serve()
            yield from self.orders.serve_pause_due()
        yield from self.drain(wait=True)
        yield from self._finish()

    def tell_rest(self) -> Events[None]:
        """Yield the numbers of the steps that were taken before something failed."""
        yield from self.drain(wait=True)

    def _restore(self, saved: Saved) -> None:
        """Put everything back to where it was at the step of `saved`."""
        task, device = self.task, self.task.hardware.device
        epoch, index = divmod(self.state.step, task.steps_per_epoch)
        try:
            if index:
                task.begin_epoch(epoch)
            task.load(saved.weights)
            task.restore(saved.rest)
            restore_random_state(saved.rest.tensors, device)
            held = {**task.state(), **task.saved().tensors, **random_state(device)}
            check_same(held, {**saved.weights, **saved.rest.tensors})
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            raise UsageError(
                f"the checkpoint of step {saved.step} does not fit this run: {clean(str(error), limit=200)}"
            ) from error
        best = saved.weights if self._is_best() else saved.best_weights
        self.best_weights = {name: value.to(device) for name, value in best.items()}
        self._stop_early()

    def _lr_factor(self) -> float:
        at = Position(self.state.step, self.total, self.task.steps_per_epoch, self.state.history)
        return self.spec.schedule.factor(at)

    def _tick(self) -> float:
        """Move the run's own clock on and return it."""
        now = self.clock()
        self.state.seconds += now - self._mark
        self._mark = now
        return self.state.seconds

    def skip_time(self) -> None:
        """Leave out what has passed since the last look at the clock: a pause is no training time."""
        self._mark = self.clock()

    @property
    def diverged(self) -> bool:
        """Return whether a number of some step was not finite."""
        return self.ending is not None and self.ending[0] == "diverged"

    def _time_to_drain(self) -> bool:
        return self.meter.full or self.clock() - self._mark >= DRAIN_EVERY

    def _time_to_save(self) -> bool:
        every = self.spec.checkpoints.interval
        return every > 0 and self.clock() - self._saved_at >= every and self.state.step > self._saved_step

    def _time_to_evaluate(self, epoch_ends: bool) -> bool:
        step, every = self.state.step, self.spec.evaluation.every_steps
        return epoch_ends or step == self.total or (every > 0 and step % every == 0)

    def drain(self, wait: bool = False) -> Events[None]:
        """Bring the steps' numbers to the host, and end the run where one of them is not finite."""
        while self.task.hardware.notes:
            yield events.Warned(self.state.step, self.task.hardware.notes.pop(0))
        before, now = self._drained_at, self._tick()
        for block in self.meter.drain(wait):
            self._drained_at = now
            yield events.Metrics(block.first + len(block) - 1, block, (before, now))
            self.state.note(block)
            why = divergence(block, self.task.hardware.precision)
            if why and not self.diverged:
                self.ending = ("diverged", why)

    def _in_pieces(self, work: Pieces[R]) -> Events[R | None]:
        """Do long work piece by piece, alive and obedient in between; return its result, or None when told to stop."""
        while not (self.ending and self.ending[0] == "stopped"):
            try:
                doing = next(work)
            except StopIteration as done:
                result: R = done.value
                return result
            yield events.Heartbeat(self.state.step, doing)
            yield from self.orders.obey()
        return None

    def evaluate(self, scheduled: bool = True) -> Events[None]:
        """Measure on the validation data, keep the best weights, and decide about stopping early.

        An evaluation that was asked for by hand (`scheduled` False) is shown but decides nothing, so that looking at a
        run never changes it.
        """
        if self.diverged:
            return
        state = self.state
        yield events.StateChanged(state.step, "evaluating")
        if warning := state.growth():
            yield events.Warned(state.step, warning)
        report = yield from self._in_pieces(self.task.evaluate())
        if report is None:
            return
        better = False
        if scheduled:
            better = state.judge(report.metrics, self.spec)
            self._stop_early()
        state.metrics |= report.metrics
        self._tick()
        yield events.Evaluated(state.step, state.step / self.task.steps_per_epoch, report, best=better)
        yield from self.sample()
        if scheduled:
            if better:
                self.best_weights = {name: value.detach().clone() for name, value in self.task.judged().items()}
            yield from self.save(report.metrics, best=better)
        yield events.StateChanged(state.step, "paused" if self.orders.paused else "running")

    def _stop_early(self) -> None:
        """End the run where the deciding metric has not improved for long enough."""
        why = self.state.enough(self.spec)
        if why and not self.ending:
            self.ending = ("completed", why)

    def save(self, metrics: Mapping[str, float] | None = None, best: bool = False) -> Events[None]:
        """Hand out all of the run for a checkpoint; numbers that are not finite never reach one."""
        state, task = self.state, self.task
        if self.diverged:
            return
        weights, rest = task.state(), task.saved()
        if not all_finite([*weights.values(), *rest.tensors.values()]):
            yield events.Warned(state.step, "no checkpoint is written: some numbers are not finite any more")
            return
        rest.tensors.update(random_state(task.hardware.device))
        rest.values["loop"] = vars(state)
        best_weights = {} if self._is_best() else self.best_weights
        yield events.Checkpoint(state.step, weights, best_weights, rest, dict(metrics or {}), best)
        self._saved_step, self._saved_at = state.step, self.clock()

    def _is_best(self) -> bool:
        """Return whether the weights of this step are the best; their average would be another matter."""
        return self.state.best_step == self.state.step and not self.spec.training.average

    def sample(self, asked: bool = False) -> Events[None]:
        """Show what the model makes on its own, if it makes anything."""
        report = yield from self._in_pieces(self.task.sample())
        if report:
            yield events.Sampled(self.state.step, report)
        elif asked:
            yield events.Warned(self.state.step, "this kind of model makes no samples")

    def _finish(self) -> Events[None]:
        status, reason = self.ending or ("completed", "all steps done")
        state = self.state
        if status == "stopped" and state.step != self._saved_step:
            yield from self.save()
        if status == "completed" and self.best_weights:
            self.task.load(self.best_weights)
            report = yield from self._in_pieces(self.task.test())
            if report:
                state.metrics |= report.metrics
                yield events.Evaluated(state.step, state.step / self.task.steps_per_epoch, report, final=True)
            else:
                status, reason = "stopped", "stopped by command before the test"
        metrics = state.metrics | {f"best_{name}": value for name, value in state.best_metrics.items()}
        if state.best_metrics:
            metrics["best_step"] = float(state.best_step)
        yield events.Finished(state.step, status, reason, state.step / self.task.steps_per_epoch, self._tick(), metrics)
