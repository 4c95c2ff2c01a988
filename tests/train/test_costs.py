"""What a run has cost is told with its end: the wait for the first step, and memory at its peak."""

import time

import psutil
import pytest

from tuidl.cli.output import told_costs
from tuidl.train import events
from tuidl.train.costs import with_costs
from tuidl.train.loop import fit

from .tiny import CPU, busy_clock, finished, spec_of, task_of


def test_the_end_tells_the_costs_and_nothing_else_is_changed() -> None:
    spec = spec_of(training={"epochs": 2})
    plain, stream = list(fit(task_of(spec), spec)), list(with_costs(fit(task_of(spec), spec), CPU, time.time() - 50))
    assert [type(event) for event in plain if not isinstance(event, events.Metrics)] == [
        type(event) for event in stream if not isinstance(event, events.Metrics)
    ]
    costs = finished(stream).costs
    assert 50 < costs["first_step_seconds"] < 80
    assert 1e8 < costs["peak_memory"] < 1e11
    assert "peak_gpu_memory" not in costs
    assert finished(plain).costs == {}


def test_the_wait_ends_with_the_first_numbers_and_begins_with_the_process() -> None:
    spec = spec_of(training={"epochs": 4})
    first, began = None, psutil.Process().create_time()
    for event in with_costs(fit(task_of(spec), spec, clock=busy_clock()), CPU):
        if isinstance(event, events.Metrics):
            first = first or time.time()
            time.sleep(0.05)  # what comes after the first step is no wait for it
    assert first and isinstance(event, events.Finished)
    assert event.costs["first_step_seconds"] == pytest.approx(first - began, abs=0.03)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, 10**400, "3", None, [1.0]])
def test_what_a_file_claims_about_costs_is_told_only_where_it_is_a_number(value: object) -> None:
    assert told_costs({"first_step_seconds": value, "peak_memory": 750e6, "else": 3}) == ["0.75 GB of memory"]


def test_large_memories_are_told_without_a_power_of_ten() -> None:
    assert told_costs({"peak_gpu_memory": 139.4e9, "peak_memory": 12.3e9}) == ["12 GB of memory", "139 GB of the GPU's"]
