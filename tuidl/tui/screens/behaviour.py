"""What all screens of tuidl do better than Textual's own. These stand before Textual's screen among the bases."""

from typing import TYPE_CHECKING, Any

from textual.await_complete import AwaitComplete
from textual.geometry import Size
from textual.screen import Screen

if TYPE_CHECKING:
    Base = Screen[Any]
else:
    Base = object  # Textual takes keys and styles from the first screen among the bases, so this is none


class Settles(Base):
    """Is laid out for the terminal as it is, never for what it was a moment ago.

    Two sizes that wait for one screen, which a screen in front of it has laid out as well, would otherwise answer each
    other for ever.
    """

    def _screen_resized(self, size: Size) -> None:
        super()._screen_resized(self.app.size)


class ClosesOnce(Settles):
    """Closes itself, and nothing else.

    A key that is pressed twice is on its way to the screen a second time when that has closed, and would close
    whatever lies behind it.
    """

    def dismiss(self, result: Any = None) -> AwaitComplete:
        """Close this screen, unless that is done."""
        return super().dismiss(result) if self.app.screen is self else AwaitComplete()
