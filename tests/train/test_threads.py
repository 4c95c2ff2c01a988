"""The number of threads is the one that steps are fastest with, and nothing of the run is touched by trying."""

import dataclasses
import subprocess
from typing import Any

import pytest
import torch

from tuidl.runs import RunReader, read_spec
from tuidl.train import threads
from tuidl.train.device import Hardware
from tuidl.train.threads import fit_threads

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


def test_trying_leaves_no_trace_in_a_run(tuidl: Any) -> None:
    """A run whose threads were tried is the run with that number asked for."""
    free = {name: value for name, value in tuidl.environ.items() if name != "OMP_NUM_THREADS"}
    words = tuidl.language("--name", "tried", "--set", "training.threads=0")
    done = subprocess.run(
        [*tuidl.command, *words], env=free, cwd=tuidl.root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = read_spec(tuidl.paths("tried"))
    count = told["device"]["threads"]
    assert tuidl(*tuidl.language("--name", "asked", "--set", f"training.threads={count}")).returncode == 0
    tried, asked = losses(tuidl.reader("tried")), losses(tuidl.reader("asked"))
    assert len(tried) == 20 and tried == asked


def losses(reader: RunReader) -> list[float]:
    return [loss for block in reader.metrics() for loss in block.columns["loss"]]
