"""How much may be sent to the terminal: panels take turns within a number of bytes a second.

A full screen of pictures costs a hundred kilobytes. On a slow line nobody wants it four times a second, and nobody
misses it: what costs little is fresh, what costs much comes as often as the line can bear.
"""

import time
from collections.abc import Callable

LOCAL, REMOTE = 8000.0, 2000.0  # bytes a second
MOST_SAVED = 1.0  # seconds' worth that a quiet time saves up


class Budget:
    """A bucket that fills at `rate` bytes a second; a panel may be painted while it is not empty."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate, self._clock = rate, clock
        self._left, self._at = rate * MOST_SAVED, clock()

    @property
    def open(self) -> bool:
        """Whether another panel may be painted now."""
        now = self._clock()
        self._left = min(self.rate * MOST_SAVED, self._left + (now - self._at) * self.rate)
        self._at = now
        return self._left > 0

    def spend(self, size: int) -> None:
        """Take what a panel has cost; a costly one may overdraw, and all wait until that is made good."""
        self._left -= size
