"""Lines in braille: each cell of the terminal holds 2 x 4 dots."""

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.floating]
Codes = NDArray[np.uint32]

ACROSS, DOWN = 2, 4  # dots in a cell
BLANK = 0x2800
DASH, GAP = 4, 2  # dots of a dashed line
_BITS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]], np.uint32)


def line(low: Values, high: Values, bottom: float, top: float, rows: int, *, dashed: bool = False) -> Codes:
    """Return the code points [rows, cells] of a line through the extremes of each column of dots, 0 where it is not.

    `low` and `high` have one value for each column of dots, NaN where there is none; the line bridges such gaps. The
    scale runs from `bottom` to `top`; what is beyond is drawn at its edge.
    """
    dots = _spans(low, high, bottom, top, rows)[0]
    if dashed:
        dots &= np.arange(dots.shape[1]) % (DASH + GAP) < DASH
    return _codes(dots)


def band(low: Values, high: Values, bottom: float, top: float, rows: int) -> Codes:
    """Return a band between the extremes, as `line` does: both edges, and every second dot between them.

    So it looks fainter than a line where there are no colours.
    """
    dots, first, last = _spans(low, high, bottom, top, rows)
    row, column = np.ogrid[: dots.shape[0], : dots.shape[1]]
    dots &= ((row + column) % 2 == 0) | (row == first) | (row == last)
    return _codes(dots)


def dot_rows(values: Values, bottom: float, top: float, rows: int) -> NDArray[np.int64]:
    """Return the row of dots, counted from above, at which each value lies; values beyond the scale lie at its edge."""
    last = rows * DOWN - 1
    share = (top - values.astype(np.float64)) / (top - bottom)
    found: NDArray[np.int64] = np.rint(np.clip(share, 0, 1) * last).astype(np.int64)
    return found


def _spans(
    low: Values, high: Values, bottom: float, top: float, rows: int
) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """Return the dots between the extremes, joined from column to column, and the first and last row of each column."""
    columns = np.arange(len(high))
    known = np.flatnonzero(np.isfinite(high))
    first, last = np.zeros(len(high), np.int64), np.full(len(high), -1)
    if len(known):
        upper, lower = (dot_rows(values[known], bottom, top, rows) for values in (high, low))
        inside = columns[known[0] : known[-1] + 1]
        first[inside] = last[inside] = np.rint(np.interp(inside, known, (upper + lower) / 2))
        first[known], last[known] = upper, lower
        # each column reaches as far as the one before it
        before, after = inside[:-1], inside[1:]
        falls, rises = last[before] + 1, first[before] - 1
        first[after], last[after] = np.minimum(first[after], falls), np.maximum(last[after], rises)
    row = np.arange(rows * DOWN)[:, None]
    return (row >= first) & (row <= last), first, last


def _codes(dots: NDArray[np.bool_]) -> Codes:
    height, width = dots.shape
    cells = dots.reshape(height // DOWN, DOWN, width // ACROSS, ACROSS)
    bits = np.einsum("ydxa,da->yx", cells, _BITS)
    return np.where(bits, bits + BLANK, 0).astype(np.uint32)
