"""Learning-rate schedules: plain functions of the position in the run, so that they need no state to resume.

Each returns a factor of the base learning rate; the base itself stays a live knob.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from tuidl.spec.settings import Choice, Registry, setting


@dataclass
class Position:
    """Where a run stands: the step about to be taken, all steps, steps in an epoch, and the past values of the deciding
    metric, one for each evaluation, turned so that smaller is better.
    """

    step: int
    total: int
    steps_per_epoch: int
    history: Sequence[float] = field(default_factory=list)

    @property
    def progress(self) -> float:
        """Return the share of the run that is done, 0 to 1."""
        return min(1.0, self.step / max(1, self.total))

    @property
    def epochs(self) -> float:
        """Return the epochs that are done, with fraction."""
        return self.step / max(1, self.steps_per_epoch)


class Schedule(Choice):
    """A schedule and its settings."""

    warmup: float = setting(
        0.0, help="Share of the run in which the rate climbs from nothing.", unit="of the run", ge=0, le=0.9
    )

    def shape(self, at: Position) -> float:
        """Return the factor without warm-up."""
        return 1.0

    def factor(self, at: Position) -> float:
        """Return the factor of the learning rate at this position, > 0."""
        ramp = self.warmup * at.total
        return self.shape(at) * min(1.0, (at.step + 1) / (ramp + 1))


SCHEDULES: Registry[Schedule] = Registry("schedule")


@SCHEDULES.add(
    "constant", title="Constant", summary="The same rate from start to end.", formula="η", source="seed lecture 2"
)
class Constant(Schedule):
    """Settings of a constant rate."""

    kind: Literal["constant"] = "constant"


@SCHEDULES.add(
    "warmup",
    title="Warm-up",
    summary="Climbs to the rate, then stays: the first wild gradients do little harm.",
    formula="η min(1, t / t_w)",
    source="Goyal et al. 2017",
)
class WarmUp(Schedule):
    """Settings of a warm-up."""

    kind: Literal["warmup"] = "warmup"
    warmup: float = setting(
        0.1, help="Share of the run in which the rate climbs from nothing.", unit="of the run", ge=0, le=0.9
    )


@SCHEDULES.add(
    "step",
    title="Steps",
    summary="Falls by a factor every few epochs.",
    formula="η γ^⌊epoch / n⌋",
    source="He et al. 2015",
)
class Step(Schedule):
    """Settings of a staircase."""

    kind: Literal["step"] = "step"
    every: float = setting(5.0, help="How long each stair is.", unit="epochs", gt=0, le=10_000)
    gamma: float = setting(0.3, help="What each stair multiplies the rate by.", gt=0, le=1)

    def shape(self, at: Position) -> float:
        """Return the stair that the position is on."""
        stairs: float = self.gamma ** math.floor(at.epochs / self.every)
        return stairs


@SCHEDULES.add(
    "exponential",
    title="Exponential",
    summary="Falls by the same share every epoch.",
    formula="η γ^epoch",
    source="Bottou 2012",
)
class Exponential(Schedule):
    """Settings of an exponential fall."""

    kind: Literal["exponential"] = "exponential"
    gamma: float = setting(0.9, help="What each epoch multiplies the rate by.", gt=0, le=1)

    def shape(self, at: Position) -> float:
        """Return the power of gamma at this fraction of an epoch."""
        return math.pow(self.gamma, at.epochs)


@SCHEDULES.add(
    "cosine",
    title="Cosine",
    summary="Falls along half a cosine: slow, fast, slow.",
    formula="η (f + (1 − f)(1 + cos πp) / 2)",
    source="Loshchilov & Hutter 2016",
)
class Cosine(Schedule):
    """Settings of a cosine."""

    kind: Literal["cosine"] = "cosine"
    final: float = setting(0.0, help="What is left of the rate at the end.", unit="of the rate", ge=0, le=1)

    def shape(self, at: Position) -> float:
        """Return the cosine at this share of the run that follows the warm-up."""
        done = (at.progress - self.warmup) / (1 - self.warmup)
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * max(0.0, done))) / 2


@SCHEDULES.add(
    "one-cycle",
    title="One cycle",
    summary="Climbs to the rate, then falls to almost nothing: fast learning in few epochs.",
    formula="up in a line to η at p = peak, down in a line to final",
    source="Smith & Topin 2017",
)
class OneCycle(Schedule):
    """Settings of a single cycle."""

    kind: Literal["one-cycle"] = "one-cycle"
    peak: float = setting(0.25, help="Where in the run the rate is highest.", unit="of the run", gt=0, lt=1)
    start: float = setting(0.1, help="Rate at the start.", unit="of the rate", gt=0, le=1)
    final: float = setting(0.01, help="Rate at the end.", unit="of the rate", ge=0, le=1)

    def shape(self, at: Position) -> float:
        """Return the height of the triangle at this share of the run."""
        if at.progress < self.peak:
            return self.start + (1 - self.start) * at.progress / self.peak
        return self.final + (1 - self.final) * (1 - at.progress) / (1 - self.peak)


@SCHEDULES.add(
    "plateau",
    title="Reduce on plateau",
    summary="Falls each time the validation metric has stopped improving.",
    formula="η γ^n, n = plateaus so far",
    source="torch.optim.lr_scheduler.ReduceLROnPlateau",
)
class Plateau(Schedule):
    """Settings of a fall on each plateau."""

    kind: Literal["plateau"] = "plateau"
    gamma: float = setting(0.3, help="What each plateau multiplies the rate by.", gt=0, le=1)
    patience: int = setting(
        2, help="Evaluations without a better one that make a plateau.", unit="evaluations", ge=1, le=1000
    )

    def shape(self, at: Position) -> float:
        """Count the plateaus in the history of the metric."""
        best = math.inf
        waited = plateaus = 0
        for value in at.history:
            best, waited = (value, 0) if value < best else (best, waited + 1)
            if waited >= self.patience:
                plateaus, waited = plateaus + 1, 0
        return float(self.gamma**plateaus)
