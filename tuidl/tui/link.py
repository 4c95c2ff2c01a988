"""The line to the terminal: a new frame only when the last one has been swallowed.

After each frame the terminal is asked where its cursor is. It answers when it has worked off all that came before,
however much the network holds in between, so the time until the answer tells how the line is. Where no answer ever
comes, frames are paced by the clock alone.
"""

import time
from collections.abc import Callable

ASK = "\x1b[6n"
PATIENCE = 5.0  # seconds until a terminal that has never answered is believed to be mute
GIVE_UP = 30.0  # seconds until a lost answer no longer holds up the next frame
SLOW = 0.25  # seconds from frame to answer that a hand on the keys begins to feel


class Link:
    """Paces the frames of one terminal."""

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write, self._clock = write, clock
        self._asked_at: float | None = None
        self._answered = False
        self.mute = False  # the terminal does not answer
        self.latency = 0.0  # seconds from the last frame to its answer

    @property
    def ready(self) -> bool:
        """Whether the terminal can take another frame."""
        if self._asked_at is None or self.mute:
            return True
        waited = self._clock() - self._asked_at
        if not self._answered and waited > PATIENCE:
            self.mute = True
            return True
        return waited > GIVE_UP

    def frame_sent(self) -> None:
        """Ask for an answer to the frame that has just been written."""
        if not self.mute:
            self._asked_at = self._clock()
            self._write(ASK)

    def answered(self) -> None:
        """Take the terminal's answer."""
        if self._asked_at is not None:
            self.latency = self._clock() - self._asked_at
            self._asked_at, self._answered = None, True

    @property
    def state(self) -> str:
        """What a user should know of the line: nothing when all is well. Coarse, so that it rarely changes."""
        if self.mute or not self._answered:
            return ""
        waited = self.latency if self._asked_at is None else max(self.latency, self._clock() - self._asked_at)
        return f"link slow: {waited:.1f} s" if waited > SLOW else ""
