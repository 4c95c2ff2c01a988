"""What the terminal shows, cell by cell, so that of each frame only the difference is sent.

Textual sends the whole screen whenever its layout changes: a drawer that opens over a third of it, a dialog, another
screen. On a line of 50 kB/s that is most of a second in which no key is answered.
"""

from collections.abc import Iterable, Iterator

from rich.console import Console
from textual._compositor import ChopsUpdate, CompositorUpdate, LayoutUpdate  # no public module has them
from textual.strip import Strip

Piece = tuple[int, int, Strip]  # column, row, cells from there on


class Difference(CompositorUpdate):
    """Pieces of rows, each at its place."""

    def __init__(self, pieces: list[Piece]) -> None:
        self.pieces = pieces

    def render_segments(self, console: Console) -> str:
        """Return the bytes for the terminal: for each piece where it goes, then its cells."""
        return "".join(f"\x1b[{y + 1};{x + 1}H{cells.render(console)}" for x, y, cells in self.pieces)


class Frames:
    """Knows what the terminal shows, from all that was sent to it."""

    def __init__(self) -> None:
        self._rows: dict[int, Strip] = {}

    def forget(self) -> None:
        """Take nothing for granted: the terminal was resized, or somebody else wrote to it."""
        self._rows.clear()

    def reduce(self, update: CompositorUpdate) -> CompositorUpdate | None:
        """Return what is new in `update`, None when nothing is; from now on the terminal is believed to show it."""
        if isinstance(update, LayoutUpdate):
            left, top = update.region.offset
            pieces: Iterable[Piece] = ((left, y, Strip.join(cells)) for y, cells in enumerate(update.strips, top))
        elif isinstance(update, ChopsUpdate):
            pieces = _pieces(update)
        else:
            self.forget()
            return update
        found = list(self._new(pieces))
        return Difference(found) if found else None

    def _new(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        for x, y, cells in pieces:
            cells, row = cells.discard_meta().simplify(), self._rows.get(y)
            if row is None:
                if x == 0:
                    self._rows[y] = cells
                yield x, y, cells
                continue
            end = x + cells.cell_length
            before = row.crop(x, end).simplify()
            if before == cells:
                continue
            self._rows[y] = Strip.join([row.crop(0, x), cells, row.crop(end)]).simplify()
            skipped, cells = _trimmed(before, cells)
            yield x + skipped, y, cells


def _pieces(update: ChopsUpdate) -> Iterator[Piece]:
    """Return what Textual would send of a partial update."""
    for y, left, right in update.spans:
        for end, (x, cells) in zip(update.chop_ends[y], update.chops[y].items(), strict=False):
            if cells is not None and x <= right and end > left:
                cells = cells.crop(0, min(end, right) - x)
                if cells.cell_length:
                    yield x, y, cells


def _trimmed(before: Strip, after: Strip) -> tuple[int, Strip]:
    """Return how many cells at the beginning are the same, and the rest without the same cells at its end."""
    old, new = list(before), list(after)
    first = 0
    while first < min(len(old), len(new)) and old[first] == new[first]:
        first += 1
    last = 0
    while last < min(len(old), len(new)) - first and old[-1 - last] == new[-1 - last]:
        last += 1
    if before.cell_length != after.cell_length:
        last = 0  # what stands at the end has moved
    return sum(segment.cell_length for segment in new[:first]), Strip(new[first : len(new) - last])
