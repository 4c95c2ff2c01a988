"""A moving average of the weights: calmer than the weights themselves, and often better."""

import copy

import torch
from torch import Tensor, nn

YOUNG = 9.0  # step t is weighted at least by 9 / (9 + t), so that the weights at the start are soon forgotten


class Average:
    """Follows `model` with a copy whose weights and norm statistics keep `memory` of themselves at each step.

    Averages of the path of an optimizer go back to Polyak & Juditsky 1992. Nothing here waits for the device; torch's
    AveragedModel does at each step, to see whether it is its first.
    """

    def __init__(self, model: nn.Module, memory: float) -> None:
        self.model: nn.Module = copy.deepcopy(model).requires_grad_(False).eval()
        for module in self.model.modules():
            if isinstance(module, nn.RNNBase):
                module.flatten_parameters()  # cuDNN wants the copy, too, in one piece
        self.memory = memory
        held, followed = self.model.state_dict(), model.state_dict()
        floats = [name for name, value in held.items() if value.is_floating_point()]
        counts = held.keys() - set(floats)
        self._all = held
        self._held, self._followed = [held[name] for name in floats], [followed[name] for name in floats]
        self._counts = [(held[name], followed[name]) for name in sorted(counts)]
        self._age = torch.zeros((), device=self._held[0].device)

    @torch.no_grad()
    def follow(self) -> None:
        """Move a part of the way towards the weights as they are now."""
        self._age.add_(1)
        share = torch.clamp(YOUNG / (YOUNG + self._age), min=1 - self.memory)
        way = torch._foreach_sub(self._followed, self._held)
        torch._foreach_mul_(way, share)
        torch._foreach_add_(self._held, way)
        for count, followed in self._counts:  # of batches that a norm has seen
            count.copy_(followed)

    def tensors(self) -> dict[str, Tensor]:
        """Return what the next step needs to know, by name."""
        return {"average_age": self._age} | {f"average.{name}": value for name, value in self._all.items()}
