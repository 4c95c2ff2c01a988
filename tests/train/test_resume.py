"""Going on from a checkpoint: the same run to the bit, from the newest sound file, with one owner."""

import contextlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import tuidl
from tuidl.errors import DataError, OwnershipError, UsageError
from tuidl.runs import Command, RunPaths, RunReader, create_run, read_status, write_spec
from tuidl.runs.ownership import claim
from tuidl.spec.run import RunSpec
from tuidl.train import device, events, loss_scale, session
from tuidl.train.checkpoint import read
from tuidl.train.events import Event
from tuidl.train.loop import fit
from tuidl.train.resume import Wishes
from tuidl.train.session import Door, conduct

from .tiny import columns, data_of, of, same, spec_of, task_of

RUNS: dict[str, dict[str, Any]] = {
    "mlp, adam, dropout, augmented": {
        "augmentation": {"shift": 1, "noise": 0.1}, "regularization": {"dropout": 0.3},
        "schedule": {"kind": "one-cycle"},
    },
    "cnn, nesterov, batch norm": {
        "model": {"kind": "cnn", "channels": [4], "batch_norm": True}, "optimizer": {"kind": "nesterov", "lr": 0.05},
    },
    "mlp, muon": {"optimizer": {"kind": "muon"}},
    "mlp, rmsprop, plateau, early stopping": {
        "optimizer": {"kind": "rmsprop"}, "schedule": {"kind": "plateau", "patience": 1},
        "early_stopping": {"patience": 50},
    },
    "language": {"task": "language", "model": {"kind": "lstm", "width": 8, "unroll": 6}},
    "gan": {"task": "gan", "model": {"kind": "gan-mlp", "widths": [8], "latent": 4}},
    "averaged": {"training": {"epochs": 4, "threads": 1, "average": 0.9}},
    "gan, averaged": {
        "task": "gan", "model": {"kind": "gan-mlp", "widths": [8], "latent": 4},
        "training": {"epochs": 4, "threads": 1, "average": 0.9},
    },
    "cnn, averaged with its norm": {
        "model": {"kind": "cnn", "channels": [4], "batch_norm": True},
        "training": {"epochs": 4, "threads": 1, "average": 0.9},
    },
    "fp16, whose loss is scaled": {"precision": "fp16", "optimizer": {"kind": "nesterov", "lr": 0.05}},
}  # fmt: skip


class Killed(BaseException):
    """The process was killed."""


@pytest.fixture(autouse=True)
def tiny_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Train on data in memory, and keep the judge of a GAN away from the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    names = {"mnist": "classification", "python-docs": "language"}
    monkeypatch.setattr(session, "load", lambda data, **_: data_of(names[data.name]))


def begin(root: Path, spec: RunSpec) -> RunPaths:
    paths = create_run(root, None, "tiny")
    write_spec(paths, {"spec": spec.model_dump(mode="json")})
    return paths


def go(paths: RunPaths, until: int | None = None, **wishes: Any) -> list[Event]:
    """Train until a step was recorded, or to the end."""
    stream: list[Event] = []

    def listen(event: Event, stored: Any) -> None:
        stream.append(event)
        if until is not None and event.step >= until and not isinstance(event, events.Resumed):
            raise Killed

    with contextlib.suppress(Killed):
        conduct(paths, listen, Door(paths), Wishes(**wishes))
    return stream


def newest(paths: RunPaths) -> Path:
    return sorted(paths.checkpoints.glob("step-*"))[-1]


def spec_for(groups: Mapping[str, Any]) -> RunSpec:
    more = dict(groups)
    fixed = {"precision": "fp32", "training": {"epochs": 4, "threads": 1}, "checkpoints": {"interval": 1}}
    evaluation = {"every_steps": 3, "sample_length": 4} if more.get("task") == "language" else {"every_steps": 3}
    return spec_of(more.pop("task", "classification"), **{**fixed, "evaluation": evaluation, **more})


@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_was_killed_twice_is_the_same_to_the_bit(name: str, tmp_path: Path) -> None:
    spec = spec_for(RUNS[name])
    undisturbed, paths = begin(tmp_path, spec), begin(tmp_path, spec)
    whole = go(undisturbed)
    total = whole[-1].step
    parts = [*go(paths, until=total // 3), *go(paths, until=2 * total // 3, resume=True), *go(paths, resume=True)]
    assert {event.step for event in of(events.Resumed, parts)} != {0}
    wanted, found = by_step(whole), by_step(parts)
    assert wanted.keys() == found.keys()
    assert all(wanted[key] == found[key] or (math.isnan(wanted[key]) and math.isnan(found[key])) for key in wanted)
    ends = [of(events.Finished, stream)[-1] for stream in (whole, parts)]
    assert ends[0].metrics == ends[1].metrics and ends[0].reason == ends[1].reason
    for part in ("weights", "best_weights"):
        assert same(getattr(read(newest(paths)), part), getattr(read(newest(undisturbed)), part))
    last = {event.step: event.report.metrics for event in of(events.Evaluated, parts)}
    assert last == {event.step: event.report.metrics for event in of(events.Evaluated, whole)}


def by_step(stream: list[Event]) -> dict[tuple[int, str], float]:
    """Return every number of every step; what came later holds."""
    return {
        (event.block.first + row, name): value
        for event in of(events.Metrics, stream)
        for name, values in event.block.columns.items()
        for row, value in enumerate(values)
    }


def test_the_scale_of_the_loss_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_scale, "FIRST", 2.0**22)  # so that the first steps overflow,
    monkeypatch.setattr(loss_scale, "CALM", 3)  # and the scale climbs again and again
    spec = spec_for({"precision": "fp16"})
    whole = go(begin(tmp_path, spec))
    paths = begin(tmp_path, spec)
    parts = [*go(paths, until=whole[-1].step // 2), *go(paths, resume=True)]
    norms = columns(whole)["grad_norm"]
    assert len(set(norms)) < len(norms) - 1, "some steps overflow, and some do not"
    assert len(set(norms)) > len(norms) // 3
    assert by_step(whole) == by_step(parts)


@pytest.mark.parametrize(("before", "after"), [("fp32", "fp16"), ("fp16", "fp32"), ("bf16", "fp16"), ("fp16", "bf16")])
def test_a_run_goes_on_in_other_numbers_on_another_device(
    before: str, after: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "choose_precision", lambda *_: (before, "for the test"))
    paths = begin(tmp_path, spec_for({"precision": "auto"}))
    go(paths, until=6)
    monkeypatch.setattr(device, "choose_precision", lambda *_: (after, "for the test"))
    stream = go(paths, resume=True, device="cpu")
    assert of(events.Finished, stream)[0].status == "completed"
    assert any("another number format than before" in event.text for event in of(events.Warned, stream))


@pytest.mark.parametrize("model", [{"kind": "resnet", "channels": [4, 4]},
                                   {"kind": "cnn", "channels": [4], "first_filters": "whitening"}])  # fmt: skip
def test_a_model_that_computes_otherwise_now_is_not_gone_on_with(model: dict[str, Any], tmp_path: Path) -> None:
    paths = begin(tmp_path, spec_for({"model": model}))
    go(paths, until=6)
    stored = json.loads(paths.spec.read_text())
    assert stored["versions"]["tuidl"] == tuidl.__version__
    stored["versions"]["tuidl"] = "0.1.0"
    paths.spec.write_text(json.dumps(stored))
    with pytest.raises(UsageError, match=r"tuidl 0\.1\.0.*tuidl run"):
        go(paths, resume=True)


def test_another_version_of_tuidl_is_told(tmp_path: Path) -> None:
    paths = begin(tmp_path, spec_for({}))
    go(paths, until=6)
    stored = json.loads(paths.spec.read_text())
    stored["versions"]["tuidl"] = "0.1.0"
    paths.spec.write_text(json.dumps(stored))
    warned = of(events.Warned, go(paths, resume=True))
    assert any("another tuidl than before" in event.text for event in warned)


def test_state_of_the_loop_goes_on(tmp_path: Path) -> None:
    spec = spec_for({"early_stopping": {"patience": 3}, "optimizer": {"kind": "sgd", "lr": 1e-9}})
    paths = begin(tmp_path, spec)
    assert of(events.Finished, go(paths, until=6)) == []
    finished = of(events.Finished, go(paths, resume=True))[0]
    assert "early stopping" in finished.reason and finished.step == 8, "best at step 3, then at 4, 6 and 8 no better"


def test_nothing_of_a_task_is_shared_with_its_checkpoint(tmp_path: Path) -> None:
    spec = spec_for({})
    stream = []
    for event in fit(task_of(spec), spec):
        stream.append(event)
        if isinstance(event, events.Checkpoint) and event.step == 6:
            break
    weights = {key: value.clone() for key, value in event.weights.items()}
    assert same(weights, event.weights) and columns(stream)


# ---------------------------------------------------------------------- which checkpoint


def test_a_damaged_checkpoint_is_passed_over_by_name(tmp_path: Path) -> None:
    paths = begin(tmp_path, spec_for({}))
    go(paths, until=8)
    damaged = newest(paths)
    step = read(damaged).step
    damaged.write_bytes(damaged.read_bytes()[:-7])
    stream = go(paths, resume=True)
    (resumed,) = of(events.Resumed, stream)
    assert 0 < resumed.step < step and list(resumed.skipped) == [damaged.name]
    assert damaged.name in of(events.Warned, stream)[0].text
    assert of(events.Finished, stream)[0].status == "completed"
    story = [event for event in RunReader(paths).events() if event["event"] == "resumed"]
    assert story[0]["step"] == resumed.step and damaged.name in story[0]["skipped"][0]


def test_without_a_sound_one_nothing_is_touched(tmp_path: Path) -> None:
    paths = begin(tmp_path, spec_for({}))
    go(paths, until=8)
    for path in paths.checkpoints.iterdir():
        path.write_bytes(b"")
    before = read_status(paths)
    with pytest.raises(UsageError, match="no sound checkpoint"):
        go(paths, resume=True)
    assert read_status(paths) == before


def test_a_run_that_ended_before_its_first_checkpoint_begins_anew(tmp_path: Path) -> None:
    spec = spec_for({})
    paths = begin(tmp_path, spec)
    go(paths, until=1)
    assert not list(paths.checkpoints.iterdir())
    assert by_step(go(paths, resume=True)) == by_step(go(begin(tmp_path, spec)))


def test_a_completed_run_is_not_gone_on_with(tmp_path: Path) -> None:
    paths = begin(tmp_path, spec_for({}))
    go(paths)
    with pytest.raises(UsageError, match="completed"):
        go(paths, resume=True)


def test_other_data_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = begin(tmp_path, spec_for({}))
    go(paths, until=8)
    other = data_of("classification")
    other.origin.files["tiny"] = "another sum"
    monkeypatch.setattr(session, "load", lambda data, **_: other)
    with pytest.raises(DataError, match="changed"):
        go(paths, resume=True)


def test_a_checkpoint_of_another_model_is_refused_in_one_line(tmp_path: Path) -> None:
    paths, other = begin(tmp_path, spec_for({})), begin(tmp_path, spec_for({"model": {"widths": [9]}}))
    for each in (paths, other):
        go(each, until=8)
    for path in paths.checkpoints.iterdir():
        path.unlink()
    newest(other).rename(paths.checkpoints / newest(other).name)
    with pytest.raises(UsageError, match="does not fit"):
        go(paths, resume=True)


# ---------------------------------------------------------------------- what changed, and what may change


def test_live_settings_are_those_of_the_checkpoint(tmp_path: Path) -> None:
    paths = begin(tmp_path, spec_for({}))

    class Once(Door):
        def poll(self) -> Any:
            found, self.told = ([] if getattr(self, "told", False) else [command]), True
            return found

    command = Command("x", "set", {"key": "optimizer.lr", "value": "0.25"})
    with contextlib.suppress(Killed):
        conduct(paths, stop_at(8), Once(paths))
    stream = go(paths, resume=True)
    assert of(events.Resumed, stream)[0].live["optimizer.lr"] == 0.25
    assert of(events.Metrics, stream)[0].block.columns["lr"][0] == pytest.approx(0.25)


def stop_at(step: int) -> Any:
    def listen(event: Event, stored: Any) -> None:
        if event.step >= step:
            raise Killed

    return listen


def test_a_live_setting_may_change_on_the_way_in(tmp_path: Path) -> None:
    paths = begin(tmp_path, spec_for({}))
    go(paths, until=8)
    stream = go(paths, resume=True, changes=("optimizer.lr=0.125",))
    (change,) = of(events.Changed, stream)
    assert (change.key, change.after) == ("optimizer.lr", 0.125)
    assert of(events.Metrics, stream)[0].block.columns["lr"][0] == pytest.approx(0.125)
    with pytest.raises(UsageError, match="cannot change while training"):
        go(begin_and_stop(tmp_path), resume=True, changes=("training.batch_size=3",))


def begin_and_stop(root: Path) -> RunPaths:
    paths = begin(root, spec_for({}))
    go(paths, until=8)
    return paths


def test_a_run_that_diverged_goes_on_more_calmly(tmp_path: Path) -> None:
    paths = begin(tmp_path, spec_for({"optimizer": {"kind": "sgd", "lr": 0.1}}))
    go(paths, until=5)
    wild = go(paths, resume=True, changes=("optimizer.lr=1000",))
    end = of(events.Finished, wild)[0]
    assert end.status == "diverged" and "learning rate (1000)" in end.reason and "lower optimizer.lr" in end.reason
    for path in paths.checkpoints.iterdir():
        assert all(tensor.isfinite().all() for tensor in read(path).weights.values())
    assert of(events.Finished, go(paths, resume=True, changes=("optimizer.lr=0.1",)))[0].status == "completed"


def test_best_is_that_of_the_stretch_that_holds(tmp_path: Path) -> None:
    paths = begin_and_stop(tmp_path)
    saved = read(newest(paths))
    go(paths, until=saved.step + 1, resume=True)
    status = read_status(paths)
    assert status is not None and status.best is not None
    assert status.best.step == saved.rest.values["loop"]["best_step"]
    assert (paths.checkpoints / str(status.best.checkpoint)).exists()


# ---------------------------------------------------------------------- one owner


def test_a_trainer_that_was_taken_for_dead_writes_no_checkpoint(tmp_path: Path) -> None:
    paths = begin(tmp_path, spec_for({}))
    kept: list[str] = []

    def usurp(event: Event, stored: Any) -> None:
        if isinstance(event, events.Evaluated) and not kept:
            kept.extend(path.name for path in paths.checkpoints.iterdir())
            (paths.directory / "owner-2.json").write_text("{}")

    with pytest.raises(OwnershipError, match="taken"):
        conduct(paths, usurp, Door(paths))
    assert [path.name for path in paths.checkpoints.iterdir()] == kept
    status = read_status(paths)
    assert status is not None and status.state != "failed", "the run is another's, and so is its status"


def test_a_run_that_is_trained_is_not_resumed(tmp_path: Path) -> None:
    paths = begin_and_stop(tmp_path)
    held = claim(paths)
    with pytest.raises(UsageError, match="being trained"):
        go(paths, resume=True)
    held.release()
    assert of(events.Finished, go(paths, resume=True))[0].status == "completed"


def test_growth_is_told_once() -> None:
    spec = spec_of(optimizer={"kind": "adam", "lr": 30}, training={"epochs": 4})
    warned = of(events.Warned, list(fit(task_of(spec), spec)))
    assert len(warned) == 1 and "learning rate (30)" in warned[0].text
    calm = spec_of(training={"epochs": 4})
    assert not of(events.Warned, list(fit(task_of(calm), calm)))


def test_numbers_that_are_not_finite_reach_no_checkpoint() -> None:
    spec = spec_of(training={"epochs": 2})
    task = task_of(spec)
    stream = []
    for event in fit(task, spec):
        stream.append(event)
        if isinstance(event, events.Metrics):
            with torch.no_grad():
                next(task.model.parameters())[0, 0] = math.inf
    assert not of(events.Checkpoint, stream)
