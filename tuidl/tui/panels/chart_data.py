"""What a chart shows of a snapshot, and what its values are at the cursor."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuidl.text import clean
from tuidl.tui.draw.axis import UNITS, Limits, clock, reach, short, window
from tuidl.tui.draw.chart import Curve, Dots, Thin
from tuidl.tui.draw.ruler import LARGEST, Ruler
from tuidl.tui.history import Floats
from tuidl.tui.panels.chart_catalogue import ChartSpec, CurveSpec, DotsSpec
from tuidl.tui.snapshot import Change, Points, Snapshot

RECENT_SHARE, RECENT_STEPS = 0.1, 200  # the recent window: so much of the run, at least so many steps
_NONE = "–"
LONGEST_VALUE = 30  # characters of a changed setting


@dataclass(frozen=True)
class Measured:
    """The values of a metric of the evaluations."""

    spec: DotsSpec
    steps: NDArray[np.int64]
    elapsed: NDArray[np.float64]
    values: NDArray[np.float64]

    def at(self, step: int | None) -> float | None:
        """Return the newest value at or before a step, at all without one; None where none is."""
        count = len(self.steps) if step is None else int(np.searchsorted(self.steps, step, side="right"))
        return float(self.values[count - 1]) if count else None


class ChartData:
    """The values of one snapshot along the x axis `unit`."""

    def __init__(self, spec: ChartSpec, snapshot: Snapshot, unit: str, smoothing: float) -> None:
        self.spec, self.snapshot, self.unit = spec, snapshot, unit
        self.smoothing = smoothing if spec.smooth else 0.0
        self.history = snapshot.history
        names = self.history.names
        self.curves = [curve for curve in spec.curves if curve.column in names]
        self.measured = [
            Measured(
                dots,
                np.array([min(step, LARGEST) for step in points.steps]),
                np.array(points.elapsed),
                np.array(points.values),
            )
            for dots in spec.dots
            if (points := snapshot.points.get(dots.metric, Points())).steps
        ]
        self.length = self.history.length
        steps, elapsed = self.history.steps[: self.length], self.history.elapsed[: self.length]
        if not self.length and self.measured:
            longest = max(self.measured, key=lambda metric: len(metric.steps))
            steps, elapsed = longest.steps.astype(np.int32), longest.elapsed.astype(np.float32)
        self.ruler = Ruler(unit, steps, elapsed, snapshot.steps_per_epoch)
        self.broken = self._broken()

    @property
    def newest(self) -> int:
        """The newest step, 0 without any."""
        last = [int(metric.steps[-1]) for metric in self.measured]
        return max([*last, *self.ruler.steps[-1:].tolist()], default=0)

    @property
    def newest_place(self) -> float:
        """Where on the x axis the data ends."""
        last = [float(self.ruler.places(metric.steps[-1:], metric.elapsed[-1:])[0]) for metric in self.measured]
        places = [place for place in last if math.isfinite(place)]
        if len(self.ruler.steps):
            places.append(self.ruler.place(int(self.ruler.steps[-1])))
        return max(places, default=0.0)

    def whole(self) -> Limits:
        """Return limits of x that hold the whole run."""
        status = self.snapshot.status
        total = status.total_steps if status and self.unit != "time" else None
        ended = not self.snapshot.live
        return reach(self.newest_place, self.ruler.place(total) if total else None, UNITS[self.unit], ended=ended)

    def recent(self) -> Limits:
        """Return limits of x that follow the newest data."""
        place = self.newest_place
        least = place * RECENT_STEPS / max(self.newest, RECENT_STEPS)
        return window(place, max(RECENT_SHARE * place, least, 1e-3), ended=not self.snapshot.live)

    def between(self, first: float, last: float) -> Limits:
        """Return limits of x from one step to another."""
        low, high = self.ruler.place(first), self.ruler.place(last)
        return Limits(low, max(high, low + 1e-3))

    def series(self, cursor: int | None, anchor: int | None) -> list[Curve | Dots]:
        """Return all that is drawn, each with its value at the cursor, else its newest."""
        found: list[Curve | Dots] = []
        for curve in self.curves:
            behind = self._thin(curve.column, 0.0) if self.smoothing else None
            line = self._thin(curve.column, self.smoothing)
            found.append(Curve(curve.label, curve.role, line, behind, self._curve_readings(curve, cursor, anchor)))
        for metric in self.measured:
            places = self.ruler.places(metric.steps, metric.elapsed)
            readings = self._readings(metric.at(cursor), None if anchor is None else metric.at(anchor))
            found.append(Dots(metric.spec.label, metric.spec.role, places, metric.values, readings))
        return found

    def marked_steps(self) -> list[int]:
        """Return the steps at which something is marked: a change, or a value that is not finite."""
        return sorted({change.step for change in self.snapshot.changes} | {step for step, _ in self.broken})

    def extreme_steps(self, limits: Limits, largest: bool) -> list[int]:
        """Return, for each series, the step of its smallest or largest unsmoothed value within the limits."""
        found: list[tuple[NDArray[Any], NDArray[Any]]] = []
        first, last = self.ruler.indices(np.array([limits.low, limits.high]))
        if self.length:
            steps = self.ruler.steps[first:last]
            found += [(steps, self.history.column(curve.column)[first:last]) for curve in self.curves]
        for metric in self.measured:
            places = self.ruler.places(metric.steps, metric.elapsed)
            inside = (places >= limits.low) & (places <= limits.high)
            found.append((metric.steps[inside], metric.values[inside]))
        best = []
        for steps, values in found:
            finite = np.flatnonzero(np.isfinite(values))
            if len(finite):
                at = values[finite].argmax() if largest else values[finite].argmin()
                best.append(int(steps[finite[at]]))
        return list(dict.fromkeys(best))

    def note(self, cursor: int, anchor: int | None, changes: Sequence[Change]) -> str:
        """Return in words where the cursor stands."""
        epoch = cursor / self.snapshot.steps_per_epoch
        parts = [f"step {cursor}", f"epoch {short(epoch, 3)}"]
        index = min(self.ruler.index(cursor), len(self.ruler.steps) - 1)
        if index >= 0:
            parts.append(clock(float(self.ruler.elapsed[index])))
        if anchor is not None:
            parts.append(f"Δ {cursor - anchor:+d} steps")
        parts += [f"{clean(change.key, limit=60)} {_told(change.before)}→{_told(change.after)}" for change in changes]
        return " · ".join(filter(None, parts))

    def _broken(self) -> dict[tuple[int, str], float]:
        """Return what is not finite, by step and name."""
        columns = {curve.column for curve in self.curves}
        found = {(step, name): value for step, name, value in self.history.broken if name in columns}
        for metric in self.measured:
            for at in np.flatnonzero(~np.isfinite(metric.values)).tolist():
                found[int(metric.steps[at]), metric.spec.metric] = float(metric.values[at])
        return found

    def _thin(self, column: str, smoothing: float) -> Thin:
        return lambda edges: self.history.extremes(column, self.ruler.indices(edges), smoothing)

    def _curve_readings(self, curve: CurveSpec, cursor: int | None, anchor: int | None) -> tuple[str, ...]:
        if not self.length:
            return ()
        value = self._value(curve.column, cursor)
        readings = self._readings(value, None if anchor is None else self._value(curve.column, anchor))
        if cursor is not None and anchor is None and self.smoothing:
            raw = self._at(self.history.column(curve.column), cursor)
            return (f"{readings[0]} (raw {self._number(raw, 4)})", *readings)
        return readings

    def _readings(self, value: float | None, before: float | None) -> tuple[str, ...]:
        """Return a value in words, the longest first, and what it differs from one before."""
        if value is None:
            return (_NONE,)
        full, brief = self._number(value, 4), self._number(value, 3)
        if before is None:
            return full, brief
        sign = "+" if value > before else ""
        difference = f"Δ {sign}{self._number(value - before, 3)}"
        return f"{full} ({difference})", f"{brief} {difference}", difference

    def _value(self, column: str, step: int | None) -> float:
        """Return the smoothed value at a step, at the newest without one; what is not finite as it is."""
        index = self.length - 1 if step is None else min(self.ruler.index(step), self.length - 1)
        broken = self.broken.get((int(self.ruler.steps[index]), column))
        return self._at(self.history.smoothed(column, self.smoothing), step) if broken is None else broken

    def _at(self, values: Floats, step: int | None) -> float:
        """Return the value at a step, at the newest without one. The run may have gone back meanwhile."""
        last = min(self.length, len(values)) - 1
        return float(values[last if step is None else min(self.ruler.index(step), last)])

    def _number(self, value: float, digits: int) -> str:
        if self.spec.percent and math.isfinite(value):
            return f"{100 * value:.{digits - 2}f}%"
        return short(value, digits)


def _told(value: object) -> str:
    return short(value) if isinstance(value, float) else clean(str(value), limit=LONGEST_VALUE)
