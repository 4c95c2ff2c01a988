"""A bar for each class, upright, with its number and its name below."""

from collections.abc import Sequence

from rich.cells import cell_len
from textual.strip import Strip

from tuidl.tui.draw.matrix import short_labels, short_number
from tuidl.tui.draw.palette import Palette
from tuidl.tui.draw.strips import Span, strip

_EIGHTHS = " ▁▂▃▄▅▆▇█"
_WIDEST = 9  # cells of a column
LEAST_HEIGHT = 3  # rows: a bar, the numbers, the names


def bars(labels: Sequence[str], values: Sequence[int], width: int, height: int, palette: Palette) -> list[Strip]:
    """Return `height` rows of at least LEAST_HEIGHT: bars in eighths of a row, numbers and names.

    A class that never occurs has a bold 0 and no bar. Where not all classes fit, those with the largest values are
    drawn, largest first. Labels are clean.
    """
    if width < 2 or height < LEAST_HEIGHT or not values:
        return []
    most = max(1, width // 2)
    order: Sequence[int] = range(len(values))
    if len(values) > most:
        order = sorted(order, key=lambda at: -values[at])[:most]
    cell = min(_WIDEST, width // len(order))
    largest = max(1, *values)
    names, _ = short_labels(labels, cell - 1)
    rows: list[list[Span]] = []
    for level in range(height - 3, -1, -1):
        rows.append(
            [(_bar(values[at] / largest * (height - 2) - level) * (cell - 1) + " ", palette.accent) for at in order]
        )
    rows.append([(_middle(short_number(values[at], cell - 1), cell), palette.text if values[at] else palette.bad)
                 for at in order])  # fmt: skip
    rows.append([(_middle(names[at], cell), palette.muted) for at in order])
    return [strip(spans, width, palette.text) for spans in rows]


def _bar(part: float) -> str:
    """Return the sign of a row that is filled to `part`; what is more than nothing is never shown as nothing."""
    return _EIGHTHS[max(0, min(8, round(8 * part)))]


def _middle(text: str, cell: int) -> str:
    """Return `text` in the middle of a column, whose last cell parts it from the next."""
    free = cell - 1 - cell_len(text)
    return " " * (free // 2) + text + " " * (free - free // 2 + 1)
