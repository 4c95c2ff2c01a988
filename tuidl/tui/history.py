"""The metrics of every step of a run, kept so that a chart costs the same at a thousand and at a million steps."""

import threading
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tuidl.runs import MetricsBlock

Floats = NDArray[np.float32]
Indices = NDArray[np.integer[Any]]

FACTOR = 16  # values in a block of a pyramid's next level
BLOCKS_A_PIXEL = 4  # a level may be drawn when each pixel has at least so many of its blocks
MOST_COLUMNS = 64  # a damaged or hostile file must not fill the memory
MOST_BROKEN = 100  # values that are not finite, remembered for each column
_FIRST_CAPACITY = 1024
_LAST_STEP = 2**31 - 1
_LONGEST = 1e12  # seconds
_CHUNK = 65_536  # values smoothed at a time, so that they stay in the processor's cache
_NEGLIGIBLE = 1e-12  # a weight too small to matter in float32


class Broken(NamedTuple):
    """A value that is not finite."""

    step: int
    name: str
    value: float


class History:
    """The step metrics of a run as growing columns, in order of steps.

    One thread appends; others may read at the same time. Read `length` once and use it for a whole drawing: what comes
    later stays out of the way behind it. Steps may be missing where records were lost, and a column may begin late: it
    is NaN before. Values that are not finite are NaN in the columns and listed in `broken`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._steps = np.empty(_FIRST_CAPACITY, np.int32)
        self._elapsed = np.empty(_FIRST_CAPACITY, np.float32)
        self._columns: dict[str, Floats] = {}
        self._pyramids: dict[str, _Pyramid] = {}
        self._averages: dict[str, tuple[_Average, _Pyramid]] = {}  # of each column with the factor asked for last
        self._broken: dict[str, list[Broken]] = {}
        self._length = 0
        self.version = 0  # grows with every block, also where one replaces another of the same length

    @property
    def length(self) -> int:
        """How many steps are known."""
        return self._length

    @property
    def names(self) -> tuple[str, ...]:
        """The columns, in the order in which they appeared."""
        return tuple(self._columns)

    @property
    def steps(self) -> NDArray[np.int32]:
        """The number of each step, growing."""
        return self._steps[: self._length]

    @property
    def elapsed(self) -> Floats:
        """Seconds of training at each step, never falling."""
        return self._elapsed[: self._length]

    @property
    def broken(self) -> list[Broken]:
        """The values that are not finite, by step; at most the first `MOST_BROKEN` of each column."""
        with self._lock:
            return sorted(entry for entries in self._broken.values() for entry in entries)

    def column(self, name: str) -> Floats:
        """Return the values of a column. Raises KeyError."""
        return self._columns[name][: self._length]

    def append(self, block: MetricsBlock) -> None:
        """Take over a block. It replaces steps known already and all after them: a resumed run goes on from there.

        A block beyond step 2³¹ is left out.
        """
        first, count = block.first_step, block.count
        if first + count - 1 > _LAST_STEP:
            return
        with self._lock:
            start = self._length
            if start and first <= self._steps[start - 1]:
                start = int(np.searchsorted(self.steps, np.int32(first)))
                self._cut(start, first)
            end = start + count
            self._reserve(start, end)
            self._steps[start:end] = np.arange(first, first + count)
            self._elapsed[start:end] = self._seconds(start, count, block.elapsed)
            for name in block.columns:
                if name not in self._columns and len(self._columns) < MOST_COLUMNS:
                    self._columns[name] = np.full(len(self._steps), np.nan, np.float32)
            for name, column in self._columns.items():
                values = block.columns.get(name)
                column[start:end] = np.nan if values is None else self._sound(name, first, values)
            self._length = end
            self.version += 1

    def extremes(self, name: str, edges: Indices, smoothing: float = 0.0) -> tuple[Floats, Floats]:
        """Return the lowest and the highest value of a column between each two neighbouring `edges`; NaN where none is.

        `edges` are indices that never fall, one more than there are pixels. No value between the first and the last
        edge is lost, but it may fall to a neighbouring pixel, by at most a quarter of a usual one. With `smoothing`
        the values are those of `smoothed`.
        """
        with self._lock:
            if smoothing:
                average, pyramid = self._averaged(name, smoothing)
                values = average.values[: self._length]
            else:
                values = self.column(name)
                pyramid = self._pyramids.setdefault(name, _Pyramid())
            pyramid.update(values)
            return pyramid.extremes(values, np.clip(edges, 0, len(values)))

    def smoothed(self, name: str, factor: float) -> Floats:
        """Return the moving average of a column in which each value weighs `factor` (0..0.999) times its successor.

        The weights always add up to 1, also at the start. NaN is skipped: the average stands still there.
        """
        with self._lock:
            if not factor:
                return self.column(name)
            return self._averaged(name, factor)[0].values[: self._length]

    def _averaged(self, name: str, factor: float) -> "tuple[_Average, _Pyramid]":
        found = self._averages.get(name)
        if found is None or found[0].factor != factor:
            found = self._averages[name] = (_Average(factor), _Pyramid())
        found[0].update(self.column(name))
        return found

    def _reserve(self, length: int, needed: int) -> None:
        self._steps = _grown(self._steps, length, needed)
        self._elapsed = _grown(self._elapsed, length, needed)
        for name, column in self._columns.items():
            self._columns[name] = _grown(column, length, needed)

    def _seconds(self, start: int, count: int, ends: tuple[float, float]) -> Floats:
        """Return the seconds at each step of a block, spread evenly; an impossible time is that of the step before."""
        before = float(self._elapsed[start - 1]) if start else 0.0
        first, last = (seconds if abs(seconds) < _LONGEST else before for seconds in ends)
        inside = np.linspace(first, last, count) if count > 1 else np.array([last])
        return np.maximum.accumulate(np.maximum(inside.astype(np.float32), np.float32(before)))

    def _sound(self, name: str, first: int, values: Any) -> Floats:
        """Return `values` with NaN for all that is not finite, and note where that is."""
        found = np.frombuffer(values, np.float32)
        finite = np.isfinite(found)
        if finite.all():
            return found
        noted = self._broken.setdefault(name, [])
        for at in np.flatnonzero(~finite)[: MOST_BROKEN - len(noted)].tolist():
            noted.append(Broken(first + at, name, float(found[at])))
        return np.where(finite, found, np.float32(np.nan))

    def _cut(self, length: int, step: int) -> None:
        """Forget what follows from the values from `step` on, which is the step at index `length`."""
        for pyramid in self._pyramids.values():
            pyramid.cut(length)
        for name, (average, pyramid) in self._averages.items():
            average.cut(self._columns[name][:length])
            pyramid.cut(length)
        for name, entries in self._broken.items():
            self._broken[name] = [entry for entry in entries if entry.step < step]


class _Pyramid:
    """Lowest and highest value of each block of 16, 256, 4096, ... values, kept up as values are added."""

    def __init__(self) -> None:
        self._levels: list[tuple[Floats, Floats]] = []
        self._seen = 0  # values that are in it

    def cut(self, length: int) -> None:
        """Forget the values from `length` on."""
        self._seen = min(self._seen, length)

    def update(self, values: Floats) -> None:
        """Take in what is new in `values`, which begin with all that was seen before."""
        begin, low, high = self._seen, values, values
        if begin == len(values):
            return
        for level in range(64):
            if len(low) <= FACTOR:
                break
            if level == len(self._levels):
                self._levels.append((np.empty(0, np.float32), np.empty(0, np.float32)))
                begin = 0
            lows, highs = self._levels[level]
            first, count = begin // FACTOR, -(-len(low) // FACTOR)
            lows, highs = _grown(lows, first, count), _grown(highs, first, count)
            starts = np.arange(first * FACTOR, len(low), FACTOR)
            lows[first:count] = np.fmin.reduceat(low, starts)
            highs[first:count] = np.fmax.reduceat(high, starts)
            self._levels[level] = lows, highs
            begin, low, high = first, lows[:count], highs[:count]
        self._seen = len(values)

    def extremes(self, values: Floats, edges: Indices) -> tuple[Floats, Floats]:
        """Return the extremes between `edges`, from the highest level whose blocks are small beside a pixel."""
        widths = np.diff(edges)
        usual = np.median(widths[widths > 0]) if widths.any() else 0
        level, size = 0, 1
        while level < len(self._levels) and size * FACTOR * BLOCKS_A_PIXEL <= usual:
            level, size = level + 1, size * FACTOR
        low, high = self._levels[level - 1] if level else (values, values)
        at = -(-edges // size)  # a block belongs to the pixel in which it starts,
        at[0] = edges[0] // size  # but one cut by the first edge to the first pixel
        end = int(at[-1])
        empty = at[:-1] >= at[1:]
        if empty.all():
            return np.full(len(empty), np.nan, np.float32), np.full(len(empty), np.nan, np.float32)
        starts = np.minimum(at[:-1], end - 1)
        lowest, highest = np.fmin.reduceat(low[:end], starts), np.fmax.reduceat(high[:end], starts)
        lowest[empty] = highest[empty] = np.nan
        return lowest, highest


class _Average:
    """An exponential moving average that grows with its column."""

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self.values = np.empty(0, np.float32)
        self._seen = 0
        self._count = 0  # finite values seen
        self._sum = 0.0  # of all finite values, each weighing (1 − factor)·factorᵃ at age a

    def cut(self, column: Floats) -> None:
        """Forget what came after the end of `column`."""
        if self._seen > len(column):
            self._seen = len(column)
            self._count = int(np.isfinite(column).sum())
            self._sum = float(self.values[self._seen - 1]) * self._weight(self._count) if self._count else 0.0

    def update(self, column: Floats) -> None:
        """Take in what is new in `column`."""
        self.values = _grown(self.values, self._seen, len(column))
        while self._seen < len(column):
            new = column[self._seen : self._seen + _CHUNK]
            finite = np.isfinite(new)
            before = self.values[self._seen - 1] if self._seen else np.float32(np.nan)
            averages = np.concatenate(([before], self._continued(new[finite].astype(np.float64))))
            self.values[self._seen : self._seen + len(new)] = averages[np.cumsum(finite)]
            self._seen += len(new)

    def _continued(self, new: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the averages at `new`, by doubling the reach of the sums until what is further back has no weight."""
        if not len(new):
            return new
        sums = (1 - self.factor) * new
        sums[0] += self.factor * self._sum
        reach, weight = 1, self.factor
        while reach < len(sums) and weight > _NEGLIGIBLE:
            sums[reach:] += weight * sums[:-reach]
            reach, weight = 2 * reach, weight * weight
        self._sum = float(sums[-1])
        counts = np.arange(self._count + 1, self._count + len(new) + 1)
        self._count += len(new)
        if self.factor ** int(counts[0]) > _NEGLIGIBLE:
            sums /= self._weight(counts)
        return sums

    def _weight(self, count: Any) -> Any:
        """Return the sum of the weights of `count` values."""
        return -np.expm1(count * np.log(self.factor))


def _grown(array: NDArray[Any], length: int, needed: int) -> NDArray[Any]:
    """Return `array`, or one at least twice as long that begins with its first `length` values, to hold `needed`.

    Doubling makes many small additions cost no more than one large one; who still reads the old array is not disturbed.
    """
    if needed <= len(array):
        return array
    larger = np.empty(max(needed, 2 * len(array)), array.dtype)
    larger[:length] = array[:length]
    return larger
