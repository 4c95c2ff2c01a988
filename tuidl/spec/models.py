"""The models and their settings. Dropout is a regularizer and stands in `tuidl.spec.regularizers`."""

from typing import Annotated, Literal

from pydantic import Field

from tuidl.spec.layers import ActivationName, InitName
from tuidl.spec.settings import Choice, Registry, setting

Width = Annotated[int, Field(ge=1, le=8192)]
Channels = Annotated[int, Field(ge=1, le=2048)]


class Model(Choice):
    """A model and its settings."""


MODELS: Registry[Model] = Registry("model")


class _Layered(Model):
    activation: ActivationName = setting("relu", help="The bend after each hidden layer.")
    batch_norm: bool = setting(
        False, help="Normalise each hidden layer over the batch: faster, and mildly regularizing."
    )
    init: InitName = setting("default", help="How the weights start.")
    init_std: float = setting(0.05, help="Spread of the weights when init is normal.", gt=0, le=10)


class _Convolutional(_Layered):
    first_filters: Literal["random", "whitening"] = setting(
        "random", help="First filters: random ones that learn, or fixed ones that even out the patterns of the images."
    )


@MODELS.add(
    "mlp",
    title="Multi-layer perceptron",
    summary="Dense layers: each unit sees every output of the layer before.",
    formula="h⁽ᵗ⁾ = g(W⁽ᵗ⁾ h⁽ᵗ⁻¹⁾ + b⁽ᵗ⁾)",
    source="seed lectures 1 and 2",
    implementation="tuidl.train.models.classifiers:MLP",
)
class MLP(_Layered):
    """Settings of a multi-layer perceptron."""

    kind: Literal["mlp"] = "mlp"
    tasks = ("classification",)
    widths: tuple[Width, ...] = setting(
        (250, 100), help="Units of each hidden layer, first to last.", unit="units", max_length=16
    )


@MODELS.add(
    "cnn",
    title="Plain convolutional network",
    summary="Blocks of convolution, bend and pooling, then dense layers: the same small filter looks everywhere.",
    formula="y = g(w ∗ x + b), pooled",
    source="seed lectures 1, 3 and 5",
    implementation="tuidl.train.models.classifiers:CNN",
)
class CNN(_Convolutional):
    """Settings of a plain stack of convolutions."""

    kind: Literal["cnn"] = "cnn"
    tasks = ("classification",)
    channels: tuple[Channels, ...] = setting(
        (32, 64, 128), help="Filters of each block, first to last.", unit="filters", min_length=1, max_length=12
    )
    convs: int = setting(1, help="Convolutions in each block.", ge=1, le=4)
    kernel: int = setting(3, help="Side of a filter.", unit="pixels", ge=1, le=11)
    stride: int = setting(1, help="How far a filter jumps.", unit="pixels", ge=1, le=4)
    padding: int = setting(1, help="Black border added before each convolution.", unit="pixels", ge=0, le=5)
    pooling: Literal["max", "average", "none"] = setting("max", help="What a pooling window keeps.")
    pool_size: int = setting(2, help="Side and stride of a pooling window.", unit="pixels", ge=1, le=8)
    head: Literal["flatten", "global"] = setting(
        "flatten", help="Hand every position to the dense layers, or the mean of each filter."
    )
    widths: tuple[Width, ...] = setting(
        (), help="Units of the dense layers before the output.", unit="units", max_length=8
    )


@MODELS.add(
    "lenet5",
    title="LeNet-5",
    summary="The network that read the digits on cheques: two convolutions, two poolings, three dense layers.",
    formula="C6 → S → C16 → S → 120 → 84 → classes",
    source="LeCun et al. 1998; seed lecture 3",
    implementation="tuidl.train.models.classifiers:LeNet5",
)
class LeNet5(_Layered):
    """Settings of LeNet-5."""

    kind: Literal["lenet5"] = "lenet5"
    tasks = ("classification",)
    activation: ActivationName = setting("tanh", help="The bend after each hidden layer.")


@MODELS.add(
    "resnet",
    title="Small ResNet",
    summary="Convolutions with shortcuts around them, so that depth does not hurt.",
    formula="y = x + F(x)",
    source="He et al. 2015; the nine-layer form after Page 2018",
    implementation="tuidl.train.models.classifiers:ResNet",
)
class ResNet(_Convolutional):
    """Settings of a small ResNet."""

    kind: Literal["resnet"] = "resnet"
    tasks = ("classification",)
    channels: tuple[Channels, ...] = setting(
        (64, 128, 256, 512), help="Filters of each stage.", unit="filters", min_length=2, max_length=6
    )
    residual: tuple[bool, ...] = setting(
        (False, True, False, True), help="Which stages hold a residual block.", max_length=6
    )
    batch_norm: bool = setting(
        True, help="Normalise each hidden layer over the batch: faster, and mildly regularizing."
    )
    logit_scale: float = setting(
        0.125, help="What the output is multiplied by; small keeps the loss calm.", gt=0, le=10
    )


class Recurrent(Model):
    """Settings that all recurrent networks share."""

    tasks = ("language",)
    width: int = setting(256, help="Size of the hidden state: the memory.", unit="units", ge=1, le=4096)
    layers: int = setting(1, help="Recurrent layers on top of each other.", ge=1, le=8)
    embedding: int = setting(64, help="Numbers that stand for one character.", unit="numbers", ge=1, le=2048)
    unroll: int = setting(64, help="How far back a step's gradient reaches.", unit="characters", ge=2, le=2048)
    carry_state: bool = setting(
        True, help="Keep the hidden state from one step to the next, so that memory outlasts the unroll."
    )
    init: InitName = setting("default", help="How the weights start.")
    init_std: float = setting(0.05, help="Spread of the weights when init is normal.", gt=0, le=10)


_CELL = "tuidl.train.models.recurrent:CharRNN"


@MODELS.add(
    "rnn",
    title="Recurrent network",
    summary="Reads a character, mixes it into its state, guesses the next.",
    formula="hₜ = tanh(W xₜ + U hₜ₋₁ + b)",
    source="Elman 1990; seed lecture 4",
    implementation=_CELL,
)
class RNN(Recurrent):
    """Settings of a plain recurrent network."""

    kind: Literal["rnn"] = "rnn"


@MODELS.add(
    "lstm",
    title="LSTM",
    summary="A recurrent network with gates that decide what to forget, store and show.",
    formula="cₜ = fₜ cₜ₋₁ + iₜ c̃ₜ;  hₜ = oₜ tanh(cₜ)",
    source="Hochreiter & Schmidhuber 1997; seed lecture 4",
    implementation=_CELL,
)
class LSTM(Recurrent):
    """Settings of an LSTM."""

    kind: Literal["lstm"] = "lstm"


@MODELS.add(
    "gru",
    title="GRU",
    summary="An LSTM with one gate less and no separate cell: fewer weights, often as good.",
    formula="hₜ = (1 − zₜ) nₜ + zₜ hₜ₋₁",
    source="Cho et al. 2014; seed lecture 3",
    implementation=_CELL,
)
class GRU(Recurrent):
    """Settings of a GRU."""

    kind: Literal["gru"] = "gru"


class Adversarial(Model):
    """Settings that all pairs of generator and discriminator share."""

    tasks = ("gan",)
    latent: int = setting(64, help="Random numbers an image is made from.", unit="numbers", ge=1, le=1024)
    activation: ActivationName = setting("leaky-relu", help="The bend after each hidden layer of the discriminator.")
    init: InitName = setting("normal", help="How the weights start.")
    init_std: float = setting(0.02, help="Spread of the weights when init is normal.", gt=0, le=10)


@MODELS.add(
    "gan-mlp",
    title="GAN of dense layers",
    summary="Two perceptrons: one draws, one tells drawn from real.",
    formula="G(z), D(x)",
    source="Goodfellow et al. 2014; seed lecture 4",
    implementation="tuidl.train.models.adversarial:build_mlp_gan",
)
class GanMLP(Adversarial):
    """Settings of a GAN of dense layers."""

    kind: Literal["gan-mlp"] = "gan-mlp"
    init: InitName = setting("default", help="How the weights start.")
    widths: tuple[Width, ...] = setting(
        (256, 512),
        help="Hidden units of the generator; the discriminator has them in reverse.",
        unit="units",
        min_length=1,
        max_length=8,
    )


@MODELS.add(
    "dcgan",
    title="DCGAN",
    summary="Two convolutional networks: one grows an image from noise, one tells it from real ones.",
    formula="G: transposed convolutions, D: strided convolutions",
    source="Radford et al. 2015; seed lecture 4",
    implementation="tuidl.train.models.adversarial:build_dcgan",
)
class DCGAN(Adversarial):
    """Settings of a DCGAN."""

    kind: Literal["dcgan"] = "dcgan"
    channels: int = setting(
        64, help="Filters at full size; each smaller size has twice as many.", unit="filters", ge=4, le=512
    )
    batch_norm: bool = setting(
        True, help="Normalise each hidden layer over the batch: faster, and mildly regularizing."
    )
