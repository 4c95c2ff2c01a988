"""Between the steps of a run and places on an x axis of steps, seconds or epochs."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Steps = NDArray[np.integer[Any]]
Seconds = NDArray[np.floating[Any]]

LARGEST = 2**31 - 1  # a step beyond it is taken for it
LONGEST = 1e30  # seconds
_ROUNDING = 1e-6  # an edge so close to a step is on it


class Ruler:
    """Measures along the known `steps` and the `elapsed` seconds at each of them; both never fall.

    Beyond the last known step, time is guessed at the pace of the whole run.
    """

    def __init__(self, unit: str, steps: Steps, elapsed: Seconds, steps_per_epoch: int) -> None:
        """`unit` is one of `tuidl.tui.draw.axis.UNITS`."""
        self.steps, self.elapsed = steps, elapsed
        self._timed = unit == "time"
        self._scale = float(steps_per_epoch) if unit == "epoch" else 1.0

    def places(self, steps: Steps, elapsed: Seconds) -> NDArray[np.float64]:
        """Return the places of moments of which both are known."""
        return elapsed.astype(np.float64) if self._timed else steps / self._scale

    def place(self, step: float) -> float:
        """Return the place of a step, or of the first known one after it."""
        step = min(step, LARGEST)
        if not self._timed:
            return step / self._scale
        index = self.index(step)
        if index < len(self.steps):
            return float(self.elapsed[index])
        return step * self._pace()

    def step(self, place: float) -> float:
        """Return the step at a place, or the first known one after it."""
        if not self._timed:
            return place * self._scale
        index = int(np.searchsorted(self.elapsed, self.elapsed.dtype.type(min(place, LONGEST))))
        if index < len(self.steps):
            return float(self.steps[index])
        return place / self._pace() if self._pace() else 0.0

    def index(self, step: float) -> int:
        """Return the index of a step, or of the first known one after it."""
        return int(np.searchsorted(self.steps, self.steps.dtype.type(min(step, LARGEST))))

    def indices(self, edges: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return the index of the first known step at or after each edge, but after the last edge, which counts in."""
        if self._timed:
            # numpy would copy a million values to compare them with another type
            seconds = np.minimum(edges, LONGEST).astype(self.elapsed.dtype)
            found = np.searchsorted(self.elapsed, seconds)
            found[-1] = np.searchsorted(self.elapsed, seconds[-1], side="right")
            return found
        steps = np.clip(edges * self._scale, 0, LARGEST)
        found = np.searchsorted(self.steps, np.ceil(steps - _ROUNDING).astype(self.steps.dtype))
        last = np.floor(steps[-1] + _ROUNDING).astype(self.steps.dtype)
        found[-1] = np.searchsorted(self.steps, last, side="right")
        return found

    def _pace(self) -> float:
        """Return the seconds a step takes."""
        return float(self.elapsed[-1]) / float(self.steps[-1]) if len(self.steps) and self.steps[-1] else 0.0
