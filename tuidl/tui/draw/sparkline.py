"""A curve in a single row of cells, to tell rising from falling at a glance."""

import math
from collections.abc import Sequence
from itertools import pairwise

LEVELS = "▁▂▃▄▅▆▇"  # without the full block, so that the curves of neighbouring rows stay apart
NOT_FINITE = "×"


def sparkline(values: Sequence[float], width: int) -> str:
    """Return at most `width` characters: one for each value, or for each run of values where there are too many.

    A flat curve lies in the middle. A value that is not finite is drawn as `×`, whatever else shares its cell.
    """
    if width < 1 or not values:
        return ""
    kept = thin(values, width)
    finite = [value for value in kept if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    return "".join(_character(value, low, high) for value in kept)


def thin(values: Sequence[float], width: int) -> list[float]:
    """Return at most `width` values. Of those that fall together the one farthest from the median stays.

    So a single spike is never lost, and neither is a value that is not finite.
    """
    if len(values) <= width:
        return list(values)
    finite = sorted(value for value in values if math.isfinite(value))
    middle = finite[len(finite) // 2] if finite else 0.0
    edges = [index * len(values) // width for index in range(width + 1)]
    return [
        max(values[start:end], key=lambda value: abs(value - middle) if math.isfinite(value) else math.inf)
        for start, end in pairwise(edges)
    ]


def _character(value: float, low: float, high: float) -> str:
    if not math.isfinite(value):
        return NOT_FINITE
    if high == low:
        return LEVELS[len(LEVELS) // 2]
    position = (value / 2 - low / 2) / (high / 2 - low / 2)  # halved, as the range of large numbers may overflow
    return LEVELS[min(len(LEVELS) - 1, int(position * len(LEVELS)))]
