"""Commands for a running training: pause, stop, change a knob, look now. The loop serves them between two steps."""

import time
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Protocol

from tuidl.errors import UsageError
from tuidl.spec.load import value_at, with_live_change
from tuidl.text import clean
from tuidl.train import events
from tuidl.train.events import Event

if TYPE_CHECKING:
    from tuidl.train.loop import Fit

PAUSE_NAP = 0.05  # seconds between looks at the inbox while paused

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


class Orders:
    """Carries out what `control` brings, and holds the run while it is paused."""

    def __init__(self, run: "Fit", control: Control) -> None:
        self.run, self.control = run, control
        self.paused = False
        self.pause_at: int | None = None  # the step after which to pause
        self._wanted: list[str] = []  # evaluate-now and the like, waiting for the end of the step

    def serve(self) -> Generator[Event]:
        """Carry out the commands that have come, and wait here while paused."""
        yield from self.obey()
        run = self.run
        if self.paused and not run.ending:
            yield from run.drain(wait=True)
            yield events.StateChanged(run.state.step, "paused")
            while self.paused and not run.ending:
                time.sleep(PAUSE_NAP)
                yield events.Heartbeat(run.state.step, "paused")
                yield from self.obey()
                run.skip_time()
                yield from self._do_wanted()
            run.skip_time()
            yield events.StateChanged(run.state.step, "running")
        yield from self._do_wanted()

    def serve_pause_due(self) -> Generator[Event]:
        """Pause where the steps that were asked for are taken."""
        if self.run.state.step == self.pause_at:
            self.paused = True
            yield from self.serve()

    def obey(self) -> Generator[Event]:
        """Carry out the commands that have come, or note them for the end of the step."""
        for command in self.control.poll():
            step = self.run.state.step
            try:
                text = yield from self._carry_out(command)
                yield events.Answered(step, command.id, command.verb, True, text)
            except UsageError as error:
                yield events.Answered(step, command.id, command.verb, False, str(error))

    def _carry_out(self, command: Order) -> Generator[Event, None, str]:
        run = self.run
        match command.verb:
            case "stop":
                run.ending = ("stopped", "stopped by command")
                return "stops after this step, with a checkpoint"
            case "pause":
                self.paused, self.pause_at = True, None
                return f"paused after step {run.state.step}"
            case "continue":
                self.paused, self.pause_at = False, None
                return "running"
            case "steps":
                return self._step(command.arguments["count"])
            case "set":
                return (yield from self._set(command.arguments["key"], command.arguments["value"]))
            case "evaluate-now" | "sample-now" | "checkpoint":
                if run.ending or run.state.step >= run.total:
                    raise UsageError("the run is ending")
                self._wanted.append(command.verb)
                return f"{_WANTED[command.verb]} after this step"
            case verb:
                raise UsageError(f"{verb!r} is no command for a run")

    def _step(self, count: str) -> str:
        """Go on for `count` steps, then pause."""
        if not (count.isascii() and count.isdecimal() and int(count)):
            raise UsageError(f"{clean(count, limit=20)!r} is not a number of steps; give a whole number from 1 on")
        self.paused, self.pause_at = False, self.run.state.step + int(count)
        if self.pause_at > self.run.total:
            return f"ends after step {self.run.total}, before the pause"
        return f"pauses after step {self.pause_at}"

    def _set(self, key: str, value: str) -> Generator[Event, None, str]:
        run = self.run
        changed = with_live_change(run.spec, key, value)
        before, after = value_at(run.spec, key), value_at(changed, key)
        if before == after:
            return f"{key} is {after} already"
        run.spec = changed
        run.task.configure(changed)
        yield events.Changed(run.state.step, key, before, after)
        return f"{key} is {after} from step {run.state.step + 1} on"

    def _do_wanted(self) -> Generator[Event]:
        while self._wanted and not self.run.ending:
            match self._wanted.pop(0):
                case "sample-now":
                    yield from self.run.sample(asked=True)
                case "evaluate-now":
                    yield from self.run.evaluate(scheduled=False)
                case "checkpoint":
                    yield from self.run.drain(wait=True)
                    yield from self.run.save()
