"""How a run in the foreground shows itself: JSON Lines, a progress bar on a terminal, or plain lines.

Results go to stdout, everything else to stderr. A dead terminal never ends the training.
"""

import contextlib
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from tuidl.cli.output import duration, emit, number, told_costs
from tuidl.runs import RunPaths
from tuidl.spec import RunSpec
from tuidl.text import clean
from tuidl.train import events
from tuidl.train.events import Event

METRICS_EVERY = 1.0  # seconds between JSON metrics lines
PLAIN_EVERY = 10.0  # seconds between plain progress lines


class Printer:
    """Plain lines: one for each evaluation on stdout, one each interval on stderr."""

    def __init__(self, paths: RunPaths, spec: RunSpec, interval: float, quiet: bool = False) -> None:
        self.paths, self.spec, self.quiet, self.interval = paths, spec, quiet, interval
        self.total = self.steps_per_epoch = 1
        self._interval_at = time.monotonic()
        self._interval_step = 0
        self._sums: dict[str, float] = {}
        self._counts = 0
        self._said = ""
        self._seconds = 0.0
        self._means: dict[str, float] = {}

    def show(self, event: Event, stored: Sequence[str]) -> None:
        """Show an event; `stored` are the files that the recorder wrote for it."""
        with contextlib.suppress(OSError):  # the terminal is gone; the run directory has it all
            if isinstance(event, events.Started):
                self.total, self.steps_per_epoch = event.facts["steps"], event.facts["steps_per_epoch"]
                self._interval_at = time.monotonic()
            if isinstance(event, events.Metrics):
                self._collect(event)
            else:
                self.handle(event, stored)

    def _collect(self, event: events.Metrics) -> None:
        """Sum the steps' numbers and hand on their means once an interval."""
        for name, values in event.block.columns.items():
            self._sums[name] = self._sums.get(name, 0.0) + sum(values)
        self._counts += len(event.block)
        now = time.monotonic()
        self.tick(event.step)
        if now - self._interval_at >= self.interval or event.step == self.total:
            rate = (event.step - self._interval_step) / max(1e-9, now - self._interval_at)
            means = {name: value / self._counts for name, value in self._sums.items()}
            self._interval_at, self._interval_step, self._sums, self._counts = now, event.step, {}, 0
            self._seconds, self._means = event.elapsed[1], means
            self.metrics(event.step, means, rate, event.elapsed[1])

    def say(self, text: str) -> None:
        """Tell something beside the results."""
        if not self.quiet:
            with contextlib.suppress(OSError):
                self.line(clean(text), sys.stderr)

    def line(self, text: str, stream: Any) -> None:
        """Print one line."""
        print(text, file=stream, flush=True)

    def tick(self, step: int) -> None:
        """Move a bar, where there is one."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Show how far a download is, about every two seconds."""
        now = time.monotonic()
        if done >= total or now - self._interval_at >= 2:
            self._interval_at = now
            self.say(f"{what}: {done / 2**20:.0f} of {total / 2**20:.0f} MB")

    def metrics(self, step: int, means: dict[str, float], rate: float, seconds: float) -> None:
        """Show the means of the steps since the last time."""
        shown = "  ".join(
            f"{name} {number(name, value)}" for name, value in means.items() if name not in ("penalty", "update_ratio")
        )
        self.say(f"step {step}/{self.total}  {shown}  {rate:.0f} steps/s")

    def handle(self, event: Event, stored: Sequence[str]) -> None:
        """Show any event but metrics."""
        match event:
            case events.Started(facts=facts):
                data = f"{facts['data']} ({', '.join(f'{count} {name}' for name, count in facts['examples'].items())})"
                self.say(f"{facts['parameters']:,} parameters on {data}; {facts['device']}, {facts['precision']}")
                for reason in facts["reasons"]:
                    self.say(f"  {reason}")
            case events.Warned(text=text):
                self.say(f"note: {text}")
            case events.Heartbeat(doing=doing) if doing.startswith("training the judge"):
                self._now_and_then(doing)
            case events.Evaluated():
                self._evaluated(event)
            case events.Sampled(report=report) if not self.quiet:
                self._sample(report)
            case events.Answered():
                self.say(f"{event.verb}: {event.text}")
            case events.Finished():
                self.finished(event)

    def _now_and_then(self, text: str) -> None:
        now = time.monotonic()
        if now - self._interval_at >= 3 and text != self._said:
            self._interval_at, self._said = now, text
            self.say(text)

    def _evaluated(self, event: events.Evaluated) -> None:
        if self.quiet or event.final:
            return
        shown = "  ".join(f"{name} {number(name, value)}" for name, value in event.report.metrics.items())
        best = "  best so far" if event.best else ""
        self.line(
            f"epoch {event.epoch:.3g}/{self.total / self.steps_per_epoch:.3g}  step {event.step}  {shown}{best}",
            sys.stdout,
        )

    def _sample(self, report: events.Report) -> None:
        for artifact in report.artifacts:
            if artifact.details.get("kind") == "text":
                samples = json.loads(artifact.data)["samples"]
                chosen = samples[len(samples) // 2]
                text = clean(chosen["text"], keep_newlines=True, limit=160).strip("\n")
                self.line(f"  it writes, at temperature {chosen['temperature']}:", sys.stderr)
                self.line("\n".join(f"    | {row}" for row in text.split("\n")), sys.stderr)

    def finished(self, event: events.Finished) -> None:
        """Print the result."""
        tested = {name: value for name, value in event.metrics.items() if name.startswith("test_")}
        shown = ", ".join(f"{name} {number(name, value)}" for name, value in tested.items())
        self.line(f"{event.status}: {shown or clean(event.reason)}", sys.stdout)
        metric = self.spec.metric
        if f"best_{metric}" in event.metrics:
            best = number(metric, event.metrics[f"best_{metric}"])
            self.say(f"best {metric} {best} at step {event.metrics['best_step']:.0f}; {clean(event.reason)}")
        taken = f"{event.step} steps, {event.epochs:.1f} epochs, {duration(event.seconds)}"
        taken = ", ".join([taken, *told_costs(event.costs)])
        self.say(f"{taken}; tuidl show {self.paths.name} shows the run")

    def failed(self, error: BaseException) -> None:
        """Tell how a run failed; the command itself prints the error."""

    def close(self) -> None:
        """Give the terminal back."""


class BarPrinter(Printer):
    """Plain lines above a progress bar, for a terminal."""

    def __init__(self, paths: RunPaths, spec: RunSpec, interval: float, quiet: bool = False) -> None:
        super().__init__(paths, spec, interval, quiet)
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        both = sys.stdout.isatty()  # results that go to a file must not be caught by the bar
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:3.0f} %"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}", markup=False),
            console=Console(stderr=True),
            refresh_per_second=4,
            transient=True,
            redirect_stdout=both,
            redirect_stderr=True,
        )
        self._task = self._bar.add_task("starting", total=None, figures="")
        self._bar.start()

    def handle(self, event: Event, stored: Sequence[str]) -> None:
        """Show the event, and what long work is at."""
        if isinstance(event, events.Started):
            self._bar.update(self._task, total=event.facts["steps"], description="step 0")
        if isinstance(event, events.Heartbeat) and event.doing:
            self._bar.update(self._task, description=event.doing)
        super().handle(event, stored)

    def progress(self, what: str, done: int, total: int) -> None:
        """Move the bar along a download."""
        self._bar.update(self._task, description=what, completed=done, total=total)

    def tick(self, step: int) -> None:
        """Move the bar to this step."""
        self._bar.update(self._task, completed=step, description=f"step {step}")

    def metrics(self, step: int, means: dict[str, float], rate: float, seconds: float) -> None:
        """Show the newest numbers beside the bar."""
        first = next(iter(means))
        self._bar.update(self._task, figures=f"{first} {means[first]:.4g}  {rate:.0f} steps/s")

    def close(self) -> None:
        """Remove the bar."""
        with contextlib.suppress(OSError):
            self._bar.stop()


class JsonPrinter(Printer):
    """JSON Lines: started, metrics, evaluation, sample, checkpoint, warning, answer, change, and last finished."""

    def say(self, text: str) -> None:
        """Nothing but JSON is printed."""

    def metrics(self, step: int, means: dict[str, float], rate: float, seconds: float) -> None:
        """Print the means of the steps since the last time."""
        if not self.quiet:
            emit(
                "metrics", step=step, epoch=step / self.steps_per_epoch, seconds=seconds, steps_per_second=rate, **means
            )

    def handle(self, event: Event, stored: Sequence[str]) -> None:
        """Print the event as one line."""
        if self.quiet and not isinstance(event, events.Finished):
            return
        match event:
            case events.Started(facts=facts):
                emit(
                    "started",
                    run=self.paths.name,
                    directory=str(self.paths.directory),
                    spec=self.spec.model_dump(mode="json"),
                    **facts,
                )
            case events.Evaluated():
                kind = "test" if event.final else "validation"
                emit(
                    "evaluation",
                    step=event.step,
                    epoch=event.epoch,
                    of=kind,
                    best=event.best,
                    files=list(stored),
                    **event.report.metrics,
                )
            case events.Sampled(step=step):
                emit("sample", step=step, files=list(stored))
            case events.Checkpoint(step=step, best=best):
                emit("checkpoint", step=step, best=best, files=list(stored))
            case events.Warned(text=text):
                emit("warning", text=text)
            case events.Answered(step=step):
                emit("answer", step=step, id=event.id, verb=event.verb, ok=event.ok, text=event.text)
            case events.Resumed(step=step):
                emit("resumed", step=step, file=event.file, skipped=list(event.skipped.values()))
            case events.Changed(step=step):
                emit("change", step=step, key=event.key, before=event.before, after=event.after)
            case events.Finished():
                self._finished(
                    event.status,
                    event.reason,
                    event.step,
                    event.epochs,
                    event.seconds,
                    event.metrics,
                    costs=event.costs,
                )

    def failed(self, error: BaseException) -> None:
        """Print the last line of a run that failed."""
        from tuidl.train.session import exit_code_of, reason_of

        epochs = self._interval_step / self.steps_per_epoch
        self._finished(
            "failed",
            reason_of(error),
            self._interval_step,
            epochs,
            self._seconds,
            self._means,
            costs={},
            exit_code=exit_code_of(error),
        )

    def _finished(
        self,
        status: str,
        reason: str,
        steps: int,
        epochs: float,
        seconds: float,
        metrics: dict[str, float],
        **more: Any,
    ) -> None:
        with contextlib.suppress(OSError):
            emit(
                "finished",
                status=status,
                reason=clean(reason),
                run=self.paths.name,
                steps=steps,
                epochs=epochs,
                seconds=seconds,
                metrics=metrics,
                **more,
            )


def choose_printer(paths: RunPaths, spec: RunSpec, as_json: bool, quiet: bool) -> Printer:
    """Return the printer that fits the streams: JSON if asked, a bar on a terminal, else plain lines."""
    if as_json:
        return JsonPrinter(paths, spec, METRICS_EVERY, quiet)
    if sys.stderr.isatty() and not quiet:
        return BarPrinter(paths, spec, METRICS_EVERY)
    return Printer(paths, spec, PLAIN_EVERY, quiet)
