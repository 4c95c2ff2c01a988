"""What `fit` yields. The recorder, the headless printer and the tests all read this one stream.

Every event has the step at which it happened, counted in finished steps.
"""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from tuidl.train.meter import Drained


@dataclass(frozen=True)
class Artifact:
    """A small immutable file: its name without step, its content, and what it shows."""

    name: str
    data: bytes
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """What an evaluation found: numbers by name, and files that show the rest."""

    metrics: dict[str, float]
    artifacts: tuple[Artifact, ...] = ()


@dataclass(frozen=True)
class Event:
    """Something that happened at a step."""

    step: int


@dataclass(frozen=True)
class Started(Event):
    """The loop is about to take its first step; `facts` are parameters, batch, steps and the like."""

    facts: dict[str, Any]


@dataclass(frozen=True)
class Metrics(Event):
    """A block of steps, with the training seconds at its beginning and end (pauses left out)."""

    block: Drained
    elapsed: tuple[float, float]


@dataclass(frozen=True)
class StateChanged(Event):
    """The run is now running, paused or evaluating."""

    state: str


@dataclass(frozen=True)
class Heartbeat(Event):
    """Nothing new, but alive: sent between pieces of long work and while paused; `doing` says what and how far."""

    doing: str = ""


@dataclass(frozen=True)
class Evaluated(Event):
    """Validation, or the one look at the test data when `final`; `best` tells that the metric was never better."""

    epoch: float
    report: Report
    best: bool = False
    final: bool = False


@dataclass(frozen=True)
class Sampled(Event):
    """Text or images that the model made."""

    report: Report


@dataclass(frozen=True)
class Continuation:
    """What a run goes on from, beside its weights: tensors, and values that JSON can hold."""

    tensors: dict[str, Tensor]
    values: dict[str, Any]


@dataclass(frozen=True)
class Checkpoint(Event):
    """All of a run at this step. Whoever stores it does so before asking for the next event.

    `best_weights` are empty where the best are `weights`; an average of the weights is always told apart.
    """

    weights: dict[str, Tensor]
    best_weights: dict[str, Tensor]
    rest: Continuation
    metrics: dict[str, float]
    best: bool


@dataclass(frozen=True)
class Resumed(Event):
    """The run goes on from the checkpoint `file` of this step, or from its beginning where `file` is empty.

    All that was recorded after this step is superseded. `skipped` says of each newer checkpoint why it is no good,
    `live` holds the live settings as they are at this step.
    """

    file: str
    skipped: dict[str, str]
    live: dict[str, Any]
    best_step: int
    best_metrics: dict[str, float]
    seconds: float  # of training until then


@dataclass(frozen=True)
class Answered(Event):
    """A command from the inbox was carried out or refused."""

    id: str
    verb: str
    ok: bool
    text: str


@dataclass(frozen=True)
class Changed(Event):
    """A live setting has a new value from the next step on."""

    key: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Warned(Event):
    """Something the user should know."""

    text: str


@dataclass(frozen=True)
class Finished(Event):
    """The run is over: completed, stopped or diverged, and why; `metrics` are final and best values.

    `costs` are those of `tuidl.train.costs`, where it is known what the run has cost.
    """

    status: str
    reason: str
    epochs: float
    seconds: float
    metrics: dict[str, float]
    costs: dict[str, float] = field(default_factory=dict)
