"""Nothing in a checkpoint is there in vain: without one of its parts a run goes on another way, or not at all.

If one of these tests fails, a comparison to the bit would not notice the loss of that part, and proves less than it
seems to.
"""

import copy
import dataclasses
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from train.tiny import Scripted, busy_clock, columns, data_of, finished, of, spec_of, task_of

from tuidl.errors import UsageError
from tuidl.runs import Command, create_run, write_spec
from tuidl.spec.run import RunSpec
from tuidl.train import events, session
from tuidl.train.checkpoint import Checkpoints, Saved, random_state, read
from tuidl.train.events import Event
from tuidl.train.loop import fit
from tuidl.train.resume import Wishes
from tuidl.train.session import Door, conduct
from tuidl.train.state import State

FIXED: dict[str, Any] = {"training": {"epochs": 4, "threads": 1}, "checkpoints": {"interval": 0}}
SPECS = {
    "classification": spec_of(
        "classification", **FIXED, evaluation={"every_steps": 3, "probes": 0}, regularization={"dropout": 0.3},
        augmentation={"shift": 1, "noise": 0.1}, schedule={"kind": "one-cycle"},
    ),
    "language": spec_of(
        "language", **FIXED, evaluation={"every_steps": 3, "sample_length": 4}, regularization={"dropout": 0.3},
        model={"kind": "lstm", "width": 8, "unroll": 6, "layers": 2}, optimizer={"kind": "momentum"},
    ),
    "gan": spec_of(
        "gan", **FIXED, evaluation={"every_steps": 3, "score_images": 100, "sample_images": 4},
        regularization={"dropout": 0.3}, augmentation={"shift": 1},
    ),
}  # fmt: skip
STEP = 6  # of the checkpoint: in the middle of the second epoch, and between two looks at the update ratio

# every part that a task saves, as the names of its tensors and values
_COMMON = {"the random numbers of dropout": r"torch\.cpu", "the count of steps": "steps"}
PARTS = {
    "classification": {
        "the optimizer": r"optimizer\.\d+\..*", "the random numbers of the augmentation": "random",
        "the update ratio": r"optimizer\.update_ratio", **_COMMON,
    },
    "language": {
        "the optimizer": r"optimizer\.\d+\..*", "the memory": r"memory\.\d+",
        "the update ratio": r"optimizer\.update_ratio", **_COMMON,
    },
    "gan": {
        "the generator's optimizer": r"generator\.\d+\..*", "the discriminator's optimizer": r"discriminator\.\d+\..*",
        "the random numbers of noise and augmentation": "random", "the update ratio": r"generator\.update_ratio",
        **_COMMON,
    },
}  # fmt: skip
UNSEEN = {"gan": r"discriminator\.update_ratio"}  # is saved as the generator's is, and shown nowhere
MOMENTS = {
    "classification": ("exp_avg", "exp_avg_sq", "step"), "language": ("momentum_buffer",),
    "gan": ("exp_avg", "exp_avg_sq", "step"),
}  # fmt: skip
CASES = [(task, part) for task, parts in PARTS.items() for part in parts]


@pytest.fixture(autouse=True, scope="module")
def _one_thread(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))  # of the judge of a GAN
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(before)


@dataclasses.dataclass
class Half:
    """A run that was carried out as a whole: what it told after a step, and what it saved there."""

    spec: RunSpec
    saved: Saved
    rest: dict[str, Any]


def told(stream: list[Event], after: int) -> dict[str, Any]:
    """Return the numbers that a run tells of the time after a step; NaN is equal to NaN here."""
    found: dict[str, Any] = {}
    for event in of(events.Metrics, stream):
        for name, values in event.block.columns.items():
            found |= {f"{name} {event.block.first + row}": repr(value) for row, value in enumerate(values)}
    found = {key: value for key, value in found.items() if int(key.rpartition(" ")[2]) > after}
    for event in of(events.Evaluated, stream):
        if event.step > after or event.final:
            found[f"evaluation {event.step} {event.final}"] = repr((event.report.metrics, event.best))
    for event in of(events.Warned, stream):
        found[f"warning {event.step}"] = event.text
    last = finished(stream)
    return found | {"end": repr((last.step, last.status, last.reason, sorted(last.metrics.items())))}


def stored(event: events.Checkpoint, directory: Path) -> Saved:
    """Return a checkpoint as it comes back from the disk."""
    return read(directory / Checkpoints(directory).save(event, {"spec": {}}))


@pytest.fixture(scope="module")
def halves(_one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Half]:
    found = {}
    for name, spec in SPECS.items():
        stream, saved = [], None
        for event in fit(task_of(spec), spec, clock=busy_clock()):
            stream.append(event)
            if isinstance(event, events.Checkpoint) and event.step == STEP:
                saved = stored(event, tmp_path_factory.mktemp("checkpoints"))
        assert saved
        found[name] = Half(spec, saved, told(stream, STEP))
    return found


def resumed(half: Half, saved: Saved) -> dict[str, Any] | str:
    """Return what the run tells when it goes on from `saved`, or why it does not."""
    own = copy.deepcopy(saved)  # some of its tensors become those of the optimizer, and move
    try:
        return told(list(fit(task_of(half.spec), half.spec, clock=busy_clock(), saved=own)), STEP)
    except UsageError as error:
        return str(error)


def without(saved: Saved, pattern: str) -> Saved:
    """Return a checkpoint that lacks what has such a name."""
    tensors = {key: value for key, value in saved.rest.tensors.items() if not re.fullmatch(pattern, key)}
    values = {key: value for key, value in saved.rest.values.items() if not re.fullmatch(pattern, key)}
    assert len(tensors) + len(values) < len(saved.rest.tensors) + len(saved.rest.values), "there is no such part"
    return dataclasses.replace(saved, rest=events.Continuation(tensors, values))


def with_tensors(saved: Saved, **tensors: torch.Tensor) -> Saved:
    """Return a checkpoint with other tensors of these names."""
    return dataclasses.replace(saved, rest=events.Continuation({**saved.rest.tensors, **tensors}, saved.rest.values))


@pytest.mark.parametrize("task", SPECS)
def test_with_every_part_the_run_is_the_same(task: str, halves: dict[str, Half]) -> None:
    assert resumed(halves[task], halves[task].saved) == halves[task].rest


@pytest.mark.parametrize(("task", "part"), CASES)
def test_without_a_part_it_is_another_or_none(task: str, part: str, halves: dict[str, Half]) -> None:
    assert resumed(halves[task], without(halves[task].saved, PARTS[task][part])) != halves[task].rest


@pytest.mark.parametrize(("task", "part"), CASES)
def test_with_a_part_as_it_was_at_the_beginning_it_is_another(task: str, part: str, halves: dict[str, Half]) -> None:
    """This is what a run would do that had never saved that part."""
    half, pattern = halves[task], PARTS[task][part]
    fresh_task = task_of(half.spec)
    if task == "language":
        fresh_task.begin_epoch(0)  # upon which there is a memory
    fresh = fresh_task.saved()
    fresh.tensors.update(random_state(torch.device("cpu")))
    saved = without(half.saved, pattern)
    saved.rest.tensors.update({key: value for key, value in fresh.tensors.items() if re.fullmatch(pattern, key)})
    saved.rest.values.update({key: value for key, value in fresh.values.items() if re.fullmatch(pattern, key)})
    found = resumed(half, saved)
    assert isinstance(found, dict) and found.keys() == half.rest.keys(), "it is not refused, it only goes another way"
    assert found != half.rest


@pytest.mark.parametrize(("task", "moment"), [(task, moment) for task, found in MOMENTS.items() for moment in found])
def test_with_a_moment_of_the_optimizer_at_zero_it_is_another(task: str, moment: str, halves: dict[str, Half]) -> None:
    half = halves[task]
    names = [key for key in half.saved.rest.tensors if key.endswith(f".{moment}")]
    models = {name.partition(".")[0] for name in names}
    assert models == ({"generator", "discriminator"} if task == "gan" else {"optimizer"})
    for model in models:
        zeros = {key: torch.zeros_like(half.saved.rest.tensors[key]) for key in names if key.startswith(model)}
        assert resumed(half, with_tensors(half.saved, **zeros)) != half.rest, model


@pytest.mark.parametrize("task", SPECS)
def test_every_part_that_is_saved_is_tested_here(task: str, halves: dict[str, Half]) -> None:
    rest = halves[task].saved.rest
    known = "|".join([*PARTS[task].values(), UNSEEN.get(task, "-"), "loop"])
    assert [key for key in (*rest.tensors, *rest.values) if not re.fullmatch(known, key)] == []
    moments = {key.rpartition(".")[2] for key in rest.tensors if re.fullmatch(r"\w+\.\d+\.\d+\.\w+", key)}
    assert moments == set(MOMENTS[task])


@pytest.mark.parametrize("task", SPECS)
def test_without_a_weight_it_is_refused(task: str, halves: dict[str, Half]) -> None:
    saved = halves[task].saved
    for name in saved.weights:
        if name.endswith(".num_batches_tracked"):  # on which nothing depends, so that torch does without
            continue
        fewer = {key: value for key, value in saved.weights.items() if key != name}
        assert "does not fit" in resumed(halves[task], dataclasses.replace(saved, weights=fewer))


# ---------------------------------------------------------------- the state of the loop

VALUES = [0.5, 0.9, 0.3, 0.4, 0.2, 0.35, 0.6, 0.1]  # of the deciding metric
LOOP_SPEC = spec_of(
    training={"epochs": 8}, early_stopping={"patience": 5}, schedule={"kind": "plateau", "patience": 2},
    checkpoints={"interval": 0},
)  # fmt: skip
PER_EPOCH = 2


def scripted(already: int) -> Any:
    return Scripted(iter(VALUES[already:]), PER_EPOCH)


def own_clock(task: Scripted) -> Callable[[], float]:
    """Return a clock that moves on a second with each step that this process takes."""
    return lambda: float(len(task.rates))


@pytest.fixture(scope="module")
def loop_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Event], dict[int, Saved]]:
    task, stream, saved = scripted(0), [], {}
    for event in fit(task, LOOP_SPEC, clock=own_clock(task)):
        stream.append(event)
        if isinstance(event, events.Checkpoint):
            saved[event.step] = stored(event, tmp_path_factory.mktemp("checkpoints"))
    return stream, saved


def loop_told(stream: list[Event], after: int) -> dict[str, Any]:
    rates = columns([event for event in stream if event.step > after])
    return told(stream, after) | {"rates": rates.get("lr"), "seconds": finished(stream).seconds}


def go_on(saved: Saved) -> dict[str, Any]:
    task, saved = scripted(saved.step // PER_EPOCH), copy.deepcopy(saved)
    return loop_told(list(fit(task, LOOP_SPEC, clock=own_clock(task), saved=saved)), saved.step)


def with_loop(saved: Saved, **changes: Any) -> Saved:
    loop = {**saved.rest.values["loop"], **changes}
    return dataclasses.replace(saved, rest=events.Continuation(saved.rest.tensors, {**saved.rest.values, "loop": loop}))


def test_with_all_of_the_loop_it_is_the_same(loop_run: tuple[list[Event], dict[int, Saved]]) -> None:
    stream, checkpoints = loop_run
    assert "early stopping" in finished(stream).reason, "or the count of evaluations would not matter"
    assert of(events.Warned, stream), "or the first loss would not matter"
    for step, saved in checkpoints.items():
        wanted = {key: value for key, value in loop_told(stream, step).items() if not _warned_before(key, step)}
        assert go_on(saved) == wanted


def _warned_before(key: str, step: int) -> bool:
    return key.startswith("warning") and int(key.partition(" ")[2]) <= step


@pytest.mark.parametrize("name", [item.name for item in dataclasses.fields(State)])
def test_without_a_part_of_the_loop_it_is_another(name: str, loop_run: tuple[list[Event], dict[int, Saved]]) -> None:
    _, checkpoints = loop_run
    # The first loss is looked at until it was warned of. What was measured last is measured anew by every step, so
    # that its loss shows in a run that has only to end.
    step = {"first_loss": 2 * PER_EPOCH, "metrics": max(checkpoints)}.get(name, 3 * PER_EPOCH)
    saved = checkpoints[step]
    if name == "step":  # which stands in the header, and without which nothing is a checkpoint
        assert go_on(dataclasses.replace(saved, header={**saved.header, "step": 0})) != go_on(saved)
        return
    fresh = State()
    assert saved.rest.values["loop"][name] != getattr(fresh, name), "it is as at the beginning, which proves nothing"
    assert go_on(with_loop(saved, **{name: getattr(fresh, name)})) != go_on(saved)


def test_without_the_best_weights_another_model_is_tested(loop_run: tuple[list[Event], dict[int, Saved]]) -> None:
    _, checkpoints = loop_run
    saved = checkpoints[3 * PER_EPOCH]
    assert saved.best_weights
    assert go_on(dataclasses.replace(saved, best_weights={})) != go_on(saved)


def test_without_the_state_of_the_loop_it_is_refused(loop_run: tuple[list[Event], dict[int, Saved]]) -> None:
    saved = loop_run[1][2 * PER_EPOCH]
    with pytest.raises(UsageError, match="does not say where the run was"):
        go_on(dataclasses.replace(saved, rest=events.Continuation(saved.rest.tensors, {})))


# ---------------------------------------------------------------- the live settings


class Killed(BaseException):
    """The process was killed."""


class OneChange(Door):
    """Has a single command, which comes with the first look."""

    def poll(self) -> list[Command]:
        if self._told:
            return []
        self._told = True
        return [Command("change", "set", {"key": "optimizer.lr", "value": "0.125"})]


def rate_after_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None]) -> float:
    """Change the rate of a run, kill it, `spoil` its newest checkpoint, and return with which rate it goes on."""
    monkeypatch.setattr(session, "load", lambda data, **_: data_of("classification"))
    spec = spec_of(training={"epochs": 200, "threads": 1}, evaluation={"every_steps": 3, "probes": 0})
    paths = create_run(tmp_path, None, "tiny")
    write_spec(paths, {"spec": spec.model_dump(mode="json")})
    changed = False

    def kill_after_the_change(event: Event, _: Any) -> None:
        nonlocal changed
        changed = changed or isinstance(event, events.Changed)
        if changed and isinstance(event, events.Checkpoint):
            raise Killed

    with pytest.raises(Killed):
        conduct(paths, kill_after_the_change, OneChange(paths))
    spoil(max(paths.checkpoints.glob("step-*")))
    rates: list[float] = []

    def note_the_rate(event: Event, _: Any) -> None:
        if isinstance(event, events.Metrics):
            rates.extend(event.block.columns["lr"])
            raise Killed

    with pytest.raises(Killed):
        conduct(paths, note_the_rate, Door(paths), Wishes(resume=True))
    return rates[0]


def with_header(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    """Return what rewrites a checkpoint with a changed header."""

    def spoil(path: Path) -> None:
        saved = read(path)
        header = {key: value for key, value in saved.header.items() if key == "spec"}
        change(header)
        best = events.Checkpoint(saved.step, saved.weights, saved.best_weights, saved.rest, {}, False)
        Checkpoints(path.parent, keep=9).save(best, header)

    return spoil


def test_live_settings_are_part_of_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rate_after_resume(tmp_path / "whole", monkeypatch, lambda path: None) == 0.125

    def as_at_the_beginning(header: dict[str, Any]) -> None:
        header["spec"]["optimizer"]["lr"] = 0.001

    assert rate_after_resume(tmp_path / "old", monkeypatch, with_header(as_at_the_beginning)) == 0.001
    with pytest.raises(UsageError, match="another run"):
        rate_after_resume(tmp_path / "none", monkeypatch, with_header(dict.clear))
