"""Steps as captured graphs: the same run as step by step, whatever changes live; and a way out where it is not.

There is no CUDA graph on a CPU. `Tape` stands in for one, and is as strict: it repeats the very operations that were
recorded, on the same memory, with the same Python numbers. What a step reads on the host is frozen in it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Generator, Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from tuidl.spec.load import with_live_change
from tuidl.train import events
from tuidl.train.device import Hardware
from tuidl.train.loop import fit
from tuidl.train.stepper import WARM_UP, Moving, Row, Stepper

from .tiny import columns, data_of, finished, of, on_device, same, spec_of, task_of


class Tape(TorchDispatchMode):
    """Records every operation, and repeats them all."""

    def __init__(self) -> None:
        super().__init__()
        self.recorded: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = tree_map(as_it_is_now, (args, kwargs or {}))
        result = operation(*args, **(kwargs or {}))
        self.recorded.append((operation, *given, tree_map(as_it_is_now, result)))
        return result

    @torch.no_grad()
    def replay(self) -> None:
        for operation, args, kwargs, result in self.recorded:
            places, values = tree_flatten(result)[0], tree_flatten(operation(*args, **kwargs))[0]
            for place, value in zip(places, values, strict=True):
                if isinstance(place, Tensor) and isinstance(value, Tensor) and place.data_ptr() != value.data_ptr():
                    place.copy_(value)


def as_it_is_now(value: Any) -> Any:
    """Return the same memory in the present shape: operations such as `transpose_` change that of a tensor."""
    if not isinstance(value, Tensor):
        return value
    return value.detach().as_strided(value.size(), value.stride(), value.storage_offset())


def on_tape(work: Callable[[], Row], generators: Sequence[Generator]) -> tuple[Row, Callable[[], None]]:
    tape = Tape()
    with tape:
        row = work()
    return row, tape.replay


def captured(task: Any, capture: Any = on_tape) -> Any:
    """Let a task on the CPU take its steps as it would on a GPU."""
    task.stepper.why_not, task.stepper.capture = "", capture
    task.hardware.notes.clear()
    return task


RUNS: dict[str, dict[str, Any]] = {
    "adam, dropout, augmented, clipped": {
        "augmentation": {"shift": 1, "flip": 0.5, "noise": 0.1},
        "regularization": {"dropout": 0.3, "clip_norm": 0.5, "label_smoothing": 0.1, "l2": 0.001},
        "schedule": {"kind": "one-cycle"},
    },
    "cnn, nesterov, batch norm": {
        "model": {"kind": "cnn", "channels": [4], "batch_norm": True},
        "optimizer": {"kind": "nesterov", "lr": 0.05, "weight_decay": 0.01}, "schedule": {"kind": "cosine"},
    },
    "adamw, max norm": {
        "optimizer": {"kind": "adamw", "weight_decay": 0.1}, "regularization": {"max_norm": 0.5},
        "schedule": {"kind": "one-cycle"},
    },
    "averaged": {"training": {"epochs": 6, "average": 0.9}},
    "fp16, whose loss is scaled": {"precision": "fp16"},
    "sgd in fp16, averaged": {
        "precision": "fp16", "optimizer": {"kind": "sgd", "lr": 0.05}, "training": {"epochs": 6, "average": 0.9},
    },
    "lstm, carried": {"task": "language", "model": {"kind": "lstm", "width": 8, "unroll": 6}},
    "gru, shuffled": {"task": "language", "model": {"kind": "gru", "width": 8, "unroll": 6, "carry_state": False}},
    "gan": {"task": "gan", "model": {"kind": "gan-mlp", "widths": [8], "latent": 4}},
    "wgan-gp, two turns": {
        "task": "gan", "model": {"kind": "gan-mlp", "widths": [8], "latent": 4},
        "loss": {"kind": "wgan-gp", "d_steps": 2}, "training": {"epochs": 8, "batch_size": 50},
    },
}  # fmt: skip


def trained(task: Any, spec: Any, changes: Mapping[int, tuple[str, str]] = {}) -> list[list[float]]:
    """Return the rows of all steps, with live changes before some of them."""
    rows: list[list[float]] = []
    torch.manual_seed(1)  # of dropout
    total = spec.training.epochs * task.steps_per_epoch
    for step in range(total):
        epoch, index = divmod(step, task.steps_per_epoch)
        if step in changes:
            spec = with_live_change(spec, *changes[step])
            task.configure(spec)
        if index == 0:
            task.begin_epoch(epoch)
        lr = spec.optimizer.lr * (1 + step) / total
        rows.append([float(value) for value in task.step(index, lr)])
    return rows


def spec_for(groups: Mapping[str, Any]) -> Any:
    more = dict(groups)
    training = more.pop("training", {"epochs": 6})
    return spec_of(more.pop("task", "classification"), training=training, **more)


@pytest.mark.filterwarnings("ignore:TF32")
@pytest.mark.parametrize("name", RUNS)
def test_captured_steps_are_the_same_steps(name: str) -> None:
    spec = spec_for(RUNS[name])
    changes = {9: ("optimizer.lr", "0.004"), 12: ("optimizer.weight_decay", "0.2")}
    if spec.task == "classification":
        changes |= {14: ("regularization.dropout", "0.1"), 17: ("augmentation.noise", "0.3")}
    plain, graphed = task_of(spec), captured(task_of(spec))
    with torch.backends.mkldnn.flags(enabled=False):  # its LSTM keeps something that no tape can see
        wanted, found = trained(plain, spec, changes), trained(graphed, spec, changes)
    assert graphed.stepper._graphs and not graphed.hardware.notes
    torch.testing.assert_close(torch.tensor(found), torch.tensor(wanted), rtol=1e-3, atol=1e-5)


OVERFLOWS: dict[str, dict[str, Any]] = {
    "adam": {},
    "nesterov": {"optimizer": {"kind": "nesterov", "lr": 0.05}},
    "sgd, averaged": {"optimizer": {"kind": "sgd", "lr": 0.05}, "training": {"epochs": 6, "average": 0.9}},
    "adamw, l2, clipped, max norm": {
        "optimizer": {"kind": "adamw", "lr": 0.05}, "regularization": {"l2": 0.01, "clip_norm": 0.5, "max_norm": 0.5},
    },
    "gan": {
        "task": "gan", "model": {"kind": "gan-mlp", "widths": [8], "latent": 4},
        "training": {"epochs": 8, "batch_size": 25},
    },
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:TF32")
@pytest.mark.parametrize("name", OVERFLOWS)
def test_steps_that_overflow_in_fp16_are_captured_too(name: str) -> None:
    spec = spec_for({**OVERFLOWS[name], "precision": "fp16"})
    plain, graphed = task_of(spec), captured(task_of(spec))
    for task in (plain, graphed):
        for updater in updaters(task):
            updater.scale.factor.fill_(2.0**30)
    wanted, found = trained(plain, spec), trained(graphed, spec)
    assert graphed.stepper._graphs, graphed.stepper.why_not
    for one, other in zip(updaters(plain), updaters(graphed), strict=True):
        assert float(one.scale.factor) == float(other.scale.factor) < 2.0**30 and float(one.alive) == 1
    torch.testing.assert_close(torch.tensor(found), torch.tensor(wanted), rtol=1e-3, atol=1e-5)


def updaters(task: Any) -> list[Any]:
    return [getattr(task, name) for name in ("updater", "g_updater", "d_updater") if hasattr(task, name)]


def test_a_run_that_diverges_while_it_is_captured_ends_as_diverged() -> None:
    spec = spec_of(optimizer={"kind": "sgd", "lr": 1000.0}, loss={"kind": "squared-error"}, training={"epochs": 20})
    for task in (task_of(spec), captured(task_of(spec))):
        assert finished(list(fit(task, spec))).status == "diverged"


def test_a_graph_is_really_repeated() -> None:
    spec = spec_of(training={"epochs": 10})
    task = captured(task_of(spec))
    learned: list[bool] = []
    learn = task.stepper.learn
    task.stepper.learn = lambda *given: learned.append(given[-1]) or learn(*given)
    trained(task, spec)
    # three to warm up; then for each of both kinds one recorded and one to compare with
    assert len(learned) == WARM_UP + 2 * 2 and task.stepper.steps == 40


def test_a_setting_that_was_frozen_would_be_noticed() -> None:
    """The tape is as strict as a graph: without `forget` a changed setting does nothing."""
    spec = spec_of(training={"epochs": 6}, optimizer={"kind": "adamw", "weight_decay": 0.0})
    changes = {12: ("optimizer.weight_decay", "9")}
    wanted = trained(task_of(spec), spec, changes)
    task = captured(task_of(spec))
    task.stepper.forget = lambda: None
    assert trained(task, spec, changes) != wanted


def test_a_whole_run_is_the_same_with_and_without() -> None:
    spec = spec_of(training={"epochs": 6}, schedule={"kind": "one-cycle"}, evaluation={"every_steps": 3})
    plain, graphed = list(fit(task_of(spec), spec)), list(fit(captured(task_of(spec)), spec))
    alike(columns(plain), columns(graphed))
    assert finished(plain).metrics == pytest.approx(finished(graphed).metrics, rel=1e-4)


def alike(first: Mapping[str, list[float]], second: Mapping[str, list[float]]) -> None:
    """See that both are the same but for rounding: a learning rate on the device has fewer digits."""
    assert first.keys() == second.keys()
    for name, values in first.items():
        assert values == pytest.approx(second[name], rel=1e-4, abs=1e-6), name


def failing(error: Exception, after: int = 0) -> Any:
    def capture(work: Callable[[], Row], generators: Sequence[Generator]) -> tuple[Row, Callable[[], None]]:
        work()  # a capture that fails has half of it behind it
        raise error

    return capture


def test_what_cannot_be_captured_goes_on_step_by_step_and_says_why() -> None:
    spec = spec_of(training={"epochs": 6}, regularization={"dropout": 0.3})
    task = captured(task_of(spec), failing(RuntimeError("operation not permitted\nwhile capturing \x1b[2J")))
    stream = list(fit(task, spec))
    alike(columns(stream), columns(list(fit(task_of(spec), spec))))
    (told,) = of(events.Warned, stream)
    assert "operation not permitted" in told.text and "\x1b" not in told.text and "\n" not in told.text


def test_a_graph_that_does_something_else_is_not_used() -> None:
    spec = spec_of(training={"epochs": 6})

    def wrong(work: Callable[[], Row], generators: Sequence[Generator]) -> tuple[Row, Callable[[], None]]:
        row, replay = on_tape(work, generators)

        def twice() -> None:
            replay()
            replay()

        return row, twice

    task = captured(task_of(spec), wrong)
    stream = list(fit(task, spec))
    alike(columns(stream), columns(list(fit(task_of(spec), spec))))
    assert "came out otherwise" in of(events.Warned, stream)[0].text


@pytest.mark.parametrize(
    ("groups", "reason"),
    [({}, "only CUDA"), ({"training": {"cuda_graph": "off"}}, "off"), ({"optimizer": {"kind": "rmsprop"}}, "rmsprop"),
     ({"optimizer": {"kind": "gradient-descent"}}, "all batches")],
)  # fmt: skip
def test_why_a_run_has_no_graph_is_told(groups: dict[str, Any], reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from tuidl.train.tasks.base import why_no_graph

    spec = spec_of(**groups)
    task = task_of(spec)
    gpu = Hardware(torch.device("cuda"), "fp32", 1, ())
    told = why_no_graph(spec, gpu if groups else task.hardware, task.updater)
    assert reason in told
    assert of(events.Started, list(fit(task, spec)))[0].facts["cuda_graph"] == "only CUDA has graphs"
    assert why_no_graph(spec_of(), gpu, task_of(spec_of()).updater) == ""


def test_what_is_restored_starts_anew() -> None:
    spec = spec_of(training={"epochs": 6}, regularization={"dropout": 0.3})
    first, second = captured(task_of(spec)), captured(task_of(spec))
    rows = trained(first, spec)
    state, saved = {key: value.clone() for key, value in first.state().items()}, first.saved()
    trained(second, spec)
    second.load(state)
    second.restore(saved)
    assert not second.stepper._graphs and second.stepper.steps == first.stepper.steps == len(rows)
    assert same(second.state(), state)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_a_gpu_the_graph_is_captured_and_agrees() -> None:
    from tuidl.train.device import choose
    from tuidl.train.session import build_task

    spec = spec_of(training={"epochs": 10}, schedule={"kind": "one-cycle"}, precision="fp32")
    rows = []
    for graph in ("auto", "off"):
        each = spec.model_copy(update={"training": spec.training.model_copy(update={"cuda_graph": graph})})
        hardware = choose("cuda", "fp32")
        data = data_of("classification")
        task = build_task(each, on_device(data, hardware.device), hardware)
        rows.append(trained(task, each))
        assert bool(task.stepper._graphs) == (graph == "auto"), hardware.notes
    torch.testing.assert_close(torch.tensor(rows[0]), torch.tensor(rows[1]), rtol=1e-3, atol=1e-4)


def test_a_stepper_counts_and_measures_every_sixteenth_step() -> None:
    seen: list[bool] = []

    def learn(inputs: Sequence[Tensor], lr: float | Tensor, measure: bool) -> Row:
        seen.append(measure)
        return (torch.zeros(()),)

    stepper = Stepper(learn, task_of(spec_of()).hardware, Moving(list, []), "no")
    for _ in range(33):
        stepper([], 0.1)
    assert [index for index, measure in enumerate(seen) if measure] == [0, 16, 32] and stepper.steps == 33
