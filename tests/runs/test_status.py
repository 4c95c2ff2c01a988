import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from tuidl.errors import StorageError
from tuidl.runs import Best, Identity, RunPaths, Status, StatusWriter, alive, observed_state, read_state, read_status
from tuidl.runs import identity as identity_module


def test_update_and_read_back(run: RunPaths) -> None:
    assert read_status(run) is None
    writer = StatusWriter(run)
    writer.update(state="running", step=3, total_steps=10, latest={"loss": math.nan, "up": math.inf})
    written = writer.update(step=4, best=Best(metric="val_loss", value=-math.inf, step=4, checkpoint="s4"))
    status = read_status(run)
    assert status is not None and status.best == written.best == Best(
        metric="val_loss", value=-math.inf, step=4, checkpoint="s4"
    )
    assert math.isnan(status.latest["loss"]) and status.latest["up"] == math.inf
    assert (status.state, status.step, status.total_steps, status.heartbeat) == ("running", 4, 10, 2)
    assert status.identity == Identity.current()
    assert read_state(run)[1] == "running"
    assert [path.name for path in run.directory.iterdir() if path.is_file()] == ["status.json"]


def test_bad_updates_change_nothing(run: RunPaths) -> None:
    writer = StatusWriter(run)
    writer.update(state="running")
    before = run.status.read_bytes()
    with pytest.raises(TypeError):
        writer.update(stat="running")
    for bad in ({"state": "fine"}, {"step": -1}, {"step": "3"}, {"latest": {"a": "x"}}, {"latest": {"a" * 70000: 1.0}}):
        with pytest.raises(ValueError):
            writer.update(**bad)
    assert run.status.read_bytes() == before
    assert writer.current.heartbeat == 1
    assert len(writer.update(state="failed", reason="x" * 100_000, exit_code=5).reason) == 2000


@pytest.mark.parametrize("state", ["running", "completed"])
def test_only_a_final_state_is_forced_to_the_disk(run: RunPaths, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(os, "fsync", calls.append)
    StatusWriter(run).update(state=state)
    assert bool(calls) == (state == "completed")


def test_a_full_disk_keeps_the_old_status(run: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = StatusWriter(run)
    writer.update(step=1)

    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fail)
        with pytest.raises(StorageError):
            writer.update(step=2)
    status = read_status(run)
    assert status is not None and status.step == 1
    assert writer.update(step=3).heartbeat == 2


DAMAGED = [b"", b"{", b"[]", b"null", b"\xff", b'{"state":"x"}', b'{"step":"1"}', b'{"step":1.5}', b'{"latest":[1]}']
DAMAGED += [b'{"latest":{"a":true}}', b'{"state":"running"}' + b" " * 70_000, b"[" * 60_000, b'{"best":{"value":1}}']


@pytest.mark.parametrize("data", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_status_is_none(run: RunPaths, data: bytes) -> None:
    run.status.write_bytes(data)
    assert read_status(run) is None
    assert read_state(run) == (None, "unreadable")


def test_a_status_that_is_no_file_is_none_at_once(run: RunPaths) -> None:
    os.mkfifo(run.status)
    assert read_status(run) is None
    run.status.unlink()
    (run.directory / "real").write_text('{"state":"running"}')
    run.status.symlink_to(run.directory / "real")
    assert read_status(run) is None


CHILD = """
import sys
from pathlib import Path
from tuidl.runs import RunPaths, StatusWriter
StatusWriter(RunPaths(Path(sys.argv[1]))).update(state="running")
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_killed_trainer_is_lost_even_as_a_zombie(run: RunPaths) -> None:
    arguments = [sys.executable, "-c", CHILD, str(run.directory)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        status, state = read_state(run)
        assert status is not None and status.identity is not None
        assert (state, alive(status.identity)) == ("running", True)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, but nobody has taken its exit code yet
        assert alive(status.identity) is False
    assert read_state(run) == (status, "lost")


def test_a_run_that_ended_between_two_looks_is_not_lost(run: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = Identity.current().model_copy(update={"start_ticks": 1})
    looks = [Status(state="running", identity=dead), Status(state="completed", identity=dead, exit_code=0)]
    monkeypatch.setattr("tuidl.runs.status.read_status", lambda paths: looks.pop(0))
    assert read_state(run)[1] == "completed"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"host": "renamed"}, True),  # same boot: the same machine by another name
        ({"start_ticks": 1}, False),  # the number belongs to another process now
        ({"pid": 2**31 - 1}, False),
        ({"boot_id": "another"}, False),  # rebooted
        ({"boot_id": "another", "host": "elsewhere"}, None),
        ({"pid_namespace": 1}, None),  # in a container
    ],
)
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_who_is_alive(changes: dict[str, object], expected: bool | None) -> None:
    identity = Identity.current().model_copy(update=changes)
    assert alive(identity) is expected
    assert observed_state(Status(state="running", identity=identity)) == ("lost" if expected is False else "running")
    assert observed_state(Status(state="stopped", identity=identity)) == "stopped"


def test_systems_without_proc_ask_psutil(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(identity_module, "_PROC", tmp_path)
    identity = Identity.current()
    assert (identity.boot_id, identity.pid_namespace) == ("", 0)
    assert alive(identity) is True
    assert alive(identity.model_copy(update={"start_ticks": 1})) is False
    assert alive(identity.model_copy(update={"host": "elsewhere"})) is None


def test_an_impossible_pid_is_refused() -> None:
    with pytest.raises(ValidationError):
        Identity.model_validate(Identity.current().model_dump() | {"pid": -1})
