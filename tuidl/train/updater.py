"""One optimizer step, with everything that belongs to it: penalties, clipping, decay, projection, and the guard.

Nothing here waits for the device: each number stays a 0-d tensor until the loop drains it.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tuidl.spec.regularizers import REGULARIZERS, Regularization
from tuidl.spec.run import RunSpec
from tuidl.train.average import Average
from tuidl.train.device import Hardware
from tuidl.train.events import Continuation
from tuidl.train.loss_scale import LossScale
from tuidl.train.models.layers import resolve
from tuidl.train.optimizers import build, check_state, step_of


class Updater:
    """Moves the weights of one model.

    `grad_norm` is the length of the gradient before clipping, `update_ratio` is ‖Δw‖/‖w‖ of the last measured step.
    Once the loss or the gradient is not finite, `alive` turns 0 and stays so: no later step touches the
    weights. Updaters of one task share `alive`, so that one net's failure holds the other as well.
    In fp16 a gradient may overflow because the loss was scaled too much; no weight moves in that step then, and
    `grad_norm` and `update_ratio` stay what they were. With `average` a moving average of the weights is kept that
    remembers this share of itself.
    """

    def __init__(
        self,
        model: nn.Module,
        spec: RunSpec,
        lr_factor: float = 1.0,
        alive: Tensor | None = None,
        hardware: Hardware | None = None,
        average: float = 0.0,
    ) -> None:
        self.model = model
        self.lr_factor = lr_factor
        self.parameters: list[Tensor] = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.weights = [parameter for parameter in self.parameters if parameter.ndim >= 2]
        device = self.parameters[0].device
        self.alive = torch.ones((), device=device) if alive is None else alive
        self.grad_norm = torch.zeros((), device=device)
        self.update_ratio = torch.zeros((), device=device)
        self._nothing = torch.zeros((), device=device)
        self.scale = LossScale(device) if hardware and hardware.precision == "fp16" else None
        self.average = Average(model, average) if average else None
        self._before = [torch.empty_like(parameter) for parameter in self.parameters]
        self._optimizers = build(spec.optimizer, self.parameters)
        self._steps = [step_of(optimizer) for optimizer in self._optimizers]
        # a fused kernel looks at `found_inf` on the device and leaves the weights alone; the others are undone by hand
        self.fused = all(optimizer.defaults.get("fused") for optimizer in self._optimizers)
        self.configure(spec)

    def configure(self, spec: RunSpec) -> None:
        """Take over the live settings of `spec`."""
        self._optimizer = spec.optimizer
        self._penalties = _active(spec.regularization, "penalty")
        self._clips = _active(spec.regularization, "gradient")
        self._projections = _active(spec.regularization, "weights")
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                if not group["helper"]:
                    group.update(spec.optimizer.group())
                if spec.optimizer.native_decay and group["decays"]:
                    # torch multiplies by the group's rate, but every weight shrinks by the optimizer's
                    group["weight_decay"] = spec.optimizer.weight_decay / group["share"]
                if group.get("momentum"):
                    self._remember(optimizer, group["params"])

    def _remember(self, optimizer: torch.optim.Optimizer, parameters: list[Tensor]) -> None:
        """Make room for momentum: torch's RMSprop does so at its very first step only, and need not at a later one.

        In fp16 the first step may be left out; torch's fused SGD would then go on with memory that nobody has filled.
        """
        first = self.scale is not None and isinstance(optimizer, torch.optim.SGD)
        for parameter in parameters:
            if first or optimizer.state.get(parameter):
                optimizer.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter))

    def saved(self, prefix: str) -> Continuation:
        """Return what the next step needs beside the weights, the names of tensors beginning with `prefix`."""
        tensors = {f"{prefix}{name}": value for name, value in self._held().items()}
        values: dict[str, Any] = {}
        for number, optimizer in enumerate(self._optimizers):
            for index, state in optimizer.state_dict()["state"].items():
                for name, value in state.items():
                    where = tensors if isinstance(value, Tensor) else values
                    where[f"{prefix}{number}.{index}.{name}"] = value
        return Continuation(tensors, values)

    def restore(self, prefix: str, saved: Continuation) -> None:
        """Go on from what `saved` returned. Raises KeyError, ValueError or RuntimeError where it is of another one."""
        for name, held in self._held().items():
            if f"{prefix}{name}" in saved.tensors or name not in LossScale.OWN:  # it was perhaps in fp32
                held.copy_(saved.tensors[f"{prefix}{name}"])
        for number, optimizer in enumerate(self._optimizers):
            state: dict[int, dict[str, Any]] = {}
            for key, value in {**saved.tensors, **saved.values}.items():
                if key.startswith(f"{prefix}{number}."):
                    index, _, name = key.removeprefix(f"{prefix}{number}.").partition(".")
                    state.setdefault(int(index), {})[name] = value
            check_state(optimizer, state)
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
            for parameter, own in optimizer.state.items():  # fused kernels take for granted that both lie alike
                for name, value in own.items():
                    if isinstance(value, Tensor) and value.shape == parameter.shape:
                        own[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)

    def _held(self) -> dict[str, Tensor]:
        """Return what is kept from step to step beside the optimizer's state."""
        held = {"update_ratio": self.update_ratio}
        if self.scale:
            held |= {"grad_norm": self.grad_norm, **self.scale.tensors()}
        if self.average:
            held |= self.average.tensors()
        return held

    @property
    def judged(self) -> nn.Module:
        """Return the model that is measured, shown and kept: the average of the weights where one is taken."""
        return self.average.model if self.average else self.model

    def moving(self) -> list[Tensor]:
        """Return every tensor that a step changes."""
        states = [
            value for optimizer in self._optimizers for held in optimizer.state.values() for value in held.values()
        ]
        found = [*self.model.parameters(), *self.model.buffers(), self.alive, *self._held().values(), *states]
        return [value for value in found if isinstance(value, Tensor)]

    def penalty(self) -> Tensor:
        """Return what the regularizers add to the loss, a scalar."""
        total = self._nothing
        for regularize, strength in self._penalties:
            total = total + regularize(self.model, self.weights, strength)
        return total

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of `loss` to that of the coming step; only this model's weights get one."""
        (loss * self.scale.factor if self.scale else loss).backward(inputs=self.parameters)

    @torch.no_grad()
    def step(self, loss: Tensor, lr: float | Tensor, measure: bool = False) -> None:
        """Take one step with the gradients at hand and learning rate `lr`; `loss` is only looked at by the guard.

        With `measure` take the update ratio.
        """
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        taken = self._guard(loss, gradients)
        for clip, limit in self._clips:
            clip(gradients, self.grad_norm, limit)
        if measure or not self.fused:
            torch._foreach_copy_(self._before, self.parameters)
        self._move(lr * self.lr_factor, taken)
        for project, limit in self._projections:
            project(self.model, self.weights, limit)
        if not self.fused:
            for parameter, before in zip(self.parameters, self._before, strict=True):
                parameter.copy_(torch.where(taken > 0, parameter, before))
        if measure:
            ratio = self._ratio()
            self.update_ratio.copy_(self.scale.unless_overflow(ratio, self.update_ratio) if self.scale else ratio)
        if self.average:
            self.average.follow()
        for parameter in self.parameters:
            parameter.grad = None

    def _guard(self, loss: Tensor, gradients: list[Tensor]) -> Tensor:
        """Take the gradient's norm and look whether all is finite; return 1 where the step is taken, else 0.

        The sum of loss and norm is finite where both are.
        """
        if self.scale is None:
            self.grad_norm = length_of(gradients)
            self.alive.mul_(_finite(loss + self.grad_norm))
            return self.alive
        self.scale.unscale(gradients)
        overflow = self.scale.overflow
        self.grad_norm.copy_(self.scale.unless_overflow(length_of(gradients), self.grad_norm))
        if not self.fused:  # such an optimizer takes the gradient into its state, whatever becomes of the weights
            for gradient in gradients:
                gradient.masked_fill_(overflow > 0, 0)
        self.alive.mul_(_finite(loss + self.grad_norm))
        return self.alive * (1 - overflow)

    def _move(self, lr: float | Tensor, taken: Tensor) -> None:
        decay = self._optimizer.weight_decay
        if decay and not self._optimizer.native_decay:
            torch._foreach_mul_(self.weights, 1 - lr * decay * taken)
        for optimizer, step in zip(self._optimizers, self._steps, strict=True):
            if self.fused:
                optimizer.grad_scale, optimizer.found_inf = None, 1 - taken  # type: ignore[attr-defined]
            for group in optimizer.param_groups:
                group["lr"] = lr * group["share"]
            step()

    def _ratio(self) -> Tensor:
        length = length_of(self._before)
        torch._foreach_sub_(self._before, self.parameters)
        return length_of(self._before) / (length + 1e-12)


def length_of(tensors: list[Tensor]) -> Tensor:
    """Return √Σx² over all tensors, 0-d: torch's get_total_norm for one device, at half its cost for small models."""
    length: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors)))
    return length.float()


def _finite(number: Tensor) -> Tensor:
    """Return whether a 0-d tensor is finite: only then is nothing times it 0. Four operations fewer than isfinite."""
    return number * 0 == 0


def _active(regularization: Regularization, role: str) -> list[tuple[Callable[..., Any], float]]:
    """Return the regularizers of that role that are switched on, each with its strength."""
    found = [(item.entry, getattr(regularization, key)) for key, item in REGULARIZERS.items() if item.role == role]
    return [(resolve(entry), strength) for entry, strength in found if strength]
