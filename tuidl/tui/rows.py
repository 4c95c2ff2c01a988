"""The one widget that draws: it holds rows of cells and repaints only those that changed."""

from collections.abc import Sequence
from typing import ClassVar

from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from tuidl.tui.draw.palette import Palette, palette_of

STYLE_BYTES, ROW_BYTES = 42, 60  # foreground, background and reset; where on the screen it goes, and the frame


class Rows(Widget):
    """A widget made of rows. Subclasses override `paint` and call `redraw` when what they show has changed.

    Textual sends a widget's whole surface again on each `refresh`; over a slow line that is what makes keys wait.
    """

    DEFAULT_CSS = "Rows { background: $surface; color: $text; }"
    ALLOW_SELECT: ClassVar[bool] = False

    repaints = 0  # frames in which some row of this widget was sent anew
    sent = 0  # about how many bytes that were
    _rows: Sequence[Strip] = ()
    _painted_for: tuple[int, int] | None = None  # for which the rows were painted; None: they are no longer true
    _palette: Palette | None = None

    @property
    def palette(self) -> Palette:
        """The colours of the present theme."""
        if self._palette is None:
            self._palette = palette_of(self.app.theme_variables)
        return self._palette

    def paint(self, width: int, height: int) -> Sequence[Strip]:
        """Return at most `height` rows of exactly `width` cells."""
        raise NotImplementedError

    def redraw(self) -> None:
        """Paint anew, and send the rows that changed; what is out of sight is painted when it is seen."""
        width, height = self.content_size
        if self._painted_for != (width, height) or not (self.is_attached and self.is_on_screen):
            self._painted_for = None
            self.refresh()
            return
        before = self._rows
        self._rows = tuple(self.paint(width, height))
        changed = [Region(0, y, width, 1) for y in range(height) if _row(before, y) != _row(self._rows, y)]
        if changed:
            self.repaints += 1
            self.sent += sum(_bytes(self._rows, region.y) for region in changed)
            self.refresh(*changed)

    @property
    def whole(self) -> int:
        """About how many bytes it takes to send all rows."""
        return sum(_bytes(self._rows, y) for y in range(len(self._rows)))

    def render_line(self, y: int) -> Strip:
        """Return row `y`, painting all rows first where they are no longer true."""
        width, height = self.content_size
        if self._painted_for != (width, height):
            self._painted_for = (width, height)
            self._rows = tuple(self.paint(width, height)) if width > 0 and height > 0 else ()
            self.repaints += 1
            self.sent += self.whole
        return _row(self._rows, y) or Strip.blank(width, self.palette.text)

    def on_mount(self) -> None:
        """Follow the theme."""
        self.app.theme_changed_signal.subscribe(self, lambda _: self.recolour())

    def recolour(self) -> None:
        """Paint in the colours of a new theme."""
        self._palette = self._painted_for = None
        self.redraw()


def _bytes(rows: Sequence[Strip], y: int) -> int:
    """Return about how many bytes a row takes: its text, and for each change of style a true-colour escape sequence."""
    return ROW_BYTES + (sum(len(text) + STYLE_BYTES for text, _, _ in rows[y]) if y < len(rows) else 0)


def _row(rows: Sequence[Strip], y: int) -> Strip | None:
    return rows[y] if y < len(rows) else None
