"""The losses. Label smoothing is a regularizer and stands in `tuidl.spec.regularizers`."""

from typing import Annotated, Literal

from pydantic import Field

from tuidl.spec.settings import Choice, Registry, setting

_LOSSES = "tuidl.train.losses"


class Loss(Choice):
    """A loss and its settings."""


LOSSES: Registry[Loss] = Registry("loss")


@LOSSES.add(
    "cross-entropy",
    title="Cross-entropy",
    summary="Surprise at the true class: the default for choosing one of many.",
    formula="−Σ yⱼ log pⱼ",
    source="seed lectures 3, 4 and 5",
    implementation=f"{_LOSSES}:cross_entropy",
)
class CrossEntropy(Loss):
    """Settings of the cross-entropy."""

    kind: Literal["cross-entropy"] = "cross-entropy"
    tasks = ("classification", "language")
    class_weights: tuple[Annotated[float, Field(ge=0, le=1000)], ...] = setting(
        (), help="How much each class counts, in order; empty counts all alike.", max_length=4096
    )


class _OfScores(Loss):
    tasks = ("classification",)


@LOSSES.add(
    "bce",
    title="Binary cross-entropy",
    summary="One yes-or-no question for each class.",
    formula="−Σ yⱼ log σ(sⱼ) + (1 − yⱼ) log(1 − σ(sⱼ))",
    source="seed lectures 4 and 5",
    implementation=f"{_LOSSES}:bce",
)
class BCE(_OfScores):
    """Settings of the binary cross-entropy."""

    kind: Literal["bce"] = "bce"


@LOSSES.add(
    "squared-error",
    title="Squared error",
    summary="Distance of the outputs from the one-hot target, squared; large misses dominate.",
    formula="Σ (yⱼ − sⱼ)²",
    source="seed lectures 2 and 4",
    implementation=f"{_LOSSES}:squared_error",
)
class SquaredError(_OfScores):
    """Settings of the squared error."""

    kind: Literal["squared-error"] = "squared-error"


@LOSSES.add(
    "l1",
    title="Absolute error",
    summary="Distance of the outputs from the one-hot target; outliers count no more than their size.",
    formula="Σ |yⱼ − sⱼ|",
    source="seed lecture 5",
    implementation=f"{_LOSSES}:absolute_error",
)
class AbsoluteError(_OfScores):
    """Settings of the absolute error."""

    kind: Literal["l1"] = "l1"


@LOSSES.add(
    "huber",
    title="Huber",
    summary="Squared for small misses, absolute for large ones.",
    formula="½e² if |e| ≤ δ else δ(|e| − ½δ)",
    source="Huber 1964",
    implementation=f"{_LOSSES}:huber",
)
class Huber(_OfScores):
    """Settings of the Huber loss."""

    kind: Literal["huber"] = "huber"
    delta: float = setting(1.0, help="Where squared turns into absolute.", gt=0, le=100)


@LOSSES.add(
    "kl",
    title="Kullback-Leibler",
    summary="How far the predicted distribution is from the target's; equals cross-entropy when targets are certain.",
    formula="Σ yⱼ log(yⱼ / pⱼ)",
    source="seed lecture 5",
    implementation=f"{_LOSSES}:kl_divergence",
)
class KL(_OfScores):
    """Settings of the Kullback-Leibler divergence."""

    kind: Literal["kl"] = "kl"


@LOSSES.add(
    "hinge",
    title="Hinge",
    summary="Wants the true class ahead of each other by a margin, then stops caring.",
    formula="mean max(0, m − s_y + sⱼ)",
    source="Crammer & Singer 2001",
    implementation=f"{_LOSSES}:hinge",
)
class Hinge(_OfScores):
    """Settings of the multi-class hinge loss."""

    kind: Literal["hinge"] = "hinge"
    margin: float = setting(1.0, help="By how much the true class must lead.", gt=0, le=100)


class AdversarialLoss(Loss):
    """What generator and discriminator play for, and how often the discriminator moves."""

    tasks = ("gan",)
    d_steps: int = setting(1, help="Discriminator steps before each generator step.", unit="steps", ge=1, le=20)
    d_lr_factor: float = setting(
        1.0, help="The discriminator's learning rate as a multiple of the generator's.", gt=0, le=100, live=True
    )
    real_label: float = setting(
        1.0,
        help="What the discriminator should say of a real image, 0.9 keeps it humble; only where the loss has labels.",
        ge=0.5,
        le=1.0,
    )


@LOSSES.add(
    "non-saturating",
    title="Non-saturating",
    summary="The generator maximises the odds of being taken for real.",
    formula="L_D = −log D(x) − log(1 − D(G(z)));  L_G = −log D(G(z))",
    source="Goodfellow et al. 2014",
    implementation=f"{_LOSSES}:NonSaturating",
)
class NonSaturating(AdversarialLoss):
    """Settings of the non-saturating GAN loss."""

    kind: Literal["non-saturating"] = "non-saturating"


@LOSSES.add(
    "least-squares",
    title="Least squares",
    summary="Real images score 1, drawn ones 0, misses are squared: gradients do not vanish.",
    formula="L_D = (D(x) − 1)² + D(G(z))²;  L_G = (D(G(z)) − 1)²",
    source="Mao et al. 2016",
    implementation=f"{_LOSSES}:LeastSquares",
)
class LeastSquares(AdversarialLoss):
    """Settings of the least-squares GAN loss."""

    kind: Literal["least-squares"] = "least-squares"


@LOSSES.add(
    "gan-hinge",
    title="Hinge GAN",
    summary="The discriminator keeps a margin of one and then rests.",
    formula="L_D = max(0, 1 − D(x)) + max(0, 1 + D(G(z)));  L_G = −D(G(z))",
    source="Lim & Ye 2017",
    implementation=f"{_LOSSES}:GanHinge",
)
class GanHinge(AdversarialLoss):
    """Settings of the hinge GAN loss."""

    kind: Literal["gan-hinge"] = "gan-hinge"


@LOSSES.add(
    "wgan-gp",
    title="Wasserstein with gradient penalty",
    summary="A critic estimates the distance between drawn and real; its slope is held at one.",
    formula="L_D = D(G(z)) − D(x) + λ(‖∇D(x̂)‖ − 1)²;  L_G = −D(G(z))",
    source="Gulrajani et al. 2017",
    implementation=f"{_LOSSES}:WassersteinGP",
)
class WassersteinGP(AdversarialLoss):
    """Settings of the Wasserstein loss with gradient penalty."""

    kind: Literal["wgan-gp"] = "wgan-gp"
    d_steps: int = setting(5, help="Discriminator steps before each generator step.", unit="steps", ge=1, le=20)
    penalty: float = setting(10.0, help="Weight λ of the gradient penalty.", ge=0, le=1000, live=True)
