"""What a run has cost is told with its end: the wait for the first step, and memory at its peak."""

import time

import pytest

from tuidl.cli.output import told_costs
from tuidl.train import events
from tuidl.train.costs import with_costs
from tuidl.train.loop import fit

from .tiny import CPU, finished, of, spec_of, task_of


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
    spec = spec_of(training={"epochs": 2})
    stream = []
    for event in with_costs(fit(task_of(spec), spec), CPU):
        stream.append(event)
        if isinstance(event, events.Evaluated):
            time.sleep(0.2)  # what comes after the first step is no wait for it
    assert of(events.Metrics, stream)
    early = finished(stream).costs["first_step_seconds"]
    late = finished(list(with_costs(fit(task_of(spec), spec), CPU))).costs["first_step_seconds"]
    assert 0 < early < late - 0.2


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, 10**400, "3", None, [1.0]])
def test_what_a_file_claims_about_costs_is_told_only_where_it_is_a_number(value: object) -> None:
    assert told_costs({"first_step_seconds": value, "peak_memory": 750e6, "else": 3}) == ["0.75 GB of memory"]
