"""A moving average of the weights: calmer than the weights themselves, and often better."""

import copy

import torch
from torch import Tensor, nn

YOUNG = 9.0  # step t is weighted at least by 9 / (9 + t), so that the weights at the start are soon forgotten


class Average:
    """Follows `model` with a copy whose weights and norm statistics keep `memory` of themselves at each step.

    Averages of the path of an optimizer go back to Polyak & Juditsky 1992. Nothing here waits for the device.
    """

    def __init__(self, model: nn.Module, memory: float) -> None:
        self.model: nn.Module = copy.deepcopy(model).requires_grad_(False).eval()
        for module in self.model.modules():
            if isinstance(module, nn.RNNBase):
                module.flatten_parameters()  # cuDNN wants the copy, too, in one piece
        self.memory = memory
        held, followed = self.model.state_dict(), model.state_dict()
        self._names = [name for name, value in held.items() if value.is_floating_point()]
        self._held = [held[name] for name in self._names]
        self._followed = [followed[name] for name in self._names]
        self._age = torch.zeros((), device=self._held[0].device)

    @torch.no_grad()
    def follow(self) -> None:
        """Move a part of the way towards the weights as they are now."""
        self._age.add_(1)
        share = torch.clamp(YOUNG / (YOUNG + self._age), min=1 - self.memory)
        way = torch._foreach_sub(self._followed, self._held)
        torch._foreach_mul_(way, share)
        torch._foreach_add_(self._held, way)

    def tensors(self) -> dict[str, Tensor]:
        """Return what the next step needs to know, by name."""
        return {"average.age": self._age} | {
            f"average.{name}": value for name, value in zip(self._names, self._held, strict=True)
        }
