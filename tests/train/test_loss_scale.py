"""fp16: small gradients survive, a step that overflows is left out, and only true infinities end a run."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tuidl.spec.optimizers import OPTIMIZERS
from tuidl.train.device import Hardware
from tuidl.train.loss_scale import CALM, FIRST, LEAST, LossScale
from tuidl.train.updater import Updater

from .tiny import CPU, Quadratic, finished, run_all, same, spec_of, task_of

FP16 = Hardware(CPU, "fp16", 1, ())


def updater_of(model: nn.Module, **optimizer: Any) -> Updater:
    return Updater(model, spec_of(optimizer=optimizer), hardware=FP16)


@contextmanager
def filled_with_nan() -> Iterator[None]:
    """Let memory that nobody has filled be seen."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def factor(updater: Updater) -> float:
    assert updater.scale
    return float(updater.scale.factor)


def state(updater: Updater) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in updater.saved("").tensors.items()}


def test_a_gradient_below_the_smallest_number_of_fp16_survives() -> None:
    found = {}
    for scaled in (False, True):
        torch.manual_seed(0)
        model = nn.Linear(4, 4)
        updater = Updater(model, spec_of(optimizer={"kind": "sgd"}), hardware=FP16 if scaled else None)
        with FP16.autocast():
            out = model(torch.ones(2, 4))
        loss = 1e-9 * out.float().sum()
        updater.backward(loss)
        updater.step(loss.detach(), 0.0)
        found[scaled] = float(updater.grad_norm)
    assert found[False] == 0
    assert found[True] == pytest.approx(1e-9 * (16 * 2**2 + 4 * 2**2) ** 0.5, rel=1e-3)


@pytest.mark.parametrize("taken", [0, 2])
@pytest.mark.parametrize("kind", sorted(OPTIMIZERS))
def test_a_step_that_overflows_is_left_out_and_the_next_is_taken_with_half_the_scale(kind: str, taken: int) -> None:
    model = Quadratic(torch.float32)
    updater = updater_of(model, kind=kind, weight_decay=0.1)
    for _ in range(taken):
        updater.backward(model.loss())
        updater.step(model.loss().detach(), 0.05)
    norm, before = float(updater.grad_norm), {name: value.clone() for name, value in model.state_dict().items()}
    updater.backward(model.loss())
    assert model.vector.grad is not None
    model.vector.grad[1] = float("inf")
    updater.step(model.loss().detach(), 0.05)
    assert same(model.state_dict(), before)
    assert all(torch.isfinite(value).all() for value in state(updater).values())
    assert float(updater.alive) == 1 and float(updater.grad_norm) == norm
    assert factor(updater) == FIRST / 2
    with filled_with_nan():
        updater.backward(model.loss())
        updater.step(model.loss().detach(), 0.05)
    assert not same(model.state_dict(), before)
    assert all((value - before[name]).abs().max() < 1 for name, value in model.state_dict().items())
    assert factor(updater) == FIRST / 2


def test_momentum_that_is_switched_on_live_begins_at_zero_although_its_first_step_overflows() -> None:
    model = Quadratic(torch.float32)
    updater = updater_of(model, kind="momentum", momentum=0.0)
    updater.configure(spec_of(optimizer={"kind": "momentum", "momentum": 0.9}))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for bad in (True, False):
        updater.backward(model.loss())
        assert model.vector.grad is not None
        if bad:
            model.vector.grad[1] = float("inf")
        with filled_with_nan():
            updater.step(model.loss().detach(), 0.05)
    assert all((value - before[name]).abs().max() < 1 for name, value in model.state_dict().items())


@pytest.mark.parametrize("kind", ["adam", "sgd", "momentum"])
def test_a_measurement_in_a_step_that_overflows_keeps_the_ratio(kind: str) -> None:
    model = Quadratic(torch.float32)
    updater = updater_of(model, kind=kind)
    updater.backward(model.loss())
    updater.step(model.loss().detach(), 0.05, measure=True)
    ratio = float(updater.update_ratio)
    updater.backward(model.loss())
    assert model.vector.grad is not None
    model.vector.grad[1] = float("inf")
    updater.step(model.loss().detach(), 0.05, measure=True)
    assert float(updater.update_ratio) == ratio > 0


PLAIN_NUMBERS: dict[str, dict[str, Any]] = {
    "penalty": {"regularization": {"l2": 0.1, "l1": 0.01}},
    "all batches": {"optimizer": {"kind": "gradient-descent"}},
    "gan": {"task": "gan", "regularization": {"l2": 0.01}},
}


@pytest.mark.parametrize("name", PLAIN_NUMBERS)
def test_every_gradient_is_scaled_alike(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With fp16's scale but fp32's numbers a run is the one in fp32, so each part of each gradient is scaled back."""
    monkeypatch.setattr(Hardware, "autocast", lambda self: nullcontext())
    found = []
    for precision in ("fp32", "fp16"):
        groups = {**PLAIN_NUMBERS[name], "precision": precision}
        task = task_of(spec_of(groups.pop("task", "classification"), **groups))
        task.begin_epoch(0)
        found.append([[float(value) for value in task.step(0, 0.01)] for _ in range(3)])
    torch.testing.assert_close(torch.tensor(found[1]), torch.tensor(found[0]), rtol=1e-4, atol=1e-6)


def test_what_is_too_large_for_fp16_is_named_as_a_cause() -> None:
    spec = spec_of(precision="fp16", model={"init": "normal", "init_std": 5.0, "widths": [250, 250, 250]})
    end = finished(run_all(task_of(spec), spec))
    assert end.status == "diverged" and "precision=fp32" in end.reason
    spec = spec_of(optimizer={"kind": "sgd", "lr": 1000.0}, loss={"kind": "squared-error"}, training={"epochs": 30})
    end = finished(run_all(task_of(spec), spec))
    assert end.status == "diverged" and "fp16" not in end.reason


def test_what_overflows_with_any_scale_ends_the_run() -> None:
    model = Quadratic(torch.float32)
    updater = updater_of(model, kind="adam")
    tries = 0
    while tries < 50:
        updater.backward(model.loss())
        assert model.vector.grad is not None
        model.vector.grad[1] = float("nan")
        updater.step(model.loss().detach(), 0.05)
        if not float(updater.alive):
            break
        tries += 1
    assert not torch.isfinite(updater.grad_norm), "which the loop takes for what it is"
    assert FIRST / 2**tries == LEAST


def test_a_loss_that_is_not_finite_ends_the_run_at_once() -> None:
    model = Quadratic(torch.float32)
    updater = updater_of(model, kind="adam")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    updater.backward(model.loss())
    updater.step(torch.tensor(float("inf")), 0.05)
    assert float(updater.alive) == 0 and same(model.state_dict(), before)


def test_the_scale_grows_after_many_calm_steps() -> None:
    scale = LossScale(CPU)
    for _ in range(CALM):
        assert float(scale.factor) == FIRST
        scale.unscale([torch.ones(3)])
    assert float(scale.factor) == 2 * FIRST


def test_the_same_steps_as_in_fp32_where_nothing_overflows() -> None:
    found = []
    for hardware in (None, FP16):
        model = Quadratic(torch.float32)
        updater = Updater(model, spec_of(optimizer={"kind": "adam"}), hardware=hardware)
        for _ in range(5):
            updater.backward(model.loss())
            updater.step(model.loss().detach(), 0.05)
        found.append((float(updater.grad_norm), {name: value.clone() for name, value in model.state_dict().items()}))
    assert found[0][0] == pytest.approx(found[1][0])
    for name, value in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], value)
