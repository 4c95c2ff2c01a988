"""The ring on the device where steps leave their numbers, drained by the clock and never by the step."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

CAPACITY = 4096  # steps; a full ring is drained early


@dataclass
class Drained:
    """Consecutive steps: `columns` hold one float for each, `first` is the number of the first step, counted from 1."""

    first: int
    columns: dict[str, list[float]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))


class Meter:
    """Collects one row of 0-d tensors a step.

    On a GPU, `drain` starts a copy that does not wait and returns the rows of the copy before it, if that has arrived.
    """

    def __init__(self, columns: Sequence[str], device: torch.device, first: int = 1) -> None:
        """`first` is the number of the first step that will be written."""
        self.columns = tuple(columns)
        pinned = device.type == "cuda"
        self._ring = torch.zeros(CAPACITY, len(self.columns), device=device)
        self._landing = torch.zeros(CAPACITY, len(self.columns), pin_memory=pinned) if pinned else None
        self._arrived = torch.cuda.Event() if pinned else None
        self._in_flight: tuple[int, int, list[float]] | None = None  # first step, rows, learning rates
        self._rates: list[float] = []
        self._first = first

    @property
    def full(self) -> bool:
        """Return whether the next row has no place."""
        return len(self._rates) >= CAPACITY

    def write(self, row: Sequence[Tensor], lr: float) -> None:
        """Leave one step's numbers on the device; the learning rate is known on the host already."""
        torch.stack(tuple(row), out=self._ring[len(self._rates)])
        self._rates.append(lr)

    def drain(self, wait: bool = False) -> list[Drained]:
        """Return the steps whose numbers have arrived on the host, all of them when `wait`."""
        found: list[Drained] = []
        if self._landing is None or self._arrived is None:
            if self._rates:
                found.append(self._unpack(self._ring[: len(self._rates)], self._first, self._rates))
                self._advance()
            return found
        if self._in_flight and (wait or self.full or self._arrived.query()):
            self._arrived.synchronize()
            first, rows, rates = self._in_flight
            found.append(self._unpack(self._landing[:rows], first, rates))
            self._in_flight = None
        if self._rates and not self._in_flight:
            rows = len(self._rates)
            self._landing[:rows].copy_(self._ring[:rows], non_blocking=True)
            self._arrived.record(torch.cuda.current_stream(self._ring.device))
            self._in_flight = (self._first, rows, self._rates)
            self._advance()
            if wait:
                found += self.drain(wait=True)
        return found

    def _advance(self) -> None:
        self._first += len(self._rates)
        self._rates = []

    def _unpack(self, rows: Tensor, first: int, rates: list[float]) -> Drained:
        columns = dict(zip(self.columns, rows.T.tolist(), strict=True))
        return Drained(first, {**columns, "lr": rates})
