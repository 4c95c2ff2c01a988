"""What the loop asks of a task. A task owns its models, losses, optimizers and data; the loop knows none of them."""

from collections.abc import Generator, Sequence
from typing import Any, Protocol, TypeVar

from torch import Tensor, nn

from tuidl.spec.run import RunSpec
from tuidl.train.device import Hardware
from tuidl.train.events import Continuation, Report
from tuidl.train.stepper import Stepper
from tuidl.train.updater import Updater

R = TypeVar("R")
Pieces = Generator[str, None, R]  # long work in pieces: yields what it is doing, returns its result


class Task(Protocol):
    """A thing to learn.

    `columns` names what `step` returns: 0-d tensors on the device, never floats, so that no step waits for the device.
    """

    columns: tuple[str, ...]
    hardware: Hardware
    steps_per_epoch: int

    def networks(self) -> Sequence[nn.Module]:
        """Return the models."""
        ...

    def prepare(self) -> Pieces[None]:
        """Do what must be ready before the first step, such as training a judge."""
        ...

    def configure(self, spec: RunSpec) -> None:
        """Take over live settings; they hold from the next step on."""
        ...

    def begin_epoch(self, epoch: int) -> None:
        """Lay out the order of the data, a function of (seed, epoch)."""
        ...

    def step(self, index: int, lr: float) -> Sequence[Tensor]:
        """Take step `index` of the epoch with learning rate `lr`; return one number for each column."""
        ...

    def evaluate(self) -> Pieces[Report]:
        """Measure the model on the validation data, without touching any random state of the training."""
        ...

    def test(self) -> Pieces[Report]:
        """Measure the model on the test data; the loop calls this once, at the end, with the best weights loaded."""
        ...

    def sample(self) -> Pieces[Report | None]:
        """Return what the model makes on its own, or None where it makes nothing."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Return the weights by name."""
        ...

    def judged(self) -> dict[str, Tensor]:
        """Return the weights that `evaluate` measures: those of `state`, or their average."""
        ...

    def load(self, state: dict[str, Tensor]) -> None:
        """Put the weights back, and judge them until the next step."""
        ...

    def saved(self) -> Continuation:
        """Return all that the next step depends on beside the weights: optimizers, random states, memories."""
        ...

    def restore(self, saved: Continuation) -> None:
        """Go on from what `saved` returned, within the epoch that has been begun.

        Raises KeyError, ValueError or RuntimeError where it is not of this task.
        """
        ...

    def facts(self) -> dict[str, Any]:
        """Return what a viewer wants to know at the start: parameters, labels, sizes."""
        ...


def total(parts: Sequence[Tensor]) -> Tensor:
    """Return the sum of 0-d tensors; a single one, as most steps have, costs nothing."""
    return sum(parts[1:], parts[0])


def set_dropout(model: nn.Module, share: float) -> None:
    """Let every dropout layer of `model` switch off this share of its units from now on."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = share


def why_no_graph(spec: RunSpec, hardware: Hardware, updater: Updater) -> str:
    """Return why the steps of a run cannot be captured as a CUDA graph, empty where they can."""
    if hardware.device.type != "cuda":
        return "only CUDA has graphs"
    if spec.training.cuda_graph == "off":
        return "switched off"
    if spec.optimizer.full_batch:
        return "a step goes through all batches"
    if not updater.fused:
        return f"{spec.optimizer.kind} computes with its learning rate on the host"
    return ""


class OneModel:
    """What tasks with one model and one optimizer have in common."""

    columns: tuple[str, ...] = ("loss", "accuracy", "penalty", "grad_norm", "update_ratio")
    model: nn.Module
    updater: Updater
    hardware: Hardware
    spec: RunSpec
    stepper: Stepper

    def networks(self) -> Sequence[nn.Module]:
        """Return the one model."""
        return (self.model,)

    def prepare(self) -> Pieces[None]:
        """Nothing to prepare."""
        yield from ()

    def configure(self, spec: RunSpec) -> None:
        """Take over live settings."""
        self.spec = spec
        self.updater.configure(spec)
        set_dropout(self.model, spec.regularization.dropout)
        self.stepper.forget()

    def finish_step(self, loss: Tensor, accuracy: Tensor, lr: float | Tensor, measure: bool) -> Sequence[Tensor]:
        """Add the regularizers' gradient to that of the loss, update the weights, and return the step's columns."""
        penalty = self.updater.penalty()
        if penalty.requires_grad:
            self.updater.backward(penalty)
            penalty = penalty.detach()
        self.updater.step(loss + penalty, lr, measure)
        return loss, accuracy, penalty, self.updater.grad_norm, self.updater.update_ratio

    def sample(self) -> Pieces[Report | None]:
        """Return None: most models make nothing on their own."""
        yield from ()
        return None

    def state(self) -> dict[str, Tensor]:
        """Return the weights by name."""
        return dict(self.model.state_dict())

    def judged(self) -> dict[str, Tensor]:
        """Return the weights that are measured, by name."""
        return dict(self.updater.judged.state_dict())

    def load(self, state: dict[str, Tensor]) -> None:
        """Put the weights back, and judge them."""
        self.model.load_state_dict(state)
        self.updater.judged.load_state_dict(state)

    def saved(self) -> Continuation:
        """Return the state of the optimizer."""
        saved = self.updater.saved("optimizer.")
        saved.values["steps"] = self.stepper.steps
        return saved

    def restore(self, saved: Continuation) -> None:
        """Put the optimizer's state back."""
        self.updater.restore("optimizer.", saved)
        self.stepper.steps = int(saved.values["steps"])
        self.stepper.forget()

    @property
    def parameters(self) -> int:
        """Return how many numbers are learned."""
        return sum(parameter.numel() for parameter in self.model.parameters() if parameter.requires_grad)
