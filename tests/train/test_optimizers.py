"""Each optimizer takes the steps that its formula says, computed here a second time and in numpy."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from tuidl.spec.load import build_spec
from tuidl.spec.optimizers import OPTIMIZERS
from tuidl.train.updater import Updater

from .tiny import Quadratic, image_data, spec_of, task_of, weights

Array = NDArray[np.float64]
Gradient = Callable[[Array], Array]
Rule = Callable[..., Iterator[Array]]  # (θ, gradient, lr, **settings): θ after each step

STEPS = 8


def sgd(theta: Array, gradient: Gradient, lr: float) -> Iterator[Array]:
    """θ ← θ − η g (lecture: w = w − learning_rate ∂L/∂w)."""
    while True:
        theta = theta - lr * gradient(theta)
        yield theta


def momentum(theta: Array, gradient: Gradient, lr: float, momentum: float) -> Iterator[Array]:
    """v ← μv + g;  θ ← θ − ηv."""
    v = np.zeros_like(theta)
    while True:
        v = momentum * v + gradient(theta)
        theta = theta - lr * v
        yield theta


def nesterov(theta: Array, gradient: Gradient, lr: float, momentum: float) -> Iterator[Array]:
    """v ← μv + g;  θ ← θ − η(g + μv)."""
    v = np.zeros_like(theta)
    while True:
        g = gradient(theta)
        v = momentum * v + g
        theta = theta - lr * (g + momentum * v)
        yield theta


def adagrad(theta: Array, gradient: Gradient, lr: float, eps: float) -> Iterator[Array]:
    """Lecture: θ ← θ − η / √(G + ε) g. torch adds ε outside of the root: a relative difference of about ε."""
    total = np.zeros_like(theta)
    while True:
        g = gradient(theta)
        total = total + g**2
        theta = theta - lr / np.sqrt(total + eps) * g
        yield theta


def rmsprop(theta: Array, gradient: Gradient, lr: float, alpha: float, momentum: float, eps: float) -> Iterator[Array]:
    """v ← αv + (1 − α)g²;  b ← μb + g / (√v + ε);  θ ← θ − ηb."""
    v = b = np.zeros_like(theta)
    while True:
        g = gradient(theta)
        v = alpha * v + (1 - alpha) * g**2
        b = momentum * b + g / (np.sqrt(v) + eps)
        theta = theta - lr * b
        yield theta


def adadelta(theta: Array, gradient: Gradient, lr: float, rho: float, eps: float) -> Iterator[Array]:
    """v ← ρv + (1 − ρ)g²;  Δ = √(u + ε) / √(v + ε) g;  u ← ρu + (1 − ρ)Δ²;  θ ← θ − ηΔ."""
    u = v = np.zeros_like(theta)
    while True:
        g = gradient(theta)
        v = rho * v + (1 - rho) * g**2
        delta = np.sqrt(u + eps) / np.sqrt(v + eps) * g
        u = rho * u + (1 - rho) * delta**2
        theta = theta - lr * delta
        yield theta


def adam(theta: Array, gradient: Gradient, lr: float, beta1: float, beta2: float, eps: float) -> Iterator[Array]:
    """Lecture: θ ← θ − η / (√v + ε) m, m and v the means of gradient and square, corrected for their start."""
    m = v = np.zeros_like(theta)
    t = 0
    while True:
        t, g = t + 1, gradient(theta)
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        theta = theta - lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)
        yield theta


def adamax(theta: Array, gradient: Gradient, lr: float, beta1: float, beta2: float, eps: float) -> Iterator[Array]:
    """u ← max(β₂u, |g|);  θ ← θ − η m̂ / u. torch takes |g| + ε: a relative difference of about ε."""
    m = u = np.zeros_like(theta)
    t = 0
    while True:
        t, g = t + 1, gradient(theta)
        m, u = beta1 * m + (1 - beta1) * g, np.maximum(beta2 * u, np.abs(g))
        theta = theta - lr * (m / (1 - beta1**t)) / u
        yield theta


def nadam(theta: Array, gradient: Gradient, lr: float, beta1: float, beta2: float, eps: float) -> Iterator[Array]:
    """Dozat 2016, with his schedule μₜ = β₁(1 − ½ 0.96^(0.004t))."""
    m = v = np.zeros_like(theta)
    product, t = 1.0, 0
    while True:
        t, g = t + 1, gradient(theta)
        now, after = (beta1 * (1 - 0.5 * 0.96 ** (0.004 * time)) for time in (t, t + 1))
        product *= now
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        ahead = after * m / (1 - product * after) + (1 - now) * g / (1 - product)
        theta = theta - lr * ahead / (np.sqrt(v / (1 - beta2**t)) + eps)
        yield theta


def radam(theta: Array, gradient: Gradient, lr: float, beta1: float, beta2: float, eps: float) -> Iterator[Array]:
    """Liu et al. 2019: momentum alone until the length ρₜ of the running mean passes 5, then rectified Adam."""
    m = v = np.zeros_like(theta)
    longest, t = 2 / (1 - beta2) - 1, 0
    while True:
        t, g = t + 1, gradient(theta)
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        mean = m / (1 - beta1**t)
        length = longest - 2 * t * beta2**t / (1 - beta2**t)
        if length > 5:
            r = math.sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length))
            theta = theta - lr * r * mean * math.sqrt(1 - beta2**t) / (np.sqrt(v) + eps)
        else:
            theta = theta - lr * mean
        yield theta


# kind, rule, settings: once as they come and once far from the defaults, so that none can be ignored
RULES: list[tuple[str, Rule, dict[str, float]]] = [
    ("gradient-descent", sgd, {"lr": 0.2}),
    ("sgd", sgd, {"lr": 0.2}),
    ("momentum", momentum, {"lr": 0.05, "momentum": 0.9}),
    ("momentum", momentum, {"lr": 0.1, "momentum": 0.0}),
    ("nesterov", nesterov, {"lr": 0.05, "momentum": 0.9}),
    ("nesterov", nesterov, {"lr": 0.1, "momentum": 0.0}),
    ("adagrad", adagrad, {"lr": 0.1, "eps": 1e-10}),
    ("rmsprop", rmsprop, {"lr": 0.01, "alpha": 0.99, "momentum": 0.0, "eps": 1e-8}),
    ("rmsprop", rmsprop, {"lr": 0.01, "alpha": 0.7, "momentum": 0.5, "eps": 0.1}),
    ("adadelta", adadelta, {"lr": 1.0, "rho": 0.9, "eps": 1e-6}),
    ("adadelta", adadelta, {"lr": 0.5, "rho": 0.6, "eps": 1e-2}),
    ("adam", adam, {"lr": 0.1, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}),
    ("adam", adam, {"lr": 0.1, "beta1": 0.5, "beta2": 0.8, "eps": 0.1}),
    ("adamw", adam, {"lr": 0.1, "beta1": 0.5, "beta2": 0.8, "eps": 0.1}),
    ("adamax", adamax, {"lr": 0.1, "beta1": 0.9, "beta2": 0.999, "eps": 1e-12}),
    ("adamax", adamax, {"lr": 0.1, "beta1": 0.5, "beta2": 0.8, "eps": 1e-12}),
    ("nadam", nadam, {"lr": 0.1, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}),
    ("nadam", nadam, {"lr": 0.1, "beta1": 0.5, "beta2": 0.8, "eps": 0.1}),
    ("radam", radam, {"lr": 0.1, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}),
    ("radam", radam, {"lr": 0.1, "beta1": 0.5, "beta2": 0.8, "eps": 0.1}),
]


def test_the_rules_cover_every_optimizer() -> None:
    assert {kind for kind, _, _ in RULES} | {"muon"} == set(OPTIMIZERS)


def take_step(updater: Updater, model: Quadratic, lr: float, measure: bool = False) -> None:
    loss = model.loss()
    updater.backward(loss)
    updater.step(loss.detach(), lr, measure)


@pytest.mark.parametrize(("kind", "rule", "settings"), RULES)
def test_steps_follow_the_formula(kind: str, rule: Rule, settings: dict[str, float]) -> None:
    model = Quadratic()
    spec = build_spec({"optimizer": {"kind": kind, "weight_decay": 0.0, **settings}})
    lr = settings["lr"]
    expected = {}
    for name, parameter in model.named_parameters():
        a, c = model.stiffness[name].numpy(), model.centre[name].numpy()
        start: Array = parameter.detach().numpy().copy()
        expected[name] = rule(start, lambda theta, a=a, c=c: a * (theta - c), **settings)
    updater = Updater(model, spec)
    for step in range(STEPS):
        take_step(updater, model, lr)
        for name, parameter in model.named_parameters():
            # float64 all the way: the tolerance leaves room for ε inside or outside of a root, and for nothing else
            np.testing.assert_allclose(
                parameter.detach().numpy(), next(expected[name]), rtol=1e-7, atol=1e-9, err_msg=f"{name}, step {step}"
            )


@pytest.mark.parametrize("kind", sorted(OPTIMIZERS))
def test_lr_of_the_step_and_lr_factor_rule_how_far_it_goes(kind: str) -> None:
    """The rate is the one that the loop hands in for each step, times the updater's own factor."""

    def moved(lr: float, factor: float) -> torch.Tensor:
        model = Quadratic()
        start = model.matrix.detach().clone()
        take_step(Updater(model, build_spec({"optimizer": {"kind": kind, "lr": 7.0}}), lr_factor=factor), model, lr)
        return model.matrix.detach() - start

    assert moved(0.01, 1.0).norm() > 0
    torch.testing.assert_close(moved(0.02, 3.0), 6 * moved(0.01, 1.0), rtol=1e-5, atol=1e-9)
    assert moved(0.0, 1.0).norm() == 0


def test_muon_makes_the_step_of_a_matrix_orthogonal_and_moves_the_rest_with_adamw_at_a_tenth() -> None:
    model = Quadratic(torch.float32)
    model.stiffness["matrix"] = torch.tensor([[5.0, 0.1, 1.0], [0.2, 3.0, 0.1], [1.0, 0.3, 0.01]])
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    gradients = torch.autograd.grad(model.loss(), list(model.parameters()))
    assert torch.linalg.cond(gradients[0]) > 5  # not orthogonal by chance
    lr = 0.02
    take_step(Updater(model, build_spec({"optimizer": {"kind": "muon"}})), model, lr)
    stretch = torch.linalg.svdvals((before["matrix"] - model.matrix.detach()) / lr)
    assert (stretch > 0.6).all() and (stretch < 1.3).all()  # Newton and Schulz come near to 1 in five rounds
    torch.testing.assert_close(before["vector"] - model.vector.detach(), 0.1 * lr * gradients[1].sign())


def test_muon_moves_filters_and_trains_a_cnn() -> None:
    spec = spec_of(model={"kind": "cnn", "channels": [4], "widths": [6]}, optimizer={"kind": "muon"})
    task = task_of(spec)
    before = weights(task)
    task.begin_epoch(0)
    first = task.step(0, 0.02)[0]
    for index in (1, 2, 3) * 4:
        last = task.step(index, 0.02)[0]
    assert last < first
    assert all(not torch.equal(value, before[name]) for name, value in task.state().items())


@pytest.mark.parametrize("model", [{"kind": "mlp", "widths": [6]}, {"kind": "cnn", "channels": [3]}])
def test_full_batch_gradient_descent_is_the_exact_gradient_step_over_the_whole_training_split(
    model: dict[str, Any],
) -> None:
    data, lr = image_data(count=170), 0.3
    chunked, whole = (
        task_of(
            spec_of(model=model, optimizer={"kind": "gradient-descent"}, training={"epochs": 3, "batch_size": size}),
            data,
        )
        for size in (60, 170)  # 60 leaves a smaller last batch
    )
    assert chunked.steps_per_epoch == whole.steps_per_epoch == 1
    whole.load(chunked.state())
    by_hand = task_of(spec_of(model=model), data).model
    by_hand.load_state_dict(chunked.state())
    for epoch in range(3):
        parameters = list(by_hand.parameters())
        loss = F.cross_entropy(by_hand(chunked.normalised(data.train.images)), data.train.targets)
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= lr * gradient
        for task in (chunked, whole):
            task.begin_epoch(epoch)
            shown = task.step(0, lr)
            torch.testing.assert_close(shown[0], loss.detach(), rtol=1e-5, atol=1e-6)
            for name, value in by_hand.state_dict().items():
                torch.testing.assert_close(task.state()[name], value, rtol=1e-5, atol=1e-6)


def test_full_batch_gradient_descent_is_exact_with_class_weights_too() -> None:
    found = []
    for size in (60, 170):
        spec = spec_of(
            loss={"kind": "cross-entropy", "class_weights": [9.0, 1.0, 0.1, 0.0]},
            optimizer={"kind": "gradient-descent"},
            training={"batch_size": size},
        )
        task = task_of(spec, image_data(count=170))
        task.begin_epoch(0)
        found.append(task.step(0, 0.3)[0])
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "key", "before", "after", "rule", "fixed"),
    [
        ("momentum", "momentum", 0.0, 0.8, momentum, {}),
        ("nesterov", "momentum", 0.0, 0.8, nesterov, {}),
        ("rmsprop", "momentum", 0.0, 0.8, rmsprop, {"alpha": 0.9, "eps": 1e-8}),
    ],
)
def test_momentum_may_be_switched_on_while_training(
    kind: str, key: str, before: float, after: float, rule: Rule, fixed: dict[str, float]
) -> None:
    """What was not remembered before counts as standing still."""
    model, lr = Quadratic(), 0.05

    def spec(value: float) -> Any:
        return build_spec({"optimizer": {"kind": kind, "lr": lr, key: value, **fixed}})

    updater = Updater(model, spec(before))
    take_step(updater, model, lr)
    start: Array = model.matrix.detach().numpy().copy()
    updater.configure(spec(after))
    take_step(updater, model, lr)
    moved = np.abs(model.matrix.detach().numpy() - start)
    take_step(updater, model, lr)
    again = np.abs(model.matrix.detach().numpy() - start)
    assert np.isfinite(again).all() and (moved > 0).all() and (again > 1.2 * moved).all()


@pytest.mark.parametrize("kind", sorted(OPTIMIZERS))
def test_every_live_setting_may_change_between_steps_and_changes_them(kind: str) -> None:
    cls = OPTIMIZERS[kind]
    live = [
        name
        for name, info in cls.model_fields.items()
        if isinstance(info.json_schema_extra, dict) and info.json_schema_extra["live"] and name != "lr"
    ]

    def trained(changes: dict[str, float]) -> torch.Tensor:
        model = Quadratic()
        updater = Updater(model, build_spec({"optimizer": {"kind": kind}}))
        for _ in range(2):
            take_step(updater, model, 0.05)
        updater.configure(build_spec({"optimizer": {"kind": kind, **changes}}))
        for _ in range(12):
            take_step(updater, model, 0.05)
        return model.matrix.detach()

    untouched = trained({})
    assert "weight_decay" in live
    for name in live:
        assert not torch.allclose(trained({name: 0.55}), untouched, rtol=1e-9, atol=0), name


def test_update_ratio_is_the_share_of_the_weights_that_the_step_has_moved() -> None:
    for kind in ("sgd", "radam"):  # with and without a fused kernel
        model = Quadratic()
        updater = Updater(model, build_spec({"optimizer": {"kind": kind}}))
        for step in range(5):
            before = torch.cat([parameter.detach().flatten().clone() for parameter in model.parameters()])
            take_step(updater, model, 0.05, measure=step % 3 == 0)
            after = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
            if step % 3 == 0:
                expected = ((after - before).norm() / before.norm()).float()
            torch.testing.assert_close(updater.update_ratio, expected)
