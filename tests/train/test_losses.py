"""Each loss equals its formula, written a second time in numpy."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tuidl.errors import UsageError
from tuidl.spec.losses import LOSSES
from tuidl.train.models.layers import resolve

from .tiny import CPU, TEXT, spec_of, task_of, text_data

Array = NDArray[np.float64]
B, K = 12, 5
SCORES = torch.randn(B, K, generator=torch.Generator().manual_seed(3)) * 3
TARGETS = torch.arange(B) % K


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def log_softmax(s: Array) -> Array:
    return np.asarray(s - np.log(np.exp(s).sum(1, keepdims=True)))


def cross_entropy(s: Array, y: Array) -> float:
    """−Σ yⱼ log pⱼ."""
    return float(-(y * log_softmax(s)).sum(1).mean())


def bce(s: Array, y: Array) -> float:
    """−Σ yⱼ log σ(sⱼ) + (1 − yⱼ) log(1 − σ(sⱼ))."""
    return float(-(y * np.log(sigmoid(s)) + (1 - y) * np.log(1 - sigmoid(s))).sum(1).mean())


def squared_error(s: Array, y: Array) -> float:
    """Σ (yⱼ − sⱼ)²."""
    return float(((y - s) ** 2).sum(1).mean())


def absolute_error(s: Array, y: Array) -> float:
    """Σ |yⱼ − sⱼ|."""
    return float(np.abs(y - s).sum(1).mean())


def huber(s: Array, y: Array) -> float:
    """½e² if |e| ≤ δ else δ(|e| − ½δ), δ = 1.5."""
    e = np.abs(y - s)
    return float(np.where(e <= 1.5, e**2 / 2, 1.5 * (e - 0.75)).sum(1).mean())


def kl(s: Array, y: Array) -> float:
    """Σ yⱼ log(yⱼ / pⱼ), 0 log 0 = 0."""
    own = np.where(y > 0, y * np.log(np.where(y > 0, y, 1)), 0)
    return float((own - y * log_softmax(s)).sum(1).mean())


def hinge(s: Array, y: Array) -> float:
    """Mean over classes of max(0, m − s_y + sⱼ), m = 2, the true class left out of the sum; no smoothing."""
    true = y.argmax(1)
    total = 0.0
    for row, label in zip(s, true, strict=True):
        total += sum(max(0.0, 2.0 - row[label] + row[j]) for j in range(K) if j != label) / K
    return total / len(s)


BY_HAND: dict[str, tuple[Callable[[Array, Array], float], dict[str, Any]]] = {
    "cross-entropy": (cross_entropy, {}),
    "bce": (bce, {}),
    "squared-error": (squared_error, {}),
    "l1": (absolute_error, {}),
    "huber": (huber, {"delta": 1.5}),
    "kl": (kl, {}),
    "hinge": (hinge, {"margin": 2.0}),
}


def loss_of(kind: str, **settings: Any) -> Any:
    cls = LOSSES[kind]
    return resolve(cls.entry)(cls(**settings), K, CPU)


def test_every_classification_loss_is_checked() -> None:
    assert BY_HAND.keys() == set(LOSSES.for_task("classification"))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("kind", BY_HAND)
def test_loss_equals_its_formula(kind: str, smoothing: float) -> None:
    formula, settings = BY_HAND[kind]
    soft = np.eye(K)[TARGETS.numpy()] * (1 - smoothing) + smoothing / K
    found = loss_of(kind, **settings)(SCORES, TARGETS, smoothing)
    assert found.ndim == 0
    assert float(found) == pytest.approx(formula(SCORES.double().numpy(), soft), rel=1e-5)


def test_kullback_leibler_equals_cross_entropy_for_certain_targets() -> None:
    torch.testing.assert_close(loss_of("kl")(SCORES, TARGETS, 0.0), loss_of("cross-entropy")(SCORES, TARGETS, 0.0))


def test_class_weights_weigh_each_class() -> None:
    """Mean over the examples of w_y (−log p_y), the weights scaled to a mean of one over the classes."""
    weights = np.array([0.0, 1.0, 2.0, 0.5, 10.0])
    found = loss_of("cross-entropy", class_weights=tuple(weights.tolist()))(SCORES, TARGETS, 0.0)
    own = (weights / weights.mean())[TARGETS.numpy()]
    surprise = -log_softmax(SCORES.double().numpy())[np.arange(B), TARGETS.numpy()]
    assert float(found) == pytest.approx(float((own * surprise).mean()), rel=1e-5)


def test_class_weights_that_are_all_zero_are_refused() -> None:
    with pytest.raises(UsageError, match="all zero"):
        loss_of("cross-entropy", class_weights=(0.0,) * K)


@pytest.mark.parametrize("count", [1, K - 1, K + 1])
def test_class_weights_of_the_wrong_length_are_refused(count: int) -> None:
    with pytest.raises(UsageError, match=rf"{count} numbers, but the data has {K} classes"):
        loss_of("cross-entropy", class_weights=(1.0,) * count)


def test_class_weights_count_the_characters_of_a_text() -> None:
    spec = spec_of("language", loss={"kind": "cross-entropy", "class_weights": [1.0] * 3})
    with pytest.raises(UsageError, match="class_weights"):
        task_of(spec, text_data(TEXT))


# --- adversarial -----------------------------------------------------------------------------------------------------

REAL = torch.tensor([2.0, -0.5, 0.3])
DRAWN = torch.tensor([-1.5, 0.7, 1.2])
real, drawn = REAL.double().numpy(), DRAWN.double().numpy()


def softplus(x: Array) -> Array:
    return np.log1p(np.exp(x))


# kind: real_label, L_D, L_G by hand
ADVERSARIAL: list[tuple[str, float, float, float]] = [
    # −log D(x) − log(1 − D(G(z))) and −log D(G(z))
    (
        "non-saturating",
        1.0,
        -np.log(sigmoid(real)).mean() - np.log(1 - sigmoid(drawn)).mean(),
        -np.log(sigmoid(drawn)).mean(),
    ),
    # a real label of 0.9: −0.9 log D(x) − 0.1 log(1 − D(x))
    (
        "non-saturating",
        0.9,
        (0.9 * softplus(-real) + 0.1 * softplus(real)).mean() + softplus(drawn).mean(),
        softplus(-drawn).mean(),
    ),
    # (D(x) − 1)² + D(G(z))² and (D(G(z)) − 1)²
    ("least-squares", 1.0, ((real - 1) ** 2).mean() + (drawn**2).mean(), ((drawn - 1) ** 2).mean()),
    ("least-squares", 0.8, ((real - 0.8) ** 2).mean() + (drawn**2).mean(), ((drawn - 1) ** 2).mean()),
    # max(0, 1 − D(x)) + max(0, 1 + D(G(z))) and −D(G(z))
    ("gan-hinge", 1.0, np.maximum(0, 1 - real).mean() + np.maximum(0, 1 + drawn).mean(), -drawn.mean()),
    # D(G(z)) − D(x) and −D(G(z))
    ("wgan-gp", 1.0, drawn.mean() - real.mean(), -drawn.mean()),
]


def test_every_adversarial_loss_is_checked() -> None:
    assert {case[0] for case in ADVERSARIAL} == set(LOSSES.for_task("gan"))


@pytest.mark.parametrize(("kind", "label", "of_discriminator", "of_generator"), ADVERSARIAL)
def test_adversarial_loss_equals_its_formula(
    kind: str, label: float, of_discriminator: float, of_generator: float
) -> None:
    cls: Any = LOSSES[kind]
    loss = resolve(cls.entry)(cls(real_label=label))
    assert float(loss.discriminator(REAL, DRAWN)) == pytest.approx(of_discriminator, rel=1e-5)
    assert float(loss.generator(DRAWN)) == pytest.approx(of_generator, rel=1e-5)
    believed = loss.belief(REAL)
    torch.testing.assert_close(believed, REAL.sigmoid() if kind == "non-saturating" else REAL)


@pytest.mark.parametrize("kind", LOSSES.for_task("gan"))
def test_each_side_is_pushed_the_right_way(kind: str) -> None:
    """The discriminator raises real scores and lowers drawn ones; the generator raises its own."""
    cls: Any = LOSSES[kind]
    loss = resolve(cls.entry)(cls())
    on_real, on_drawn = torch.full((3,), 0.1, requires_grad=True), torch.full((3,), -0.1, requires_grad=True)
    up, down = torch.autograd.grad(loss.discriminator(on_real, on_drawn), (on_real, on_drawn))
    if kind == "least-squares":  # wants 0 of drawn images, and they are below
        down = torch.autograd.grad(loss.discriminator(on_real, on_drawn.neg()), on_drawn)[0].neg()
    assert (up < 0).all() and (down > 0).all()
    (own,) = torch.autograd.grad(loss.generator(on_drawn), on_drawn)
    assert (own < 0).all()


class Slope(nn.Module):
    """A critic that is the same plane everywhere: D(x) = slope · mean direction."""

    def __init__(self, slope: float, pixels: int) -> None:
        super().__init__()
        direction = torch.randn(pixels, generator=torch.Generator().manual_seed(0))
        self.weight = nn.Parameter(slope * direction / direction.norm())

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weight


@pytest.mark.parametrize(("slope", "penalty"), [(1.0, 0.0), (3.0, 4.0), (0.5, 0.25), (0.0, 1.0)])
def test_gradient_penalty_is_the_squared_distance_of_the_slope_from_one(slope: float, penalty: float) -> None:
    task = task_of(spec_of("gan", loss={"kind": "wgan-gp"}))
    task.discriminator = Slope(slope, 64)
    images = task.scaled(task.data.train.images[:20])
    found = task._slope_penalty(images, -images)
    assert float(found.detach()) == pytest.approx(penalty, abs=1e-5)
    (gradient,) = torch.autograd.grad(found, task.discriminator.weight)  # it can be learned from
    assert (gradient.norm() > 0.1) == (slope not in (0.0, 1.0))


def test_gradient_penalty_looks_between_real_and_drawn_images() -> None:
    task = task_of(spec_of("gan", loss={"kind": "wgan-gp"}))
    seen: list[Tensor] = []
    task.discriminator = Slope(1.0, 64)
    task.discriminator.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    task._slope_penalty(torch.full((500, 1, 8, 8), 3.0), torch.full((500, 1, 8, 8), -1.0))
    (between,) = seen
    assert between.min() >= -1 and between.max() <= 3
    assert (between == between[:, :1, :1, :1]).all()  # one place for each image
    assert between[:, 0, 0, 0].std() == pytest.approx(4 / 12**0.5, rel=0.1)  # uniform on the line


def test_weight_of_the_gradient_penalty_may_change_while_training() -> None:
    losses = {}
    for penalty in (0.0, 10.0, 20.0):
        task = task_of(spec_of("gan", loss={"kind": "wgan-gp", "penalty": 1.0, "d_steps": 1}))
        task.configure(spec_of("gan", loss={"kind": "wgan-gp", "penalty": penalty, "d_steps": 1}))
        task.begin_epoch(0)
        task._noise = lambda count: torch.zeros(count, 4)  # without a penalty no mix is drawn, which would shift noise
        losses[penalty] = float(task.step(0, 0.0)[1])
    assert losses[20.0] - losses[0.0] == pytest.approx(2 * (losses[10.0] - losses[0.0]), rel=1e-3)
    assert losses[10.0] > losses[0.0] + 0.1
