"""Axes: limits that seldom move, ticks at round numbers, labels that fit a narrow margin."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

ROUND = (1.0, 2.0, 5.0, 10.0)
INTERVALS = 5  # between the ticks that the limits of a y axis are rounded to
SLACK = 0.5  # a y axis that must grow does so by at least this share
STRIDES = (1 / 64, 1 / 16, 1 / 4, 1.0)  # of the planned end: how far an x axis reaches as a run goes on
SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200)
DAY = 86400
LARGEST = 1e100  # what is larger lies at the edge: its sums and ratios might overflow


@dataclass(frozen=True)
class Limits:
    """The two ends of an axis, `low` < `high`."""

    low: float
    high: float

    @property
    def span(self) -> float:
        """How far the ends are apart."""
        return self.high - self.low


def settle(
    previous: Limits | None,
    low: float,
    high: float,
    *,
    log: bool = False,
    lower: float = -math.inf,
    upper: float = math.inf,
) -> Limits:
    """Return round limits around the data `low`..`high`: the previous ones as long as they serve.

    Every move of an axis repaints the whole chart and loses the reader's eye. So limits stay while the data is inside
    and fills about half of them, and grow by more than is needed at once. They never pass `lower` and `upper`.
    """
    if not (math.isfinite(low) and math.isfinite(high)) or (log and low <= 0):
        begin = 0.1 if log else max(lower, 0.0)
        return previous or Limits(begin, min(upper, begin + 1.0))
    least, most = 1 / LARGEST if log else -LARGEST, LARGEST
    low, high = min(max(low, least), most), min(max(high, least), most)
    fitting = _rounded(low, high, log, lower, upper)
    if previous is None or _size(fitting, log) < _size(previous, log) / 2:
        return fitting
    if previous.low <= low and high <= previous.high:
        return previous
    slack = SLACK * _size(previous, log)
    least = previous.low if previous.low <= low else min(low, _moved(previous.low, -slack, log))
    most = previous.high if high <= previous.high else max(high, _moved(previous.high, slack, log))
    if low >= 0:
        least = max(least, 1 / LARGEST if log else 0.0)
    return _rounded(least, min(most, LARGEST), log, lower, upper)


def reach(newest: float, total: float | None, unit: "Unit", *, ended: bool) -> Limits:
    """Return the limits of an x axis that begins at 0 and must show `newest`.

    It reaches towards the planned end `total` in a few strides: so it hardly ever moves, and yet the first minutes of a
    long run are not squeezed into one column. Without a plan it is a round number, after the end of the run that end.
    """
    if ended and newest > 0:
        return Limits(0.0, newest)
    for share in STRIDES:
        if total and newest <= total * share:
            return Limits(0.0, total * share)
    return Limits(0.0, unit.step(max(newest, unit.least), 1))


def window(newest: float, size: float, *, ended: bool) -> Limits:
    """Return limits that follow the newest data: a round width of at least `size`, moved on by fifths of it."""
    size = round_step(size, 1)
    end = newest if ended else math.ceil(newest / (size / 5)) * size / 5
    return Limits(max(0.0, end - size), max(end, size))


def ticks(limits: Limits, most: int, log: bool = False) -> list[float]:
    """Return at most about `most` round numbers within the limits."""
    if log:
        first, last = math.ceil(math.log10(limits.low) - 1e-9), math.floor(math.log10(limits.high) + 1e-9)
        if last - first >= 2:
            return [10.0**power for power in range(first, last + 1, max(1, -(-(last - first) // most)))]
        found = [digit * 10.0**power for power in range(first - 1, last + 1) for digit in ROUND[:-1]]
        found = [value for value in found if limits.low * (1 - 1e-9) <= value <= limits.high * (1 + 1e-9)]
        if 2 <= len(found) <= most + 2:
            return found
        if len(found) > 2:
            tens = [10.0**power for power in range(first, last + 1)]
            return tens if len(tens) > 1 else [found[0], *tens, found[-1]]
    return multiples(limits, round_step(limits.span, most))


def multiples(limits: Limits, step: float) -> list[float]:
    """Return the multiples of `step` within the limits."""
    first, last = math.ceil(limits.low / step - 1e-6), math.floor(limits.high / step + 1e-6)
    return [number * step for number in range(first, last + 1)]


def round_step(span: float, most: int) -> float:
    """Return the smallest of 1, 2, 5 times a power of ten that is not less than `span / most`."""
    wanted = max(span / most, 1e-300)
    power = 10.0 ** math.floor(math.log10(wanted))
    return next(digit * power for digit in ROUND if digit * power >= wanted * (1 - 1e-9) or digit == ROUND[-1])


def short(value: float, digits: int = 4) -> str:
    """Return a number in few characters: 0.0123, 1.2e-5, nan."""
    text = f"{value:.{digits}g}"
    mantissa, exponent, power = text.partition("e")
    return f"{mantissa}e{int(power)}" if exponent else text


def tick_labels(values: Sequence[float], percent: bool = False) -> list[str]:
    """Return labels with as many decimals as tell the ticks apart; shares as per cent when asked to."""
    if percent:
        return [f"{label}%" for label in tick_labels([100 * value for value in values])]
    largest = max(map(abs, values), default=0.0)
    step = min((second - first for first, second in pairwise(values)), default=largest)
    parts = [value / step for value in values] if step > 0 else []
    if not parts or any(abs(part - round(part)) > 1e-6 * abs(part) for part in parts):
        return [short(value, 3) for value in values]
    if largest >= 1e5 or largest < 1e-3:
        return [short(value, 1 + math.ceil(math.log10(largest / step))) if value else "0" for value in values]
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return [f"{value:.{decimals}f}" if value else "0" for value in values]


@dataclass(frozen=True)
class Unit:
    """What an x axis counts. `step(span, most)` is a round distance of ticks, `least` the shortest axis."""

    name: str
    label: Callable[[Sequence[float]], list[str]]
    step: Callable[[float, int], float]
    least: float


def clock(seconds: float) -> str:
    """Return seconds as 0:05, 1:23 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _clocks(values: Sequence[float]) -> list[str]:
    """Return times, with parts of a second where ticks are less than one apart."""
    if all(abs(value - round(value)) < 1e-6 for value in values):
        return [clock(value) for value in values]
    return [f"{label}s" for label in tick_labels(values)]


def _counts(values: Sequence[float]) -> list[str]:
    largest = max(values, default=0.0)
    size, sign = (1e6, "M") if largest >= 1e6 else (1e3, "k") if largest >= 1e4 else (1.0, "")
    return [short(value / size, 6) + sign if value else "0" for value in values]


def _whole_step(span: float, most: int) -> float:
    return max(1.0, round_step(span, most))


def _clock_step(span: float, most: int) -> float:
    wanted = span / most
    if wanted < 1:
        return round_step(span, most)
    return next((float(step) for step in SECONDS if step >= wanted), DAY * round_step(span / DAY, most))


UNITS = {
    unit.name: unit
    for unit in (
        Unit("step", _counts, _whole_step, 10),
        Unit("time", _clocks, _clock_step, 10),
        Unit("epoch", tick_labels, round_step, 1),
    )
}


def _size(limits: Limits, log: bool) -> float:
    return math.log10(limits.high / limits.low) if log else limits.span


def _moved(value: float, distance: float, log: bool) -> float:
    return value * 10 ** min(distance, 200) if log else value + distance


def _rounded(low: float, high: float, log: bool, lower: float, upper: float) -> Limits:
    if log:
        if low == high:
            low, high = low / 2, high * 2
        return Limits(_digit_below(low), 1 / _digit_below(1 / high))
    if math.isclose(low, high, rel_tol=1e-9):
        margin = abs(low) / 2 or 0.5
        low, high = (0.0 if low >= 0 else low - margin), (high + margin if high >= 0 else 0.0)
    if 0 <= low < high / 2:
        low = 0.0
    step = round_step(high - low, INTERVALS)
    low, high = math.floor(low / step + 1e-6) * step, math.ceil(high / step - 1e-6) * step
    low, high = max(low, lower), min(high, upper)
    return Limits(low, high) if low < high else Limits(low, low + step)


def _digit_below(value: float) -> float:
    """Return the largest of 1, 2, 5 times a power of ten that is not above `value`."""
    power = 10.0 ** math.floor(math.log10(value) + 1e-9)
    return max(digit * power for digit in ROUND[:-1] if digit * power <= value * (1 + 1e-9))
