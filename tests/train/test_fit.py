"""The loop: the order of its events, its metrics, its commands, and that watching a run never changes it."""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from tuidl.runs import Command
from tuidl.train import events
from tuidl.train.data.load import TextData
from tuidl.train.events import Event
from tuidl.train.loop import fit

from .tiny import (
    Queue,
    Script,
    Scripted,
    busy_clock,
    columns,
    finished,
    image_data,
    of,
    run_all,
    same,
    spec_of,
    still_clock,
    task_of,
    weights,
)

TASKS = ["classification", "language", "gan"]


def scripted(values: Any = None, steps_per_epoch: int = 3) -> Scripted:
    return Scripted(values or itertools.count(0.1, 0.01), steps_per_epoch)


def names(stream: list[Event]) -> list[str]:
    return [event.state if isinstance(event, events.StateChanged) else type(event).__name__ for event in stream]


# --- order -----------------------------------------------------------------------------------------------------------


def test_order_of_events() -> None:
    task = scripted(steps_per_epoch=2)
    stream = run_all(task, spec_of(training={"epochs": 2}))
    epoch = [
        "Metrics", "Metrics", "evaluating", "Heartbeat", "Heartbeat", "Evaluated", "Heartbeat", "Sampled", "Checkpoint",
        "running",
    ]  # fmt: skip
    assert names(stream) == ["Heartbeat", "Started", *epoch, *epoch, "Heartbeat", "Evaluated", "Finished"]
    assert task.epochs == [0, 1]
    steps = [event.step for event in stream]
    assert steps == sorted(steps)
    assert [event.epoch for event in of(events.Evaluated, stream)] == [1.0, 2.0, 2.0]
    assert [event.final for event in of(events.Evaluated, stream)] == [False, False, True]
    (started,) = of(events.Started, stream)
    assert started.facts == {"parameters": 1, "steps": 4, "steps_per_epoch": 2}
    end = finished(stream)
    assert (end.status, end.reason, end.epochs, end.step) == ("completed", "all steps done", 2.0, 4)
    assert end.metrics == pytest.approx(
        {"loss": 40.0, "lr": 0.001, "val_accuracy": 0.11, "best_val_accuracy": 0.11, "best_step": 4, "test_weight": 4}
    )


@pytest.mark.parametrize("clock", [busy_clock, lambda: still_clock], ids=["busy", "still"])
def test_blocks_of_metrics_contain_every_step_once_and_in_order(clock: Callable[[], Callable[[], float]]) -> None:
    task = scripted(steps_per_epoch=7)
    stream = list(fit(task, spec_of(training={"epochs": 3}), clock=clock()))
    position = 1
    elapsed = 0.0
    for event in of(events.Metrics, stream):
        assert event.block.first == position
        position += len(event.block)
        assert event.step == position - 1
        assert event.elapsed[0] == elapsed <= event.elapsed[1]
        elapsed = event.elapsed[1]
    assert position == 22
    assert columns(stream)["loss"] == [10.0 * step for step in range(1, 22)]
    assert columns(stream)["lr"] == task.rates


def test_rates_follow_the_schedule() -> None:
    spec = spec_of(training={"epochs": 2}, optimizer={"lr": 0.5}, schedule={"kind": "cosine", "final": 0.1})
    task = scripted(steps_per_epoch=5)
    run_all(task, spec)
    expected = [0.5 * (0.1 + 0.9 * (1 + math.cos(math.pi * step / 10)) / 2) for step in range(10)]
    assert task.rates == pytest.approx(expected)


def test_plateau_hears_of_the_evaluations_and_their_direction() -> None:
    accuracies = [0.5, 0.6, 0.6, 0.6, 0.7, 0.1]  # larger is better: the third and fourth bring nothing
    spec = spec_of(
        training={"epochs": 6}, optimizer={"lr": 1.0}, schedule={"kind": "plateau", "gamma": 0.5, "patience": 2}
    )
    task = scripted(accuracies, steps_per_epoch=1)
    run_all(task, spec)
    assert task.rates == [1.0, 1.0, 1.0, 1.0, 0.5, 0.5]


@pytest.mark.parametrize(
    ("training", "every", "steps", "evaluated_at"),
    [
        ({"epochs": 2}, 0, 20, [10, 20]),
        ({"epochs": 2, "max_steps": 13}, 0, 13, [10, 13]),
        ({"epochs": 2, "max_steps": 99}, 0, 20, [10, 20]),
        ({"epochs": 5, "max_steps": 1}, 0, 1, [1]),
        ({"epochs": 2}, 4, 20, [4, 8, 10, 12, 16, 20]),
        ({"epochs": 1, "max_steps": 7}, 3, 7, [3, 6, 7]),
    ],
)
def test_how_long_a_run_is_and_when_it_is_evaluated(
    training: dict[str, int], every: int, steps: int, evaluated_at: list[int]
) -> None:
    stream = run_all(scripted(steps_per_epoch=10), spec_of(training=training, evaluation={"every_steps": every}))
    assert finished(stream).step == steps
    assert [event.step for event in of(events.Evaluated, stream) if not event.final] == evaluated_at
    assert [event.step for event in of(events.Checkpoint, stream)] == evaluated_at


def test_the_test_sees_the_best_weights_and_checkpoints_say_which_are_best() -> None:
    stream = run_all(scripted([0.2, 0.9, 0.5, 0.9]), spec_of(training={"epochs": 4}))
    assert [event.best for event in of(events.Checkpoint, stream)] == [True, True, False, False]
    assert [event.best for event in of(events.Evaluated, stream)] == [True, True, False, False, False]
    end = finished(stream)
    assert (end.metrics["test_weight"], end.metrics["best_step"], end.metrics["val_accuracy"]) == (6, 6, 0.9)


def test_a_smaller_loss_is_better() -> None:
    task = Scripted([3.0, 1.0, 2.0], 3, metric="val_loss")
    end = finished(run_all(task, spec_of(training={"epochs": 3}, evaluation={"metric": "val_loss"})))
    assert end.metrics["best_val_loss"] == 1.0
    assert end.metrics["test_weight"] == 6


def test_a_metric_that_is_not_finite_is_never_the_best() -> None:
    end = finished(run_all(scripted([math.nan, 0.3, -math.inf, math.nan]), spec_of(training={"epochs": 4})))
    assert end.metrics["best_val_accuracy"] == 0.3
    assert end.metrics["test_weight"] == 6
    stream = run_all(scripted([math.nan, math.nan]), spec_of(training={"epochs": 2}))
    assert "test_weight" not in finished(stream).metrics  # nothing is best, so nothing is tested


def test_plus_infinity_is_never_the_best_either() -> None:
    end = finished(run_all(scripted([0.3, math.inf]), spec_of(training={"epochs": 2})))
    assert end.metrics["best_val_accuracy"] == 0.3


# --- commands --------------------------------------------------------------------------------------------------------


def answers(stream: list[Event]) -> dict[str, tuple[int, bool, str]]:
    return {event.id: (event.step, event.ok, event.text) for event in of(events.Answered, stream)}


def scripted_run(lines: dict[int, list[str]], **groups: Any) -> tuple[Scripted, list[Event]]:
    task = scripted(steps_per_epoch=5)
    spec = spec_of(**{"training": {"epochs": 2}, "optimizer": {"kind": "sgd", "lr": 0.5}, **groups})
    return task, run_all(task, spec, Script(lambda: int(task.weight), lines))


def test_set_takes_effect_at_the_next_step_and_is_recorded() -> None:
    task, stream = scripted_run({3: ["set optimizer.lr=0.25"]})
    assert task.rates == [0.5] * 3 + [0.25] * 7
    (changed,) = of(events.Changed, stream)
    assert (changed.step, changed.key, changed.before, changed.after) == (3, "optimizer.lr", 0.5, 0.25)
    step, ok, text = answers(stream)["set optimizer.lr=0.25"]
    assert (step, ok) == (3, True) and "step 4" in text and "0.25" in text
    (configured,) = task.configured
    assert configured.optimizer.lr == 0.25
    kinds = names(stream)
    assert kinds.index("Changed") < kinds.index("Answered")


@pytest.mark.parametrize(
    "line",
    [
        "set training.batch_size=7",  # not live
        "set optimizer.kind=adam",
        "set optimizer.lr=-1",
        "set optimizer.lr=nan",
        "set optimizer.lr=fast",
        "set optimizer.momentum=0.5",  # sgd has none
        "set no.such=1",
        "set =1",
        "set regularization.dropout=0.99",
        "fly",
    ],
)
def test_what_cannot_be_done_is_answered_with_no_and_changes_nothing(line: str) -> None:
    task, stream = scripted_run({3: [line]})
    step, ok, text = answers(stream)[line]
    assert (step, ok) == (3, False) and text
    assert task.rates == [0.5] * 10
    assert not task.configured and not of(events.Changed, stream)
    assert finished(stream).status == "completed"


def test_stop_ends_the_run_with_a_checkpoint_and_no_test() -> None:
    _, stream = scripted_run({3: ["stop"]})
    end = finished(stream)
    assert (end.status, end.step) == ("stopped", 3) and "command" in end.reason
    assert [(event.step, event.best) for event in of(events.Checkpoint, stream)] == [(3, False)]
    assert not of(events.Evaluated, stream)
    assert answers(stream)["stop"][1]


@pytest.mark.parametrize("work", ["validation 1/2", "sampling", "test"])
def test_stop_in_the_middle_of_long_work_breaks_it_off_and_leaves_a_checkpoint(work: str) -> None:
    task, queue = scripted(steps_per_epoch=5), Queue()
    stream: list[Event] = []
    for event in fit(task, spec_of(training={"epochs": 2}), queue, still_clock):
        stream.append(event)
        if isinstance(event, events.Heartbeat) and event.doing == work:
            queue.lines.append("stop")
    assert (finished(stream).status, finished(stream).step) == ("stopped", 10 if work == "test" else 5)
    assert [event.final for event in of(events.Evaluated, stream)] == {
        "validation 1/2": [], "sampling": [False], "test": [False, False],
    }[work]  # fmt: skip
    assert of(events.Checkpoint, stream)[-1].step == finished(stream).step
    assert [event.ok for event in of(events.Answered, stream)] == [True]


def test_a_paused_run_takes_no_step_until_it_continues() -> None:
    task, queue = scripted(steps_per_epoch=10), Queue()
    stream: list[Event] = []
    beats = 0
    for event in fit(task, spec_of(training={"epochs": 1}), queue, busy_clock()):
        stream.append(event)
        if isinstance(event, events.Metrics) and event.step == 4:
            queue.lines.append("pause")
        if isinstance(event, events.Heartbeat) and event.doing == "paused":
            beats += 1
            assert event.step == 4 and int(task.weight) == 4
            if beats == 3:
                queue.lines.append("set optimizer.lr=0.125")  # obeyed although paused
            if beats == 5:
                queue.lines.append("continue")
    assert beats >= 5
    states = [event.state for event in of(events.StateChanged, stream)]
    assert states[:2] == ["paused", "running"]
    assert task.rates == [0.001] * 4 + [0.125] * 6
    assert columns(stream)["loss"] == [10.0 * step for step in range(1, 11)]


def test_a_pause_is_no_training_time() -> None:
    now = itertools.count()
    time = [0.0]

    def clock() -> float:
        next(now)
        return time[0]

    task, queue = scripted(steps_per_epoch=4), Queue()
    seconds = []
    for event in fit(task, spec_of(training={"epochs": 1}), queue, clock):
        time[0] += 1.0
        if isinstance(event, events.Started):
            queue.lines.append("pause")
        if isinstance(event, events.Heartbeat) and event.doing == "paused":
            time[0] += 1000.0
            queue.lines.append("continue")
        if isinstance(event, events.Finished):
            seconds.append(event.seconds)
    assert seconds[0] < 900


def test_a_pause_with_an_evaluation_in_it_is_no_training_time() -> None:
    time = [0.0]
    task, queue = scripted(steps_per_epoch=4), Queue()
    seconds = []
    beats = 0
    for event in fit(task, spec_of(training={"epochs": 1}), queue, lambda: time[0]):
        time[0] += 1.0
        if isinstance(event, events.Started):
            queue.lines.append("pause")
        if isinstance(event, events.Heartbeat) and event.doing == "paused":
            beats += 1
            time[0] += 1000.0
            queue.lines.append("evaluate-now" if beats == 1 else "continue")
        if isinstance(event, events.Finished):
            seconds.append(event.seconds)
    assert beats >= 2
    assert seconds[0] < 900


def test_pause_in_an_evaluation_pauses_before_the_next_step() -> None:
    task, queue = scripted(steps_per_epoch=3), Queue()
    at = []
    for event in fit(task, spec_of(training={"epochs": 2}), queue, still_clock):
        if isinstance(event, events.Heartbeat) and event.doing == "validation 1/2" and event.step == 3:
            queue.lines.append("pause")
        if isinstance(event, events.Heartbeat) and event.doing == "paused":
            at.append(event.step)
            queue.lines.append("continue")
    assert at and set(at) == {3}


def stepped(lines: dict[int, list[str]], steps: int = 12, clock: Callable[[], float] | None = None) -> list[Event]:
    """Run to the end: after each pause of a few beats comes the next of the `lines` for its step, else `continue`."""
    task, queue = scripted(steps_per_epoch=4), Queue(lines.pop(0, []))
    stream: list[Event] = []
    for event in fit(task, spec_of(training={"epochs": steps // 4}), queue, clock or busy_clock()):
        stream.append(event)
        beats = [one for one in of(events.Heartbeat, stream) if (one.step, one.doing) == (event.step, "paused")]
        if isinstance(event, events.Heartbeat) and event.doing == "paused" and len(beats) == 3:
            queue.lines += lines.pop(event.step, ["continue"])
    assert not lines, "every line had its pause"
    assert int(task.weight) == event.step
    return stream


def paused_at(stream: list[Event]) -> list[int]:
    return [event.step for event in of(events.StateChanged, stream) if event.state == "paused"]


@pytest.mark.parametrize("clock", [busy_clock, lambda: still_clock])
def test_a_number_of_steps_then_a_pause(clock: Callable[[], Callable[[], float]]) -> None:
    stream = stepped({0: ["steps 3"], 3: ["steps 1"], 4: ["steps 2"]}, clock=clock())
    assert paused_at(stream) == [3, 4, 6]
    answers = of(events.Answered, stream)
    assert [(answer.ok, answer.text) for answer in answers] == [
        (True, "pauses after step 3"), (True, "pauses after step 4"), (True, "pauses after step 6"), (True, "running"),
    ]  # fmt: skip
    assert (finished(stream).status, finished(stream).step) == ("completed", 12)
    assert columns(stream)["loss"] == [10.0 * step for step in range(1, 13)]


def test_the_evaluation_of_the_last_step_comes_before_the_pause() -> None:
    stream = stepped({0: ["steps 4"]})
    kinds = names(stream)
    assert paused_at(stream) == [4]
    assert kinds.index("Evaluated") < kinds.index("paused")
    assert [event.step for event in of(events.Evaluated, stream)] == [4, 8, 12, 12]


def test_pause_and_continue_take_the_steps_back() -> None:
    assert paused_at(stepped({0: ["steps 6", "pause"], 1: ["steps 2"], 3: ["steps 5", "continue"]})) == [1, 3]
    assert paused_at(stepped({0: ["steps 6", "steps 2"]})) == [2], "the newest holds"


def test_steps_up_to_the_end_and_beyond() -> None:
    stream = stepped({0: ["steps 12"]})
    assert paused_at(stream) == [12]
    assert finished(stream).status == "completed"
    stream = stepped({0: ["steps 13"]})
    assert paused_at(stream) == []
    assert of(events.Answered, stream)[0].text == "ends after step 12, before the pause"


@pytest.mark.parametrize("count", ["0", "-1", "1.5", "many", "", "\u0663", "1e3", " 1", "\x1b[2J"])
def test_what_is_no_number_of_steps_is_refused(count: str) -> None:
    stream = stepped({0: [f"steps {count}"]})
    (answer,) = of(events.Answered, stream)
    assert not answer.ok and "whole number" in answer.text and "\x1b" not in answer.text
    assert paused_at(stream) == []


def test_stop_ends_a_run_that_steps() -> None:
    stream = stepped({0: ["steps 2"], 2: ["steps 2", "stop"]})
    assert (finished(stream).status, finished(stream).step) == ("stopped", 2)
    assert [event.step for event in of(events.Checkpoint, stream)] == [2]


def test_commands_are_served_during_an_evaluation() -> None:
    task, queue = scripted(steps_per_epoch=3), Queue()
    stream = []
    for event in fit(task, spec_of(training={"epochs": 2}), queue, still_clock):
        stream.append(event)
        if isinstance(event, events.Heartbeat) and event.doing == "validation 1/2" and event.step == 3:
            queue.lines.append("set optimizer.lr=0.5")
    kinds = names(stream)
    assert kinds.index("evaluating") < kinds.index("Answered") < kinds.index("Evaluated")
    assert task.rates == [0.001] * 3 + [0.5] * 3


def test_commands_are_served_while_the_task_prepares() -> None:
    task = scripted()
    spec = spec_of()
    stream = run_all(task, spec, Script(lambda: 0, {0: ["set optimizer.lr=0.5", "stop"]}))
    assert names(stream)[:4] == ["Heartbeat", "Changed", "Answered", "Answered"]
    assert (finished(stream).status, finished(stream).step) == ("stopped", 0)


def test_commands_are_carried_out_in_their_order_and_each_is_answered() -> None:
    lines = ["set optimizer.lr=0.1", "set optimizer.lr=0.2", "nonsense", "set optimizer.lr=0.3"]
    task, stream = scripted_run({2: lines})
    assert list(answers(stream)) == lines
    assert task.rates == [0.5] * 2 + [0.3] * 8
    assert [event.before for event in of(events.Changed, stream)] == [0.5, 0.1, 0.2]


def test_a_bad_command_of_the_inbox_cannot_end_the_run() -> None:
    """The inbox has checked what it hands on, yet the loop answers whatever it is given."""

    class Odd:
        def poll(self) -> list[Command]:
            return [Command("odd", "refused: it is not a command file")]

    stream = run_all(scripted(), spec_of(), Odd())
    assert finished(stream).status == "completed"
    assert {event.ok for event in of(events.Answered, stream)} == {False}


def test_evaluate_now_is_shown_but_decides_nothing() -> None:
    _, stream = scripted_run({2: ["evaluate-now"], 4: ["sample-now"]}, early_stopping={"patience": 2})
    first = of(events.Evaluated, stream)[0]
    assert (first.step, first.best, first.final) == (2, False, False)
    assert [event.step for event in of(events.Checkpoint, stream)] == [5, 10]
    assert [event.step for event in of(events.Sampled, stream)] == [2, 4, 5, 10]
    assert finished(stream).status == "completed"


def test_closing_the_generator_cancels_the_run() -> None:
    task = scripted()
    stream = fit(task, spec_of(training={"epochs": 9}), None, busy_clock())
    for event in stream:
        if event.step == 2:
            break
    assert isinstance(stream, Iterator)
    stream.close()  # type: ignore[attr-defined]
    assert list(stream) == []
    assert int(task.weight) == 2


# --- the same run again ----------------------------------------------------------------------------------------------

CASES: list[tuple[str, dict[str, Any]]] = [
    (
        "classification",
        {
            "model": {"kind": "cnn", "channels": [4], "widths": [6], "activation": "rrelu"},
            "augmentation": {"flip": 0.5, "shift": 1.0, "noise": 0.2},
            "regularization": {"dropout": 0.3},
            "training": {"epochs": 2, "batch_size": 50},
        },
    ),
    ("language", {"regularization": {"dropout": 0.3}, "training": {"max_steps": 10}, "evaluation": {"every_steps": 4}}),
    ("language", {"model": {"kind": "lstm", "width": 8, "layers": 2, "unroll": 8, "carry_state": False},
                  "regularization": {"dropout": 0.3}, "training": {"max_steps": 10}}),
    ("gan", {"regularization": {"dropout": 0.3}, "augmentation": {"flip": 0.5}, "training": {"epochs": 2}}),
    ("gan", {"loss": {"kind": "wgan-gp", "d_steps": 2}, "training": {"epochs": 3, "batch_size": 30}}),
]  # fmt: skip
IDS = ["classification", "language", "language-shuffled", "gan", "wgan-gp"]


def essence(stream: list[Event]) -> list[Any]:
    """Return what a run has found, without what depends on the clock."""
    found: list[Any] = [columns(stream)]
    for event in stream:
        if isinstance(event, events.Evaluated | events.Sampled):
            files = [artifact.data for artifact in event.report.artifacts]
            found.append((type(event).__name__, event.step, event.report.metrics, files))
    return found


def run_case(
    task_name: str, groups: dict[str, Any], lines: dict[int, list[str]] | None = None
) -> tuple[Any, list[Event]]:
    """Return the task and the stream; global random numbers are stirred up before, since the seed alone must decide."""
    torch.manual_seed(int.from_bytes(str(lines).encode()[:4], "big"))
    torch.rand(7)
    spec = spec_of(task_name, **groups)
    task = task_of(spec)
    last = [0]
    genuine = task.step

    def step(index: int, lr: float) -> Any:
        last[0] += 1
        return genuine(index, lr)

    task.step = step
    return task, run_all(task, spec, Script(lambda: last[0], dict(lines or {})))


@pytest.mark.parametrize(("task", "groups"), CASES, ids=IDS)
def test_the_same_seed_gives_the_same_run_to_the_last_bit_and_another_seed_another(
    task: str, groups: dict[str, Any]
) -> None:
    first, one = run_case(task, groups)
    second, two = run_case(task, groups)
    assert essence(one) == essence(two)
    assert same(first.state(), second.state())
    other, three = run_case(task, {**groups, "seed": 1})
    assert essence(one)[0] != essence(three)[0]
    assert not same(first.state(), other.state())


@pytest.mark.parametrize(("task", "groups"), CASES, ids=IDS)
def test_watching_a_run_does_not_change_it(task: str, groups: dict[str, Any]) -> None:
    quiet, alone = run_case(task, groups)
    lines = {
        1: ["evaluate-now"],
        2: ["sample-now", "pause", "evaluate-now", "sample-now", "continue"],
        3: ["evaluate-now", "set no.such=1"],
    }
    watched, looked_at = run_case(task, groups, lines)
    assert "paused" in [event.state for event in of(events.StateChanged, looked_at)]
    assert len(of(events.Evaluated, looked_at)) == len(of(events.Evaluated, alone)) + 3
    assert columns(alone) == columns(looked_at)
    assert same(quiet.state(), watched.state())
    ends = [dict(finished(stream).metrics) for stream in (alone, looked_at)]
    assert ends[0] == ends[1]


@pytest.mark.parametrize("name", TASKS)
def test_a_set_of_the_value_that_is_already_there_does_not_change_a_run(name: str) -> None:
    groups = dict(zip(IDS, (case[1] for case in CASES), strict=True))[name]
    quiet, _ = run_case(name, groups)
    nudged, stream = run_case(name, groups, {2: ["set optimizer.lr=0.001", "set regularization.l1=0"]})
    assert all(event.ok for event in of(events.Answered, stream))
    assert same(quiet.state(), nudged.state())


def test_order_of_the_data_is_a_function_of_seed_and_epoch() -> None:
    seen: dict[tuple[int, int], tuple[int, ...]] = {}
    for seed in (0, 1):
        task = task_of(spec_of(seed=seed))
        for epoch in (0, 1, 0):
            task.begin_epoch(epoch)
            order = tuple(task.order.tolist())
            assert sorted(order) == list(range(200))
            assert seen.setdefault((seed, epoch), order) == order
    assert len(set(seen.values())) == 4


@pytest.mark.parametrize("batch", [1, 30, 50, 70, 200, 999])
def test_an_epoch_shows_no_image_twice(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of(spec_of(training={"batch_size": batch}), image_data(count=200))
    size = min(batch, 200)
    assert task.steps_per_epoch == 200 // size
    task.begin_epoch(0)
    rows = [task.order[index * size :][:size] for index in range(task.steps_per_epoch)]
    joined = torch.cat(rows)
    assert len(joined) == len(joined.unique()) == 200 // size * size
    lengths = []
    genuine = task.normalised

    def spy(images: torch.Tensor) -> Any:
        lengths.append(len(images))
        return genuine(images)

    monkeypatch.setattr(task, "normalised", spy)
    for index in range(task.steps_per_epoch):
        task.step(index, 0.01)
    assert lengths == [size] * (200 // size)


def test_evaluation_measures_what_a_plain_computation_finds() -> None:
    spec = spec_of(evaluation={"probes": 20, "worst": 4})
    task = task_of(spec)
    before = weights(task)
    report = [event.report for event in of(events.Evaluated, run_all(task, spec)) if not event.final][-1]
    assert not same(task.state(), before)
    split = task.data.val
    pixels = split.images.double() / 255
    images = (pixels - task.data.mean.view(-1, 1, 1)) / task.data.std.view(-1, 1, 1)
    logits = task.model.eval()(images.float()).detach().double()
    assert report.metrics["val_accuracy"] == pytest.approx(
        float((logits.argmax(1) == split.targets).double().mean()), abs=1e-6
    )
    surprise = -logits.log_softmax(1)[range(len(logits)), split.targets]
    assert report.metrics["val_loss"] == pytest.approx(float(surprise.mean()), rel=1e-4)
    assert [artifact.name for artifact in report.artifacts] == ["confusion-val.json", "probes.json", "worst.png"]


def test_text_of_a_language_run_is_the_whole_text() -> None:
    task = task_of(spec_of("language"))
    assert isinstance(task.data, TextData)
    task.begin_epoch(0)
    reach = (task.starts[:, :, None] + task.reach + 1).flatten()
    assert int(reach.max()) < len(task.data.train)
    assert len(reach.unique()) == reach.numel()  # nothing is read twice in an epoch
    assert reach.numel() > 0.8 * len(task.data.train)
