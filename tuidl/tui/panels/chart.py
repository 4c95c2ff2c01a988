"""Curves of the run: losses, accuracies, learning rate, gradient norm and the like."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import Click
from textual.message import Message
from textual.reactive import var
from textual.strip import Strip

from tuidl.tui.draw.axis import UNITS, Limits, settle
from tuidl.tui.draw.chart import Area, Axes, Marks, area, draw_chart, extent
from tuidl.tui.panels.chart_catalogue import CHARTS, ChartSpec, CurveSpec, DotsSpec
from tuidl.tui.panels.chart_data import ChartData
from tuidl.tui.panels.panel import Panel, ReadArtifact
from tuidl.tui.snapshot import Snapshot

__all__ = ["CHARTS", "ChartPanel", "ChartSpec", "ChartView", "CurveSpec", "DotsSpec"]

SMOOTHINGS = (0.0, 0.6, 0.9, 0.97, 0.99)
LEAST_STEPS = 8  # of a zoomed window
ZOOM = 2.0
PAN = 0.25  # of the window
EMPTY = Axes(Limits(0.0, 10.0), Limits(0.0, 1.0))


@dataclass(frozen=True)
class ChartView:
    """What of the x axis is shown: all charts of a run can share it. `window`, `cursor` and `anchor` are in steps.

    Without a window the whole run is shown, or its newest part with `recent`.
    """

    unit: str = "step"
    window: tuple[float, float] | None = None
    recent: bool = False
    cursor: int | None = None
    anchor: int | None = None


class ChartPanel(Panel):
    """Curves and evaluation points along a common x axis, with a cursor that reads them off."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right", "move(1)", "Cursor", key_display="←→", id="chart.right",
                tooltip="Move the cursor to the right; it begins at the newest value."),
        Binding("left", "move(-1)", "Cursor left", id="chart.left", show=False, tooltip="Move the cursor to the left."),
        Binding("m", "anchor", "Mark", id="chart.mark", tooltip="Hold on to this place and show the difference to it."),
        Binding("escape", "clear", "No cursor", id="chart.clear", tooltip="Remove the cursor."),
        Binding("s", "smooth(1)", "Smooth", id="chart.smoother", show=False, tooltip="Smooth the curves more."),
        Binding("S", "smooth(-1)", "Less smooth", id="chart.rougher", show=False, tooltip="Smooth the curves less."),
        Binding("l", "log", "Log y", id="chart.log", show=False, tooltip="Logarithmic y axis, or linear again."),
        Binding("x", "unit", "Unit", id="chart.unit", show=False, tooltip="Count x in steps, in time or in epochs."),
        Binding("f", "recent", "Recent", id="chart.recent", show=False,
                tooltip="Follow the newest tenth of the run, or show all."),
        Binding("plus,equals_sign", "zoom(1)", "Zoom", key_display="+-", id="chart.zoom_in",
                tooltip="Show half as much of x, around the cursor."),
        Binding("minus", "zoom(-1)", "Zoom out", key_display="-", id="chart.zoom_out", show=False,
                tooltip="Show twice as much of x."),
        Binding("left_square_bracket", "pan(-1)", "Earlier", key_display="[", id="chart.earlier", show=False,
                tooltip="Move the zoomed window to the left."),
        Binding("right_square_bracket", "pan(1)", "Later", key_display="]", id="chart.later", show=False,
                tooltip="Move the zoomed window to the right."),
        Binding("0", "reset", "All", id="chart.reset", tooltip="Show the whole run."),
        Binding("home", "jump(False)", "First", id="chart.first", show=False, tooltip="Cursor to the first step."),
        Binding("end", "jump(True)", "Newest", id="chart.newest", show=False, tooltip="Cursor to the newest step."),
        Binding("n", "next_marked", "Next mark", id="chart.next", show=False,
                tooltip="Cursor to the next change of a setting or value that is not finite."),
        Binding("p", "extreme(False)", "Lowest", id="chart.lowest", show=False,
                tooltip="Cursor to the lowest value in sight; again for that of the next curve."),
        Binding("P", "extreme(True)", "Highest", id="chart.highest", show=False,
                tooltip="Cursor to the highest value in sight; again for that of the next curve."),
    ]  # fmt: skip

    view = var(ChartView(), init=False)
    smoothing = var(0.9, init=False)
    log_y = var(False, init=False)

    class ViewChanged(Message):
        """The user has changed what is shown, or how."""

        def __init__(self, panel: "ChartPanel") -> None:
            super().__init__()
            self.panel = panel

    def __init__(self, read_artifact: ReadArtifact, spec: ChartSpec, *, id: str) -> None:
        super().__init__(read_artifact, id=id)
        self.spec = spec
        self.TITLE, self.ABOUT = spec.title, spec.about  # type: ignore[misc]  # one class, many charts
        self.border_title = Content(spec.title)
        self.set_reactive(ChartPanel.log_y, spec.log_y)
        self._data: ChartData | None = None
        self._x = EMPTY.x
        self._y: Limits | None = None
        self._plot = Area(0, 0, 1, 1)
        self._seen: tuple[Any, ...] = ()
        self._subtitle = Content("")

    @property
    def x_axis(self) -> str:
        """What x counts: `step`, `time` or `epoch`."""
        return self.view.unit

    @x_axis.setter
    def x_axis(self, unit: str) -> None:
        self.view = replace(self.view, unit=unit if unit in UNITS else "step")

    def follow(self, other: "ChartPanel") -> None:
        """Show the same stretch of x, cursor and smoothing as another chart; log y is each chart's own."""
        self.view, self.smoothing = other.view, other.smoothing

    def show(self, snapshot: Snapshot) -> None:
        """Take what is new and repaint the rows that it changed."""
        seen = (
            snapshot.history, snapshot.history.version, snapshot.state, snapshot.steps_per_epoch, len(snapshot.changes),
            snapshot.status and snapshot.status.total_steps,
            *(len(points.steps) for dots in self.spec.dots if (points := snapshot.points.get(dots.metric))),
        )  # fmt: skip
        if seen == self._seen:
            self.snapshot = snapshot
            return
        self._seen = seen
        super().show(snapshot)

    def paint(self, width: int, height: int) -> Sequence[Strip]:
        """Return the chart."""
        if self.snapshot is None:
            return draw_chart((), EMPTY, width, height, self.palette)
        view = self.view
        data = self._data = ChartData(self.spec, self.snapshot, view.unit, self.smoothing)
        series = data.series(view.cursor, view.anchor)
        self._x = self._limits(data)
        lowest, highest = extent(series, self._x, self.log_y)
        self._y = settle(self._y, lowest, highest, log=self.log_y, lower=self.spec.lower, upper=self.spec.upper)
        axes = Axes(self._x, self._y, view.unit, self.log_y, self.spec.percent)
        self._plot = area(width, height, axes)
        return draw_chart(series, axes, width, height, self.palette, self._marks(data, nothing=math.isnan(lowest)))

    def _limits(self, data: ChartData) -> Limits:
        if self.view.window:
            return data.between(*self.view.window)
        return data.recent() if self.view.recent else data.whole()

    def _marks(self, data: ChartData, nothing: bool) -> Marks:
        place, view, changes = data.ruler.place, self.view, data.snapshot.changes
        note = ""
        if view.cursor is not None and self.has_focus:
            column = self._plot.column(place(view.cursor), self._x)
            beside = [change for change in changes if self._plot.column(place(change.step), self._x) == column]
            note = data.note(view.cursor, view.anchor, beside)
        empty = ""
        if nothing:
            known = data.curves or data.measured
            empty = "nothing above 0 here" if known and self.log_y else "nothing here" if known else "no values yet"
        return Marks(
            changes=[place(change.step) for change in changes],
            broken=sorted({place(step) for step, _ in data.broken}),
            newest=data.newest_place,
            cursor=None if view.cursor is None else place(view.cursor),
            anchor=None if view.anchor is None else place(view.anchor),
            full=self.has_focus,
            note=note,
            empty=empty,
        )

    # ---------------------------------------------------------------- what changes the look

    def watch_view(self, before: ChartView, view: ChartView) -> None:
        """Repaint; on a stretch of x that was chosen, y fits at once."""
        if (before.unit, before.window, before.recent) != (view.unit, view.window, view.recent):
            self._y = None
        self._tell()
        self.redraw()
        if (before.cursor is None, before.window, before.recent) != (view.cursor is None, view.window, view.recent):
            self.refresh_bindings()

    def watch_smoothing(self) -> None:
        """Repaint."""
        self._tell()
        self.redraw()

    def watch_log_y(self) -> None:
        """Repaint with y limits of the new scale."""
        self._y = None
        self._tell()
        self.redraw()

    def watch_has_focus(self, focus: bool) -> None:
        """Repaint: the cursor stands out in the chart that has the focus."""
        super().watch_has_focus(focus)
        if self.view.cursor is not None:
            self.redraw()

    def on_mount(self) -> None:
        """Say how the curves are shown."""
        self._tell()

    def _tell(self) -> None:
        """Say at the lower border what is not as usual."""
        told = [
            f"smoothed {self.smoothing:g}" if self.smoothing and self.spec.smooth and self.spec.curves else "",
            "log y" if self.log_y else "",
            "zoomed" if self.view.window else "recent" if self.view.recent else "",
        ]
        subtitle = Content(" · ".join(filter(None, told)))
        if subtitle != self._subtitle:
            self._subtitle = self.border_subtitle = subtitle

    # ---------------------------------------------------------------- keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer what can be done now; other keys go on to the screen."""
        if action in ("anchor", "clear"):
            return self.view.cursor is not None
        if action == "pan":
            return self.view.window is not None
        if action == "reset":
            return self.view.window is not None or self.view.recent
        if action == "smooth":
            return self.spec.smooth and bool(self.spec.curves)
        return True

    def _look(self, **changes: Any) -> None:
        """Change the view and tell it."""
        self.view = replace(self.view, **changes)
        self.post_message(self.ViewChanged(self))

    def _window(self, low: float, high: float) -> dict[str, Any]:
        """Return the changes of the view that show these steps, or all where that is everything."""
        assert self._data is not None
        end = self._data.ruler.step(self._data.whole().high)
        size = min(high - low, end)
        low = min(max(low, 0.0), end - size)
        whole = low <= 0 and size >= end
        return {"window": None if whole else (low, low + size), "recent": False}

    def _shown(self, data: ChartData) -> tuple[float, float]:
        """Return the steps at the ends of the x axis."""
        low, high = self.view.window or (data.ruler.step(self._x.low), data.ruler.step(self._x.high))
        return low, max(high, low + 1)

    def _go(self, step: int) -> None:
        """Put the cursor on a step, and bring it into sight."""
        if self._data is None:
            return
        changes: dict[str, Any] = {"cursor": step}
        place = self._data.ruler.place(step)
        if not self._x.low <= place <= self._x.high:
            low, high = self._shown(self._data)
            half = (high - low) / 2
            changes |= self._window(step - half, step + half)
        self._look(**changes)

    def action_move(self, direction: int) -> None:
        """Move the cursor by a column, but at least by one step that is known."""
        data = self._data
        if data is None or not len(data.ruler.steps):
            return
        steps, cursor = data.ruler.steps, self.view.cursor
        if cursor is None:
            self._go(int(steps[-1]))
            return
        index = data.ruler.index(cursor)
        target = data.ruler.index(
            data.ruler.step(data.ruler.place(cursor) + direction * self._x.span / self._plot.width)
        )
        target = max(index + 1, target) if direction > 0 else min(index - 1, target)
        self._go(int(steps[min(max(target, 0), len(steps) - 1)]))

    def action_jump(self, newest: bool) -> None:
        """Move the cursor to an end of the data."""
        if self._data is not None and len(self._data.ruler.steps):
            self._go(int(self._data.ruler.steps[-1 if newest else 0]))

    def action_next_marked(self) -> None:
        """Move the cursor to the next mark, from the last to the first."""
        marked = self._data.marked_steps() if self._data else []
        if marked:
            cursor = -1 if self.view.cursor is None else self.view.cursor
            self._go(next((step for step in marked if step > cursor), marked[0]))

    def action_extreme(self, largest: bool) -> None:
        """Move the cursor to the lowest or highest value in sight, of one series after the other."""
        found = self._data.extreme_steps(self._x, largest) if self._data else []
        if found:
            cursor = self.view.cursor
            self._go(found[(found.index(cursor) + 1) % len(found) if cursor in found else 0])

    def action_anchor(self) -> None:
        """Hold on to the cursor's place."""
        self._look(anchor=self.view.cursor)

    def action_clear(self) -> None:
        """Remove both cursors."""
        self._look(cursor=None, anchor=None)

    def action_smooth(self, direction: int) -> None:
        """Smooth more or less."""
        further = [factor for factor in SMOOTHINGS if (factor - self.smoothing) * direction > 0]
        if further:
            self.smoothing = min(further) if direction > 0 else max(further)
            self.post_message(self.ViewChanged(self))

    def action_log(self) -> None:
        """Change between a linear and a logarithmic y axis."""
        self.log_y = not self.log_y
        self.post_message(self.ViewChanged(self))

    def action_unit(self) -> None:
        """Count x in the next unit."""
        units = list(UNITS)
        self._look(unit=units[(units.index(self.view.unit) + 1) % len(units)])

    def action_recent(self) -> None:
        """Follow the newest part, or show the whole run."""
        self._look(recent=not self.view.recent, window=None)

    def action_reset(self) -> None:
        """Show the whole run."""
        self._look(recent=False, window=None)

    def action_zoom(self, direction: int) -> None:
        """Show less or more of x; what the cursor or else the newest value stands on stays where it is."""
        if self._data is None:
            return
        low, high = self._shown(self._data)
        size = max((high - low) * ZOOM**-direction, LEAST_STEPS)
        fixed = self._data.newest if self.view.cursor is None else self.view.cursor
        around = min(max(float(fixed), low), high)
        share = (around - low) / (high - low)
        self._look(**self._window(around - share * size, around + (1 - share) * size))

    def action_pan(self, direction: int) -> None:
        """Move the window."""
        if self.view.window:
            low, high = self.view.window
            shift = direction * PAN * (high - low)
            self._look(**self._window(low + shift, high + shift))

    def on_click(self, event: Click) -> None:
        """Put the cursor under the mouse."""
        place = event.get_content_offset(self)
        if place is None or self._data is None or not len(self._data.ruler.steps):
            return
        column = place.x - self._plot.left
        if 0 <= column < self._plot.width:
            at = self._x.low + (column + 0.5) / self._plot.width * self._x.span
            index = self._data.ruler.index(self._data.ruler.step(at))
            self._go(int(self._data.ruler.steps[min(index, len(self._data.ruler.steps) - 1)]))
