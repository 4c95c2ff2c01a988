"""The confusion matrix as rows of cells: true classes downwards, predicted ones to the right."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len, set_cell_size
from rich.style import Style
from textual.strip import Strip

from tuidl.tui.draw.palette import RAMP, Palette
from tuidl.tui.draw.strips import Span, strip
from tuidl.tui.format import fit

Counts = NDArray[np.int64]
Cell = tuple[int, int]  # true class, predicted class

_UNITS = ("k", "M", "G", "T")
_LABEL = 12  # cells that the names of the classes may take at the left
_HEAD = 8  # ... and at the top
_MARGIN = 7  # cells of the recall column
_BESIDE = 16  # cells from which the list of mistakes stands beside the matrix
_TALLEST = 3  # rows that a class may take
_MOST_PAIRS = 200  # kinds of mistakes that are listed


@dataclass(frozen=True)
class Pair:
    """One kind of mistake: images of class `true` that were taken for `predicted`."""

    true: int
    predicted: int
    count: int
    share: float  # of the images of class `true`


@dataclass(frozen=True, eq=False)
class Confusion:
    """How often each true class (row) was taken for each class (column). Labels are clean, never empty."""

    labels: tuple[str, ...]
    counts: Counts

    @cached_property
    def totals(self) -> Counts:
        """Images of each true class."""
        found: Counts = self.counts.sum(1)
        return found

    @cached_property
    def rates(self) -> NDArray[np.float64]:
        """Shares of each true class, 0..1."""
        return self.counts / np.maximum(self.totals, 1)[:, None]

    @cached_property
    def recall(self) -> NDArray[np.float64]:
        """Of the images of each class, the share that was recognised; NaN where there are none."""
        return np.where(self.totals > 0, self.rates.diagonal(), np.nan)

    @cached_property
    def precision(self) -> NDArray[np.float64]:
        """Of the images taken for each class, the share that is of it; NaN where there are none."""
        taken = self.counts.sum(0)
        return np.where(taken > 0, self.counts.diagonal() / np.maximum(taken, 1), np.nan)

    @cached_property
    def mistakes(self) -> Counts:
        """The counts without those that are right."""
        return self.counts * ~np.eye(len(self.labels), dtype=bool)

    @cached_property
    def troubled(self) -> Sequence[int]:
        """The classes in order of the mistakes that they have a part in, most first."""
        found: list[int] = np.argsort(-(self.mistakes.sum(0) + self.mistakes.sum(1)), kind="stable").tolist()
        return found

    @cached_property
    def pairs_by_count(self) -> Sequence[Pair]:
        """The most frequent mistakes, most frequent first."""
        return self._pairs(self.counts.ravel())

    @cached_property
    def pairs_by_rate(self) -> Sequence[Pair]:
        """The same, by their share of the true class."""
        return self._pairs(self.rates.ravel())

    def _pairs(self, weights: NDArray[Any]) -> Sequence[Pair]:
        at = np.flatnonzero(self.mistakes)
        best = at[np.argsort(-weights[at], kind="stable")[:_MOST_PAIRS]].tolist()
        return [
            Pair(
                cell // len(self.labels),
                cell % len(self.labels),
                int(self.counts.flat[cell]),
                float(self.rates.flat[cell]),
            )
            for cell in best
        ]

    def tell(self, cell: Cell) -> str:
        """Return what one cell says in words."""
        true, predicted = cell
        count, total = int(self.counts[true, predicted]), int(self.totals[true])
        share = f" ({100 * self.rates[true, predicted]:.1f} %)" if total else ""
        what = "recognised" if true == predicted else f"taken for {self.labels[predicted]}"
        return f"{self.labels[true]} {what}: {count} of {total}{share}"


class Matrix:
    """One drawing of a confusion matrix for a room of `width` x `height` cells.

    What matters most is kept as room gets scarce: first the margins and lists go, then digits, then the classes with
    the fewest mistakes. The class pair `cursor` is always among those drawn. `unit` says what the numbers are:
    `counts`, `per cent` of the true class, or `tenths` of it where there is no room for more than a digit.
    """

    def __init__(
        self, confusion: Confusion, width: int, height: int, *, rates: bool = False, cursor: Cell | None = None
    ) -> None:
        self.confusion, self.width, self.height, self.cursor = confusion, width, height, cursor
        self._share_width(rates)
        self._share_height()

    @property
    def left_out(self) -> int:
        """How many classes there was no room for."""
        return len(self.confusion.labels) - min(len(self.rows), len(self.columns))

    def cell_at(self, x: int, y: int) -> Cell | None:
        """Return the true and predicted class drawn at a place."""
        row = (y - self._above) // self._tall
        column = (x - self._label - 1) // (self._digits + 1)
        if 0 <= row < len(self.rows) and 0 <= column < len(self.columns):
            return self.rows[row], self.columns[column]
        return None

    # ------------------------------------------------------------------ the shares of the room

    def _share_width(self, rates: bool) -> None:
        labels, width = self.confusion.labels, self.width
        count = len(labels)
        largest = len(str(int(self.confusion.counts.max())))
        longest = max(map(cell_len, labels))
        wanted = 4 if rates else max(3, min(largest, 5))
        most = max(wanted, min(longest, _HEAD))
        name = min(longest, 3)
        fitting = [
            digits
            for digits in range(wanted, 0, -1)
            if name + 2 + count * (digits + 1) <= width and _told_apart(labels, digits)
        ]
        self._digits = fitting[0] if fitting else min(wanted, 3, max(1, width - name - 2))
        shown = count if fitting else max(1, (width - name - 2) // (self._digits + 1))
        self.columns = self._chosen(shown, self.cursor and self.cursor[1])
        # names of the classes, then the recall and the list of mistakes, then wider cells
        room = width - 2 - shown * (self._digits + 1)
        self._label = max(1, min(max(longest, len("true")), _LABEL, room))
        room -= self._label
        crowded = self.height < count + 2  # no row is left for the list of mistakes
        self._recall = room >= _MARGIN and (room >= _MARGIN + _BESIDE or not (crowded and room >= _BESIDE))
        room -= _MARGIN if self._recall else 0
        spare = room - 2 * _BESIDE
        while fitting and self._digits < most and spare >= shown:
            self._digits, spare, room = self._digits + 1, spare - shown, room - shown
        self._beside = room if room >= _BESIDE else 0
        counted = not rates and (self._digits >= 3 or largest <= self._digits)
        self.unit = "counts" if counted else "per cent" if self._digits > 1 else "tenths"

    def _share_height(self) -> None:
        count, height = len(self.confusion.labels), self.height
        below = 0 if self._beside else 1
        if height < count + 1:
            below = min(below, 1 if height >= 5 else 0)
            shown = max(0, height - 1 - below)
        else:
            shown = count
        self.rows = self._chosen(shown, self.cursor and self.cursor[0])
        rest = height - 1 - shown
        self._pairs = min(below, rest)
        rest -= self._pairs
        self._axis = rest > 0
        rest -= self._axis
        self._precision = rest > 0 and self._digits > 1
        rest -= self._precision
        if below:  # the list may grow to a few rows before the classes do
            more = min(rest, 3)
            self._pairs, rest = self._pairs + more, rest - more
        self._tall = min(_TALLEST, 1 + rest // shown) if shown else 1
        if below:
            self._pairs += rest - (self._tall - 1) * shown
        self._above = 1 + self._axis

    def _chosen(self, most: int, wanted: int | None) -> list[int]:
        """Return the `most` classes with the most mistakes, one of them `wanted`, in their own order."""
        classes = self.confusion.troubled
        if most >= len(classes):
            return list(range(len(classes)))
        found = list(classes[:most])
        if wanted is not None and found and wanted not in found:
            found[-1] = wanted
        return sorted(found)

    # ------------------------------------------------------------------ the drawing

    def strips(self, palette: Palette) -> list[Strip]:
        """Return at most `height` rows of `width` cells."""
        heads, numbered = short_labels(self.confusion.labels, self._digits)
        names = [f"{number} {text}" for number, text in enumerate(self.confusion.labels)]
        if not numbered:
            names, _ = short_labels(self.confusion.labels, self._label)
        rows: list[list[Span]] = []
        if self._axis:
            rows.append([("true ↓  predicted →", palette.muted)])
        rows.append(self._head(heads, palette))
        for true in self.rows:
            lines = [self._row(true, "", palette, told=False) for _ in range(self._tall)]
            lines[(self._tall - 1) // 2] = self._row(true, names[true], palette, told=True)
            rows += lines
        if self._precision:
            rows.append(self._foot(palette))
        if self._beside:
            rows += [[] for _ in range(self.height - len(rows))]
            self._list_beside(rows, palette)
        else:
            rows += self._list_below(palette)
        return [strip(spans, self.width, palette.text) for spans in rows[: self.height]]

    @property
    def _size(self) -> int:
        """Cells from the left to the end of the matrix itself."""
        return self._label + 1 + len(self.columns) * (self._digits + 1) + 1

    def _head(self, heads: Sequence[str], palette: Palette) -> list[Span]:
        corner = {"counts": "" if self._axis else "true", "per cent": "%", "tenths": "/10"}[self.unit]
        corner = corner if len(corner) <= self._label + 1 else ""
        spans: list[Span] = [(fit(corner, self._label + 1), palette.muted)]
        for column in self.columns:
            marked = self.cursor is not None and self.cursor[1] == column
            spans.append((" " + _right(heads[column], self._digits), palette.cursor if marked else palette.text))
        spans.append((" ", palette.text))
        if self._recall:
            spans.append((_right("recall", _MARGIN), palette.muted))
        return spans

    def _row(self, true: int, name: str, palette: Palette, *, told: bool) -> list[Span]:
        """Return one class: its name, its cells with the numbers where `told`, its recall."""
        marked = self.cursor is not None and self.cursor[0] == true
        spans: list[Span] = [(_right(name, self._label) + " ", palette.cursor if marked else palette.text)]
        before = " "  # what closes the cell to the left
        for column in self.columns:
            rate, count = float(self.confusion.rates[true, column]), int(self.confusion.counts[true, column])
            style = self._style(rate, count, true == column, palette)
            here = self.cursor == (true, column)
            signs = "><" if here else "[]" if true == column else "  "
            sign = signs[0] if signs[0] != " " else before
            before = signs[1]
            text = _right(self._number(rate, count), self._digits) if told else " " * self._digits
            if here:
                style = style + Style(reverse=True, bold=True)
            faint = style is palette.muted and sign == "]"  # belongs to the cell before, which is not faint
            spans += [(sign if told else " ", palette.text if faint else style), (text, style)]
        spans.append((before if told else " ", palette.text))
        if self._recall:
            spans.append((_right(_per_cent(self.confusion.recall[true]), _MARGIN) if told else "", palette.muted))
        return spans

    @staticmethod
    def _style(rate: float, count: int, right: bool, palette: Palette) -> Style:
        if not count:
            return palette.muted
        # the square root lets a mistake of 1 in 100 be seen beside a class that is right 98 times
        shade = min(RAMP - 1, round((RAMP - 1) * rate**0.5))
        style = palette.ramp[shade] if shade else palette.text
        return style + _BOLD if right else style

    def _number(self, rate: float, count: int) -> str:
        if not count:
            return "·"
        if self.unit == "counts":
            return short_number(count, self._digits)
        return short_rate(rate, self._digits)

    def _foot(self, palette: Palette) -> list[Span]:
        name = "precision" if self._label >= len("precision") else "prec" if self._label >= 4 else "p"
        spans: list[Span] = [(_right(name, self._label) + " ", palette.muted)]
        for column in self.columns:
            precision = float(self.confusion.precision[column])
            text = "–" if np.isnan(precision) else short_rate(precision, self._digits)
            spans.append((" " + _right(text, self._digits), palette.muted))
        if self._recall:
            spans.append((" " + _right("%", _MARGIN), palette.muted))
        return spans

    def _list_beside(self, rows: list[list[Span]], palette: Palette) -> None:
        """Add the most confused pairs to the right of the rows."""
        start = self._size + (_MARGIN if self._recall else 0)
        pairs, labels = self._most_confused, self.confusion.labels
        digits = max((len(self._weight(pair)) for pair in pairs), default=0)
        room = min(self._beside - 2, 2 * _BESIDE) - digits - 1
        texts: list[Span] = [("most confused" if pairs else "no mistakes", palette.muted)]
        for pair in pairs:
            name = f"{labels[pair.true]} as {labels[pair.predicted]}"
            if cell_len(name) > room:
                half = (room - len(" as ")) // 2
                name = f"{_cut(labels[pair.true], half)} as {_cut(labels[pair.predicted], half)}"
            here = self.cursor == (pair.true, pair.predicted)
            text = f"{fit(name, room)} {self._weight(pair):>{digits}}"
            texts.append((text, palette.cursor if here else palette.text))
        for row, span in zip(rows[self._above - 1 :], texts, strict=False):
            used = sum(cell_len(part) for part, _ in row)
            row += [(" " * (start + 2 - used), palette.text), span]

    def _list_below(self, palette: Palette) -> list[list[Span]]:
        """Return the most confused pairs, as many as fit into the rows left for them."""
        pairs = self._most_confused
        labels = self.confusion.labels
        texts = [f"{labels[pair.true]} as {labels[pair.predicted]} ({self._weight(pair)})" for pair in pairs]
        head = "most confused: " if texts else "no mistakes"
        if texts and cell_len(head + texts[0]) > self.width:
            head = ""
        rows: list[list[Span]] = [[(head, palette.muted)]]
        room = self.width - len(head)
        for text in texts:
            if room < cell_len(text) and len(rows[-1]) > 1:
                rows.append([("", palette.muted)])
                room = self.width
            rows[-1].append((f"{text}  ", palette.text))
            room -= cell_len(text) + 2
            if len(rows) > self._pairs:
                break
        return rows[: self._pairs]

    @property
    def _most_confused(self) -> Sequence[Pair]:
        return self.confusion.pairs_by_count if self.unit == "counts" else self.confusion.pairs_by_rate

    def _weight(self, pair: Pair) -> str:
        return str(pair.count) if self.unit == "counts" else f"{100 * pair.share:.1f}%"


_BOLD = Style(bold=True)


def short_number(number: int, digits: int) -> str:
    """Return a count in at most `digits` cells: 982, 12k, 3M; `9+` where even that is too long."""
    text = str(number)
    if len(text) <= digits:
        return text
    for power, unit in enumerate(_UNITS, 1):
        text = f"{round(number / 1000**power)}{unit}"
        if len(text) <= digits and not text.startswith("0"):
            return text
    return "9" * (digits - 1) + "+"


def short_rate(rate: float, digits: int) -> str:
    """Return a share in per cent in at most `digits` cells, in tenths where there is but one.

    Only what is whole reads as whole: 0.999 is 99, never 100; and only what is nothing reads as nothing.
    """
    if digits == 1:
        return str(min(9, int(10 * rate)))
    if rate >= 1:
        return "100" if digits > 2 else "99"
    percent = 100 * rate
    if digits > 3:
        return f"{min(99.9, percent):.1f}" if percent >= 0.05 or not rate else "<0.1"
    if percent >= 0.95 or not rate:
        return str(min(99, round(percent)))
    return f".{round(10 * percent)}" if percent >= 0.05 else "<.1"[-digits:]


def short_labels(labels: Sequence[str], width: int) -> tuple[list[str], bool]:
    """Return the labels in at most `width` cells, still told apart, and whether they had to become numbers."""
    first = [_cut(label, width) for label in labels]
    begin = _common_beginning(labels)
    for short in (first, [_cut(label[begin:], width) for label in labels]):
        if len(set(short)) == len(short) and all(short):
            return short, False
    if len(set(labels)) < len(labels) or len(str(len(labels) - 1)) > width:
        return first, False
    return [str(number) for number in range(len(labels))], True


def _told_apart(labels: Sequence[str], width: int) -> bool:
    """Return whether all labels that differ still do so in `width` cells."""
    return len(set(short_labels(labels, width)[0])) == len(set(labels))


def _common_beginning(labels: Sequence[str]) -> int:
    """Return how many characters all labels begin with together."""
    return next((at for at, chars in enumerate(zip(*labels, strict=False)) if len(set(chars)) > 1), 0)


def _cut(text: str, width: int) -> str:
    return text if cell_len(text) <= width else set_cell_size(text, width).rstrip()


def _right(text: str, width: int) -> str:
    """Return `text` at the right of `width` cells, cut where it is longer."""
    text = text if cell_len(text) <= width else fit(text, width) if width > 4 else _cut(text, width)
    return " " * (width - cell_len(text)) + text


def _per_cent(share: float) -> str:
    return "–" if np.isnan(share) else f"{short_rate(share, 4)}%"
