"""The losses named in `tuidl.spec.losses`.

Classification losses take logits [B, K], class numbers [B] and the share ε of label smoothing, and return a scalar.
Adversarial losses take the discriminator's logits [B] of real and drawn images.
"""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from tuidl.errors import UsageError
from tuidl.spec import losses as spec

ClassLoss = Callable[[Tensor, Tensor, float], Tensor]


def smoothed(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Return the one-hot targets [B, K] with `smoothing` of each spread over all classes (Szegedy et al. 2016)."""
    hot = F.one_hot(targets, logits.shape[1]).to(logits.dtype)
    return hot * (1 - smoothing) + smoothing / logits.shape[1] if smoothing else hot


def cross_entropy(settings: spec.CrossEntropy, classes: int, device: torch.device) -> ClassLoss:
    """Return −Σ y log p, the classes weighted if asked; weights are scaled to a mean of one."""
    if not settings.class_weights:
        return lambda logits, targets, smoothing: F.cross_entropy(logits, targets, label_smoothing=smoothing)
    given = len(settings.class_weights)
    if given != classes:
        raise UsageError(f"loss.class_weights has {given} numbers, but the data has {classes} classes")
    if not any(settings.class_weights):
        raise UsageError("loss.class_weights are all zero; at least one class must count")
    weight = torch.tensor(settings.class_weights, device=device)
    weight = weight / weight.mean()
    # the mean over the examples, not torch's over the weights, so that the mean of all batches is that of the whole
    return lambda logits, targets, smoothing: (
        F.cross_entropy(logits, targets, weight, label_smoothing=smoothing, reduction="sum") / len(targets)
    )


def bce(settings: spec.BCE, classes: int, device: torch.device) -> ClassLoss:
    """Return one yes-or-no cross-entropy for each class, summed over classes."""
    return lambda logits, targets, smoothing: (
        F.binary_cross_entropy_with_logits(logits, smoothed(logits, targets, smoothing)) * logits.shape[1]
    )


def squared_error(settings: spec.SquaredError, classes: int, device: torch.device) -> ClassLoss:
    """Return Σ (y − s)² over classes, averaged over the batch."""
    return lambda logits, targets, smoothing: (smoothed(logits, targets, smoothing) - logits).square().sum(1).mean()


def absolute_error(settings: spec.AbsoluteError, classes: int, device: torch.device) -> ClassLoss:
    """Return Σ |y − s| over classes, averaged over the batch."""
    return lambda logits, targets, smoothing: (smoothed(logits, targets, smoothing) - logits).abs().sum(1).mean()


def huber(settings: spec.Huber, classes: int, device: torch.device) -> ClassLoss:
    """Return Huber's loss summed over classes, averaged over the batch."""
    return lambda logits, targets, smoothing: (
        F.huber_loss(logits, smoothed(logits, targets, smoothing), delta=settings.delta) * logits.shape[1]
    )


def kl_divergence(settings: spec.KL, classes: int, device: torch.device) -> ClassLoss:
    """Return Σ y log(y / p), averaged over the batch."""
    return lambda logits, targets, smoothing: F.kl_div(
        F.log_softmax(logits, 1), smoothed(logits, targets, smoothing), reduction="batchmean"
    )


def hinge(settings: spec.Hinge, classes: int, device: torch.device) -> ClassLoss:
    """Return the multi-class hinge; it looks at the order of scores, so smoothing does nothing to it."""
    return lambda logits, targets, smoothing: F.multi_margin_loss(logits.float(), targets, margin=settings.margin)


class NonSaturating:
    """Binary cross-entropy for the discriminator, −log D(G(z)) for the generator (Goodfellow et al. 2014)."""

    penalty = 0.0

    def __init__(self, settings: spec.AdversarialLoss) -> None:
        self.real_label = settings.real_label

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the loss of telling real logits from drawn ones."""
        return (
            F.binary_cross_entropy_with_logits(real, torch.full_like(real, self.real_label)) + F.softplus(fake).mean()
        )

    def generator(self, fake: Tensor) -> Tensor:
        """Return the loss of not being taken for real."""
        return F.softplus(-fake).mean()

    def belief(self, logits: Tensor) -> Tensor:
        """Return how real the discriminator holds images: the probability, where the loss has one, else its score."""
        return logits.sigmoid()


class LeastSquares(NonSaturating):
    """Squared distance of scores from their labels (Mao et al. 2016)."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the squared misses on both."""
        return (real - self.real_label).square().mean() + fake.square().mean()

    def generator(self, fake: Tensor) -> Tensor:
        """Return the squared miss of being taken for real."""
        return (fake - 1).square().mean()

    def belief(self, logits: Tensor) -> Tensor:
        """Return the score itself; its labels are 0 and 1."""
        return logits


class GanHinge(LeastSquares):
    """A margin of one on each side (Lim & Ye 2017)."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return how far each side is inside its margin."""
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()

    def generator(self, fake: Tensor) -> Tensor:
        """Return the negated score."""
        return -fake.mean()


class WassersteinGP(GanHinge):
    """The difference of scores; the trainer adds `penalty` × (slope − 1)² (Gulrajani et al. 2017)."""

    def __init__(self, settings: spec.AdversarialLoss) -> None:
        super().__init__(settings)
        self.penalty = cast(spec.WassersteinGP, settings).penalty

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return drawn minus real score: the negated estimate of the distance."""
        return fake.mean() - real.mean()
