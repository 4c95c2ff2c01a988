import asyncio
import json
import math
from pathlib import Path

import pytest

from tuidl.runs import RunPaths, RunWriter, create_run, write_spec
from tuidl.spec import load_preset
from tuidl.tui.feed import Feed, rate, remaining
from tuidl.tui.knobs import undo_of

FACTS = {"parameters": 7, "labels": ["a", "b"], "steps": 1000, "steps_per_epoch": 100, "device": "cpu"}


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    paths = create_run(tmp_path, "one", "mnist-mlp")
    spec = load_preset("mnist-mlp")
    write_spec(paths, {"format": 1, "preset": {"name": "mnist-mlp"}, "seed": 0, "spec": spec.model_dump(mode="json")})
    return paths


@pytest.fixture
def writer(paths: RunPaths):
    with RunWriter(paths) as writer:
        writer.status.update(state="running", total_steps=1000, total_epochs=10)
        writer.event("started", 0, elapsed=0.0, **FACTS)
        yield writer


def test_a_snapshot_tells_the_whole_story(paths: RunPaths, writer: RunWriter) -> None:
    writer.metrics(1, {"loss": [2.0, 1.0]}, (0.0, 2.0))
    path = writer.artifact("confusion-val-000000002.json", b"{}")
    writer.event("evaluation", 2, elapsed=2.0, epoch=0.02, metrics={"val_loss": 1.5}, best=True, final=False,
                 artifacts=[{"path": path, "kind": "confusion"}])  # fmt: skip
    writer.event("change", 2, elapsed=2.0, key="optimizer.lr", before=0.001, after=0.5)
    feed = Feed(paths)
    told = feed.poll()
    assert (told.name, told.preset, told.state, told.live, told.steps_per_epoch) == (
        "one",
        "mnist-mlp",
        "running",
        True,
        100,
    )
    assert told.history.length == 2
    assert told.points["val_loss"].values == (1.5,)
    assert told.spec is not None and told.spec.optimizer.lr == 0.5, "the live change holds"
    assert undo_of(told.changes) is told.changes[0]
    (artifact,) = told.artifacts["confusion"]
    assert feed.artifact(artifact) == b"{}"


def test_each_poll_adds_what_is_new_and_old_snapshots_stay_as_they_were(paths: RunPaths, writer: RunWriter) -> None:
    feed = Feed(paths)
    before = feed.poll()
    writer.event("evaluation", 1, elapsed=1.0, metrics={"val_loss": 1.0}, artifacts=[])
    after = feed.poll()
    assert "val_loss" not in before.points and after.points["val_loss"].steps == (1,)
    assert len(after.events) == len(before.events) + 1
    again = feed.poll()
    assert again.events is after.events and again.points is after.points, "nothing new, nothing made anew"


def test_values_that_are_not_finite_arrive(paths: RunPaths, writer: RunWriter) -> None:
    writer.event("evaluation", 1, elapsed=None, metrics={"val_loss": math.nan}, artifacts=[])
    assert math.isnan(Feed(paths).poll().points["val_loss"].values[0])


@pytest.mark.parametrize("event", [
    {"event": "evaluation", "metrics": 3}, {"event": "evaluation"}, {"event": "change", "key": []},
    {"event": "sample", "artifacts": [3]}, {"event": "sample", "artifacts": [{"path": 7}]},
    {"event": "evaluation", "metrics": {"val_loss": "x"}},
    {"event": "change", "key": "model.kind", "before": 1, "after": "rm"},
    {"event": "sample", "artifacts": {"path": "artifacts/x"}}, {"event": "started", "steps_per_epoch": "many"},
])  # fmt: skip
def test_events_of_a_strange_shape_break_nothing(paths: RunPaths, writer: RunWriter, event: dict) -> None:
    kind = event.pop("event")
    writer.event(kind, 1, elapsed=1.0, **event)
    told = Feed(paths).poll()
    assert told.state == "running" and len(told.events) == 2 and told.steps_per_epoch >= 1


def test_a_damaged_run_is_told_not_raised(paths: RunPaths) -> None:
    paths.spec.write_bytes(b"{")
    told = Feed(paths).poll()
    assert told.spec is None and "damaged" in told.problem and told.state == "unreadable"


def test_a_directory_that_vanishes_is_told(paths: RunPaths) -> None:
    import shutil

    feed = Feed(paths)
    feed.poll()
    shutil.rmtree(paths.directory)
    assert feed.poll().state == "unreadable"


def test_the_log_is_cleaned_and_bounded(paths: RunPaths, writer: RunWriter) -> None:
    paths.trainer_log.write_bytes(b"x" * 100_000 + b"\nlast \x1b[31mline\n")
    log = Feed(paths).poll().log
    assert log[-1] == "last ␛[31mline" and len(log) < 10


def test_pace_and_time_left(paths: RunPaths, writer: RunWriter) -> None:
    writer.metrics(1, {"loss": [1.0] * 100}, (0.0, 9.9))
    told = Feed(paths).poll()
    assert rate(told) == pytest.approx(10, rel=0.05)
    assert remaining(told) == pytest.approx(90, rel=0.05)


def test_a_replaced_metrics_file_is_read_from_its_start(paths: RunPaths, writer: RunWriter) -> None:
    writer.metrics(1, {"loss": [1.0, 2.0, 3.0]}, (0.0, 1.0))
    feed = Feed(paths)
    assert feed.poll().history.length == 3
    data = paths.metrics.read_bytes()
    paths.metrics.unlink()
    paths.metrics.write_bytes(data)
    feed.poll()
    told = feed.poll()
    assert told.history.length == 3 and len(told.events) == 1


async def test_polling_beside_the_screen_is_what_polling_is(paths: RunPaths, writer: RunWriter) -> None:
    told = await asyncio.to_thread(Feed(paths).poll)
    assert json.dumps(told.facts["labels"]) == '["a", "b"]'


def test_a_resumed_run_is_shown_as_it_went_on(paths: RunPaths, writer: RunWriter) -> None:
    def evaluate(step: int, loss: float) -> None:
        path = writer.artifact(f"confusion-val-{step:09d}.json", b"{}")
        artifact = {"path": path, "kind": "confusion"}
        writer.event("evaluation", step, elapsed=0.1 * step, metrics={"val_loss": loss}, artifacts=[artifact])

    def change(step: int, before: float, after: float) -> None:
        writer.event("change", step, elapsed=0.1 * step, key="optimizer.lr", before=before, after=after)

    feed = Feed(paths)
    writer.metrics(1, {"loss": [3.0] * 10}, (0.0, 1.0))
    evaluate(4, 1.0)
    change(4, 0.002, 0.5)
    writer.metrics(11, {"loss": [4.0] * 10}, (1.0, 2.0))
    evaluate(20, 2.0)
    change(20, 0.5, 0.9)
    before = feed.poll()
    writer.event("resumed", 10, elapsed=1.0, file="checkpoints/x", skipped=[], live={"optimizer.lr": 0.5})
    writer.metrics(11, {"loss": [5.0] * 2}, (1.0, 1.2))
    for told in (feed.poll(), Feed(paths).poll()):  # who has watched all along sees the same as who comes late
        assert told.points["val_loss"].steps == (4,)
        assert [artifact.step for artifact in told.artifacts["confusion"]] == [4]
        assert [item.step for item in told.changes] == [4]
        assert told.spec is not None and told.spec.optimizer.lr == 0.5
        assert told.history.length == 12 and list(told.history.column("loss")) == [3.0] * 10 + [5.0] * 2
    assert before.points["val_loss"].steps == (4, 20), "an old snapshot stays as it was"
