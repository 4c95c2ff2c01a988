"""What the screen knows of a run at one moment: immutable, complete, made off the screen's thread."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tuidl.runs import Status
from tuidl.spec import RunSpec
from tuidl.tui.history import History


@dataclass(frozen=True)
class Points:
    """The values of one metric of the evaluations, in order. Steps may stand still but never fall."""

    steps: tuple[int, ...] = ()
    elapsed: tuple[float, ...] = ()  # seconds of training
    values: tuple[float, ...] = ()


@dataclass(frozen=True)
class Change:
    """A live setting that was changed."""

    step: int
    elapsed: float
    key: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Artifact:
    """A small file of the run: what kind, when, where (`artifacts/...`), and what its event tells of it."""

    kind: str
    step: int
    elapsed: float
    path: str
    details: Mapping[str, Any]


@dataclass(frozen=True)
class Snapshot:
    """A run as it stands. What comes from its files is checked for its type but not cleaned for showing.

    `spec` has the live changes applied; it is None where `run.json` is absent or damaged. `facts` is what the
    `started` event tells (`parameters`, `labels`, `vocabulary`, `examples`, `batch`, `steps`, `steps_per_epoch`,
    `device`, `precision`, `reasons`, `data`, `stand_in`); empty until then. `points` holds the evaluations by metric:
    `val_loss`, `val_accuracy`, `test_loss`, `score`, `frechet`, ... `artifacts` are all of a kind in order of time:
    `confusion`, `probes`, `worst`, `drawn`, `text`, `histogram`. `events` is the whole story.
    """

    name: str
    directory: str
    spec: RunSpec | None
    facts: Mapping[str, Any]
    status: Status | None
    state: str  # a state of the run, or `lost`, `unreadable`
    history: History
    points: Mapping[str, Points] = field(default_factory=dict)
    changes: Sequence[Change] = ()
    artifacts: Mapping[str, Sequence[Artifact]] = field(default_factory=dict)
    events: Sequence[Mapping[str, Any]] = ()
    log: Sequence[str] = ()  # the last lines of the trainer's log
    problem: str = ""  # what of the run's files could not be read
    damaged: int = 0  # records that were left out
    preset: str = ""

    @property
    def live(self) -> bool:
        """Whether a trainer is at work on it."""
        return self.state in ("starting", "running", "paused", "evaluating")

    @property
    def steps_per_epoch(self) -> int:
        """Steps in an epoch, 1 until known."""
        found = self.facts.get("steps_per_epoch")
        return found if isinstance(found, int) and found > 0 else 1
