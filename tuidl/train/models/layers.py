"""Layers that the models share: activations, initialisations, and blocks that know about both.

Maxout needs two linear maps for each unit, so whoever builds a layer asks `pieces` how many outputs to make.
"""

import importlib
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from tuidl.spec.layers import ACTIVATIONS, INITS
from tuidl.spec.settings import Entry


def resolve(entry: Entry) -> Any:
    """Return the object that a registry entry names; the names are tuidl's own, never read from a file."""
    module, _, attribute = entry.implementation.partition(":")
    return getattr(importlib.import_module(module), attribute)


class Maxout(nn.Module):
    """The larger of two halves of the channels: [B, 2C, ...] to [B, C, ...] (Goodfellow et al. 2013)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the element-wise maximum of both halves."""
        first, second = x.chunk(2, dim=1)
        return torch.maximum(first, second)


def leaky_relu() -> nn.Module:
    """Return max(0.1x, x), the slope that the lectures use."""
    return nn.LeakyReLU(0.1)


def maxout() -> nn.Module:
    """Return a maxout of two pieces."""
    return Maxout()


def activation(name: str) -> nn.Module:
    """Return a new activation of that registered name."""
    return cast(nn.Module, resolve(ACTIVATIONS[name])())


def pieces(name: str) -> int:
    """Return how many linear outputs each unit of this activation needs."""
    return 2 if name == "maxout" else 1


def dense(inputs: int, outputs: int, bend: str, batch_norm: bool, dropout: float) -> list[nn.Module]:
    """Return a hidden dense layer [B, inputs] to [B, outputs]: linear, batch norm if asked, activation, dropout."""
    wide = outputs * pieces(bend)
    norm: list[nn.Module] = [nn.BatchNorm1d(wide)] if batch_norm else []
    return [nn.Linear(inputs, wide), *norm, activation(bend), nn.Dropout(dropout)]


def conv(
    inputs: int, outputs: int, bend: str, batch_norm: bool, *, kernel: int = 3, stride: int = 1, padding: int = 1
) -> list[nn.Module]:
    """Return a hidden convolution [B, inputs, H, W] to [B, outputs, H', W']: filters, batch norm, activation."""
    wide = outputs * pieces(bend)
    norm: list[nn.Module] = [nn.BatchNorm2d(wide)] if batch_norm else []
    layer = nn.Conv2d(inputs, wide, kernel, stride, padding, bias=not batch_norm)
    return [layer, *norm, activation(bend)]


def initialise(model: nn.Module, name: str, std: float) -> None:
    """Fill every matrix and filter of `model` as the registered init says; biases start at zero unless default."""
    fill: Callable[[Tensor, float], None] = resolve(INITS[name])
    if fill is init_default:
        return
    for module in model.modules():
        for key, parameter in module.named_parameters(recurse=False):
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.PReLU):
                continue
            if parameter.ndim >= 2:
                fill(parameter, std)
            elif "bias" in key:
                nn.init.zeros_(parameter)


def first_filters(model: nn.Module) -> Tensor:
    """Return the filters of the first convolution of `model`."""
    return next(module for module in model.modules() if isinstance(module, nn.Conv2d)).weight


@torch.no_grad()
def whiten(model: nn.Module, images: Tensor) -> None:
    """Give the first convolution filters that make patches of `images` [B, C, H, W] uncorrelated, and keep them.

    Half of them are the principal directions of the patches, each divided by its spread, strongest first; the other
    half their negatives, since the bend after them lets only one sign through. What is left over stays as it was
    initialised. None of them is trained (after Page 2019 and Jordan 2024).
    """
    first = first_filters(model)
    patches = nn.functional.unfold(images, first.shape[2:]).transpose(1, 2).flatten(0, 1).double()
    covariance = (patches.T @ patches / len(patches)).cpu()  # so small that loading a GPU's solver takes longer
    variances, directions = torch.linalg.eigh(covariance)
    count = min(len(first) // 2, len(variances))
    filters = (directions / (variances + 5e-4).sqrt()).T.flip(0)[:count].reshape(count, *first.shape[1:])
    first[: 2 * count] = torch.cat([filters, -filters]).to(first)
    first.requires_grad_(False)


def init_default(weight: Tensor, std: float) -> None:
    """Leave what torch chose for the layer."""


def init_zeros(weight: Tensor, std: float) -> None:
    """Fill with zeros."""
    nn.init.zeros_(weight)


def init_normal(weight: Tensor, std: float) -> None:
    """Fill from N(0, std²)."""
    nn.init.normal_(weight, std=std)


def init_xavier(weight: Tensor, std: float) -> None:
    """Fill uniformly so that variance stays level (Glorot & Bengio 2010)."""
    nn.init.xavier_uniform_(weight)


def init_kaiming(weight: Tensor, std: float) -> None:
    """Fill from N(0, 2/n_in) (He et al. 2015)."""
    nn.init.kaiming_normal_(weight)


def init_orthogonal(weight: Tensor, std: float) -> None:
    """Fill with an orthogonal matrix (Saxe et al. 2013)."""
    nn.init.orthogonal_(weight)
