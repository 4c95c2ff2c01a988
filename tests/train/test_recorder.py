"""The recorder: whatever the loop says can be read again from the run directory."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tuidl.runs import RunPaths, RunReader, create_run, write_spec
from tuidl.train import events, recorder
from tuidl.train.checkpoint import read
from tuidl.train.events import Artifact, Event, Report
from tuidl.train.loop import fit
from tuidl.train.meter import Drained
from tuidl.train.recorder import Recorder

from .tiny import Script, Scripted, busy_clock, columns, of, same, spec_of, task_of


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    made = create_run(tmp_path / "runs", "a-run", "tiny")
    write_spec(made, {"spec": {}})
    return made


def recorded(paths: RunPaths, spec: Any, task: Any, script: Script | None = None) -> list[Event]:
    """Train and record as a trainer does; return what the loop has said."""
    pen = Recorder(paths, spec)
    stream = []
    for event in fit(task, spec, script, busy_clock()):
        stream.append(event)
        pen.record(event)
    pen.status(state="completed", step=event.step, exit_code=0)
    pen.close()
    return stream


def test_metrics_of_every_step_are_read_again(paths: RunPaths) -> None:
    spec = spec_of(training={"epochs": 2})
    stream = recorded(paths, spec, task_of(spec))
    found: dict[str, list[float]] = {}
    position = 1
    for block in RunReader(paths).metrics():
        assert block.first_step == position
        lengths = {len(values) for values in block.columns.values()}
        (length,) = lengths
        position += length
        for name, values in block.columns.items():
            found.setdefault(name, []).extend(values)
    assert found == {name: pytest.approx(values) for name, values in columns(stream).items()}
    assert position == 9


def test_events_are_read_again_with_their_steps(paths: RunPaths) -> None:
    spec = spec_of(training={"epochs": 2})
    task = Scripted([0.25, 0.5], steps_per_epoch=3)
    lines = {2: ["set optimizer.lr=0.5", "nonsense"], 4: ["pause", "continue"]}
    recorded(paths, spec, task, Script(lambda: int(task.weight), lines))
    reader = RunReader(paths)
    found = reader.events()
    assert reader.damaged == 0
    (started,) = (event for event in found if event["event"] == "started")
    assert (started["step"], started["steps"], started["steps_per_epoch"], started["parameters"]) == (0, 6, 3, 1)
    (change,) = (event for event in found if event["event"] == "change")
    assert (change["step"], change["key"], change["before"], change["after"]) == (2, "optimizer.lr", 0.001, 0.5)
    answers = [(event["id"], event["ok"]) for event in found if event["event"] == "answer"]
    assert answers == [("set optimizer.lr=0.5", True), ("nonsense", False), ("pause", True), ("continue", True)]
    evaluations = [event for event in found if event["event"] == "evaluation"]
    assert [(event["step"], event["best"], event["final"]) for event in evaluations] == [
        (3, True, False), (6, True, False), (6, False, True),
    ]  # fmt: skip
    assert evaluations[1]["metrics"] == {"val_accuracy": 0.5}
    assert evaluations[2]["metrics"] == {"test_weight": 6}
    states = [event["state"] for event in found if event["event"] == "state"]
    assert states == ["evaluating", "running", "paused", "running", "evaluating", "running"]
    (end,) = (event for event in found if event["event"] == "finished")
    assert found[-1] == end
    assert (end["step"], end["status"], end["metrics"]["best_val_accuracy"]) == (6, "completed", 0.5)


def test_artifacts_are_read_again_under_names_with_their_step(paths: RunPaths) -> None:
    spec = spec_of(evaluation={"probes": 5, "worst": 4})
    stream = recorded(paths, spec, task_of(spec))
    reader = RunReader(paths)
    evaluation, final = (event for event in reader.events() if event["event"] == "evaluation")
    said, _ = of(events.Evaluated, stream)
    assert [item["path"] for item in evaluation["artifacts"]] == [
        "artifacts/confusion-val-000000004.json", "artifacts/probes-000000004.json", "artifacts/worst-000000004.png",
    ]  # fmt: skip
    for item, artifact in zip(evaluation["artifacts"], said.report.artifacts, strict=True):
        assert reader.artifact(item["path"]) == artifact.data
        assert item.items() >= artifact.details.items()
    assert json.loads(reader.artifact(final["artifacts"][0]["path"]))["labels"] == list("abcd")


def test_checkpoints_are_named_by_their_event_and_hold_the_weights_and_the_spec(paths: RunPaths) -> None:
    spec = spec_of(training={"epochs": 3})
    task = task_of(spec)
    stream = recorded(paths, spec, task)
    reader = RunReader(paths)
    said = [event for event in reader.events() if event["event"] == "checkpoint"]
    assert [(event["step"], event["best"]) for event in said] == [
        (event.step, event.best) for event in of(events.Checkpoint, stream)
    ]
    status = reader.status()
    assert status is not None and status.best is not None and status.best.checkpoint is not None
    best = [event for event in said if event["best"]][-1]
    assert best["file"] == f"checkpoints/{status.best.checkpoint}"
    saved = read(paths.directory / best["file"])
    assert same(saved.weights, task.state())  # the run ends with its best weights
    assert saved.header["spec"] == spec.model_dump(mode="json")
    assert saved.header["step"] == best["step"]
    assert saved.header["metrics"][spec.metric] == status.best.value


def test_status_says_where_the_run_stands(paths: RunPaths) -> None:
    spec = spec_of(training={"epochs": 3})
    pen = Recorder(paths, spec)
    pen.begin()
    reader = RunReader(paths)

    def status() -> Any:
        found = reader.status()
        assert found is not None
        return found

    assert status().state == "starting"
    pen.record(events.Started(0, {"steps": 5, "steps_per_epoch": 2}))
    assert (status().state, status().total_steps, status().total_epochs) == ("running", 5, 3)
    pen.record(events.Metrics(3, Drained(1, {"loss": [3.0, 2.0, 1.0]}), (0.0, 1.5)))
    pen.record(events.StateChanged(3, "evaluating"))
    assert (status().state, status().step, status().epoch, status().elapsed) == ("evaluating", 3, 1, 1.5)
    assert status().latest == {"loss": 1.0}
    pen.record(events.Evaluated(4, 2.0, Report({"val_accuracy": 0.5}), best=True))
    pen.record(events.StateChanged(4, "paused"))
    assert status().latest == {"loss": 1.0, "val_accuracy": 0.5}
    assert (status().best.metric, status().best.value, status().best.step) == ("val_accuracy", 0.5, 4)
    pen.fail("the disk is full", 6)
    assert (status().state, status().reason, status().exit_code) == ("failed", "the disk is full", 6)
    pen.close()
    assert [event["event"] for event in reader.events()][-1] == "failed"


def test_a_run_that_has_nothing_new_still_beats(paths: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "STATUS_EVERY", 0.0)
    pen = Recorder(paths, spec_of())
    counts = []
    for _ in range(3):
        pen.record(events.Heartbeat(7, "paused"))
        status = RunReader(paths).status()
        assert status is not None and status.step == 7
        counts.append(status.heartbeat)
    pen.close()
    assert counts == sorted(set(counts))


def test_numbers_that_are_not_finite_survive(paths: RunPaths) -> None:
    pen = Recorder(paths, spec_of())
    pen.record(events.Metrics(3, Drained(1, {"loss": [math.nan, math.inf, -math.inf]}), (0.0, 0.1)))
    pen.record(events.Evaluated(3, 1.0, Report({"val_accuracy": math.nan})))
    pen.record(
        events.Finished(3, "diverged", "loss is not finite at step 1; the weights are those of step 0", 1.0, 0.1, {})
    )
    pen.close()
    reader = RunReader(paths)
    (block,) = reader.metrics()
    assert str(list(block.columns["loss"])) == "[nan, inf, -inf]"
    assert [event["event"] for event in reader.events()] == ["evaluation", "finished"]
    assert reader.damaged == 0


def test_record_returns_the_files_it_has_written(paths: RunPaths) -> None:
    spec = spec_of()
    pen = Recorder(paths, spec)
    report = Report({"val_accuracy": 1.0}, (Artifact("a.json", b"{}"), Artifact("b.png", b"x")))
    assert pen.record(events.Evaluated(7, 1.0, report, best=True)) == [
        "artifacts/a-000000007.json", "artifacts/b-000000007.png",
    ]  # fmt: skip
    state, rest = task_of(spec).state(), events.Continuation({}, {})
    assert pen.record(events.Checkpoint(7, state, {}, rest, {}, best=True)) == [
        "checkpoints/step-000000007.safetensors"
    ]
    assert pen.record(events.Warned(7, "hot")) == []
    pen.close()
    assert all(
        (paths.directory / name).is_file()
        for name in ("artifacts/a-000000007.json", "checkpoints/step-000000007.safetensors")
    )


def test_an_event_without_a_record_is_a_mistake_of_ours(paths: RunPaths) -> None:
    class Unknown(Event):
        pass

    pen = Recorder(paths, spec_of())
    with pytest.raises(TypeError, match="Unknown"):
        pen.record(Unknown(1))
    pen.close()


def test_every_event_of_the_loop_has_a_record() -> None:
    kinds = [kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event)]
    written = vars(Recorder)["_write"].dispatcher.registry
    assert {kind for kind in kinds if kind is not Event} <= set(written)
