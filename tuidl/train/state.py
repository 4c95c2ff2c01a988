"""Where a run stands and what its numbers say: pure bookkeeping, which `tuidl.train.loop` does in between steps."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import TypeAdapter
from torch import Tensor

from tuidl.errors import UsageError
from tuidl.spec.run import RunSpec
from tuidl.train.checkpoint import Saved
from tuidl.train.loss_scale import LossScale
from tuidl.train.meter import Drained

GROWN = 5.0  # times the first loss, from which on a run is said to go wrong


@dataclass
class State:
    """Where the loop is and what it has found; a resumed run restores it, the task and the best weights."""

    step: int = 0
    first_loss: float | None = None  # of the very first step
    seconds: float = 0.0  # of training and evaluation, pauses left out
    history: list[float] = field(default_factory=list)  # deciding metric of each evaluation, smaller is better
    best: float = math.inf
    best_step: int = 0
    best_metrics: dict[str, float] = field(default_factory=dict)
    stale: int = 0  # evaluations since the best one
    evaluated: int = 0  # step of the newest evaluation that was due
    metrics: dict[str, float] = field(default_factory=dict)  # newest value of each

    def note(self, block: Drained) -> None:
        """Take over the newest numbers of a block of steps."""
        self.metrics |= {name: values[-1] for name, values in block.columns.items()}
        if block.first == 1 and "loss" in block.columns:
            self.first_loss = block.columns["loss"][0]

    def judge(self, metrics: Mapping[str, float], spec: RunSpec) -> bool:
        """Note the deciding metric; return whether it was never better. What is not finite is never the best."""
        value = metrics[spec.metric]
        value = -value if spec.larger_is_better else value
        self.evaluated = self.step
        self.history.append(value if math.isfinite(value) else math.inf)
        margin = spec.early_stopping.min_delta if self.history[:-1] else 0.0
        better: bool = math.isfinite(value) and value < self.best - margin
        if better:
            self.best, self.best_step, self.best_metrics, self.stale = value, self.step, dict(metrics), 0
        else:
            self.stale += 1
        return better

    def enough(self, spec: RunSpec) -> str:
        """Return why the run stops early, empty where it does not: no better metric for too long."""
        if spec.early_stopping.patience and self.stale >= spec.early_stopping.patience:
            return (
                f"early stopping: {spec.metric} has not improved in {self.stale} evaluations; "
                f"best at step {self.best_step}"
            )
        return ""

    def growth(self) -> str:
        """Say once that the loss is far above where it began, as such a run learns nothing any more; else nothing."""
        first, now = self.first_loss, self.metrics.get("loss")
        if not first or now is None or now <= GROWN * first:
            return ""
        self.first_loss = None
        return (
            f"the loss is {now:.3g}, at the first step it was {first:.3g}: the learning rate "
            f"({self.metrics['lr']:g}) is likely too high; lower optimizer.lr or set regularization.clip_norm=1"
        )


def divergence(block: Drained, precision: str) -> str:
    """Return which number of a block of steps is the first that is not finite, and what to do; empty if all are."""
    broken = [
        (row, name)
        for name, values in block.columns.items()
        for row, value in enumerate(values)
        if not math.isfinite(value)
    ]
    if not broken:
        return ""
    row, name = min(broken)
    step = block.first + row
    return (
        f"{name} is not finite at step {step}; the weights are those of step {step - 1}. "
        f"Usual cause: the learning rate ({block.columns['lr'][row]:g}) is too high; "
        "lower optimizer.lr or set regularization.clip_norm=1"
        + ("; or a number is too large for fp16: set precision=fp32" if precision == "fp16" else "")
    )


def state_of(saved: Saved) -> State:
    """Return the loop's state in a checkpoint, or UsageError where it is not one."""
    try:
        told = {**saved.rest.values["loop"], "step": saved.step}
        if told.keys() != vars(State()).keys():
            raise ValueError("something is missing")
        return TypeAdapter(State).validate_python(told)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"the checkpoint of step {saved.step} does not say where the run was") from error


def check_same(held: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raise ValueError where what is held now is not what was read: torch converts and leaves out without a word."""
    for name in sorted(held.keys() | wanted.keys()):
        if name in ("random", "torch.cuda"):  # the run may have been on another kind of device
            continue
        if name.rpartition(".")[2] in LossScale.OWN and not (name in held and name in wanted):  # or in other numbers
            continue
        if name not in held or name not in wanted:
            raise ValueError(f"{name} is only in {'the checkpoint' if name in wanted else 'the run'}")
        mine, read = held[name].cpu(), wanted[name]
        if mine.dtype != read.dtype or not mine.equal(read):
            raise ValueError(f"{name} does not come back as it was saved")
