"""The chart panel, driven by its keys."""

import dataclasses
from array import array

import numpy as np
import pytest
from textual.app import App, ComposeResult
from textual.containers import Horizontal

from tuidl.runs import MetricsBlock, Status
from tuidl.tui.draw.axis import Limits
from tuidl.tui.history import History
from tuidl.tui.panels.chart import CHARTS, ChartPanel, ChartSpec, ChartView
from tuidl.tui.panels.chart_catalogue import CurveSpec
from tuidl.tui.snapshot import Change, Points, Snapshot

TOTAL, PER_EPOCH = 1000, 100


def read_artifact(artifact):
    raise AssertionError("a chart reads no artifact")


def snapshot_of(steps: int = 400, state: str = "running", **fields) -> Snapshot:
    """A run that falls from 2 towards 0, 10 steps a second, with an evaluation at each epoch."""
    x = np.arange(1, steps + 1)
    history = History()
    if steps:
        columns = {"loss": 2 * np.exp(-x / 300), "accuracy": x / (x + 100), "lr": x / 1000, "grad_norm": 1 + x % 2}
        packed = {name: array("f", values.tolist()) for name, values in columns.items()}
        history.append(MetricsBlock(1, steps, (0.1, steps / 10), packed))
    ends = tuple(range(PER_EPOCH, steps + 1, PER_EPOCH))
    points = {
        "val_loss": Points(ends, tuple(end / 10 for end in ends), tuple(3 - end / 200 for end in ends)),
        "val_accuracy": Points(ends, tuple(end / 10 for end in ends), tuple(end / (end + 150) for end in ends)),
    }
    given = {
        "name": "run", "directory": "", "spec": None, "facts": {"steps_per_epoch": PER_EPOCH},
        "status": Status(state="running", total_steps=TOTAL), "state": state, "history": history, "points": points,
        "changes": (Change(150, 15.0, "optimizer.lr", 0.1, 0.01),), **fields,
    }  # fmt: skip
    return Snapshot(**given)


class Charts(App[None]):
    def __init__(self, specs: list[ChartSpec]) -> None:
        super().__init__()
        self.specs, self.told = specs, 0

    def compose(self) -> ComposeResult:
        with Horizontal():
            for number, spec in enumerate(self.specs):
                yield ChartPanel(read_artifact, spec, id=f"chart{number}")

    def on_chart_panel_view_changed(self, event: ChartPanel.ViewChanged) -> None:
        self.told += 1
        for chart in self.query(ChartPanel):
            if chart is not event.panel:
                chart.follow(event.panel)


@pytest.fixture
def charts():
    """Opens an app with charts that show a snapshot, the first one in focus."""

    class Opened:
        def __init__(self, *names, snapshot=None, size=(80, 16)):
            self.app = Charts([CHARTS[name] for name in names or ("loss",)])
            self.snapshot = snapshot or snapshot_of()
            self.run = self.app.run_test(size=size)

        async def __aenter__(self):
            self.pilot = await self.run.__aenter__()
            for panel in self.panels:
                panel.show(self.snapshot)
            self.panel.focus()
            await self.pilot.pause()
            return self

        async def __aexit__(self, *error):
            await self.run.__aexit__(*error)

        @property
        def panels(self):
            return list(self.app.query(ChartPanel))

        @property
        def panel(self):
            return self.panels[0]

        async def press(self, *keys):
            await self.pilot.press(*keys)
            await self.pilot.pause()

        def rows(self, number=0):
            panel = self.panels[number]
            return [panel.render_line(y).text for y in range(panel.content_size.height)]

    return Opened


async def test_shows_the_curve_the_evaluations_and_the_change(charts):
    async with charts() as shown:
        rows = shown.rows()
        assert rows[0].startswith("─ train 0.5")
        assert "● val 1" in rows[0]
        assert sum(row.count("●") for row in rows[1:]) == 4
        assert sum("┊" in row for row in rows) > 5
        assert rows[-1].rstrip().endswith("step")
        assert shown.panel.border_title == "loss"
        assert "overfitting" in shown.panel.ABOUT


async def test_the_cursor_begins_at_the_newest_value_and_walks(charts):
    async with charts() as shown:
        await shown.press("right")
        assert shown.panel.view.cursor == 400
        assert shown.rows()[-1].startswith("step 400 · epoch 4 · 0:40")
        assert "(raw 0.5272)" in shown.rows()[0]
        await shown.press("left", "left")
        assert 370 <= shown.panel.view.cursor < 400
        await shown.press("right", "right", "right")
        assert shown.panel.view.cursor == 400
        assert sum("│" in row[8:] for row in shown.rows()) > 8


async def test_home_and_end_go_to_the_ends(charts):
    async with charts() as shown:
        await shown.press("home")
        assert shown.panel.view.cursor == 1
        assert "● val –" in shown.rows()[0]
        await shown.press("end")
        assert shown.panel.view.cursor == 400


async def test_a_second_cursor_shows_the_difference(charts):
    async with charts() as shown:
        await shown.press("end", "m", "home")
        assert (shown.panel.view.anchor, shown.panel.view.cursor) == (400, 1)
        assert "Δ +1.4" in shown.rows()[0]
        assert "Δ -399 steps" in shown.rows()[-1]
        await shown.press("escape")
        assert shown.panel.view == ChartView()
        assert "step 1" not in shown.rows()[-1]


async def test_escape_and_mark_are_offered_with_a_cursor_only(charts):
    async with charts() as shown:
        assert not shown.panel.check_action("clear", ())
        assert not shown.panel.check_action("anchor", ())
        await shown.press("right")
        assert shown.panel.check_action("clear", ())
        assert "m" in shown.app.active_bindings


async def test_next_mark_goes_round_and_names_the_change(charts):
    history = snapshot_of().history
    history.append(MetricsBlock(401, 2, (40.0, 40.1), {"loss": array("f", [1.0, float("inf")])}))
    async with charts(snapshot=snapshot_of(history=history)) as shown:
        await shown.press("n")
        assert shown.panel.view.cursor == 150
        assert shown.rows()[-1].rstrip().endswith("optimizer.lr 0.1→0.01")
        await shown.press("n")
        assert shown.panel.view.cursor == 402
        assert "─ train inf" in shown.rows()[0]
        assert "✗" in shown.rows()[1]
        await shown.press("n")
        assert shown.panel.view.cursor == 150


async def test_p_finds_the_lowest_and_the_highest_of_each_series(charts):
    async with charts() as shown:
        await shown.press("P")
        assert shown.panel.view.cursor == 1
        await shown.press("P")
        assert shown.panel.view.cursor == 100  # of the validation loss
        await shown.press("p")
        assert shown.panel.view.cursor == 400


async def test_zoom_pan_and_reset(charts):
    async with charts() as shown:
        await shown.press("plus")
        low, high = shown.panel.view.window
        assert high - low == TOTAL / 2 and low <= 400 <= high
        assert "zoomed" in str(shown.panel.border_subtitle)
        await shown.press("plus", "left_square_bracket")
        assert shown.panel.view.window[1] < 400 + TOTAL / 8
        before = shown.panel.view.window
        await shown.press("right_square_bracket")
        assert shown.panel.view.window > before
        await shown.press("minus", "minus", "minus")
        assert shown.panel.view.window is None
        await shown.press("plus", "0")
        assert shown.panel.view.window is None
        assert not shown.panel.check_action("pan", (1,)) and not shown.panel.check_action("reset", ())


async def test_zoom_keeps_the_cursor_where_it_is_and_ends_at_some_steps(charts):
    async with charts() as shown:
        await shown.press("n", *["equals_sign"] * 20)
        low, high = shown.panel.view.window
        assert high - low == 8 and low <= 150 <= high
        await shown.press("end")
        assert shown.panel.view.window[0] <= 400 <= shown.panel.view.window[1]


async def test_y_fits_what_is_zoomed_in_on(charts):
    async with charts("accuracy") as shown:
        assert any("0%" in row[:5] and "100%" not in row for row in shown.rows())
        await shown.press("end", "plus", "plus", "plus", "plus")
        assert not any(row.strip().startswith("0%") for row in shown.rows())


async def test_the_recent_window_and_back(charts):
    async with charts(snapshot=snapshot_of(900)) as shown:
        await shown.press("f")
        assert shown.panel.view.recent
        assert shown.panel._x == Limits(720, 920)
        await shown.press("f")
        assert not shown.panel.view.recent and shown.panel._x == Limits(0, TOTAL)


async def test_units_of_x(charts):
    async with charts() as shown:
        await shown.press("x")
        assert shown.panel.x_axis == "time" and shown.rows()[-1].rstrip().endswith("time")
        assert "0:30" in shown.rows()[-1]
        await shown.press("x")
        assert shown.panel.x_axis == "epoch" and shown.panel._x == Limits(0, TOTAL / PER_EPOCH)
        await shown.press("plus", "x", "x", "x")
        assert shown.panel.view.window is not None and shown.panel.x_axis == "epoch"


async def test_smoothing_more_and_less(charts):
    async with charts() as shown:
        await shown.press("s")
        assert shown.panel.smoothing == 0.97
        await shown.press("s", "s", "s")
        assert shown.panel.smoothing == 0.99
        await shown.press(*["S"] * 9)
        assert shown.panel.smoothing == 0
        assert "smoothed" not in str(shown.panel.border_subtitle)
        shown.panel.smoothing = 0.95
        await shown.press("s")
        assert shown.panel.smoothing == 0.97


async def test_what_is_not_noisy_is_never_smoothed(charts):
    async with charts("lr") as shown:
        await shown.press("s")
        assert shown.panel.smoothing == 0.9
        assert shown.rows()[0].startswith("─ lr 0.4 ")


async def test_log_y_and_back(charts):
    async with charts() as shown:
        linear = shown.rows()
        await shown.press("l")
        assert shown.panel.log_y and shown.rows() != linear
        assert "log y" in str(shown.panel.border_subtitle)
        await shown.press("l")
        assert shown.rows() == linear
    async with charts("grad_norm") as shown:
        assert shown.panel.log_y


async def test_a_click_puts_the_cursor_there(charts):
    async with charts() as shown:
        await shown.pilot.click(ChartPanel, offset=(20, 6))
        assert 100 < shown.panel.view.cursor < 300
        before = shown.panel.view.cursor
        await shown.pilot.click(ChartPanel, offset=(2, 6))  # the labels
        assert shown.panel.view.cursor == before


async def test_charts_follow_each_other(charts):
    async with charts("loss", "accuracy") as shown:
        loss, accuracy = shown.panels
        await shown.press("x", "s", "l", "end", "plus")
        assert accuracy.view == loss.view and accuracy.smoothing == loss.smoothing
        assert not accuracy.log_y  # each has its own
        assert shown.app.told == 5
        assert "▲" in shown.rows(1)[-2] and sum("│" in row[6:] for row in shown.rows(1)) <= 1
        assert not any("step 400" in row for row in shown.rows(1))  # the words stand where the focus is
        await shown.press("tab")
        assert any("step 400" in row for row in shown.rows(1))


async def test_attributes_can_be_set_from_outside_without_a_message(charts):
    async with charts() as shown:
        shown.panel.x_axis, shown.panel.smoothing, shown.panel.log_y = "epoch", 0.6, True
        await shown.pilot.pause()
        assert shown.app.told == 0
        assert shown.rows()[-1].rstrip().endswith("epoch")
        shown.panel.x_axis = "fortnight"
        assert shown.panel.x_axis == "step"


async def test_nothing_is_painted_while_nothing_changes(charts):
    async with charts() as shown:
        painted = []
        paint = shown.panel.paint
        shown.panel.paint = lambda *size: painted.append(size) or paint(*size)
        shown.panel.show(shown.snapshot)
        shown.panel.show(dataclasses.replace(shown.snapshot, log=("a line",)))
        assert not painted
        block = MetricsBlock(401, 1, (40.0, 40.1), {"loss": array("f", [0.5])})
        shown.snapshot.history.append(block)
        shown.panel.show(shown.snapshot)
        assert len(painted) == 1
        shown.panel.show(dataclasses.replace(shown.snapshot, state="completed"))
        assert len(painted) == 2
        assert shown.panel._x == Limits(0, 401)


async def test_few_rows_change_while_a_run_goes_on(charts):
    async with charts(snapshot=snapshot_of(600)) as shown:
        before = shown.rows()
        history = shown.snapshot.history
        values = {"loss": array("f", [0.27] * 4)}
        history.append(MetricsBlock(601, 4, (60.0, 60.4), values))
        shown.panel.show(shown.snapshot)
        await shown.pilot.pause()
        changed = [number for number, (one, other) in enumerate(zip(before, shown.rows(), strict=True)) if one != other]
        assert 0 < len(changed) <= 4


@pytest.mark.parametrize("name", CHARTS)
async def test_every_chart_stands_before_there_is_anything_to_show(charts, name):
    empty = snapshot_of(0, points={}, changes=(), status=None, facts={})
    async with charts(name, snapshot=empty) as shown:
        assert any("no values yet" in row for row in shown.rows())
        await shown.press("right", "n", "p", "m", "plus", "f", "x", "l", "0")
        assert shown.panel.spec.about.count("Alarming") >= 1


async def test_a_panel_without_a_snapshot_takes_keys():
    app = Charts([CHARTS["loss"]])
    async with app.run_test() as pilot:
        app.query_one(ChartPanel).focus()
        await pilot.press("right", "end", "n", "p", "plus", "minus", "x", "f", "m", "escape")
        await pilot.pause()


async def test_evaluations_alone_are_drawn_too(charts):
    ends = (100, 200)
    lonely = snapshot_of(0, points={"score": Points(ends, (10.0, 20.0), (2.0, float("nan")))})
    async with charts("score", snapshot=lonely) as shown:
        await shown.press("right", "left")
        assert shown.panel.view.cursor == 100
        assert "● score 2" in shown.rows()[0]
        assert "✗" in shown.rows()[1]


async def test_hostile_settings_and_steps_do_no_harm(charts):
    huge = 10**25
    changes = (Change(150, 15.0, "\x1b[31m[bold]x", "\x9b2J", ["[/]"] * 99), Change(huge, 1e300, "k", 1, 2))
    points = {"val_loss": Points((5, huge), (float("nan"), 1e300), (1e300, -1e300))}
    async with charts(snapshot=snapshot_of(changes=changes, points=points)) as shown:
        await shown.press("home", "n")
        assert "␛[31m[bold]x" in shown.rows()[-1]
        for key in ("x", "n", "plus", "x", "p", "P", "f", "l", "0", "end"):
            await shown.press(key)
            text = "".join(shown.rows())
            assert not any(sign in text for sign in "\x1b\x9b")


async def test_a_clock_that_stands_still_does_no_harm(charts):
    history = History()
    history.append(MetricsBlock(1, 300, (0.0, 0.0), {"loss": array("f", [1.0] * 300)}))
    async with charts(snapshot=snapshot_of(history=history)) as shown:
        await shown.press(
            "x", "plus", "end", "left", "plus", "plus", "left_square_bracket", "f", "minus", "n", "x", "0"
        )


async def test_a_run_that_goes_back_while_it_is_painted_does_no_harm(charts):
    async with charts(snapshot=snapshot_of()) as shown:
        await shown.press("end", "m")
        data = shown.panel._data
        shown.snapshot.history.append(MetricsBlock(50, 1, (5.0, 5.0), {"loss": array("f", [1.0])}))
        assert data.series(400, 300)
        assert data.extreme_steps(Limits(0, 400), True)


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (10, 5), (60, 20), (300, 100)])
async def test_any_size(charts, size):
    async with charts("loss", snapshot=snapshot_of(), size=size) as shown:
        await shown.press("right", "m", "left", "l")
        await shown.pilot.resize_terminal(80, 24)
        await shown.pilot.resize_terminal(*size)
        await shown.pilot.pause()


def test_every_text_tells_what_would_be_alarming_and_every_curve_has_a_role():
    from tuidl.tui.draw.chart import ROLES

    for spec in CHARTS.values():
        assert spec.curves or spec.dots
        assert "Alarming" in spec.about and spec.about.count("\n\n") >= 1
        assert {series.role for series in (*spec.curves, *spec.dots)} <= set(ROLES)
    assert CurveSpec("loss", "train").role == "train"
