"""Writer, reader and listing together: what a trainer writes is what a viewer sees."""

import os
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tuidl.errors import StorageError, UsageError
from tuidl.runs import (
    Best,
    Identity,
    RunLister,
    RunPaths,
    RunReader,
    RunWriter,
    complete_spec,
    create_run,
    list_runs,
    listing,
    write_spec,
)


def test_what_is_written_is_read(run: RunPaths) -> None:
    reader = RunReader(run)
    assert (reader.events(), reader.metrics(), reader.status()) == ([], [], None)
    with RunWriter(run) as writer:
        write_spec(run, {"preset": "p", "x": float("inf")})
        writer.metrics(0, {"loss": [1.0, 0.5]}, (0.0, 0.1))
        writer.event("state", 0, state="running")
        assert [block.first_step for block in reader.metrics()] == [0]
        assert [(e["event"], e["step"], e["elapsed"], e["state"]) for e in reader.events()] == [
            ("state", 0, None, "running")
        ]
        writer.metrics(2, {"loss": [0.25]}, (0.2, 0.2))
        writer.event("warning", 2, elapsed=0.2, text="hot")
        writer.status.update(state="running", step=2)
        writer.sync()
        with pytest.raises(ValueError):
            writer.event("x", 0, time="now")
    (block,) = reader.metrics()
    assert (block.first_step, list(block.columns["loss"])) == (2, [0.25])
    (event,) = reader.events()
    assert datetime.fromisoformat(event["time"]).tzinfo == UTC
    assert event["elapsed"] == 0.2
    status = reader.status()
    assert status is not None and status.step == 2
    assert reader.spec()["x"] == "inf"
    assert (reader.damaged, reader.restarted) == (0, 0)
    for path in run.directory.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_the_spec_is_written_once(run: RunPaths) -> None:
    write_spec(run, {"a": 1})
    with pytest.raises(StorageError, match="never overwritten"):
        write_spec(run, {"a": 2})
    with pytest.raises(ValueError):
        write_spec(run, {"a": "x" * 2_000_000})
    assert RunReader(run).spec()["a"] == 1


def test_facts_are_added_and_change_nothing(run: RunPaths) -> None:
    write_spec(run, {"a": 1})
    complete_spec(run, {"a": 2, "device": "cpu"})
    spec = RunReader(run).spec()
    assert (spec["a"], spec["device"]) == (1, "cpu")


def test_records_that_are_not_of_this_file_are_counted(run: RunPaths) -> None:
    with RunWriter(run) as writer:
        writer._events.append({"event": 1, "step": 1})
        writer._events.append({"event": "x", "step": "1"})
        writer._metrics.append({"first": 1})
        writer.event("fine", 1)
    reader = RunReader(run)
    assert [event["event"] for event in reader.events()] == ["fine"]
    assert reader.metrics() == []
    assert reader.damaged == 3


def test_artifacts_never_change(run: RunPaths) -> None:
    with RunWriter(run) as writer:
        assert writer.artifact("samples-10.png", b"one") == "artifacts/samples-10.png"
        assert writer.artifact("samples-10.png", b"one") == "artifacts/samples-10.png"  # a resume that repeats a step
        assert writer.artifact("samples-10.png", b"two") == "artifacts/samples-10-2.png"
        for name in ("", "..", "a/b", "../a", ".hidden", "A", "a..b", "a" * 101, "a\n"):
            with pytest.raises(ValueError):
                writer.artifact(name, b"")
        with pytest.raises(ValueError):
            writer.artifact("huge", bytes(16 * 1024 * 1024 + 1))
    reader = RunReader(run)
    assert reader.artifact("artifacts/samples-10.png") == b"one"
    assert reader.artifact("artifacts/samples-10-2.png") == b"two"


NO_ARTIFACTS = ["", "x", "run.json", "artifacts", "artifacts/", "artifacts/../run.json", "artifacts/..", "/etc/passwd"]
NO_ARTIFACTS += ["artifacts//etc/passwd", "artifacts/a/b", "artifacts/a\0", "ARTIFACTS/a", "./artifacts/a"]


@pytest.mark.parametrize("path", NO_ARTIFACTS)
def test_paths_that_are_no_artifact_are_refused(run: RunPaths, path: str) -> None:
    with pytest.raises(UsageError):
        RunReader(run).artifact(path)


def test_artifacts_that_lead_elsewhere_are_not_read(run: RunPaths, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (run.artifacts / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(run.artifacts / "fifo")
    (run.artifacts / "dir").mkdir()
    with (run.artifacts / "huge").open("wb") as file:
        file.truncate(16 * 1024 * 1024 + 1)
    for name in ("link", "fifo", "dir", "huge", "absent"):
        with pytest.raises(StorageError):
            RunReader(run).artifact(f"artifacts/{name}")
    elsewhere = create_run(tmp_path, "elsewhere", "p")
    (elsewhere.artifacts / "a").write_text("secret")
    linked = create_run(tmp_path, "linked", "p")
    linked.artifacts.rmdir()
    linked.artifacts.symlink_to(elsewhere.artifacts)
    with pytest.raises(StorageError):
        RunReader(linked).artifact("artifacts/a")


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b" " * 1_100_000 + b"{}"])
def test_a_damaged_spec_says_so(run: RunPaths, data: bytes) -> None:
    run.spec.write_bytes(data)
    with pytest.raises(StorageError, match="damaged"):
        RunReader(run).spec()


def test_a_new_writer_goes_on_and_sweeps(run: RunPaths) -> None:
    with RunWriter(run) as writer:
        writer.event("one", 1)
    temp = run.directory / ".status.json.12.0123456789ab.tmp"
    temp.write_text("")
    with RunWriter(run) as writer:
        writer.event("two", 2)
    assert not temp.exists()
    assert [event["event"] for event in RunReader(run).events()] == ["one", "two"]


def make(root: Path, name: str, created: str, state: str = "completed", **fields: object) -> RunPaths:
    run = create_run(root, name, "p")
    with RunWriter(run) as writer:
        write_spec(run, {"created": created, "preset": {"name": "p", "title": "A preset"}})
        writer.status.update(state=state, **fields)
    return run


def test_the_list_is_newest_first_and_survives_damage(tmp_path: Path) -> None:
    assert list_runs(tmp_path / "absent") == []
    make(tmp_path, "old", "2020-01-01T00:00:00+00:00", step=5, total_steps=9, elapsed=1.5)
    make(tmp_path, "new", "2999-01-01T00:00:00+02:00")
    make(tmp_path, "naive", "2019-01-01T00:00:00")
    dead = Identity.current().model_copy(update={"pid": 2**31 - 1})
    make(tmp_path, "dead", "2018-01-01T00:00:00Z", state="running", identity=dead)
    create_run(tmp_path, "bad-empty", "p")
    make(tmp_path, "bad-spec", "x").spec.write_bytes(b"{")
    make(tmp_path, "bad-status", "2001-01-01T00:00:00Z").status.write_bytes(b"\0" * 10)
    os.mkfifo(create_run(tmp_path, "bad-fifo", "p").spec)
    create_run(tmp_path, "bad-types", "p").spec.write_text('{"created":[],"preset":{"name":1,"title":{}}}')
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "file").write_text("")
    runs = list_runs(tmp_path)
    by_name = {summary.name: summary for summary in runs}
    order = [summary.name for summary in runs if not summary.name.startswith("bad")]
    assert order == ["new", "old", "naive", "dead"]
    assert {name for name, summary in by_name.items() if summary.state == "unreadable"} == {
        "bad-empty", "bad-spec", "bad-status", "bad-fifo", "bad-types",
    }  # fmt: skip
    old = by_name["old"]
    assert (old.preset, old.title, old.state, old.step, old.total_steps, old.seconds) == (
        "p", "A preset", "completed", 5, 9, 1.5,
    )  # fmt: skip
    assert by_name["dead"].state == "lost"


def test_a_preset_that_is_only_a_name(tmp_path: Path) -> None:
    run = create_run(tmp_path, "x", "p")
    with RunWriter(run) as writer:
        write_spec(run, {"preset": "mnist-mlp"})
        writer.status.update(state="completed")
    (summary,) = list_runs(tmp_path)
    assert (summary.preset, summary.title, summary.state) == ("mnist-mlp", "mnist-mlp", "completed")


def test_a_summary_tells_what_a_list_shows(tmp_path: Path) -> None:
    run = create_run(tmp_path, "x", "p")
    best = Best(metric="val_loss", value=0.5, step=4)
    with RunWriter(run) as writer:
        write_spec(run, {"spec": {"task": "gan"}})
        writer.status.update(state="stopped", step=5, epoch=1, total_epochs=3, best=best, reason="by command")
    (told,) = list_runs(tmp_path)
    assert (told.task, told.epoch, told.total_epochs, told.best) == ("gan", 1, 3, best)
    assert (told.reason, told.heartbeat) == ("by command", 1)
    run.spec.write_text('{"spec":{"task":["gan"]}}')
    assert list_runs(tmp_path)[0].task == ""


def test_a_lister_reads_only_what_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "done", "2020-01-01T00:00:00Z")
    lost = Identity.current().model_copy(update={"start_ticks": 1})
    make(tmp_path, "lost", "2019-01-01T00:00:00Z", state="running", identity=lost)
    live = make(tmp_path, "live", "2018-01-01T00:00:00Z", state="running")
    seen: list[str] = []
    real = listing.summarise

    def counted(paths: RunPaths) -> listing.RunSummary:
        seen.append(paths.name)
        return real(paths)

    monkeypatch.setattr(listing, "summarise", counted)
    lister = RunLister(tmp_path)
    first = lister.runs()
    assert first == list_runs(tmp_path) and [run.name for run in first] == ["done", "lost", "live"]
    seen.clear()
    assert lister.runs() == first
    assert seen == ["live"]  # its trainer may have died without a word
    with RunWriter(live) as writer:
        writer.status.update(state="completed", step=7)
    complete_spec(RunPaths(tmp_path / "done"), {"preset": {"name": "p", "title": "never changed"}, "device": "cpu"})
    make(tmp_path, "new", "2999-01-01T00:00:00Z")
    seen.clear()
    assert lister.runs() == list_runs(tmp_path)
    assert sorted(set(seen)) == ["done", "live", "lost", "new"] and seen.count("lost") == 1  # by list_runs alone
    for path in (live.spec, live.status):
        path.unlink()
    assert {run.name: run.state for run in lister.runs()}["live"] == "unreadable"
    for path in (live.metrics, live.events):
        path.unlink()
    for directory in (live.artifacts, live.checkpoints, live.control, live.directory):
        directory.rmdir()
    assert "live" not in {run.name for run in lister.runs()}


def test_blocks_come_in_slices(run: RunPaths) -> None:
    with RunWriter(run) as writer:
        for block in range(5):
            writer.metrics(10 * block, {"loss": [float(block)] * 10}, (block, block + 1))
    whole, sliced = RunReader(run), RunReader(run)
    blocks = []
    while not blocks or sliced.more:
        found = sliced.metrics(most=1)
        assert len(found) <= 1
        blocks += found
    assert blocks == whole.metrics() and not whole.more


def test_the_room_loads_nothing_heavy() -> None:
    code = (
        "import sys, tuidl.runs, tuidl.runs.launch\n"
        "heavy = {'torch', 'numpy', 'textual', 'rich', 'psutil', 'tuidl.train', 'tuidl.cli'};"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
