"""`tuidl runs` and `tuidl show`: sound, failed and damaged runs, and runs that a stranger wrote."""

import json
import shutil
import sys

import pytest

from tuidl.cli.show import POINTS, _thinned
from tuidl.runs import RunPaths, RunWriter

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e"


@pytest.fixture
def copied(json_run, tuidl):
    """A copy of a finished run, to be damaged."""
    target = tuidl.runs / "copy"
    shutil.copytree(json_run.reader.paths.directory, target)
    return RunPaths(target)


def test_no_runs_yet(cli):
    said = cli("runs")
    assert said.code == 0 and said.out == "" and "no runs" in said.err
    assert cli("runs", "--json").out == ""


def test_runs_are_listed_newest_first(cli, tuidl, copied):
    (spec := json.loads(copied.spec.read_text()))["created"] = "2001-01-01T00:00:00+00:00"
    copied.spec.write_text(json.dumps(spec))
    assert cli(*tuidl.language("--name", "new", "--quiet")).code == 0
    assert cli(*tuidl.language("--name", "broken", "--quiet", "--device", "cuda:77")).code == 5
    said = cli("runs")
    lines = said.out.splitlines()
    assert [line.split()[0] for line in lines] == ["run", "broken", "new", "copy"]
    assert [line.split()[1] for line in lines[1:]] == ["failed", "completed", "completed"]
    assert "val_accuracy" in lines[3] and "20/20" in lines[3]
    rows = cli("runs", "--json").lines
    assert [row["run"] for row in rows] == ["broken", "new", "copy"]
    told = "run directory created preset title task state step total_steps epoch total_epochs best seconds"
    assert set(told.split()) == set(rows[0])
    assert rows[2]["best"]["checkpoint"].startswith("step-") and rows[2]["preset"] == "mnist-mlp"
    failed = cli("show", "broken")
    assert failed.code == 0 and "failed" in failed.out and "cuda:77" in failed.out


def test_show_tells_all_of_a_run(cli, copied, escapes):
    said = cli("show", "copy")
    assert said.code == 0 and not escapes(said.out)
    assert "copy: MLP on MNIST" in said.out and "completed" in said.out
    assert "drawn-digits" in said.out and "mnist" in said.out
    assert "test_accuracy" in said.out and "val_loss" in said.out
    assert "cost: first step after" in said.out
    assert "warning" in said.out and str(copied.directory) in said.err
    (row,) = cli("show", "copy", "--json").lines
    assert row["state"] == "completed" and row["exit_code"] == 0 and row["damaged"] == 0
    assert row["spec"]["task"] == "classification" and row["data"]["used"] == "drawn-digits"
    assert row["versions"]["torch"] and "test_accuracy" in row["metrics"]
    assert [event["event"] for event in row["events"]][-1] == "finished"
    by_path = cli("show", copied.directory, "--json").lines
    assert by_path == [row]


def damage_log(paths):
    log = bytearray(paths.metrics.read_bytes())
    log[len(log) // 2] ^= 0xFF
    paths.metrics.write_bytes(log)


DAMAGES = {
    "status cut off": (lambda paths: paths.status.write_bytes(paths.status.read_bytes()[:40]), "unreadable"),
    "status absent": (lambda paths: paths.status.unlink(), "unreadable"),
    "status empty": (lambda paths: paths.status.write_bytes(b""), "unreadable"),
    "spec cut off": (lambda paths: paths.spec.write_bytes(paths.spec.read_bytes()[:40]), "unreadable"),
    "spec of junk": (lambda paths: paths.spec.write_bytes(bytes(range(256))), "unreadable"),
    "spec nested deeply": (lambda paths: paths.spec.write_bytes(b"[" * 9000), "unreadable"),
    "spec absent": (lambda paths: paths.spec.unlink(), "unreadable"),
    "bit flipped in the metrics": (damage_log, "completed"),
    "events cut off": (lambda paths: paths.events.write_bytes(paths.events.read_bytes()[:-30]), "completed"),
    "events absent": (lambda paths: paths.events.unlink(), "completed"),
    "metrics absent": (lambda paths: paths.metrics.unlink(), "completed"),
    "all absent": (lambda paths: [shutil.rmtree(paths.directory), paths.directory.mkdir()], "unreadable"),
}


@pytest.mark.parametrize(("damage", "state"), DAMAGES.values(), ids=DAMAGES)
def test_damaged_run_is_shown_as_far_as_it_is_sound(cli, tuidl, copied, damage, state):
    damage(copied)
    (row,) = cli("runs", "--json").lines
    assert row["state"] == state
    said = cli("show", "copy")
    assert said.code == 0 and state in said.out and "Traceback" not in said.err
    (row,) = cli("show", "copy", "--json").lines
    assert row["state"] == state


def test_damaged_records_are_counted(cli, copied):
    records = copied.metrics.read_bytes().splitlines(keepends=True)
    records[1] = records[1][:30] + b"#" + records[1][31:]
    copied.metrics.write_bytes(b"".join(records))
    said = cli("show", "copy")
    assert said.code == 0 and "1 damaged records were left out" in said.err


def change(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def shown_safely(cli, escapes, run="copy"):
    for words in (["runs"], ["show", run], ["runs", "--json"], ["show", run, "--json"]):
        said = cli(*words)
        assert said.code == 0, said
        assert not escapes(said.out) and "\u202e" not in said.out, words
        assert not escapes(said.err) and "\u202e" not in said.err, words


def test_escape_codes_in_run_json_never_reach_the_terminal(cli, copied, escapes):
    change(
        copied.spec, preset={"name": EVIL, "title": EVIL}, created=EVIL, spec={EVIL: EVIL}, versions={EVIL: EVIL},
        device={"name": EVIL, "precision": EVIL}, data={"asked": EVIL, "used": EVIL, "stand_in": True},
    )  # fmt: skip
    shown_safely(cli, escapes)


def test_escape_codes_in_the_status_never_reach_the_terminal(cli, copied, escapes):
    change(copied.status, reason=EVIL, latest={EVIL: 1.0}, updated=EVIL)
    shown_safely(cli, escapes)


def test_escape_codes_in_events_never_reach_the_terminal(cli, copied, escapes):
    with RunWriter(copied) as writer:
        writer.event("warning", 20, elapsed=0.0, text=EVIL, **{EVIL: EVIL})
        writer.event("failed", 20, elapsed=0.0, reason=EVIL)
        writer.event(EVIL, 20, elapsed=0.0)
    shown_safely(cli, escapes)


def test_escape_codes_in_the_best_metric_never_reach_the_terminal(cli, copied, escapes):
    change(copied.status, best={"metric": EVIL, "value": 1.0, "step": 1, "checkpoint": EVIL})
    shown_safely(cli, escapes)


def test_escape_codes_in_a_directory_name_never_reach_the_terminal(cli, copied, escapes):
    evil = copied.directory.rename(copied.directory.with_name("x\x1b[31m"))
    said = cli("show", evil)
    assert said.code == 0 and not escapes(said.out) and not escapes(said.err)


def confusion_is(content: bytes):
    def write(paths):
        for path in paths.artifacts.glob("confusion-*"):
            path.unlink() if content is None else path.write_bytes(content)

    return write


STRANGE = {
    "device is a list": lambda paths: change(paths.spec, device=["x"], data="y"),
    "preset is a number": lambda paths: change(paths.spec, preset=5),
    "created is a list": lambda paths: change(paths.spec, created=[1]),
    "metrics of an evaluation are no table": lambda paths: event(paths, "evaluation", metrics=[1]),
    "artifacts are no list": lambda paths: event(paths, "evaluation", metrics={}, artifacts=5),
    "an artifact without a path": lambda paths: event(paths, "sample", artifacts=[{"kind": "confusion"}]),
    "an artifact outside": lambda paths: event(
        paths, "sample", artifacts=[{"kind": "confusion", "path": "artifacts/../../x"}]
    ),
    "confusion gone": confusion_is(None),
    "confusion not JSON": confusion_is(b"\xff"),
    "confusion of another shape": confusion_is(b'{"labels": 1, "counts": [[1, "a"], 2]}'),
}


def event(paths, kind, **fields):
    with RunWriter(paths) as writer:
        writer.event(kind, 20, elapsed=0.0, **fields)


@pytest.mark.parametrize(
    "make",
    [pytest.param(value, id=key) for key, value in STRANGE.items()],
)
def test_run_of_a_stranger_is_shown(cli, copied, make):
    make(copied)
    for words in (["runs"], ["show", "copy"], ["show", "copy", "--json"]):
        assert cli(*words).code == 0


def test_show_draws_curves_on_a_terminal(cli, copied, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    said = cli("show", "copy")
    assert said.code == 0 and "train loss" in said.out and "step" in said.out


def test_a_thinned_curve_keeps_its_spikes():
    points = [(step, 1.0) for step in range(100_000)]
    points[54_321], points[70_001] = (54_321, 9.0), (70_001, -3.0)
    kept = _thinned(points)
    assert len(kept) <= 2 * POINTS and kept == sorted(kept)
    assert points[54_321] in kept and points[70_001] in kept
    assert _thinned(points[:10]) == points[:10]


def test_losses_that_are_not_finite_are_named_by_their_step(cli, copied, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    with RunWriter(copied) as writer:
        writer.metrics(21, {"loss": [1.0, float("nan")]}, (0.2, 0.3))
        writer.event("evaluation", 22, elapsed=0.3, metrics={"val_loss": float("inf")}, artifacts=[])
    said = cli("show", "copy")
    assert said.code == 0
    assert "train loss is not finite at step 22" in said.out and "val loss is not finite at step 22" in said.out
