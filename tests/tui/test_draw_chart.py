"""Charts as literal rows, and axes that stand still."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.style import Style
from textual.app import App

from tuidl.tui.draw.axis import UNITS, Limits, clock, multiples, reach, settle, short, tick_labels, ticks, window
from tuidl.tui.draw.chart import Axes, Curve, Dots, Marks, area, draw_chart, extent, legend, thinned
from tuidl.tui.draw.palette import palette_of
from tuidl.tui.draw.ruler import Ruler

X = np.arange(1.0, 21.0)
FALLING = 20 - X
PLAIN = Axes(Limits(0, 20), Limits(0, 20))


@pytest.fixture(scope="module")
def palette():
    return palette_of(App().theme_variables)


def curve(values, behind=None, role="train", label="train", readings=("1.0",)) -> Curve:
    values, behind = (
        np.asarray(values, float),
        None if behind is None else thinned(X[: len(behind)], np.asarray(behind, float)),
    )
    return Curve(label, role, thinned(X[: len(values)], values), behind, readings)


def dots(x, y, role="val", readings=("8.0",)) -> Dots:
    return Dots(role, role, np.array(x, float), np.array(y, float), readings)


def texts(rows) -> list[str]:
    return [row.text for row in rows]


def test_a_curve_with_its_axes(palette):
    assert texts(draw_chart([curve(FALLING)], PLAIN, 24, 8, palette, Marks(newest=10))) == [
        "─ train 1.0             ",
        "20┤ ⠢⠤⡀                 ",
        "  │   ⠈⠉⠢⠤⡀             ",
        "10┤       ⠈⠉⠒⠤⠤⢄        ",
        "  │             ⠉⠑⠤⢄    ",
        " 0┤                 ⠉⠑⠤⢄",
        "  └┴─────────┴┈┈┈┈┈┈┈┈┈┴",
        "   0        10      step",
    ]


def test_points_changes_cursors_and_what_is_not_finite(palette):
    series = [
        curve(FALLING),
        dots([5, 10, 20], [18, 12, 8]),
        dots([20], [2], "test", ("2.0",)),
    ]
    marks = Marks(newest=20, changes=[7], broken=[15], cursor=10, anchor=3)
    assert texts(draw_chart(series, PLAIN, 32, 9, palette, marks)) == [
        "─ train 1.0 ● val 8.0 ◆ test 2.0",
        "20┤ ⠒⠤⢄⡀  ●⣀ ┊   │      ✗       ",
        "  │    ⠈⠑⠢⠤⣀⠉⠒⠤⣀ │              ",
        "  │    ╎    ⠈⠉⠒⠢⠉●⠒⠤⠤⠤⣀⣀⡀       ",
        "10┤    ╎     ┊   ⠈⠑⠢⠤⣀⡀ ⠈⠉⠉⠑⠒⠒⠢●",
        "  │    ╎     ┊   │    ⠈⠉⠒⠢⢄⡀    ",
        " 0┤    ╎     ┊   │         ⠈⠑⠒⠤◆",
        "  └┴───△─────────▲─────────────┴",
        "   0            10          step",
    ]


def test_a_band_is_fainter_than_its_line_without_colours_too(palette):
    rows = draw_chart(
        [curve(np.full(20, 5.0), np.where(X % 2, 10, 0))], Axes(PLAIN.x, Limits(0, 10)), 24, 8, palette
    )  # fmt: skip
    assert texts(rows)[1:6] == [
        "10┤ ⢑ ⢕ ⢕ ⢕ ⢕ ⢘⠆⢘⠆⢘⠆⢘⠆⢘⠆",
        "  │ ⢐ ⢕ ⢕ ⢕ ⠵⡀⢐⠅⢐⠅⢐⠅⢐⠅⢐⠅",
        " 5┤ ⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤",
        "  │  ⢕ ⢕ ⢕ ⢕ ⢣⠅⢐⠅⢐⠅⢐⠅⢐⠅⢐",
        " 0┤  ⡵ ⡵ ⡵ ⡵ ⢐⠅⢐⠅⢐⠅⢐⠅⢐⠅⢐",
    ]


def test_a_second_curve_is_dashed(palette):
    rows = draw_chart([curve(FALLING, role="second", label="d")], PLAIN, 24, 8, palette)
    assert texts(rows)[:4] == [
        "╌ d 1.0                 ",
        "20┤ ⠢ ⡀                 ",
        "  │   ⠈⠉ ⠤⡀             ",
        "10┤       ⠈ ⠒⠤ ⢄        ",
    ]


def test_a_logarithmic_axis_draws_what_is_above_zero(palette):
    values = 10 ** (-X / 4)
    values[4:6] = 0, -1
    rows = draw_chart([curve(values)], Axes(PLAIN.x, Limits(1e-5, 1), log=True), 24, 9, palette)
    assert texts(rows)[1:7] == [
        "     │⠐⠤⢄               ",
        "  0.1┤   ⠑⠤⣀            ",
        "     │      ⠉⠢⢄         ",
        "0.001┤         ⠑⠤⢄      ",
        "     │            ⠉⠑⢄   ",
        " 1e-5┤               ⠉⠢⢄",
    ]


def test_per_cent_epochs_and_a_note(palette):
    axes = Axes(Limits(0, 20), Limits(0, 1), "epoch", percent=True)
    rows = draw_chart([curve(FALLING / 20)], axes, 28, 8, palette)
    assert texts(rows)[1:] == [
        "100%┤ ⠢⠤⣀                   ",
        "    │    ⠉⠑⠤⢄⡀              ",
        " 50%┤        ⠈⠉⠒⠤⠤⢄         ",
        "    │              ⠉⠑⠢⠤⣀    ",
        "  0%┤                   ⠉⠑⠤⢄",
        "    └┴┈┈┈┈┈┈┈┈┈┈┴┈┈┈┈┈┈┈┈┈┈┴",
        "     0         10      epoch",
    ]
    noted = draw_chart([curve(FALLING / 20)], axes, 28, 8, palette, Marks(note="step 5"))
    assert noted[-1].text == "step 5".ljust(28)


def test_time_is_written_as_a_clock(palette):
    axes = Axes(Limits(0, 7200), Limits(0, 1), "time")
    assert draw_chart([], axes, 46, 8, palette)[-1].text == "  0:00      30:00     1:00:00   1:30:00   time"


def test_a_chart_without_values_says_so(palette):
    assert texts(draw_chart([], PLAIN, 24, 8, palette, Marks(empty="no values yet")))[3] == "10┤    no values yet    "


def test_labels_give_way_on_little_room(palette):
    assert texts(draw_chart([curve(FALLING)], PLAIN, 12, 3, palette)) == [
        "─ train 1.0 ",
        "⠈⠒⠢⠤⢄⡀      ",
        "     ⠈⠉⠑⠒⠢⠤⣀",
    ]
    assert texts(draw_chart([curve(FALLING)], PLAIN, 4, 1, palette)) == ["⠙⠒⠤⣄"]


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (60, "─ train 1.0000 (raw 2)  ● val 8.000"),
        (30, "─ train 1.000  ● val 8.000"),
        (25, "─ train 1.000 ● val 8.000"),
        (21, "─ train 1  ● val 8"),
        (17, "─ train 1 ● val 8"),
        (15, "─ 1.000 ● 8.000"),
        (10, "─ 1  ● 8"),
        (6, "─ train ● val"),
    ],
)
def test_the_legend_says_as_much_as_fits_and_always_the_signs(palette, width, expected):
    series = [
        curve(FALLING, readings=("1.0000 (raw 2)", "1.000", "1")),
        dots([1], [8], readings=("8.000", "8.000", "8")),
    ]
    assert "".join(text for text, _ in legend(series, palette, width)) == expected


def test_a_cursor_in_a_chart_beside_touches_the_axis_only(palette):
    rows = draw_chart([curve(FALLING)], PLAIN, 24, 8, palette, Marks(cursor=15, full=False))
    assert [row.text[18] for row in rows] == [" ", "│", " ", " ", "⠤", " ", "▲", " "]
    marked = [
        number for number, row in enumerate(rows) if row != draw_chart([curve(FALLING)], PLAIN, 24, 8, palette)[number]
    ]
    assert marked == [1, 6]


def test_the_line_goes_on_to_points_beyond_the_window(palette):
    axes = Axes(Limits(8, 9), Limits(0, 20))
    rows = draw_chart([dots([5, 10], [10, 10])], axes, 24, 8, palette)
    assert rows[3].text == "10┤" + "⠤" * 21


def test_many_points_keep_their_line_and_every_third_sign(palette):
    x = np.linspace(0, 20, 400)
    rows = draw_chart([dots(x, np.full(400, 10))], PLAIN, 24, 8, palette)
    assert rows[3].text.count("●") == 8
    assert rows[3].text.endswith("●")


def test_rows_stay_equal_while_data_arrives_elsewhere(palette):
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.uniform(15, 19, 10), rng.uniform(1, 4, 10)])
    before, after = (
        draw_chart([curve(values[:count])], PLAIN, 60, 14, palette, Marks(newest=count)) for count in (15, 16)
    )
    changed = [number for number in range(14) if before[number] != after[number]]
    assert changed and set(changed) <= {9, 10, 11, 12}


def test_no_blank_changes_the_style(palette):
    rows = draw_chart([curve(FALLING, np.where(X % 2, 10, 0))], PLAIN, 40, 12, palette)
    plain = Style(bgcolor=palette.text.bgcolor)
    for row in rows:
        assert row.cell_length == 40
        assert not any(text.isspace() for text, style, _ in row if style != plain and len(row._segments) > 1)


VALUES = [
    np.empty(0),
    np.array([1.0]),
    np.full(20, 3.0),
    np.zeros(20),
    np.full(20, np.nan),
    np.where(X % 3, X, np.nan),
    np.where(X % 3, -X, 0),
    X * 1e37,
    X * 1e-40,
    -X * 1e30,
    np.array([0, 1e300, -1e300]),
]
SIZES = [(1, 1), (2, 1), (1, 2), (3, 3), (5, 4), (7, 60), (12, 7), (20, 5), (60, 20), (80, 24), (299, 2), (300, 100)]


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("values", VALUES, ids=lambda values: f"{values[:2]}")
@pytest.mark.parametrize("unit", UNITS)
def test_any_values_at_any_size(palette, values, log, unit):
    series = [
        curve(values, values),
        dots(X[: len(values)], values),
        dots(X[: len(values)], values, "test", ()),
    ]
    x = reach(float(len(values)), None, UNITS[unit], ended=False)
    axes = Axes(x, settle(None, *extent(series, x, log), log=log), unit, log)
    marks = Marks([0, 3, 1e9], [-1, 2], 5, 4, 6, note="", empty="nothing here at all")
    for width, height in SIZES:
        rows = draw_chart(series, axes, width, height, palette, marks)
        assert [row.cell_length for row in rows] == [width] * height


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 300), st.integers(1, 100), st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.booleans())
def test_any_limits_at_any_size(width, height, low, span, percent):
    palette = palette_of(App().theme_variables)
    axes = Axes(Limits(low, low + span), Limits(low, low + span), "epoch", percent=percent)
    rows = draw_chart([curve(FALLING)], axes, width, height, palette, Marks(cursor=low, note="x" * 400))
    assert [row.cell_length for row in rows] == [width] * height
    plot = area(width, height, axes)
    assert plot.width >= 1 and plot.height >= 1


# ---------------------------------------------------------------- axes


def test_limits_are_round():
    assert settle(None, 0.3, 2.31) == Limits(0, 2.5)
    assert settle(None, 0.62, 0.93) == Limits(pytest.approx(0.6), pytest.approx(1.0))
    assert settle(None, 0.61, 0.99, lower=0, upper=1) == Limits(pytest.approx(0.6), 1)
    assert settle(None, -3.2, 4.1) == Limits(-4, 6)
    assert settle(None, 5, 5) == Limits(0, 8)
    assert settle(None, 0, 0, lower=0) == Limits(0, pytest.approx(0.5))
    assert settle(None, 1, 1, lower=0, upper=1) == Limits(0, 1)
    assert settle(None, 0.0013, 2.3, log=True) == Limits(pytest.approx(0.001), pytest.approx(5))
    assert settle(None, math.nan, math.nan) == Limits(0, 1)
    assert settle(Limits(3, 4), math.nan, math.nan) == Limits(3, 4)


def test_limits_stay_while_the_data_is_inside_and_fills_half_of_them():
    limits = Limits(0, 2.5)
    for high in (2.5, 2.31, 1.6, 1.3):
        assert settle(limits, 0.1, high) is limits
    assert settle(limits, 0.1, 0.9) == Limits(0, 1)


@pytest.mark.parametrize("log", [False, True])
def test_limits_move_a_few_times_in_a_run_that_falls_and_in_one_that_grows(log):
    for values in (2.3 * np.exp(-np.linspace(0, 7, 5000)), np.linspace(1e-4, 0.1, 5000), np.geomspace(1, 1e6, 5000)):
        limits, moves = None, 0
        for count in range(1, 5001, 10):
            now = settle(limits, values[:count].min(), values[:count].max(), log=log)
            moves += now != limits
            limits = now
            assert now.low <= values[:count].min() * 1.001 and values[:count].max() <= now.high * 1.001
        assert moves <= 40


def test_limits_never_pass_the_bounds():
    assert settle(Limits(0.2, 0.8), 0.1, 0.9, lower=0, upper=1) == Limits(0, 1)


def test_x_reaches_towards_the_planned_end_in_few_strides():
    step = UNITS["step"]
    found = [reach(newest, 6400, step, ended=False).high for newest in range(0, 6401, 10)]
    assert sorted(set(found)) == [100, 400, 1600, 6400]
    assert found == sorted(found)
    assert all(high >= newest for newest, high in zip(range(0, 6401, 10), found, strict=True))
    assert reach(700, 6400, step, ended=True) == Limits(0, 700)
    assert reach(7000, 6400, step, ended=False) == Limits(0, 10000)


def test_x_without_a_plan_grows_in_round_numbers():
    assert [reach(newest, None, UNITS["step"], ended=False).high for newest in (0, 11, 499, 501)] == [10, 20, 500, 1000]
    assert [reach(newest, None, UNITS["time"], ended=False).high for newest in (3, 61, 601, 4000)] == [
        10,
        120,
        900,
        7200,
    ]


def test_a_window_moves_on_by_fifths_of_itself():
    found = {window(newest, 450, ended=False) for newest in range(4001, 4301)}
    assert found == {Limits(3600, 4100), Limits(3700, 4200), Limits(3800, 4300)}
    assert window(4290, 450, ended=True) == Limits(3790, 4290)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 0.5, 1], ["0", "0.5", "1.0"]),
        ([0.97, 0.98], ["0.97", "0.98"]),
        ([0.9871, 0.9872], ["0.9871", "0.9872"]),
        ([0, 2e-5, 4e-5], ["0", "2e-5", "4e-5"]),
        ([1e-5, 1.5e-5], ["1e-5", "1.5e-5"]),
        ([0.001, 0.1, 10], ["0.001", "0.1", "10"]),
        ([1e5, 2e5], ["1e5", "2e5"]),
        ([-5, 0, 5], ["-5", "0", "5"]),
        ([], []),
        ([0], ["0"]),
    ],
)
def test_tick_labels(values, expected):
    assert tick_labels(values) == expected


def test_ticks_are_round_and_few():
    assert ticks(Limits(0, 2.5), 5) == [0, 0.5, 1, 1.5, 2, 2.5]
    assert ticks(Limits(0.001, 10), 3, log=True) == pytest.approx([0.001, 0.1, 10])
    assert ticks(Limits(0.1, 1), 4, log=True) == pytest.approx([0.1, 0.2, 0.5, 1])
    assert multiples(Limits(0, 0.3), 0.1) == pytest.approx([0, 0.1, 0.2, 0.3])
    assert UNITS["step"].label([0, 12500, 25000]) == ["0", "12.5k", "25k"]
    assert UNITS["step"].label([0, 1e6, 2e6]) == ["0", "1M", "2M"]
    assert UNITS["time"].label([0, 0.5, 1]) == ["0s", "0.5s", "1.0s"]
    assert clock(3723) == "1:02:03"
    assert [short(value) for value in (0.01234, 1.2e-5, 3e8, math.nan, -math.inf)] == [
        "0.01234", "1.2e-5", "3e8", "nan", "-inf",
    ]  # fmt: skip


# ---------------------------------------------------------------- ruler

STEPS, ELAPSED = np.array([1, 2, 3, 10, 11], np.int32), np.array([0.5, 1.0, 1.5, 4.0, 4.5], np.float32)


@pytest.mark.parametrize(
    ("unit", "edges", "indices"),
    [
        ("step", [0, 2, 3.5, 11], [0, 1, 3, 5]),
        ("step", [0, 2, 3.5, 10], [0, 1, 3, 4]),
        ("epoch", [0, 0.5, 0.6, 2.75], [0, 1, 2, 5]),
        ("time", [0, 1, 2, 4.5], [0, 1, 3, 5]),
        ("time", [0, 1, 2, 1e30], [0, 1, 3, 5]),
        ("step", [0, 1e30], [0, 5]),
    ],
)
def test_edges_find_their_steps_and_the_last_edge_counts_in(unit, edges, indices):
    assert Ruler(unit, STEPS, ELAPSED, 4).indices(np.array(edges, float)).tolist() == indices


def test_places_and_steps_are_inverse_and_go_on_beyond_the_data():
    for unit, places in (("step", [1, 10, 22]), ("epoch", [0.25, 2.5, 5.5]), ("time", [0.5, 4, 9])):
        ruler = Ruler(unit, STEPS, ELAPSED, 4)
        assert [ruler.place(step) for step in (1, 10, 22)] == pytest.approx(places)
        assert [ruler.step(place) for place in places] == pytest.approx([1, 10, 22])


def test_a_ruler_without_steps_measures_all_the_same():
    ruler = Ruler("time", np.empty(0, np.int32), np.empty(0, np.float32), 1)
    assert (ruler.place(5), ruler.step(5), ruler.indices(np.array([0.0, 9])).tolist()) == (0, 0, [0, 0])
