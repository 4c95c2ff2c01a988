"""Small things to train on and with: data sets in memory, specs, a scripted task, and commands at chosen steps."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from tuidl.runs import Command
from tuidl.spec.load import build_spec
from tuidl.spec.run import RunSpec
from tuidl.train import events
from tuidl.train.data.load import ImageData, ImageSplit, Origin, TextData, pixel_statistics
from tuidl.train.device import Hardware
from tuidl.train.events import Artifact, Continuation, Event, Report
from tuidl.train.loop import fit
from tuidl.train.orders import Control
from tuidl.train.session import build_task
from tuidl.train.tasks.base import Pieces, Task

CPU = torch.device("cpu")
HARDWARE = Hardware(CPU, "fp32", 1, ("device cpu: for the tests",))
T = TypeVar("T")
E = TypeVar("E", bound=Event)
Settings = Mapping[str, Any]


def image_data(
    side: int = 8, channels: int = 1, classes: int = 4, count: int = 200, name: str = "tiny", seed: int = 0
) -> ImageData:
    """Return images that a small model can learn: a pattern for each class, plus noise."""
    random = torch.Generator().manual_seed(seed)
    patterns = torch.randint(40, 216, (classes, channels, side, side), generator=random).float()

    def split(size: int) -> ImageSplit:
        targets = torch.arange(size) % classes
        noise = 30 * torch.randn(size, channels, side, side, generator=random)
        return ImageSplit((patterns[targets] + noise).round().clamp(0, 255).to(torch.uint8), targets)

    train, val, test = split(count), split(60), split(60)
    mean, std = pixel_statistics(train.images)
    origin = Origin(name, name, False, "", {name: f"sum of {name} {seed}"})
    return ImageData(name, tuple("abcdefghij"[:classes]), train, val, test, mean, std, origin)


def text_data(text: str) -> TextData:
    """Return a text: four fifths to train on, a tenth each to validate and to test."""
    vocabulary = tuple(sorted(set(text)))
    ids = torch.tensor([vocabulary.index(character) for character in text])
    tenth = len(ids) // 10
    return TextData(
        "tiny-text",
        vocabulary,
        ids[: -2 * tenth],
        ids[-2 * tenth : -tenth],
        ids[-tenth:],
        Origin("", "", False, "", {}),
    )


BASES: dict[str, dict[str, Any]] = {
    "classification": {
        "model": {"kind": "mlp", "widths": [8]},
        "training": {"epochs": 1, "batch_size": 50},
        "evaluation": {"probes": 0, "worst": 0},
    },
    "language": {
        "task": "language",
        "data": {"name": "python-docs"},
        "model": {"kind": "gru", "width": 12, "embedding": 6, "unroll": 8},
        "training": {"epochs": 1, "batch_size": 8},
        "evaluation": {"sample_length": 12},
    },
    "gan": {
        "task": "gan",
        "model": {"kind": "gan-mlp", "widths": [12], "latent": 4},
        "loss": {"kind": "non-saturating"},
        "training": {"epochs": 1, "batch_size": 50},
        "evaluation": {"score_images": 100, "sample_images": 4},
    },
}


def spec_of(task: str = "classification", **groups: Settings | Any) -> RunSpec:
    """Return the smallest sensible spec of `task`, with the settings of `groups` on top; a new kind starts afresh."""
    data: dict[str, Any] = {
        key: dict(value) if isinstance(value, dict) else value for key, value in BASES[task].items()
    }
    for name, value in groups.items():
        old = data.get(name, {})
        if not isinstance(value, Mapping):
            data[name] = value
        elif "kind" in value and value["kind"] != old.get("kind"):
            data[name] = dict(value)
        else:
            data[name] = {**old, **value}
    return build_spec(data)


def plain(spec: RunSpec) -> dict[str, Any]:
    """Return a spec as JSON data, as the screen sends it."""
    return spec.model_dump(mode="json")


TEXT = "the cat sat on the mat. the dog ate the cat's hat, and that was that. " * 20


def data_of(task: str) -> Any:
    """Return data that fits `task`."""
    return text_data(TEXT) if task == "language" else image_data()


def on_device(data: Any, device: torch.device) -> Any:
    """Return images or text on that device."""
    if isinstance(data, TextData):
        return dataclasses.replace(data, **{name: getattr(data, name).to(device) for name in ("train", "val", "test")})

    def moved(split: ImageSplit) -> ImageSplit:
        return dataclasses.replace(split, images=split.images.to(device), targets=split.targets.to(device))

    return dataclasses.replace(data, **{name: moved(getattr(data, name)) for name in ("train", "val", "test")})


def task_of(spec: RunSpec, data: Any = None) -> Any:
    """Return the task of `spec` on the CPU, in fp32 unless it says otherwise."""
    hardware = HARDWARE if spec.precision == "auto" else dataclasses.replace(HARDWARE, precision=spec.precision)
    return build_task(spec, data_of(spec.task) if data is None else data, hardware)


def done(pieces: Pieces[T]) -> T:
    """Do all of the work and return its result."""
    while True:
        try:
            next(pieces)
        except StopIteration as stop:
            result: T = stop.value
            return result


def busy_clock() -> Callable[[], float]:
    """Return a clock that moves on a second with each look: every step is drained, every command served."""
    return map(float, itertools.count()).__next__


def still_clock() -> float:
    """Tell the same time for ever, so that nothing is drained before it must."""
    return 0.0


def of(kind: type[E], stream: Sequence[Event]) -> list[E]:
    """Return the events of one kind."""
    return [event for event in stream if isinstance(event, kind)]


def finished(stream: Sequence[Event]) -> events.Finished:
    """Return the last event, which must be the only `Finished`."""
    assert [isinstance(event, events.Finished) for event in stream] == [False] * (len(stream) - 1) + [True]
    (last,) = of(events.Finished, stream)
    return last


def columns(stream: Sequence[Event]) -> dict[str, list[float]]:
    """Return the training metrics of all steps, joined."""
    joined: dict[str, list[float]] = {}
    for event in of(events.Metrics, stream):
        for name, values in event.block.columns.items():
            joined.setdefault(name, []).extend(values)
    return joined


def weights(task: Task) -> dict[str, Tensor]:
    """Return a copy of the weights."""
    return {name: value.clone() for name, value in task.state().items()}


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    """Return whether two sets of weights are equal to the last bit."""
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


@dataclass
class Script(Control):
    """Gives its commands once `step()` finished steps are reached: `{step: ["pause", "set optimizer.lr=0.1"]}`.

    What follows a pause comes with the next look at it, so that the pause is one.
    """

    step: Callable[[], int]
    lines: dict[int, list[str]]
    pending: list[str] = field(default_factory=list)

    def poll(self) -> list[Command]:
        for at in sorted(at for at in self.lines if at <= self.step()):
            self.pending += self.lines.pop(at)
        cut = self.pending.index("pause") + 1 if "pause" in self.pending else len(self.pending)
        now, self.pending = self.pending[:cut], self.pending[cut:]
        return [command(line) for line in now]


@dataclass
class Queue(Control):
    """Gives whatever the test has put into `lines` since the last look."""

    lines: list[str] = field(default_factory=list)

    def poll(self) -> list[Command]:
        lines, self.lines = self.lines, []
        return [command(line) for line in lines]


def command(line: str) -> Command:
    """Return the command that `line` spells; its id is the line."""
    verb, _, argument = line.partition(" ")
    key, _, value = argument.partition("=")
    names = {"set": {"key": key, "value": value}, "steps": {"count": argument}}
    return Command(line, verb, names.get(verb, {}))


class Scripted:
    """A task whose weight is the number of its finished steps and whose validation metrics are given."""

    columns: tuple[str, ...] = ("loss",)
    hardware = HARDWARE

    def __init__(self, values: Iterable[float], steps_per_epoch: int = 2, metric: str = "val_accuracy") -> None:
        self.values, self.steps_per_epoch, self.metric = iter(values), steps_per_epoch, metric
        self.weight = torch.zeros(())
        self.rates: list[float] = []
        self.configured: list[RunSpec] = []
        self.epochs: list[int] = []

    def prepare(self) -> Pieces[None]:
        yield "preparing"

    def configure(self, spec: RunSpec) -> None:
        self.configured.append(spec)

    def begin_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)

    def step(self, index: int, lr: float) -> Sequence[Tensor]:
        self.rates.append(lr)
        self.weight += 1
        return (self.weight * 10,)

    def evaluate(self) -> Pieces[Report]:
        yield "validation 1/2"
        yield "validation 2/2"
        return Report({self.metric: next(self.values)}, (Artifact("seen.json", b"{}"),))

    def test(self) -> Pieces[Report]:
        yield "test"
        return Report({"test_weight": float(self.weight)})

    def sample(self) -> Pieces[Report | None]:
        yield "sampling"
        return Report({}, (Artifact("text.json", b"[]"),))

    def state(self) -> dict[str, Tensor]:
        return {"weight": self.weight}

    def judged(self) -> dict[str, Tensor]:
        return self.state()

    def load(self, state: dict[str, Tensor]) -> None:
        self.weight.copy_(state["weight"])

    def saved(self) -> Continuation:
        return Continuation({"memory": self.weight * 2}, {"epochs": self.epochs})

    def restore(self, saved: Continuation) -> None:
        assert saved.tensors["memory"] == self.weight * 2
        self.epochs = list(saved.values["epochs"])

    def facts(self) -> dict[str, Any]:
        return {"parameters": 1}


class Quadratic(nn.Module):
    """½ Σ a (θ − c)², whose gradient is a (θ − c): a matrix and a vector to move."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(5)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=random, dtype=torch.float64).to(dtype)

        self.matrix, self.vector = nn.Parameter(draw(3, 3)), nn.Parameter(draw(4))
        self.stiffness = {"matrix": draw(3, 3).abs() + 0.3, "vector": draw(4).abs() + 0.3}
        self.centre = {"matrix": draw(3, 3), "vector": draw(4)}

    def loss(self) -> Tensor:
        parts = [
            (self.stiffness[name] * (parameter - self.centre[name]) ** 2).sum() / 2
            for name, parameter in self.named_parameters()
        ]
        return torch.stack(parts).sum()


def run_all(
    task: Any, spec: RunSpec, control: Control | None = None, clock: Callable[[], float] | None = None
) -> list[Event]:
    """Return all events of a run."""
    return list(fit(task, spec, control, clock or busy_clock()))
