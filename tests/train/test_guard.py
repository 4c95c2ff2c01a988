"""The guard: from the first loss or gradient that is not finite on, no step touches the weights."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tuidl.spec.optimizers import OPTIMIZERS
from tuidl.train import events
from tuidl.train.updater import Updater

from .tiny import Quadratic, columns, finished, of, run_all, same, spec_of, still_clock, task_of, weights

GOOD = 3  # steps before the one that goes wrong


def spoil(task: Any, name: str, value: float, last: int = 10**9) -> dict[str, Tensor]:
    """Let attribute `name` be `value` from step GOOD + 1 to `last`; what is returned will hold the weights before."""
    before: dict[str, Tensor] = {}
    genuine, sound, taken = task.step, getattr(task, name), [0]

    def step(index: int, lr: float) -> Any:
        taken[0] += 1
        if taken[0] == GOOD + 1:
            before.update(weights(task))
        setattr(task, name, torch.full_like(sound, value) if GOOD < taken[0] <= last else sound)
        return genuine(index, lr)

    task.step = step
    return before


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("kind", sorted(OPTIMIZERS))
def test_a_run_ends_diverged_with_the_weights_of_the_last_finite_step(kind: str, value: float) -> None:
    spec = spec_of(
        optimizer={"kind": kind, "weight_decay": 0.1},
        regularization={"l2": 1e-3, "max_norm": 0.9},
        training={"epochs": 10, "batch_size": 50},
    )
    task = task_of(spec)
    before = spoil(task, "offset", value)
    stream = run_all(task, spec, clock=still_clock)  # nothing is drained before the end of an epoch
    end = finished(stream)
    assert end.status == "diverged"
    assert f"step {GOOD + 1}" in end.reason and f"step {GOOD}" in end.reason
    assert before and same(task.state(), before)
    assert not any(event.final for event in of(events.Evaluated, stream))
    assert not any(event.step > GOOD for event in of(events.Checkpoint, stream))


@pytest.mark.parametrize("kind", sorted(OPTIMIZERS))
def test_one_bad_step_is_enough_although_later_ones_are_sound(kind: str) -> None:
    """The loop needs a while to notice; until then the weights stand still."""
    spec = spec_of(
        model={"kind": "cnn", "channels": [3], "widths": [5]},
        optimizer={"kind": kind, "weight_decay": 0.1},
        regularization={"clip_norm": 1.0, "clip_value": 0.5},
        training={"epochs": 1, "batch_size": 20} if kind != "gradient-descent" else {"epochs": 10},
    )
    task = task_of(spec)
    before = spoil(task, "offset", float("nan"), last=GOOD + 1)
    lr = spec.optimizer.lr
    for _ in range(8):
        task.begin_epoch(0)
        row = dict(zip(task.columns, task.step(0, lr), strict=True))
    assert torch.isfinite(row["loss"])  # the later steps compute as if nothing had happened
    assert same(task.state(), before)
    assert row["update_ratio"] >= 0


@pytest.mark.parametrize("kind", sorted(OPTIMIZERS))
def test_a_gradient_that_is_not_finite_counts_although_the_loss_is(kind: str) -> None:
    model = Quadratic(torch.float32)
    updater = Updater(model, spec_of(optimizer={"kind": kind, "weight_decay": 0.1}))
    for _ in range(2):
        updater.backward(model.loss())
        updater.step(model.loss().detach(), 0.05)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for _ in range(2):
        updater.backward(model.loss())
        assert model.vector.grad is not None
        model.vector.grad[1] = float("inf")
        updater.step(model.loss().detach(), 0.05)
        assert float(updater.alive) == 0
        assert same(dict(model.named_parameters()), before)


def test_a_rate_that_is_far_too_high_ends_diverged() -> None:
    spec = spec_of(optimizer={"kind": "sgd", "lr": 1000.0}, loss={"kind": "squared-error"}, training={"epochs": 30})
    task = task_of(spec)
    end = finished(run_all(task, spec))
    assert end.status == "diverged"
    assert all(torch.isfinite(value).all() for value in task.state().values())


def test_what_is_not_finite_is_shown_and_not_hidden() -> None:
    spec = spec_of(training={"epochs": 2, "batch_size": 20})
    task = task_of(spec)
    spoil(task, "offset", float("nan"))
    shown = columns(run_all(task, spec, clock=still_clock))["loss"]
    assert len(shown) == 10  # the epoch is drained as a whole
    assert [value == value for value in shown] == [True] * GOOD + [False] * (10 - GOOD)


def test_language_keeps_the_weights_of_the_last_finite_step() -> None:
    spec = spec_of("language", regularization={"clip_norm": 1.0})
    task = task_of(spec)
    before: dict[str, Tensor] = {}
    genuine, taken = task.step, [0]

    def step(index: int, lr: float) -> Any:
        taken[0] += 1
        if taken[0] == GOOD + 1:
            before.update(weights(task))
            task.memory = tuple(torch.full_like(part, float("nan")) for part in task.memory)
        return genuine(index, lr)

    task.step = step
    end = finished(run_all(task, spec, clock=still_clock))
    assert end.status == "diverged" and f"step {GOOD + 1}" in end.reason
    assert same(task.state(), before)


def spoil_gan(task: Any) -> dict[str, Tensor]:
    """Let the real images be NaN from step GOOD + 1 on."""
    before: dict[str, Tensor] = {}
    genuine, scaled, taken = task.step, task.scaled, [0]

    def step(index: int, lr: float) -> Any:
        taken[0] += 1
        if taken[0] == GOOD + 1:
            before.update(weights(task))
            task.scaled = lambda images: scaled(images) * float("nan")
        return genuine(index, lr)

    task.step = step
    return before


@pytest.mark.parametrize("kind", ["adam", "radam"])
def test_a_gan_ends_diverged_and_keeps_the_discriminator_of_the_last_finite_step(kind: str) -> None:
    spec = spec_of("gan", optimizer={"kind": kind}, training={"epochs": 1, "batch_size": 20})
    task = task_of(spec)
    before = spoil_gan(task)
    end = finished(run_all(task, spec, clock=still_clock))
    assert end.status == "diverged" and f"step {GOOD + 1}" in end.reason
    after = weights(task)
    kept = [name for name in before if name.startswith("discriminator.")]
    assert kept and all(torch.equal(before[name], after[name]) for name in kept)


@pytest.mark.parametrize("kind", ["adam", "radam"])
def test_a_gan_keeps_the_generator_of_the_last_finite_step_too(kind: str) -> None:
    spec = spec_of("gan", optimizer={"kind": kind}, training={"epochs": 1, "batch_size": 20})
    task = task_of(spec)
    before = spoil_gan(task)
    run_all(task, spec, clock=still_clock)
    parameters = [f"generator.{name}" for name, _ in task.generator.named_parameters()]
    assert all(torch.equal(before[name], task.state()[name]) for name in parameters)
