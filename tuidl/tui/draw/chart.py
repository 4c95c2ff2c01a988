"""Charts of curves and evaluation points, from numbers and a size to rows of cells."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from rich.style import Style
from textual.strip import Strip

from tuidl.tui.draw import braille
from tuidl.tui.draw.axis import UNITS, Limits, multiples, tick_labels, ticks
from tuidl.tui.draw.palette import Palette
from tuidl.tui.draw.strips import Span, cells, strip

Floats = NDArray[np.floating]
Thin = Callable[[NDArray[np.float64]], tuple[Floats, Floats]]
"""From edges on the x axis to the lowest and highest value between each two of them, NaN where there is none."""

CELLS_A_Y_TICK, MOST_Y_TICKS = 2, 6
CELLS_A_X_TICK = 8
CELLS_A_SIGN = 3  # signs of points that lie closer are left out; their line is not
LEAST_WIDTH, LEAST_HEIGHT = 12, 4  # of the plot, below which the axes are left out
_BLANK, _CHANGED, _BROKEN, _CURSOR, _ANCHOR = map(ord, " ┊✗│╎")


@dataclass(frozen=True)
class Role:
    """How a series looks. `style` and `behind`, that of the unsmoothed values, name fields of the palette."""

    sign: str
    style: str
    behind: str = "axis"
    dashed: bool = False


ROLES = {
    "train": Role("─", "train", "train_raw"),
    "second": Role("╌", "second", dashed=True),
    "val": Role("●", "val"),
    "test": Role("◆", "test"),
}


@dataclass(frozen=True)
class Curve:
    """A value for every step. `behind` are the unsmoothed values, if `line` is smoothed.

    `readings` is what the legend says after the label, the longest first; a shorter one is used where room is scarce.
    """

    label: str
    role: str
    line: Thin
    behind: Thin | None = None
    readings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dots:
    """Values at some moments, in order of `x`, joined by a line. What is not finite is left out."""

    label: str
    role: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    readings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Axes:
    """The limits of a chart, and what they count. `unit` is one of `UNITS`."""

    x: Limits
    y: Limits
    unit: str = "step"
    log: bool = False
    percent: bool = False


@dataclass(frozen=True)
class Marks:
    """What stands in a chart beside its values, at positions of the x axis.

    `newest` is the end of the data. `cursor` and `anchor` go through all rows when `full`, else they touch the axis
    only, which costs a tenth of the bytes. `note` takes the place of the labels below, `empty` that of the curves.
    """

    changes: Sequence[float] = ()
    broken: Sequence[float] = ()
    newest: float | None = None
    cursor: float | None = None
    anchor: float | None = None
    full: bool = True
    note: str = ""
    empty: str = ""


NO_MARKS = Marks()


@dataclass(frozen=True)
class Area:
    """Where the plot stands in a chart, in cells."""

    left: int
    top: int
    width: int
    height: int

    def column(self, x: float, limits: Limits) -> int | None:
        """Return the column of the plot at `x`, or None where it is beyond the limits."""
        if not limits.low <= x <= limits.high:
            return None
        return min(self.width - 1, int((x - limits.low) / limits.span * self.width))


def thinned(x: NDArray[np.float64], y: NDArray[np.float64]) -> Thin:
    """Return the thinning of a few values at positions that never fall."""
    known = np.isfinite(y)
    x, y = x[known], y[known]

    def thin(edges: NDArray[np.float64]) -> tuple[Floats, Floats]:
        at = np.searchsorted(x, edges)
        empty = at[:-1] >= at[1:]
        if empty.all():
            return np.full(len(empty), np.nan), np.full(len(empty), np.nan)
        inside, starts = y[: at[-1]], np.minimum(at[:-1], at[-1] - 1)
        low, high = np.minimum.reduceat(inside, starts), np.maximum.reduceat(inside, starts)
        return np.where(empty, np.nan, low), np.where(empty, np.nan, high)

    return thin


def extent(series: Sequence[Curve | Dots], limits: Limits, log: bool = False) -> tuple[float, float]:
    """Return the lowest and highest value within the limits of x, NaN without any; on a log axis of those above 0."""
    edges = _edges(limits, 64)
    found = np.concatenate(
        [values for one in series for thin in _thins(one) for values in thin(edges)] or [np.empty(0)]
    )
    found = found[np.isfinite(found) & (found > 0 if log else True)]
    return (float(found.min()), float(found.max())) if len(found) else (math.nan, math.nan)


def area(width: int, height: int, axes: Axes) -> Area:
    """Return where the plot stands in a chart of this size: legend and axes give way before it does."""
    top = 1 if height >= 3 else 0
    bottom = 2 if height - top - 2 >= LEAST_HEIGHT else 0
    rows = height - top - bottom
    margin = 1 + max(map(len, _y_labels(axes, rows).values()), default=0)
    left = margin if width - margin >= LEAST_WIDTH and rows >= LEAST_HEIGHT else 0
    return Area(left, top, width - left, rows)


def draw_chart(
    series: Sequence[Curve | Dots], axes: Axes, width: int, height: int, palette: Palette, marks: Marks = NO_MARKS
) -> list[Strip]:
    """Return `height` rows of `width` cells: a legend, the curves with their axes, and the labels of x."""
    if width < 1 or height < 1:
        return []
    plot = area(width, height, axes)
    canvas = _Canvas(plot, axes, palette)
    canvas.changes(marks.changes)
    for one in series:
        if isinstance(one, Curve) and one.behind:
            canvas.behind(one, one.behind)
    for one in series:
        canvas.line(one)
    canvas.cursors(marks)
    for one in series:
        if isinstance(one, Dots):
            canvas.signs(one)
    canvas.broken(marks.broken)
    canvas.say(marks.empty)
    rows = canvas.rows(_y_labels(axes, plot.height))
    if plot.top:
        rows.insert(0, strip(legend(series, palette, width), width, palette.text))
    if plot.top + plot.height < height:
        places = _x_ticks(axes, plot)
        rows.append(_axis_row(places, axes, plot, palette, marks))
        rows.append(strip(_x_labels(places, axes, plot, palette, marks.note), width, palette.text))
    return rows


def legend(series: Sequence[Curve | Dots], palette: Palette, width: int) -> list[Span]:
    """Return sign, name and reading of each series in the fullest wording that fits; names give way before readings."""
    most = max((len(one.readings) for one in series), default=0)
    wordings = [(named, level, gap) for named in (True, False) for level in range(most) for gap in ("  ", " ")]
    for named, level, gap in [*wordings, (True, None, " ")]:
        parts = [_entry(one, named, level) for one in series]
        if sum(map(len, parts)) + len(gap) * (len(parts) - 1) <= width:
            break
    styles = [_style(one, palette) for one in series]
    return [(gap * bool(number) + parts[number], styles[number]) for number in range(len(parts))]


class _Canvas:
    """Cells of the plot, each with a character and the style it has, painted from back to front."""

    def __init__(self, plot: Area, axes: Axes, palette: Palette) -> None:
        self.plot, self.axes = plot, axes
        self.codes = np.full((plot.height, plot.width), _BLANK, np.uint32)
        self.ids = np.zeros((plot.height, plot.width), np.uint8)
        self.palette = palette
        self.styles: list[Style] = [palette.axis]
        self.edges = _edges(axes.x, plot.width * braille.ACROSS)
        self.bottom, self.top = (float(_scaled(np.array(end), axes.log)) for end in (axes.y.low, axes.y.high))
        self.free = np.ones((plot.height, plot.width), np.bool_)  # of lines

    def changes(self, positions: Sequence[float]) -> None:
        """Mark where a setting was changed."""
        style = self._id(self.palette.mark)
        for x in positions:
            column = self.plot.column(x, self.axes.x)
            if column is not None:
                self.codes[:, column], self.ids[:, column] = _CHANGED, style

    def behind(self, curve: Curve, values: Thin) -> None:
        """Draw the unsmoothed values of a curve as a band."""
        style: Style = getattr(self.palette, ROLES[curve.role].behind)
        self._put(braille.band(*self._scaled_extremes(values), self.bottom, self.top, self.plot.height), style)

    def line(self, series: Curve | Dots) -> None:
        """Draw the line of a series."""
        low, high = self._scaled_extremes(_thins(series)[0])
        if isinstance(series, Dots):
            low, high = self._through_the_edges(series, low, high)
        codes = braille.line(low, high, self.bottom, self.top, self.plot.height, dashed=ROLES[series.role].dashed)
        self._put(codes, _style(series, self.palette))
        self.free &= codes == 0

    def signs(self, dots: Dots) -> None:
        """Put the sign of a series on its values, save where they are too close together."""
        inside = (dots.x >= self.axes.x.low) & (dots.x <= self.axes.x.high)
        y = _scaled(dots.y, self.axes.log)
        inside &= np.isfinite(y)
        if not inside.any():
            return
        share = (dots.x[inside] - self.axes.x.low) / self.axes.x.span
        columns = np.minimum((share * self.plot.width).astype(np.int64), self.plot.width - 1)
        rows = braille.dot_rows(y[inside], self.bottom, self.top, self.plot.height) // braille.DOWN
        shown = np.unique(columns // CELLS_A_SIGN, return_index=True)[1]
        shown = np.append(shown, len(columns) - 1)  # the newest always
        self.codes[rows[shown], columns[shown]] = ord(ROLES[dots.role].sign)
        self.ids[rows[shown], columns[shown]] = self._id(_style(dots, self.palette))

    def cursors(self, marks: Marks) -> None:
        """Draw the cursors through everything but the lines."""
        for x, code in ((marks.anchor, _ANCHOR), (marks.cursor, _CURSOR)):
            column = None if x is None else self.plot.column(x, self.axes.x)
            if column is not None:
                room = self.free[:, column] & (marks.full | (np.arange(self.plot.height) == 0))
                self.codes[room, column], self.ids[room, column] = code, self._id(self.palette.cursor)

    def broken(self, positions: Sequence[float]) -> None:
        """Mark on the top row where a value is not finite."""
        for x in positions:
            column = self.plot.column(x, self.axes.x)
            if column is not None:
                self.codes[0, column], self.ids[0, column] = _BROKEN, self._id(self.palette.bad)

    def say(self, text: str) -> None:
        """Write a text into the middle of the plot."""
        text = text[: self.plot.width]
        row, column = (self.plot.height - 1) // 2, (self.plot.width - len(text)) // 2
        self.codes[row, column : column + len(text)] = list(map(ord, text))
        self.ids[row, column : column + len(text)] = self._id(self.palette.muted)

    def rows(self, labels: dict[int, str]) -> list[Strip]:
        """Return the rows of the plot, with the y axis before them; `labels` stand at their rows."""
        width = self.plot.left + self.plot.width
        # a blank takes the style before it, so that a row is made of few segments
        last = np.maximum.accumulate(np.where(self.codes != _BLANK, np.arange(self.plot.width), 0), axis=1)
        ids = np.take_along_axis(self.ids, last, axis=1)
        texts = self.codes.view(f"U{self.plot.width}")[:, 0].tolist()
        found = []
        for row, text in enumerate(texts):
            starts = [0, *(np.flatnonzero(np.diff(ids[row])) + 1).tolist(), self.plot.width]
            spans: list[Span] = []
            if self.plot.left:
                label = labels.get(row)
                spans.append(((label or "").rjust(self.plot.left - 1) + ("┤" if label else "│"), self.palette.axis))
            for start, end in pairwise(starts):
                spans.append((text[start:end], self.styles[ids[row, start]]))
            found.append(strip(spans, width, self.palette.text))
        return found

    def _scaled_extremes(self, thin: Thin) -> tuple[Floats, Floats]:
        low, high = (_scaled(values, self.axes.log) for values in thin(self.edges))
        return low, high

    def _through_the_edges(self, dots: Dots, low: Floats, high: Floats) -> tuple[Floats, Floats]:
        """Let the line run on to points beyond the limits."""
        y = _scaled(dots.y, self.axes.log)
        known = np.isfinite(y)
        x, y = dots.x[known], y[known]
        low, high = low.copy(), high.copy()
        for at, edge in ((0, self.axes.x.low), (-1, self.axes.x.high)):
            if len(x) and x[0] < edge < x[-1] and not np.isfinite(high[at]):
                low[at] = high[at] = np.interp(edge, x, y)
        return low, high

    def _put(self, codes: NDArray[np.uint32], style: Style) -> None:
        drawn = codes != 0
        self.codes[drawn], self.ids[drawn] = codes[drawn], self._id(style)

    def _id(self, style: Style) -> int:
        if style not in self.styles:
            self.styles.append(style)
        return self.styles.index(style)


def _entry(series: Curve | Dots, named: bool, level: int | None) -> str:
    """Return what the legend says of a series: its reading number `level`, or its last, or none."""
    reading = series.readings[: level + 1][-1:] if level is not None else ()
    return " ".join([ROLES[series.role].sign, *([series.label] if named or not reading else []), *reading])


def _style(series: Curve | Dots, palette: Palette) -> Style:
    style: Style = getattr(palette, ROLES[series.role].style)
    return style


def _thins(series: Curve | Dots) -> list[Thin]:
    if isinstance(series, Dots):
        return [thinned(series.x, series.y)]
    return [series.line, *([series.behind] if series.behind else [])]


def _edges(limits: Limits, count: int) -> NDArray[np.float64]:
    edges = np.linspace(limits.low, limits.high, count + 1)
    edges[-1] = np.nextafter(limits.high, math.inf)  # the last pixel holds its right end too
    return edges


def _scaled(values: Floats, log: bool) -> Floats:
    """Return where values lie on the y axis. On a log axis what is not above 0 lies infinitely deep."""
    if not log:
        return values
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log10(np.where(values < 0, 0, values))


def _y_labels(axes: Axes, rows: int) -> dict[int, str]:
    """Return the labels of the y axis by the row of the plot at which they stand."""
    values = ticks(axes.y, min(max(2, rows // CELLS_A_Y_TICK), MOST_Y_TICKS), axes.log)
    bottom, top = _scaled(np.array([axes.y.low, axes.y.high]), axes.log)
    places = braille.dot_rows(_scaled(np.array(values), axes.log), bottom, top, rows) // braille.DOWN
    return dict(zip(places.tolist(), tick_labels(values, axes.percent), strict=True))


def _x_ticks(axes: Axes, plot: Area) -> dict[int, str]:
    """Return the labels of the x axis by the column of the plot at which they stand."""
    unit = UNITS[axes.unit]
    values = multiples(axes.x, unit.step(axes.x.span, max(1, plot.width // CELLS_A_X_TICK)))
    columns = [plot.column(value, axes.x) for value in values]
    return {column: label for column, label in zip(columns, unit.label(values), strict=True) if column is not None}


def _axis_row(places: dict[int, str], axes: Axes, plot: Area, palette: Palette, marks: Marks) -> Strip:
    """Return the x axis: drawn through as far as there is data, dotted where it is still to come."""
    newest = -1 if marks.newest is None else plot.column(min(marks.newest, axes.x.high), axes.x)
    reached = -1 if newest is None else newest
    signs = ["─" if column <= reached else "┈" for column in range(plot.width)]
    for column in places:
        signs[column] = "┴"
    styles = [palette.axis] * plot.width
    for x, sign in ((marks.anchor, "△"), (marks.cursor, "▲")):
        found = None if x is None else plot.column(x, axes.x)
        if found is not None:
            signs[found], styles[found] = sign, palette.cursor
    corner = list("└".rjust(plot.left)) if plot.left else []
    return cells(corner + signs, [palette.axis] * plot.left + styles)


def _x_labels(places: dict[int, str], axes: Axes, plot: Area, palette: Palette, note: str) -> list[Span]:
    """Return the labels below the x axis, each below its tick if it has room, and what they count; or the note."""
    if note:
        return [(note, palette.text)]
    width = plot.left + plot.width
    text, unit = "", f" {axes.unit}"
    for column, label in places.items():
        start = max(0, plot.left + column - len(label) // 2)
        if start >= len(text) + bool(text) and start + len(label) + len(unit) <= width:
            text = text.ljust(start) + label
    return [(text.ljust(width - len(unit)) + unit, palette.axis)]
