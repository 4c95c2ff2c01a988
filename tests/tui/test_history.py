"""The history of a run against a plain model of it."""

import math
import threading
from array import array
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuidl.runs import MetricsBlock
from tuidl.tui.history import MOST_BROKEN, MOST_COLUMNS, History

FACTORS = st.sampled_from([0.5, 0.9, 0.99])


def block(first: int, elapsed: tuple[float, float] = (0.0, 0.0), **columns) -> MetricsBlock:
    packed = {name: array("f", values) for name, values in columns.items()}
    return MetricsBlock(first, len(next(iter(packed.values()))), elapsed, packed)


def history_of(values, name: str = "loss", size: int = 500) -> History:
    history = History()
    for start in range(0, len(values), size):
        history.append(block(1 + start, (start, start + size), **{name: values[start : start + size]}))
    return history


@st.composite
def blocks(draw):
    """Blocks that follow each other, leave holes, or go back; the second column comes and goes."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    found, at = [], 1
    for _ in range(draw(st.integers(1, 8))):
        at = max(0, at + draw(st.sampled_from([0, 0, 0, 3, 40, -1, -7, -200])))
        count = draw(st.integers(1, 700))
        columns = {}
        for name in draw(st.sampled_from([("a",), ("a", "b"), ("b",)])):
            values = random.standard_normal(count) * 10.0 ** draw(st.integers(-3, 3))
            rare = random.random(count) < draw(st.sampled_from([0, 0, 0.01, 1]))
            columns[name] = np.where(rare, random.choice([math.nan, math.inf, -math.inf], count), values)
        found.append(block(at, (float(at), float(at + count)), **columns))
        at += count
    return found


class Model:
    """The same, as a dictionary of rows."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[str, float]] = {}

    def append(self, block: MetricsBlock) -> None:
        self.rows = {step: row for step, row in self.rows.items() if step < block.first_step}
        for index in range(block.count):
            self.rows[block.first_step + index] = {name: values[index] for name, values in block.columns.items()}

    def column(self, name: str) -> list[float]:
        values = [row.get(name, math.nan) for row in self.rows.values()]
        return [value if math.isfinite(value) else math.nan for value in values]

    def broken(self) -> list[tuple[int, str]]:
        return sorted(
            (step, name)
            for step, row in self.rows.items()
            for name, value in row.items()
            if not math.isfinite(value)
        )  # fmt: skip


def extremes(values: list[float], edges) -> list[tuple[float, float]]:
    found = []
    for first, last in pairwise(edges):
        inside = [value for value in values[first:last] if not math.isnan(value)]
        found.append((min(inside), max(inside)) if inside else (math.nan, math.nan))
    return found


def average(values: list[float], factor: float) -> list[float]:
    total = weight = 0.0
    found = []
    for value in values:
        if not math.isnan(value):
            total = factor * total + (1 - factor) * value
            weight = factor * weight + (1 - factor)
        found.append(total / weight if weight else math.nan)
    return found


@settings(deadline=None, max_examples=300)
@given(blocks(), FACTORS)
def test_equals_the_model_after_every_block(found, factor):
    history, model = History(), Model()
    for one in found:
        history.append(one)
        model.append(one)
        length = len(model.rows)
        assert history.length == length
        assert history.steps.tolist() == list(model.rows)
        assert np.all(np.diff(history.elapsed) >= 0)
        edges = np.linspace(0, length, 101).astype(int)  # so fine that every value stays in its pixel
        for name in history.names:
            values = model.column(name)
            np.testing.assert_array_equal(history.column(name), np.array(values, np.float32))
            low, high = history.extremes(name, edges)
            np.testing.assert_array_equal(np.stack([low, high], 1), np.array(extremes(values, edges), np.float32))
            largest = max((abs(value) for value in values if not math.isnan(value)), default=0.0)
            np.testing.assert_allclose(
                history.smoothed(name, factor), average(values, factor), rtol=1e-4, atol=1e-5 * largest
            )
    entries = [(entry.step, entry.name) for entry in history.broken]
    if all(sum(name == one for _, one in model.broken()) <= MOST_BROKEN for name in "ab"):
        assert entries == model.broken()


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 40_000), st.integers(1, 300), st.integers(0, 2**32 - 1), st.integers(1, 9999))
def test_nothing_between_the_edges_is_lost_at_any_size(length, width, seed, size):
    values = np.random.default_rng(seed).standard_normal(length).astype(np.float32)
    history = history_of(values, size=size)
    low, high = history.extremes("loss", np.linspace(0, length, width + 1).astype(int))
    assert np.nanmin(low) == values.min()
    assert np.nanmax(high) == values.max()


def test_a_spike_in_a_million_is_found_where_it_is():
    values = np.ones(1_000_000, np.float32)
    history = history_of(values, size=50_000)
    edges = np.linspace(0, len(values), 241).astype(int)
    assert history.extremes("loss", edges)[1].max() == 1
    values[654_321], values[123_456] = 9, -9
    history = history_of(values, size=50_000)
    low, high = history.extremes("loss", edges)
    assert high.max() == 9 and low.min() == -9
    assert np.argmax(high) in range(156, 159)
    assert np.argmin(low) in range(28, 31)


def test_a_quarter_of_a_pixel_is_the_farthest_a_value_moves():
    values = np.arange(300_000, dtype=np.float32)
    history = history_of(values, size=10_000)
    edges = np.linspace(0, 300_000, 301).astype(int)
    low, high = history.extremes("loss", edges)
    assert np.all(np.abs(low - edges[:-1]) <= 250)
    assert np.all(np.abs(high - (edges[1:] - 1)) <= 250)


def test_more_pixels_than_values_leave_pixels_empty():
    history = history_of(np.array([5.0, 7.0], np.float32))
    low, high = history.extremes("loss", np.array([0, 0, 1, 1, 2, 2]))
    np.testing.assert_array_equal(low, [np.nan, 5, np.nan, 7, np.nan])
    np.testing.assert_array_equal(high, low)


def test_edges_beyond_the_data_are_no_error():
    history = history_of(np.array([5.0, 7.0], np.float32))
    low, _ = history.extremes("loss", np.array([-3, 1, 99, 100]))
    np.testing.assert_array_equal(low, [5, 7, np.nan])


def test_the_average_starts_as_the_plain_mean():
    history = history_of(np.array([4.0, 2.0, 0.0], np.float32))
    np.testing.assert_allclose(history.smoothed("loss", 0.999), [4, 3, 2], atol=2e-3)


def test_the_average_of_a_long_column_is_exact_across_its_chunks():
    values = np.random.default_rng(3).standard_normal(200_000).astype(np.float32)
    values[::977] = np.nan
    history = history_of(values, size=33_333)
    history.smoothed("loss", 0.99)
    history.append(block(200_001, loss=[1.0, 2.0]))
    expected = average([*values.tolist(), 1.0, 2.0], 0.99)
    np.testing.assert_allclose(history.smoothed("loss", 0.99), expected, rtol=1e-4, atol=1e-6)


def test_the_average_is_thinned_after_it_is_made():
    values = np.random.default_rng(3).standard_normal(100_000).astype(np.float32)
    history = history_of(values)
    edges = np.linspace(0, len(values), 201).astype(int)
    low, high = history.extremes("loss", edges, 0.97)
    smooth = history.smoothed("loss", 0.97)
    assert np.nanmin(low) == smooth.min() and np.nanmax(high) == smooth.max()


def test_a_late_column_is_nan_before_and_a_missing_one_after():
    history = History()
    history.append(block(1, a=[1, 2]))
    history.append(block(3, a=[3, 4], b=[7, 8]))
    history.append(block(5, b=[9]))
    np.testing.assert_array_equal(history.column("b"), [np.nan, np.nan, 7, 8, 9])
    np.testing.assert_array_equal(history.column("a"), [1, 2, 3, 4, np.nan])
    np.testing.assert_array_equal(history.smoothed("b", 0.5)[:2], [np.nan, np.nan])
    assert history.broken == []


def test_what_is_not_finite_is_listed_up_to_a_limit_and_forgotten_when_replaced():
    history = History()
    history.append(block(1, a=[1, math.inf, math.nan], b=[-math.inf, 2, 3]))
    assert [(entry.step, entry.name) for entry in history.broken] == [(1, "b"), (2, "a"), (3, "a")]
    assert history.broken[0].value == -math.inf
    history.append(block(2, a=[5], b=[5]))
    assert [(entry.step, entry.name) for entry in history.broken] == [(1, "b")]
    history.append(block(3, a=[math.nan] * 500, b=[1] * 500))
    assert len(history.broken) == 1 + MOST_BROKEN


def test_time_is_spread_over_a_block_and_never_falls():
    history = History()
    history.append(block(1, (10.0, 12.0), a=[0, 0, 0]))
    history.append(block(4, (11.0, 13.0), a=[0, 0, 0]))
    history.append(block(7, (math.nan, math.inf), a=[0]))
    np.testing.assert_allclose(history.elapsed, [10, 11, 12, 12, 12, 13, 13])


def test_every_block_changes_the_version_even_where_the_length_stays():
    history = history_of(np.ones(4, np.float32))
    before = history.version
    history.append(block(4, loss=[2.0]))
    assert (history.length, history.column("loss")[-1]) == (4, 2.0)
    assert history.version != before


def test_a_hostile_file_fills_no_memory():
    history = History()
    history.append(block(2**31 - 2, a=[1, 2, 3]))
    assert history.length == 0
    for number in range(200):
        history.append(block(number, **{f"column {number}": [1.0]}))
    assert len(history.names) == MOST_COLUMNS
    with pytest.raises(KeyError):
        history.column("column 199")


def test_reading_while_another_thread_appends_and_resumes():
    history = History()
    history.append(block(1, a=[1.0] * 50))
    failures, done = [], threading.Event()

    def write() -> None:
        rng = np.random.default_rng(0)
        for _ in range(800):
            first = max(1, history.length + 1 - int(rng.choice([0, 0, 0, 0, 0, 0, 0, 900])))
            history.append(block(first, a=np.full(rng.integers(1, 60), 1.0, np.float32)))
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        length = history.length
        low, high = history.extremes("a", np.linspace(0, length, 50).astype(int))
        smooth = history.smoothed("a", 0.9)[:length]
        if not (np.nanmin(low) == np.nanmax(high) == 1.0 and np.allclose(smooth, 1.0)):
            failures.append(length)
    writer.join()
    assert not failures
