"""Classifiers: images [B, C, H, W] to logits [B, classes]. `features` is what the last layer reads."""

import torch
from torch import Tensor, nn

from tuidl.errors import UsageError
from tuidl.spec import models as spec
from tuidl.train.models.layers import conv, dense, initialise

Shape = tuple[int, int, int]  # channels, height, width


class Classifier(nn.Module):
    """A network in two parts: `body` [B, C, H, W] to features [B, F], `output` to logits [B, classes]."""

    body: nn.Module
    output: nn.Module
    input_shape: Shape

    def features(self, images: Tensor) -> Tensor:
        """Return what the last layer reads: [B, C, H, W] to [B, F]."""
        features: Tensor = self.body(images)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits: [B, C, H, W] to [B, classes]."""
        logits: Tensor = self.output(self.features(images))
        return logits


class MLP(Classifier):
    """Dense layers over the flattened image (seed lecture 1)."""

    def __init__(self, settings: spec.MLP, shape: Shape, classes: int, dropout: float) -> None:
        super().__init__()
        self.input_shape = shape
        layers: list[nn.Module] = [nn.Flatten()]
        inputs = shape[0] * shape[1] * shape[2]
        for width in settings.widths:
            layers += dense(inputs, width, settings.activation, settings.batch_norm, dropout)
            inputs = width
        self.body = nn.Sequential(*layers)
        self.output = nn.Linear(inputs, classes)
        initialise(self, settings.init, settings.init_std)


class CNN(Classifier):
    """Blocks of convolution, activation and pooling, then dense layers (seed lectures 3 and 5)."""

    def __init__(self, settings: spec.CNN, shape: Shape, classes: int, dropout: float) -> None:
        super().__init__()
        self.input_shape = shape
        layers: list[nn.Module] = []
        inputs = shape[0]
        for channels in settings.channels:
            for _ in range(settings.convs):
                layers += conv(
                    inputs, channels, settings.activation, settings.batch_norm,
                    kernel=settings.kernel, stride=settings.stride, padding=settings.padding,
                )  # fmt: skip
                inputs = channels
            if settings.pooling != "none":
                pool = nn.MaxPool2d if settings.pooling == "max" else nn.AvgPool2d
                layers.append(pool(settings.pool_size))
            layers.append(nn.Dropout(dropout))
        if settings.head == "global":
            layers.append(nn.AdaptiveAvgPool2d(1))
        layers.append(nn.Flatten())
        inputs = _features(layers, shape)
        for width in settings.widths:
            layers += dense(inputs, width, settings.activation, settings.batch_norm, dropout)
            inputs = width
        self.body = nn.Sequential(*layers)
        self.output = nn.Linear(inputs, classes)
        initialise(self, settings.init, settings.init_std)


class LeNet5(Classifier):
    """The five-layer network of LeCun et al. 1998, for any image size that survives two poolings."""

    def __init__(self, settings: spec.LeNet5, shape: Shape, classes: int, dropout: float) -> None:
        super().__init__()
        self.input_shape = shape
        bend, norm = settings.activation, settings.batch_norm
        layers: list[nn.Module] = [
            *conv(shape[0], 6, bend, norm, kernel=5, padding=2 if shape[1] == 28 else 0), nn.AvgPool2d(2),
            *conv(6, 16, bend, norm, kernel=5, padding=0), nn.AvgPool2d(2), nn.Flatten(),
        ]  # fmt: skip
        layers += dense(_features(layers, shape), 120, bend, norm, dropout)
        layers += dense(120, 84, bend, norm, dropout)
        self.body = nn.Sequential(*layers)
        self.output = nn.Linear(84, classes)
        initialise(self, settings.init, settings.init_std)


class Residual(nn.Module):
    """x + F(x) with F two convolutions (He et al. 2015)."""

    def __init__(self, channels: int, bend: str, batch_norm: bool) -> None:
        super().__init__()
        self.change = nn.Sequential(
            *conv(channels, channels, bend, batch_norm), *conv(channels, channels, bend, batch_norm)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the input plus its change."""
        changed: Tensor = x + self.change(x)
        return changed


class Scale(nn.Module):
    """Multiplies by a fixed number."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Return x times the factor."""
        return x * self.factor


class ResNet(Classifier):
    """A small ResNet: a stem, then stages that halve the image, some with a residual block (after Page 2018)."""

    def __init__(self, settings: spec.ResNet, shape: Shape, classes: int, dropout: float) -> None:
        super().__init__()
        self.input_shape = shape
        bend, norm = settings.activation, settings.batch_norm
        layers: list[nn.Module] = conv(shape[0], settings.channels[0], bend, norm)
        if settings.residual and settings.residual[0]:
            layers.append(Residual(settings.channels[0], bend, norm))
        for stage, (inputs, outputs) in enumerate(zip(settings.channels, settings.channels[1:], strict=False), start=1):
            filters, *rest = conv(inputs, outputs, bend, norm)
            layers += [filters, nn.MaxPool2d(2), *rest]  # pooled first: a quarter of the numbers to norm and to bend
            if stage < len(settings.residual) and settings.residual[stage]:
                layers.append(Residual(outputs, bend, norm))
        layers += [nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Dropout(dropout)]
        self.body = nn.Sequential(*layers)
        _features(layers, shape)  # refuses more stages than the image can be halved
        self.output = nn.Sequential(nn.Linear(settings.channels[-1], classes), Scale(settings.logit_scale))
        initialise(self, settings.init, settings.init_std)


def _features(layers: list[nn.Module], shape: Shape) -> int:
    """Return how many numbers `layers` make of one image, by sending an empty one through."""
    try:
        with torch.no_grad():
            probe = nn.Sequential(*layers).eval()(torch.zeros(1, *shape))
    except RuntimeError as error:
        raise UsageError(
            f"the model shrinks a {shape[1]}x{shape[2]} image to nothing; take fewer blocks or less pooling"
        ) from error
    nn.Sequential(*layers).train()
    return int(probe.shape[1])
