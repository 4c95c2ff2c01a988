"""A moving average of the weights is what is measured, shown, kept as the best and tested; the run itself goes on."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tuidl.train import events
from tuidl.train.average import YOUNG, Average
from tuidl.train.events import Checkpoint, Event
from tuidl.train.loop import fit

from .tiny import done, finished, of, same, spec_of, task_of

TASKS = ["classification", "language", "gan"]


def test_the_average_is_what_its_formula_says() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    average = Average(model, memory=0.8)
    expected = {name: value.clone() for name, value in model.state_dict().items() if value.is_floating_point()}
    for age in range(1, 60):
        with torch.no_grad():
            for value in expected:
                model.state_dict()[value].add_(torch.randn(()))
        average.follow()
        share = max(1 - 0.8, YOUNG / (YOUNG + age))
        for name in expected:
            expected[name] += share * (model.state_dict()[name] - expected[name])
    held = average.model.state_dict()
    assert {"1.running_mean", "1.running_var"} <= expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(held[name], value)
        assert not torch.equal(held[name], model.state_dict()[name])


@pytest.mark.parametrize("task", TASKS)
def test_it_changes_nothing_of_the_training(task: str) -> None:
    states = []
    for average in (0.0, 0.9):
        trained = task_of(spec_of(task, training={"average": average}))
        trained.begin_epoch(0)
        rows = [[float(value) for value in trained.step(index, 0.01)] for index in range(3)]
        done(trained.evaluate())
        done(trained.sample())
        rows.append([float(value) for value in trained.step(3, 0.01)])
        states.append((rows, trained.state()))
    assert str(states[0][0]) == str(states[1][0])
    assert same(states[0][1], states[1][1])


@pytest.mark.parametrize("task", TASKS)
def test_it_is_what_is_judged_and_shown(task: str) -> None:
    trained = task_of(spec_of(task, training={"average": 0.9}))
    trained.begin_epoch(0)
    for index in range(4):
        trained.step(index, 0.05)
    judged = {name: value.clone() for name, value in trained.judged().items()}
    assert not same(judged, trained.state())
    plain = task_of(spec_of(task))
    plain.load(judged)
    found, expected = done(trained.evaluate()), done(plain.evaluate())
    assert found.metrics == expected.metrics
    drawn, wanted = done(trained.sample()), done(plain.sample())
    assert drawn == wanted


def spoil_later(task: Any) -> None:
    """Let all epochs after the second one end with weights of no use."""
    step, taken = task.step, itertools.count()

    def spoiling(index: int, lr: float) -> Any:
        row = step(index, lr)
        if next(taken) >= 2 * task.steps_per_epoch:
            for network in task.networks():
                for parameter in network.parameters():
                    parameter.data.fill_(-1)
        return row

    task.step = spoiling


@pytest.mark.parametrize("task", TASKS)
def test_the_best_average_is_kept_beside_the_weights_and_tested(task: str) -> None:
    learned_fast = {"optimizer": {"lr": 0.05}} if task == "classification" else {}
    spec = spec_of(task, training={"average": 0.9, "epochs": 4}, **learned_fast)
    trained = task_of(spec)
    spoil_later(trained)
    stream: list[Event] = []
    kept: dict[int, dict[str, Tensor]] = {}
    for event in fit(trained, spec):
        stream.append(event)
        if isinstance(event, Checkpoint):
            assert event.best_weights, "the best weights are an average, and never those of the step"
            kept[event.step] = {name: value.clone() for name, value in event.best_weights.items()}
            assert not same(event.weights, event.best_weights)
    best = int(finished(stream).metrics["best_step"])
    assert best <= 2 * trained.steps_per_epoch < finished(stream).step
    assert same(trained.judged(), kept[best]), "what was tested"
    final = [event for event in of(events.Evaluated, stream) if event.final]
    assert len(final) == 1


def test_noise_around_a_place_is_averaged_away() -> None:
    torch.manual_seed(0)
    model = nn.Linear(100, 100)
    average = Average(model, memory=0.98)
    for _ in range(600):
        with torch.no_grad():
            model.weight.normal_(3.0, 1.0)
        average.follow()
    spread = float((average.model.get_parameter("weight") - 3.0).std())
    assert spread == pytest.approx((0.02 / 1.98) ** 0.5, rel=0.05), "√(s / (2 − s)) for a share s"
