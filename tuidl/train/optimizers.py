"""torch's optimizers as tuidl uses them: which weights each moves, and its step without what torch wraps around it."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from tuidl.spec.optimizers import Optimizer as OptimizerSpec
from tuidl.train.models.layers import resolve

_SCALARS = ("step", "mu_product")  # of torch's optimizers; all else has the shape of the parameter


def leave_the_compiler_alone() -> None:
    """Keep torch's optimizers from loading its compiler, a second of each start, only to keep it away from them."""
    for wrapped in (Optimizer.add_param_group, Optimizer.state_dict, Optimizer.load_state_dict, Optimizer.zero_grad):
        function = inspect.unwrap(wrapped)
        function.__dict__.setdefault("__dynamo_disable", function)


def step_of(optimizer: Optimizer) -> Callable[[], Any]:
    """Return the optimizer's step, to be called without gradients; hooks and profiler marks are left out."""
    return partial(inspect.unwrap(type(optimizer).step), optimizer)


def check_state(optimizer: Optimizer, state: Mapping[int, Mapping[str, Any]]) -> None:
    """Raise ValueError where `state`, by parameter and name, is not one of this optimizer.

    torch itself takes whatever it is given, and fails or computes something else later.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if state and state.keys() != set(range(len(parameters))):
        raise ValueError("the optimizer had another number of parameters")
    for index, held in state.items():
        if held.keys() != state[0].keys():
            raise ValueError(f"the optimizer's state of parameter {index} is not that of the others")
        for name, value in held.items():
            wanted = torch.Size() if name in _SCALARS else parameters[index].shape
            if isinstance(value, Tensor) and value.shape != wanted:
                raise ValueError(f"{name} of parameter {index} is {tuple(value.shape)} and not {tuple(wanted)}")


leave_the_compiler_alone()


def build(settings: OptimizerSpec, parameters: list[Tensor]) -> list[torch.optim.Optimizer]:
    """Return torch's optimizer, and beside one that moves only matrices an AdamW for the rest."""
    matrices = [parameter for parameter in parameters if parameter.ndim >= 2]
    rest = [parameter for parameter in parameters if parameter.ndim < 2]
    make = resolve(settings.entry)
    common: dict[str, Any] = {"lr": settings.lr, **settings.group()}
    if settings.fused:
        common["fused"] = True
        if parameters[0].is_cuda and "capturable" in inspect.signature(make).parameters:
            common["capturable"] = True
    if not settings.native_decay:
        return [make([_group(parameters)], **common)]
    if not settings.matrices_only:
        return [
            make(
                [group for group in (_group(matrices, decays=True), _group(rest)) if group["params"]],
                weight_decay=0.0,
                **common,
            )
        ]
    plane = [parameter for parameter in matrices if parameter.ndim == 2]
    filters = [parameter for parameter in matrices if parameter.ndim > 2]
    optimizers: list[torch.optim.Optimizer] = []
    if plane:
        optimizers.append(make([_group(plane, decays=True)], weight_decay=0.0, **common))
    helped = [_group(filters, decays=True, share=0.1, helper=True), _group(rest, share=0.1, helper=True)]
    if any(group["params"] for group in helped):
        groups = [group for group in helped if group["params"]]
        optimizers.append(torch.optim.AdamW(groups, weight_decay=0.0, fused=True))
    return optimizers


def _group(
    parameters: list[Tensor], *, decays: bool = False, share: float = 1.0, helper: bool = False
) -> dict[str, Any]:
    """Return a parameter group; `share` is its part of the learning rate, a `helper` gets no live settings."""
    return {"params": parameters, "decays": decays, "share": share, "helper": helper}
