"""Killing a trainer: that process and no other."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from tuidl.errors import UsageError
from tuidl.runs import Identity, RunPaths, StatusWriter, identity, kill, read_state

TRAINER = """
import signal, sys
from pathlib import Path
from tuidl.runs import RunPaths, RunWriter
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
writer = RunWriter(RunPaths(Path(sys.argv[1])))
writer.status.update(state="running", step=7)
print("ready", flush=True)
sys.stdin.read()
"""

_logs: list[IO[str]] = []  # open, as a trainer's are
needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


@pytest.fixture
def trainer(run: RunPaths) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that says it trains `run`, and listens to no polite signal."""
    command = [sys.executable, "-c", TRAINER, str(run.directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        yield process
        process.kill()


def claim(run: RunPaths, state: str = "running", **changes: Any) -> None:
    """Let the status of `run` say that the process of its status, else this one, trains it, with `changes`."""
    writer = StatusWriter(run)
    told, _ = read_state(run)
    trainer = (told.identity if told else None) or Identity.current()
    writer.update(state=state, identity=trainer.model_copy(update=changes))
    _logs.append(run.events.open("a"))


def refused(run: RunPaths) -> str:
    with pytest.raises(UsageError) as caught:
        kill(run)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.fixture
def no_signals(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """No process is signalled; returns what would have been."""
    sent: list[object] = []
    monkeypatch.setattr(os, "kill", lambda *args: sent.append(args))
    monkeypatch.setattr(signal, "pidfd_send_signal", lambda *args: sent.append(args), raising=False)
    return sent


def test_a_trainer_is_killed_at_once(run: RunPaths, trainer: "subprocess.Popen[bytes]") -> None:
    assert "step 7" in kill(run)
    assert trainer.wait(10) == -signal.SIGKILL
    status, state = read_state(run)
    assert status is not None and (state, status.reason, status.exit_code) == ("failed", "killed by command", 137)
    assert "no trainer to kill" in refused(run)


def test_without_process_descriptors_it_works_as_well(
    run: RunPaths, trainer: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    kill(run)
    assert trainer.wait(10) == -signal.SIGKILL
    assert "no trainer to kill" in refused(run)


@needs_proc
def test_a_number_that_another_process_has_got_is_left_alone(
    run: RunPaths, trainer: "subprocess.Popen[bytes]", no_signals: list[object]
) -> None:
    claim(run, start_ticks=12345)
    assert "has ended already" in refused(run)
    assert trainer.poll() is None and not no_signals


@needs_proc
@pytest.mark.parametrize("descriptors", [True, False])
def test_a_number_that_changes_hands_at_the_last_moment_is_left_alone(
    run: RunPaths,
    trainer: "subprocess.Popen[bytes]",
    no_signals: list[object],
    monkeypatch: pytest.MonkeyPatch,
    descriptors: bool,
) -> None:
    if not descriptors:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    looks = [True, False]  # still there when the command looks, gone once the descriptor is open
    monkeypatch.setattr("tuidl.runs.control.alive", lambda identity: looks[0])
    monkeypatch.setattr(identity, "alive", lambda identity: looks[1])
    assert "has ended already" in refused(run)
    assert trainer.poll() is None and not no_signals


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"host": "gpu7\x1b[2J", "boot_id": "another"}, "trains on gpu7"),
        ({"pid_namespace": 1}, "in another container"),
        ({"boot_id": "another"}, "has ended already"),  # this machine, before it was started anew
        ({"uid": os.geteuid() + 1}, "another user"),
    ],
)
@needs_proc
def test_processes_elsewhere_and_of_others_are_left_alone(
    run: RunPaths, no_signals: list[object], changes: dict[str, Any], told: str
) -> None:
    claim(run, **changes)
    said = refused(run)
    assert told in said and "\x1b" not in said
    assert not no_signals


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may start a process of another user")
def test_a_process_of_another_user_is_left_alone(run: RunPaths, no_signals: list[object]) -> None:
    """Root may kill anyone; here it kills its own only, whatever a status claims about the user."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, user=65534) as stranger:  # ends with its input
        claim(run, pid=stranger.pid, start_ticks=identity._start_ticks(stranger.pid))
        assert "another user" in refused(run)
        assert not no_signals


@pytest.mark.parametrize("state", ["completed", "stopped", "diverged", "failed"])
def test_a_finished_run_has_nothing_to_kill(run: RunPaths, no_signals: list[object], state: str) -> None:
    claim(run, state)
    assert f"is {state}" in refused(run)
    assert not no_signals


def test_a_run_that_tells_nothing_has_nothing_to_kill(run: RunPaths, no_signals: list[object]) -> None:
    assert "does not say" in refused(run)
    run.status.write_text('{"state":"running"}')
    assert "does not say" in refused(run)
    run.status.write_bytes(b"\0")
    assert "does not say" in refused(run)
    assert not no_signals


@pytest.mark.parametrize("which", ["directory", "status"])
def test_what_others_may_write_is_not_believed(run: RunPaths, no_signals: list[object], which: str) -> None:
    claim(run)
    getattr(run, which).chmod(0o777)
    assert "by other users" in refused(run)
    assert not no_signals


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_the_word_of_another_user_is_not_believed(run: RunPaths, no_signals: list[object]) -> None:
    claim(run)
    os.chown(run.status, 65534, 65534)
    assert "by other users" in refused(run)
    assert not no_signals


def test_a_system_that_refuses_is_told(run: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    claim(run)
    monkeypatch.setattr(os, "kill", refuse)
    monkeypatch.setattr(signal, "pidfd_send_signal", refuse, raising=False)
    assert "Operation not permitted" in refused(run)


@pytest.mark.parametrize("reads", [True, False])
def test_a_process_that_does_not_write_the_log_is_left_alone(run: RunPaths, reads: bool) -> None:
    run.events.touch()
    with run.events.open("rb") as log:
        process = subprocess.Popen(["sleep", "600"], stdin=log if reads else subprocess.DEVNULL)
    try:
        named = Identity.current().model_copy(
            update={"pid": process.pid, "start_ticks": identity._start_ticks(process.pid)}
        )
        StatusWriter(run).update(state="running", identity=named)
        assert f"process {process.pid} does not train this run" in refused(run)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
