"""Generators z [B, latent] to images [B, C, H, W] in −1..1, and discriminators back to one logit [B]."""

import torch
from torch import Tensor, nn

from tuidl.errors import UsageError
from tuidl.spec.models import DCGAN, GanMLP
from tuidl.train.models.classifiers import Shape
from tuidl.train.models.layers import conv, dense, initialise


class Generator(nn.Module):
    """Draws an image from noise: z [B, latent] to [B, C, H, W] in −1..1."""

    def __init__(self, layers: list[nn.Module], latent: int) -> None:
        super().__init__()
        self.latent = latent
        self.body = nn.Sequential(*layers, nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        """Return the drawn images."""
        images: Tensor = self.body(z)
        return images


class Fold(nn.Module):
    """Folds [B, C·S·S] into images [B, C, S, S], laid out with channels last, as convolutions are fastest."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.shape = (channels, side, side)

    def forward(self, x: Tensor) -> Tensor:
        """Return the folded numbers."""
        images: Tensor = x.unflatten(1, self.shape)
        return images.contiguous(memory_format=torch.channels_last)


class Discriminator(nn.Module):
    """Tells real from drawn: images [B, C, H, W] to logits [B], larger for real."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """Return one logit for each image."""
        logits: Tensor = self.body(images).flatten()
        return logits


def build_mlp_gan(settings: GanMLP, shape: Shape, dropout: float, critic_norm: bool) -> tuple[Generator, Discriminator]:
    """Return a generator and a discriminator of dense layers (Goodfellow et al. 2014)."""
    pixels = shape[0] * shape[1] * shape[2]
    up: list[nn.Module] = []
    inputs = settings.latent
    for width in settings.widths:
        up += dense(inputs, width, "relu", True, 0.0)
        inputs = width
    up += [nn.Linear(inputs, pixels), nn.Unflatten(1, shape)]
    down: list[nn.Module] = [nn.Flatten()]
    inputs = pixels
    for width in reversed(settings.widths):
        down += dense(inputs, width, settings.activation, False, dropout)
        inputs = width
    return _finish(up, [*down, nn.Linear(inputs, 1)], settings)


def build_dcgan(settings: DCGAN, shape: Shape, dropout: float, critic_norm: bool) -> tuple[Generator, Discriminator]:
    """Return a convolutional generator and discriminator (Radford et al. 2015).

    `critic_norm` False leaves batch norm out of the discriminator, as the gradient penalty of WGAN-GP needs.
    """
    side, halvings = shape[1], 0
    while side > 8 and side % 2 == 0:
        side, halvings = side // 2, halvings + 1
    if not halvings:
        raise UsageError(f"a DCGAN cannot draw {side}x{side} images: their side must be even and above 8; take gan-mlp")
    widths = [settings.channels * 2**level for level in range(halvings)]  # filters at full size, half size, ...
    deepest, norm = widths[-1] * 2, settings.batch_norm
    up: list[nn.Module] = [
        nn.Linear(settings.latent, deepest * side * side), Fold(deepest, side), *_bend(deepest, norm),
    ]  # fmt: skip
    inputs = deepest
    for width in reversed(widths[1:]):
        up += [nn.ConvTranspose2d(inputs, width, 4, 2, 1, bias=not norm), *_bend(width, norm)]
        inputs = width
    up.append(nn.ConvTranspose2d(inputs, shape[0], 4, 2, 1))
    down: list[nn.Module] = []
    inputs, width, left = shape[0], settings.channels, shape[1]
    while left > 4:  # down to where each number has seen the whole image, and not only strokes of it
        batch_norm = norm and critic_norm and bool(down)  # the first layer sees raw pixels and has none
        down += conv(inputs, width, settings.activation, batch_norm, kernel=4, stride=2, padding=1)
        down.append(nn.Dropout(dropout))
        inputs, width, left = width, width * 2, left // 2
    down += [nn.Flatten(), nn.Linear(inputs * left * left, 1)]
    return _finish(up, down, settings)


def _bend(channels: int, norm: bool) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), nn.ReLU()] if norm else [nn.ReLU()]


def _finish(up: list[nn.Module], down: list[nn.Module], settings: GanMLP | DCGAN) -> tuple[Generator, Discriminator]:
    generator, discriminator = Generator(up, settings.latent), Discriminator(down)
    for model in (generator, discriminator):
        initialise(model, settings.init, settings.init_std)
    return generator, discriminator
