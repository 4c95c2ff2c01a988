"""Takes a task's steps: as they stand, or on a GPU as one captured CUDA graph.

A small network computes for microseconds and waits for the host in between: each of its hundreds of kernels is
launched by Python. A graph launches a whole step, forward, backward and optimizer, at once. It does exactly what it
was captured doing, with the same memory and the same numbers in the code, so the data's indices and the learning rate
are copied into fixed places first, and any other setting that changes means a new capture.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor

from tuidl.text import clean
from tuidl.train.device import Hardware

Row = Sequence[Tensor]
Learn = Callable[[Sequence[Tensor], float | Tensor, bool], Row]

WARM_UP = 3  # steps before the capture: the optimizer's state and cuDNN's choices come to be in them
MEASURE_EVERY = 16  # steps between measurements of the update/weight ratio, which needs a copy of the weights
TOLERANCE = 0.02  # by how much a captured step may differ from the same step as it stands: sums in another order


@dataclass(frozen=True)
class Moving:
    """All that a step reads and changes: tensors that stay where they are, and the random numbers it draws."""

    tensors: Callable[[], Sequence[Tensor]]
    generators: Sequence[Generator]


class Capture(Protocol):
    """How a graph comes to be: does `work` once without effect, and returns its row and what repeats it."""

    def __call__(self, work: Callable[[], Row], generators: Sequence[Generator]) -> tuple[Row, Callable[[], None]]:
        """Capture."""
        ...


def capture_on_gpu(work: Callable[[], Row], generators: Sequence[Generator]) -> tuple[Row, Callable[[], None]]:
    """Capture `work` as a CUDA graph; torch's own generator is registered by torch itself."""
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        row = work()
    return row, graph.replay


class Stepper:
    """Calls `learn(inputs, lr, measure)` for each step; `measure` is whether the update ratio is due.

    `why_not` says why no graph is captured; it is empty where one is. `steps` counts the steps taken.
    """

    def __init__(
        self, learn: Learn, hardware: Hardware, moving: Moving, why_not: str = "", capture: Capture = capture_on_gpu
    ) -> None:
        self.learn, self.hardware, self.moving, self.capture = learn, hardware, moving, capture
        self.why_not = why_not
        self.steps = 0
        self.forget()

    def forget(self) -> None:
        """Capture anew: a setting has changed, or a tensor has another place."""
        self._graphs: dict[bool, tuple[Row, Callable[[], None]]] = {}
        self._inputs: list[Tensor] = []
        self._warm = 0

    def __call__(self, inputs: Sequence[Tensor], lr: float) -> Row:
        """Take the next step."""
        measure = self.steps % MEASURE_EVERY == 0
        self.steps += 1
        if self.why_not:
            return self.learn(inputs, lr, measure)
        if not self._inputs:
            self._inputs = [torch.empty_like(given) for given in inputs]
            self._lr = torch.empty((), device=inputs[0].device)
        for place, given in zip(self._inputs, inputs, strict=True):
            place.copy_(given)
        self._lr.fill_(lr)
        if measure not in self._graphs:
            return self._prepare(measure)
        row, replay = self._graphs[measure]
        replay()
        return row

    def _work(self, measure: bool) -> Row:
        return self.learn(self._inputs, self._lr, measure)

    def _prepare(self, measure: bool) -> Row:
        """Take a step as it stands; from the fourth on capture the next of its kind, and see that it does the same."""
        self._warm += 1
        if self._warm <= WARM_UP:
            return self._work(measure)
        before = self._snapshot()
        try:
            row, replay = self.capture(lambda: self._work(measure), self.moving.generators)
            self._restore(before)
            replay()
            found = self._seen(row)
        except RuntimeError as error:
            return self._give_up(before, measure, clean(str(error).partition("\n")[0], limit=120))
        self._restore(before)
        plain = self._work(measure)
        if not _alike(found, self._seen(plain)):
            self.why_not = "a captured step came out otherwise than the same step as it stands"
            self.hardware.notes.append(f"no CUDA graph: {self.why_not}")
            self.forget()
            return plain
        self._graphs[measure] = (row, replay)
        return plain

    def _give_up(self, before: "_Snapshot", measure: bool, why: str) -> Row:
        self.why_not = f"it cannot be captured ({why})"
        self.hardware.notes.append(f"no CUDA graph, which makes steps slower: {self.why_not}")
        self._restore(before)
        row = self._work(measure)
        self.forget()
        return row

    def _seen(self, row: Row) -> list[Tensor]:
        return [tensor.detach().clone() for tensor in (*row, *self.moving.tensors())]

    def _snapshot(self) -> "_Snapshot":
        device = self.hardware.device
        cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        return _Snapshot(
            [tensor.detach().clone() for tensor in self.moving.tensors()],
            [generator.get_state() for generator in self.moving.generators], torch.get_rng_state(), cuda,
        )  # fmt: skip

    @torch.no_grad()
    def _restore(self, before: "_Snapshot") -> None:
        for tensor, value in zip(self.moving.tensors(), before.tensors, strict=True):
            tensor.copy_(value)
        for generator, state in zip(self.moving.generators, before.generators, strict=True):
            generator.set_state(state)
        torch.set_rng_state(before.cpu)
        if before.cuda is not None:
            torch.cuda.set_rng_state(before.cuda, self.hardware.device)


@dataclass(frozen=True)
class _Snapshot:
    tensors: list[Tensor]
    generators: list[Tensor]
    cpu: Tensor
    cuda: Tensor | None


def _alike(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    """Return whether two steps did the same, up to the order in which sums were taken."""
    for one, other in zip(first, second, strict=True):
        if other.is_floating_point() and other.numel():
            slack = TOLERANCE * float(other.nan_to_num(0, 0, 0).abs().max() + 1e-6)
            if not torch.allclose(one, other, rtol=TOLERANCE, atol=slack, equal_nan=True):
                return False
    return True
