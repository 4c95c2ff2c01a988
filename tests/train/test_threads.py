"""The number of threads is the one that steps are fastest with, and nothing of the run is touched by trying."""

import dataclasses
from typing import Any

import pytest
import torch

from tuidl.train import threads
from tuidl.train.device import Hardware
from tuidl.train.threads import fit_threads

from .tiny import spec_of, task_of

CPU = Hardware(torch.device("cpu"), "fp32", 8, ("device cpu: asked for", "threads 8: one for each core"))


@pytest.fixture(autouse=True)
def own_number(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The tests' own number of threads comes back, and nobody has asked for one."""
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    yield
    torch.set_num_threads(before)


class Rehearsal:
    """A task whose steps take `seconds` of the clock by number of threads."""

    steps_per_epoch = 3

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: dict[int, float]) -> None:
        self.seconds, self.now, self.tried = seconds, 0.0, []
        monkeypatch.setattr(threads.time, "perf_counter", lambda: self.now)

    def begin_epoch(self, epoch: int) -> None:
        pass

    def step(self, index: int, lr: float) -> None:
        assert 0 <= index < self.steps_per_epoch and lr == 0.0
        count = torch.get_num_threads()
        self.tried.append(count)
        self.now += self.seconds[count]


@pytest.mark.parametrize(
    ("seconds", "chosen", "tried"),
    [
        ({8: 0.04, 4: 0.03, 2: 0.02, 1: 0.01}, 1, [8, 4, 2, 1]),
        ({8: 0.01, 4: 0.02}, 8, [8, 4]),
        ({8: 0.0100, 4: 0.0102, 2: 0.02}, 4, [8, 4, 2]),
        ({8: 0.0100, 4: 0.0110, 2: 0.0120, 1: 0.02}, 8, [8, 4, 2, 1]),
        ({8: 2.0, 4: 1.0, 2: 5.0}, 4, [8, 4, 2]),
    ],
    ids=["the smaller the better", "all cores", "no gain", "a little gain", "slow steps"],
)
def test_the_fastest_number_is_taken(
    seconds: dict[int, float], chosen: int, tried: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Rehearsal(monkeypatch, seconds)
    found = fit_threads(CPU, 0, lambda hardware: task)  # type: ignore[arg-type,return-value]
    assert found.threads == torch.get_num_threads() == chosen
    assert list(dict.fromkeys(task.tried)) == tried
    assert found.reasons[0] == CPU.reasons[0]
    assert found.reasons[1].startswith(f"threads {chosen}: ") and "ms with 8" in found.reasons[1]


def test_a_busy_moment_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Rehearsal(monkeypatch, {8: 0.01, 4: 0.02, 2: 0.04, 1: 0.08})
    step = task.step

    def disturbed(index: int, lr: float) -> None:
        step(index, lr)
        task.now += 0.03 * (task.now < 0.3)  # longer than the first look at 8 threads

    monkeypatch.setattr(task, "step", disturbed)
    found = fit_threads(CPU, 0, lambda hardware: task)  # type: ignore[arg-type,return-value]
    assert found.threads == 8


@pytest.mark.parametrize(
    ("hardware", "wanted"),
    [(CPU, 3), (dataclasses.replace(CPU, threads=1), 0), (dataclasses.replace(CPU, device=torch.device("cuda")), 0)],
    ids=["asked for", "one core", "a GPU"],
)
def test_nothing_is_tried_where_there_is_nothing_to_choose(hardware: Hardware, wanted: int) -> None:
    assert fit_threads(hardware, wanted, lambda trial: pytest.fail("tried")) is hardware


def test_omp_num_threads_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert fit_threads(CPU, 0, lambda trial: pytest.fail("tried")) is CPU


def test_trying_leaves_no_trace_in_a_run() -> None:
    """Steps are the same to the bit whether or not others were rehearsed before."""
    spec = spec_of(regularization={"dropout": 0.3}, augmentation={"flip": 0.5})
    rows = []
    for rehearsed in (False, True):
        if rehearsed:
            fit_threads(dataclasses.replace(CPU, threads=2), 0, lambda trial: task_of(spec))
        torch.set_num_threads(1)
        task = task_of(spec)
        task.begin_epoch(0)
        rows.append([[float(value) for value in task.step(index, 0.1)] for index in range(4)])
    assert rows[0] == rows[1]
