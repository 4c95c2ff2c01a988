"""fp16: small gradients survive, a step that overflows is left out, and only true infinities end a run."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tuidl.spec.optimizers import OPTIMIZERS
from tuidl.train.device import Hardware
from tuidl.train.loss_scale import CALM, FIRST, LEAST, LossScale
from tuidl.train.updater import Updater

from .tiny import CPU, Quadratic, same, spec_of

FP16 = Hardware(CPU, "fp16", 1, ())


def updater_of(model: nn.Module, **optimizer: Any) -> Updater:
    return Updater(model, spec_of(optimizer=optimizer), hardware=FP16)


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


@pytest.mark.parametrize("kind", sorted(OPTIMIZERS))
def test_a_step_that_overflows_is_left_out_and_the_next_is_taken_with_half_the_scale(kind: str) -> None:
    model = Quadratic(torch.float32)
    updater = updater_of(model, kind=kind, weight_decay=0.1)
    for _ in range(2):
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
    updater.backward(model.loss())
    updater.step(model.loss().detach(), 0.05)
    assert not same(model.state_dict(), before)
    assert factor(updater) == FIRST / 2


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
