"""The row at the bottom that shows which keys work now."""

from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from textual import events
from textual.screen import Screen
from textual.strip import Strip

from tuidl.tui.draw.strips import Span, strip
from tuidl.tui.rows import Rows

GAP = 2


@dataclass(frozen=True)
class Key:
    """One key of the bar, as it is shown and as it is pressed."""

    shown: str
    label: str
    pressed: str
    enabled: bool
    everywhere: bool  # bound by the program, not by this screen

    @property
    def width(self) -> int:
        """The cells it takes, with the gap after it."""
        return cell_len(f"{self.shown} {self.label}") + GAP


class KeyBar(Rows):
    """The keys of the part in focus, then of the screen, then of the program; where room is short the middle gives way.

    Textual's own footer is made of many widgets and lays the whole screen out anew, and so sends it anew, whenever the
    focus moves.
    """

    DEFAULT_CSS = "KeyBar { dock: bottom; height: 1; padding: 0 1; }"

    def on_mount(self) -> None:
        """Follow the screen's keys."""
        self.screen.bindings_updated_signal.subscribe(self, self._follow)

    def _follow(self, screen: Screen[Any]) -> None:
        if screen.is_current:
            self.redraw()

    @property
    def keys(self) -> list[Key]:
        """The keys that are worth showing now; of several for one action the first."""
        found: dict[str, Key] = {}
        for node, binding, enabled, _ in self.screen.active_bindings.values():
            if binding.show and binding.description:
                shown = self.app.get_key_display(binding)
                key = Key(shown, binding.description, binding.key, enabled, node is self.app)
                found.setdefault(binding.action, key)
        return list(found.values())

    def _placed(self, width: int) -> list[Key | None]:
        """Return the keys that fit; None stands for those that do not."""
        keys = self.keys
        if sum(key.width for key in keys) - GAP <= width:
            return [*keys]
        here, everywhere = [k for k in keys if not k.everywhere], [k for k in keys if k.everywhere]
        left = width - sum(key.width for key in everywhere) - 1
        placed: list[Key | None] = []
        for key in here:
            left -= key.width
            if left < 0:
                break
            placed.append(key)
        return [*placed, None, *everywhere]

    def paint(self, width: int, height: int) -> list[Strip]:
        """Return the one row."""
        look = self.palette
        spans: list[Span] = []
        for key in self._placed(width):
            if key is None:
                spans.append(("…" + " " * GAP, look.muted))
            else:
                spans.append((f"{key.shown} ", look.accent if key.enabled else look.axis))
                spans.append((key.label + " " * GAP, look.text if key.enabled else look.axis))
        return [strip(spans, width, look.text)]

    def on_click(self, event: events.Click) -> None:
        """Press the key that was clicked."""
        place = event.get_content_offset(self)
        left = place.x if place is not None else -1
        for key in self._placed(self.content_size.width):
            size = key.width if key is not None else 1 + GAP
            if 0 <= left < size - GAP and key is not None and key.enabled:
                self.app.simulate_key(key.pressed)
            left -= size
