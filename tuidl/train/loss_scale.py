"""The scale of the loss in fp16, whose smallest numbers are too large for many a gradient."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

FIRST, GROWTH, BACKOFF = 2.0**16, 2.0, 0.5  # the scale to begin with, and what it is multiplied by
CALM = 2000  # steps without an overflow after which the scale grows
LEAST = 1.0  # at this scale it is not the scale that makes gradients overflow


class LossScale:
    """Multiplies the loss by the largest factor with which no gradient overflows (Micikevicius et al. 2018).

    The factor halves in a step whose gradient overflows, which is then not taken, and doubles after many calm ones.
    `overflow` is 1 for such a step, else 0. All stays on the device, and so do the decisions (torch.amp's own kernels,
    without the look of its GradScaler at the result).
    """

    OWN: ClassVar = ("loss_scale", "calm_steps", "grad_norm")  # what checkpoints hold in fp16 only

    def __init__(self, device: torch.device) -> None:
        self.factor = torch.full((), FIRST, device=device)
        self.calm = torch.zeros((), dtype=torch.int32, device=device)
        self.overflow = torch.zeros((), device=device)

    def tensors(self) -> dict[str, Tensor]:
        """Return what the next step needs to know, by name."""
        return {"loss_scale": self.factor, "calm_steps": self.calm}

    def unscale(self, gradients: Sequence[Tensor]) -> None:
        """Divide the gradients of the scaled loss by the factor, in place; set `overflow` and the next factor.

        Where even the smallest factor overflows, the gradients themselves are not finite or too large for fp16, and
        `overflow` stays 0.
        """
        self.overflow.zero_()
        torch._amp_foreach_non_finite_check_and_unscale_(list(gradients), self.overflow, self.factor.reciprocal())
        excused = self.overflow * (self.factor > LEAST)
        torch._amp_update_scale_(self.factor, self.calm, self.overflow, GROWTH, BACKOFF, CALM)
        self.overflow.copy_(excused)

    def unless_overflow(self, now: Tensor, before: Tensor) -> Tensor:
        """Return `now`, or in a step whose gradient overflowed what was `before`."""
        return torch.where(self.overflow > 0, before, now)
