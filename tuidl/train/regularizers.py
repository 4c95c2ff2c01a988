"""The regularizers named in `tuidl.spec.regularizers`: penalties, changes of the gradient, projections of weights.

`weights` are the matrices and filters of a model; biases and norm parameters are left alone, as is usual.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def l1(model: nn.Module, weights: Sequence[Tensor], strength: float) -> Tensor:
    """Return λ Σ|w|."""
    return strength * torch.stack([weight.abs().sum() for weight in weights]).sum()


def l2(model: nn.Module, weights: Sequence[Tensor], strength: float) -> Tensor:
    """Return λ Σw²."""
    return strength * torch.stack([weight.square().sum() for weight in weights]).sum()


def tikhonov(model: nn.Module, weights: Sequence[Tensor], strength: float) -> Tensor:
    """Return λ ‖Γw‖², Γ the differences of neighbours in a filter, or in the image that a dense unit looks at.

    Weights without neighbours (a dense layer on top of another, a 1x1 filter) are not smoothed.
    """
    shape = getattr(model, "input_shape", None)
    roughness = [weights[0].new_zeros(())]
    for weight in weights:
        if weight.ndim == 2 and shape and weight.shape[1] == shape[0] * shape[1] * shape[2]:
            weight = weight.view(-1, *shape)
        if weight.ndim == 4:
            roughness += [weight.diff(dim=axis).square().sum() for axis in (2, 3) if weight.shape[axis] > 1]
    return strength * torch.stack(roughness).sum()


def clip_norm(gradients: Sequence[Tensor], norm: Tensor, limit: float) -> None:
    """Shorten the whole gradient to `limit` where its length `norm` is larger, in place."""
    torch._foreach_mul_(list(gradients), torch.clamp(limit / (norm + 1e-12), max=1.0))


def clip_value(gradients: Sequence[Tensor], norm: Tensor, limit: float) -> None:
    """Cut each number of the gradient to ±`limit`, in place."""
    torch._foreach_clamp_min_(list(gradients), -limit)
    torch._foreach_clamp_max_(list(gradients), limit)


@torch.no_grad()
def max_norm(model: nn.Module, weights: Sequence[Tensor], limit: float) -> None:
    """Scale each unit's incoming weights back to length `limit` where they are longer, in place."""
    # a transposed convolution has its output units on the second axis, all else on the first
    transposed = {id(module.weight) for module in model.modules() if isinstance(module, nn.ConvTranspose2d)}
    for weight in weights:
        weight.copy_(torch.renorm(weight, 2, 1 if id(weight) in transposed else 0, limit))
