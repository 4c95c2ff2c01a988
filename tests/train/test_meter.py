"""The ring of numbers: nothing is lost, doubled or turned around."""

import pytest
import torch

from tuidl.train.meter import CAPACITY, Drained, Meter

from .tiny import CPU, Scripted, columns, finished, run_all, spec_of, still_clock


def meter_with(rows: int, start: int = 0) -> Meter:
    meter = Meter(("a", "b"), CPU)
    write(meter, rows, start)
    return meter


def write(meter: Meter, rows: int, start: int = 0) -> None:
    for row in range(start, start + rows):
        meter.write((torch.tensor(float(row)), torch.tensor(-float(row))), lr=row / 2)


def test_drain_returns_the_rows_in_order_with_their_steps() -> None:
    (block,) = meter_with(3).drain()
    assert block == Drained(1, {"a": [0.0, 1.0, 2.0], "b": [-0.0, -1.0, -2.0], "lr": [0.0, 0.5, 1.0]})
    assert len(block) == 3


def test_each_drain_begins_where_the_last_ended() -> None:
    meter = meter_with(2)
    first = meter.drain()
    assert meter.drain() == []
    write(meter, 3, 2)
    second = meter.drain(wait=True)
    assert [block.first for block in first + second] == [1, 3]
    assert [value for block in first + second for value in block.columns["a"]] == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_a_drained_block_is_not_changed_by_later_steps() -> None:
    meter = meter_with(2)
    (block,) = meter.drain()
    write(meter, 2, 50)
    assert block.columns["a"] == [0.0, 1.0]


@pytest.mark.parametrize("wait", [True, False])
def test_a_full_ring_says_so_and_loses_nothing(wait: bool) -> None:
    meter = meter_with(CAPACITY - 1)
    assert not meter.full
    write(meter, 1, CAPACITY - 1)
    assert meter.full
    (block,) = meter.drain(wait)
    assert not meter.full
    assert block.columns["a"] == [float(row) for row in range(CAPACITY)]
    write(meter, 1, CAPACITY)
    (after,) = meter.drain(wait)
    assert (after.first, after.columns["a"]) == (CAPACITY + 1, [float(CAPACITY)])


def test_an_empty_meter_has_nothing_to_drain() -> None:
    assert Meter(("a",), CPU).drain(wait=True) == []
    assert len(Drained(1)) == 0


def test_numbers_that_are_not_finite_pass_unchanged() -> None:
    meter = Meter(("a",), CPU)
    for value in (float("nan"), float("inf"), -float("inf"), 1.0):
        meter.write((torch.tensor(value),), lr=0.1)
    (block,) = meter.drain()
    assert str(block.columns["a"]) == "[nan, inf, -inf, 1.0]"


def test_the_loop_drains_a_full_ring_although_the_clock_stands_still() -> None:
    task = Scripted([0.5], steps_per_epoch=CAPACITY + 10)
    stream = run_all(task, spec_of(training={"epochs": 1}), clock=still_clock)
    assert columns(stream)["loss"] == [10.0 * step for step in range(1, CAPACITY + 11)]
    assert finished(stream).step == CAPACITY + 10
