"""The training loop: a generator of typed events that knows no model, no optimizer and no screen.

    for event in fit(task, spec, control):
        ...                     # record it, print it, test it

Pausing is not asking for the next event; cancelling is closing the generator.
"""

import contextlib
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import TypeAdapter
from torch import Tensor

from tuidl.errors import UsageError
from tuidl.spec.load import value_at, with_live_change
from tuidl.spec.run import RunSpec
from tuidl.spec.schedules import Position
from tuidl.text import clean
from tuidl.train import events
from tuidl.train.checkpoint import Saved, all_finite, random_state, restore_random_state
from tuidl.train.events import Event, Report
from tuidl.train.meter import Meter
from tuidl.train.tasks.base import Pieces, R, Task

DRAIN_EVERY = 0.1  # seconds between looks at the clock-driven work: metrics, commands
GROWN = 5.0  # times the first loss, from which on a run is said to go wrong
PAUSE_NAP = 0.05  # seconds between looks at the inbox while paused

Events = Generator[Event, None, R]


_WANTED = {
    "evaluate-now": "measures on the validation data",
    "sample-now": "makes samples",
    "checkpoint": "saves a checkpoint",
}


class Order(Protocol):
    """A command for the run, one of `tuidl.runs.VERBS`."""

    @property
    def id(self) -> str:
        """Name of the command, for the answer."""
        ...

    @property
    def verb(self) -> str:
        """What to do."""
        ...

    @property
    def arguments(self) -> dict[str, str]:
        """`key` and `value` of a `set`, `count` of `steps`."""
        ...


class Control(Protocol):
    """Where commands come from."""

    def poll(self) -> Sequence[Order]:
        """Return the commands that have come since the last call."""
        ...


class NoControl:
    """Nobody gives commands."""

    def poll(self) -> Sequence[Order]:
        """Return nothing."""
        return ()


@dataclass
class State:
    """Where the loop is and what it has found; a resumed run restores it, the task and the best weights."""

    step: int = 0
    first_loss: float | None = None  # of the very first step
    seconds: float = 0.0  # of training and evaluation, pauses left out
    history: list[float] = field(default_factory=list)  # deciding metric of each evaluation, smaller is better
    best: float = math.inf
    best_step: int = 0
    best_metrics: dict[str, float] = field(default_factory=dict)
    stale: int = 0  # evaluations since the best one
    evaluated: int = 0  # step of the newest evaluation that was due
    metrics: dict[str, float] = field(default_factory=dict)  # newest value of each


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


def state_of(saved: Saved) -> State:
    """Return the loop's state in a checkpoint, or UsageError where it is not one."""
    try:
        told = {**saved.rest.values["loop"], "step": saved.step}
        if told.keys() != vars(State()).keys():
            raise ValueError("something is missing")
        return TypeAdapter(State).validate_python(told)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"the checkpoint of step {saved.step} does not say where the run was") from error


def _check_same(held: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raise ValueError where what is held now is not what was read: torch converts and leaves out without a word."""
    for name in sorted(held.keys() | wanted.keys()):
        if name in ("random", "torch.cuda"):  # the run may have been on another kind of device
            continue
        if name not in held or name not in wanted:
            raise ValueError(f"{name} is only in {'the checkpoint' if name in wanted else 'the run'}")
        mine, read = held[name].cpu(), wanted[name]
        if mine.dtype != read.dtype or not mine.equal(read):
            raise ValueError(f"{name} does not come back as it was saved")


class Fit:
    """One run of the loop. Read `run` first."""

    def __init__(
        self, task: Task, spec: RunSpec, control: Control, clock: Callable[[], float], saved: Saved | None
    ) -> None:
        self.task, self.spec, self.control, self.clock = task, spec, control, clock
        self.saved = saved
        self.state = State() if saved is None else state_of(saved)
        self.best_weights: dict[str, Tensor] = {}
        self.meter = Meter(task.columns, task.hardware.device, first=self.state.step + 1)
        epochs = spec.training.epochs * task.steps_per_epoch
        self.total = min(epochs, spec.training.max_steps or epochs)
        self.ending: tuple[str, str] | None = None  # status and reason, once the run is to end
        self.paused = False
        self.pause_at: int | None = None  # the step after which to pause
        self.wanted: list[str] = []  # evaluate-now and the like, waiting for the end of the step
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
            yield from self._evaluate()  # which was due, but the run was saved and ended before
            yield from self._serve()
        while state.step < self.total and not self.ending:
            epoch, index = divmod(state.step, self.task.steps_per_epoch)
            if index == 0:
                self.task.begin_epoch(epoch)
            lr = self.spec.optimizer.lr * self._lr_factor()
            self.meter.write(self.task.step(index, lr), lr)
            state.step += 1
            if self._time_to_drain():
                yield from self._drain()
                yield from self._serve()
                if self._time_to_save():
                    yield from self._drain(wait=True)
                    yield from self._save()
            if self._time_to_evaluate(epoch_ends=index + 1 == self.task.steps_per_epoch):
                yield from self._drain(wait=True)
                yield from self._evaluate()
                yield from self._serve()
            if state.step == self.pause_at:
                self.paused = True
                yield from self._serve()
        yield from self._drain(wait=True)
        yield from self._finish()

    def tell_rest(self) -> Events[None]:
        """Yield the numbers of the steps that were taken before something failed."""
        yield from self._drain(wait=True)

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
            _check_same(held, {**saved.weights, **saved.rest.tensors})
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            raise UsageError(
                f"the checkpoint of step {saved.step} does not fit this run: {clean(str(error), limit=200)}"
            ) from error
        best = saved.weights if self.state.best_step == saved.step else saved.best_weights
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

    def _time_to_drain(self) -> bool:
        return self.meter.full or self.clock() - self._mark >= DRAIN_EVERY

    def _time_to_save(self) -> bool:
        every = self.spec.checkpoints.interval
        return every > 0 and self.clock() - self._saved_at >= every and self.state.step > self._saved_step

    def _time_to_evaluate(self, epoch_ends: bool) -> bool:
        step, every = self.state.step, self.spec.evaluation.every_steps
        return epoch_ends or step == self.total or (every > 0 and step % every == 0)

    def _drain(self, wait: bool = False) -> Events[None]:
        """Bring the steps' numbers to the host, and end the run where one of them is not finite."""
        while self.task.hardware.notes:
            yield events.Warned(self.state.step, self.task.hardware.notes.pop(0))
        before, now = self._drained_at, self._tick()
        for block in self.meter.drain(wait):
            self._drained_at = now
            yield events.Metrics(block.first + len(block) - 1, block, (before, now))
            self.state.metrics |= {name: values[-1] for name, values in block.columns.items()}
            if block.first == 1 and "loss" in block.columns:
                self.state.first_loss = block.columns["loss"][0]
            broken = [
                (block.first + row, name)
                for name, values in block.columns.items()
                for row, value in enumerate(values)
                if not math.isfinite(value)
            ]
            if broken and not (self.ending and self.ending[0] == "diverged"):
                step, name = min(broken)
                self.ending = (
                    "diverged",
                    f"{name} is not finite at step {step}; the weights are those of step {step - 1}. "
                    f"Usual cause: the learning rate ({block.columns['lr'][step - block.first]:g}) is too high; "
                    "lower optimizer.lr or set regularization.clip_norm=1",
                )

    def _serve(self) -> Events[None]:
        """Carry out the commands that have come, and wait here while paused."""
        yield from self._obey()
        if self.paused and not self.ending:
            yield from self._drain(wait=True)
            yield events.StateChanged(self.state.step, "paused")
            while self.paused and not self.ending:
                time.sleep(PAUSE_NAP)
                yield events.Heartbeat(self.state.step, "paused")
                yield from self._obey()
                self._mark = self.clock()
                yield from self._do_wanted()
            self._mark = self.clock()  # a pause is no training time
            yield events.StateChanged(self.state.step, "running")
        yield from self._do_wanted()

    def _obey(self) -> Events[None]:
        for command in self.control.poll():
            try:
                text = yield from self._carry_out(command)
                yield events.Answered(self.state.step, command.id, command.verb, True, text)
            except UsageError as error:
                yield events.Answered(self.state.step, command.id, command.verb, False, str(error))

    def _carry_out(self, command: Order) -> Events[str]:
        match command.verb:
            case "stop":
                self.ending = ("stopped", "stopped by command")
                return "stops after this step, with a checkpoint"
            case "pause":
                self.paused, self.pause_at = True, None
                return f"paused after step {self.state.step}"
            case "continue":
                self.paused, self.pause_at = False, None
                return "running"
            case "steps":
                return self._step(command.arguments["count"])
            case "set":
                return (yield from self._set(command.arguments["key"], command.arguments["value"]))
            case "evaluate-now" | "sample-now" | "checkpoint":
                if self.ending or self.state.step >= self.total:
                    raise UsageError("the run is ending")
                self.wanted.append(command.verb)
                return f"{_WANTED[command.verb]} after this step"
            case verb:
                raise UsageError(f"{verb!r} is no command for a run")

    def _step(self, count: str) -> str:
        """Go on for `count` steps, then pause."""
        if not (count.isascii() and count.isdecimal() and int(count)):
            raise UsageError(f"{clean(count, limit=20)!r} is not a number of steps; give a whole number from 1 on")
        self.paused, self.pause_at = False, self.state.step + int(count)
        if self.pause_at > self.total:
            return f"ends after step {self.total}, before the pause"
        return f"pauses after step {self.pause_at}"

    def _set(self, key: str, value: str) -> Events[str]:
        changed = with_live_change(self.spec, key, value)
        before, after = value_at(self.spec, key), value_at(changed, key)
        if before == after:
            return f"{key} is {after} already"
        self.spec = changed
        self.task.configure(self.spec)
        yield events.Changed(self.state.step, key, before, after)
        return f"{key} is {after} from step {self.state.step + 1} on"

    def _do_wanted(self) -> Events[None]:
        while self.wanted and not self.ending:
            wanted = self.wanted.pop(0)
            match wanted:
                case "sample-now":
                    yield from self._sample(asked=True)
                case "evaluate-now":
                    yield from self._evaluate(scheduled=False)
                case "checkpoint":
                    yield from self._drain(wait=True)
                    yield from self._save()

    def _in_pieces(self, work: Pieces[R]) -> Events[R | None]:
        """Do long work piece by piece, alive and obedient in between; return its result, or None when told to stop."""
        while not (self.ending and self.ending[0] == "stopped"):
            try:
                doing = next(work)
            except StopIteration as done:
                result: R = done.value
                return result
            yield events.Heartbeat(self.state.step, doing)
            yield from self._obey()
        return None

    def _evaluate(self, scheduled: bool = True) -> Events[None]:
        """Measure on the validation data, keep the best weights, and decide about stopping early.

        An evaluation that was asked for by hand (`scheduled` False) is shown but decides nothing, so that looking at a
        run never changes it.
        """
        if self.ending and self.ending[0] == "diverged":
            return
        state = self.state
        yield events.StateChanged(state.step, "evaluating")
        yield from self._warn_of_growth()
        report = yield from self._in_pieces(self.task.evaluate())
        if report is None:
            return
        better = scheduled and self._judge(report)
        state.metrics |= report.metrics
        self._tick()
        yield events.Evaluated(state.step, state.step / self.task.steps_per_epoch, report, best=better)
        yield from self._sample()
        if scheduled:
            if better:
                self.best_weights = {name: value.detach().clone() for name, value in self.task.state().items()}
            yield from self._save(report.metrics, best=better)
        yield events.StateChanged(state.step, "paused" if self.paused else "running")

    def _warn_of_growth(self) -> Events[None]:
        """Say so once when the loss is far above where it began: such a run learns nothing any more."""
        first, now = self.state.first_loss, self.state.metrics.get("loss")
        if first and now is not None and now > GROWN * first:
            self.state.first_loss = None
            lr = self.state.metrics["lr"]
            yield events.Warned(
                self.state.step, f"the loss is {now:.3g}, at the first step it was {first:.3g}: the learning rate "
                f"({lr:g}) is likely too high; lower optimizer.lr or set regularization.clip_norm=1",
            )  # fmt: skip

    def _judge(self, report: Report) -> bool:
        """Note the deciding metric; return whether it was never better. What is not finite is never the best."""
        state, stop = self.state, self.spec.early_stopping
        value = report.metrics[self.spec.metric]
        value = -value if self.spec.larger_is_better else value
        state.evaluated = state.step
        state.history.append(value if math.isfinite(value) else math.inf)
        better: bool = math.isfinite(value) and value < state.best - (stop.min_delta if state.history[:-1] else 0.0)
        if better:
            state.best, state.best_step, state.best_metrics, state.stale = value, state.step, dict(report.metrics), 0
        else:
            state.stale += 1
        self._stop_early()
        return better

    def _stop_early(self) -> None:
        """End the run where the deciding metric has not improved for long enough."""
        stale, patience = self.state.stale, self.spec.early_stopping.patience
        if patience and stale >= patience and not self.ending:
            self.ending = (
                "completed",
                f"early stopping: {self.spec.metric} has not improved in {stale} evaluations; "
                f"best at step {self.state.best_step}",
            )

    def _save(self, metrics: Mapping[str, float] | None = None, best: bool = False) -> Events[None]:
        """Hand out all of the run for a checkpoint; numbers that are not finite never reach one."""
        state, task = self.state, self.task
        if self.ending and self.ending[0] == "diverged":
            return
        weights, rest = task.state(), task.saved()
        if not all_finite([*weights.values(), *rest.tensors.values()]):
            yield events.Warned(state.step, "no checkpoint is written: some numbers are not finite any more")
            return
        rest.tensors.update(random_state(task.hardware.device))
        rest.values["loop"] = vars(state)
        older_best = {} if best or state.best_step == state.step else self.best_weights
        yield events.Checkpoint(state.step, weights, older_best, rest, dict(metrics or {}), best)
        self._saved_step, self._saved_at = state.step, self.clock()

    def _sample(self, asked: bool = False) -> Events[None]:
        report = yield from self._in_pieces(self.task.sample())
        if report:
            yield events.Sampled(self.state.step, report)
        elif asked:
            yield events.Warned(self.state.step, "this kind of model makes no samples")

    def _finish(self) -> Events[None]:
        status, reason = self.ending or ("completed", "all steps done")
        state = self.state
        if status == "stopped" and state.step != self._saved_step:
            yield from self._save()
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
