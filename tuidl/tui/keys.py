"""Keys take effect in the order in which they were pressed."""

from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from textual import events
from textual.await_complete import AwaitComplete
from textual.message import Message

if TYPE_CHECKING:
    from textual.app import App

    Base = App[int]
else:
    Base = object  # stands before the app among the bases

PATIENCE = 0.1  # seconds that a key is waited for which some widget has kept for itself without saying so


class KeysInOrder(Base):
    """Looks at a key only when the one before it has taken effect.

    Textual's widget takes a typed character at once, but a bound key only after that has risen from the widget through
    all its parents. Of keys that arrive together, as over a slow line, the later ones would overtake the earlier: a
    line would be emptied after the new text was typed into it. A key that was pressed again before the screen closed is
    not for what lies behind.
    """

    def __init__(self) -> None:
        super().__init__()
        self._pressed: deque[events.Key] = deque()
        self._rising: events.Key | None = None  # given to a widget, and not back yet
        self._newest = ""  # the key that was looked at last
        self._again = False  # whether the one before was the same
        self._closed_at = 0.0  # when a screen closed last, on the clock of events

    def pop_screen(self) -> AwaitComplete:
        """Close the screen in front."""
        self._closed_at = Message().time
        return super().pop_screen()

    async def on_event(self, event: events.Event) -> None:
        """Put keys in a line, and leave everything else alone."""
        if isinstance(event, events.Key) and not event.is_forwarded:
            self._pressed.append(event)
            await self._look_at_keys()
            return
        if event is not self._rising or not self._again or event.time > self._closed_at:
            await super().on_event(event)
        if event is self._rising:
            self.call_later(self._has_risen, event)  # a new focus, too, takes its place in the queue

    async def _look_at_keys(self) -> None:
        while self._pressed and self._rising is None:
            key = self._pressed.popleft()
            self._again, self._newest = key.key == self._newest, key.key
            if self._again and key.time < self._closed_at:
                continue
            widget = self.focused
            typed = widget is not None and widget.check_consume_key(key.key, key.character)
            await super().on_event(key)
            if key.is_forwarded and not typed:
                self._rising = key
                self.set_timer(PATIENCE, partial(self._has_risen, key))

    async def _has_risen(self, key: events.Event) -> None:
        if key is self._rising:
            self._rising = None
            await self._look_at_keys()
