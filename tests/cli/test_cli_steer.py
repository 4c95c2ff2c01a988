"""A run that goes on by itself, commands to it from outside, and signals."""

import os
import signal

import pytest

from tuidl.runs import FINAL_STATES, read_state, send
from tuidl.train.checkpoint import read


def answers(reader) -> list[dict]:
    return [event for event in reader.events() if event["event"] == "answer"]


@pytest.fixture
def background(tuidl, cli):
    """A run in the background that does not end by itself; it is ended after the test."""
    done = tuidl(*tuidl.language("--name", "long", "--detach", steps_per_epoch="many"))
    yield done
    status, state = read_state(tuidl.paths("long"))
    if state not in FINAL_STATES and status and status.identity:
        os.kill(status.identity.pid, signal.SIGKILL)


def test_detached_run_lives_in_a_session_of_its_own(background, tuidl):
    assert background.returncode == 0 and background.stdout == "long\n"
    assert "tuidl stop long" in background.stderr
    pid = tuidl.reader("long").status().identity.pid
    assert os.getsid(pid) == pid != os.getsid(0)
    tuidl.wait("long", "running", "evaluating")


def test_commands_take_effect_and_are_answered(background, cli, tuidl, until, one_line):
    reader = tuidl.reader("long")
    said = cli("pause", "long")
    assert said.code == 0 and said.out.startswith("long: paused after step") and said.err == ""
    tuidl.wait("long", "paused")
    paused_at = reader.status().step

    said = cli("set", "long", "optimizer.lr=0.0625")
    assert said.code == 0 and "optimizer.lr is 0.0625" in said.out
    said = cli("set", "lon", "regularization.dropout = 0.5")  # the beginning of its name is enough
    assert said.code == 0 and "regularization.dropout is 0.5" in said.out

    for change, told in (
        ("model.width=9", "cannot change while training"),
        ("seed=5", "cannot change while training"),
        ("optimizer.lr=-1", "out of range"),
        ("optimizer.lr=nan", "optimizer.lr"),
        ("optimizer.lrr=1", "did you mean"),
        ("optimizer.lr", "KEY=VALUE"),
        ("optimizer.lr=" + "9" * 5000, "cannot be sent"),
    ):
        said = cli("set", "long", change)
        assert said.code == 2 and told in one_line(said.err), said

    assert cli("evaluate-now", "long").code == 0
    assert cli("sample-now", "long").code == 0
    heard = []

    def measured_and_sampled():
        heard.extend(reader.events())
        asked = [e for e in heard if e["event"] == "evaluation" and e["step"] == heard_at]
        return asked and any(e["event"] == "sample" and e["step"] == heard_at for e in heard)

    heard_at = max(paused_at, reader.status().step)
    until(measured_and_sampled)
    assert read_state(tuidl.paths("long"))[1] in ("paused", "evaluating")  # looking at a run does not set it going

    said = cli("step", "long", "5")
    assert said.code == 0 and said.out == f"long: pauses after step {heard_at + 5}\n"
    until(lambda: reader.status().step == heard_at + 5 and read_state(tuidl.paths("long"))[1] == "paused")
    assert cli("step", "long").out == f"long: pauses after step {heard_at + 6}\n"
    assert "whole number" in one_line(cli("step", "long", "few").err)
    heard_at += 6

    assert cli("continue", "long").code == 0
    until(lambda: (reader.status() or background).step > heard_at)
    said = cli("stop", "long")
    assert said.code == 0 and "checkpoint" in said.out
    tuidl.wait("long", "stopped")

    heard.extend(reader.events())
    assert reader.damaged == 0
    changes = {event["key"]: (event["before"], event["after"]) for event in heard if event["event"] == "change"}
    assert changes["optimizer.lr"][1] == 0.0625 and changes["regularization.dropout"][1] == 0.5
    told = [event for event in heard if event["event"] == "answer"]
    assert all(event["text"] for event in told)
    assert sum(event["ok"] for event in told) == 9
    states = [event["state"] for event in heard if event["event"] == "state"]
    assert "paused" in states and states.index("running", states.index("paused"))
    lr = [value for block in reader.metrics() if "lr" in block.columns for value in block.columns["lr"]]
    assert lr, "the learning rate is recorded with each step"
    assert reader.status().exit_code == 0 and list(tuidl.paths("long").checkpoints.glob("step-*.safetensors"))

    for words in (["pause"], ["continue"], ["step"], ["stop"], ["evaluate-now"], ["sample-now"]):
        said = cli(*words, "long")
        assert said.code == 2 and "is stopped, not training" in one_line(said.err)
    assert cli("set", "long", "optimizer.lr=1").code == 2


def test_junk_in_the_inbox_is_refused_and_harms_nothing(background, cli, tuidl, until):
    control = tuidl.paths("long").control
    (control / "1.json").write_bytes(b"\x00\xff not json")
    (control / "2.json").write_bytes(b'{"verb":"explode","arguments":{}}')
    (control / "3.json").symlink_to("/etc/passwd")
    (control / "..x.json").mkdir()
    reader = tuidl.reader("long")
    told = []
    until(lambda: told.extend(answers(reader)) or len(told) >= 3)
    assert not any(event["ok"] for event in told)
    send(tuidl.paths("long"), "stop")
    tuidl.wait("long", "stopped")


def test_detached_run_goes_on_to_its_end(tuidl):
    done = tuidl(*tuidl.language("--name", "short", "--detach", "--json", "--max-steps", "300"))
    assert done.returncode == 0, done.stderr
    assert '"event": "detached"' in done.stdout and '"run": "short"' in done.stdout and done.stderr == ""
    tuidl.wait("short", "completed")
    status = tuidl.reader("short").status()
    assert status.step == 300 and status.exit_code == 0 and "test_accuracy" in status.latest


def test_detached_run_that_fails_at_once_says_why(tuidl, one_line):
    done = tuidl(*tuidl.language("--name", "x", "--detach", "--device", "cuda:77"))
    assert done.returncode == 5 and "cuda:77" in one_line(done.stderr) and done.stdout == ""
    assert tuidl.reader("x").status().state == "failed"


def test_detached_run_does_not_run_code_that_lies_around(tuidl):
    (tuidl.root / "safetensors.py").write_text("raise SystemExit('code of a stranger')")
    done = tuidl(*tuidl.language("--detach"), PYTHONSAFEPATH="")
    assert done.returncode == 0 and "stranger" not in done.stderr


def interrupted(tuidl, *signals):
    """Start a run in the foreground, signal it once it trains, and return exit code and output."""
    process = tuidl.start(*tuidl.language("--name", "x", steps_per_epoch="many"))
    tuidl.wait("x", "running", "evaluating")
    for number in signals:
        process.send_signal(number)
    out, err = process.communicate()
    return process.returncode, out, err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signal_ends_a_run_with_a_checkpoint(tuidl, number, code):
    returned, out, err = interrupted(tuidl, number)
    assert returned == code and "Traceback" not in err
    assert "stopped" in out.splitlines()[-1]
    status = tuidl.reader("x").status()
    assert status.state == "stopped" and status.exit_code == code
    newest = sorted(tuidl.paths("x").checkpoints.glob("step-*.safetensors"))[-1]
    assert read(newest).header["step"] == status.step
    assert all(tensor.isfinite().all() for tensor in read(newest).weights.values())


def both_at_once(tuidl):
    # While the process is held both signals wait, and then come at once, in the order of their numbers.
    return interrupted(tuidl, signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGCONT)


def test_second_signal_ends_a_run_at_once(tuidl):
    code, _, err = both_at_once(tuidl)
    assert code in (130, 143) and "Traceback" not in err
    assert tuidl.reader("x").status().state == "failed"


def test_a_run_ended_at_once_says_so(tuidl):
    both_at_once(tuidl)
    assert tuidl.reader("x").status().reason


def test_a_signal_that_comes_when_all_is_done_changes_no_exit_code(cli, tuidl):
    assert cli(*tuidl.language("--name", "x")).code == 0
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        assert signal.getsignal(number) is signal.SIG_IGN, "no handler of ours lives as long as the process"
        os.kill(os.getpid(), number)
    assert tuidl.reader("x").status().state == "completed"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_before_the_first_step_has_its_exit_code(cli, tuidl, monkeypatch, number, code):
    from tuidl.train import session

    def interrupted_while_loading(*args, **kwargs):
        os.kill(os.getpid(), number)
        raise AssertionError("the signal should have come")

    monkeypatch.setattr(session, "load", interrupted_while_loading)
    said = cli(*tuidl.language("--name", "x"))
    status = tuidl.reader("x").status()
    assert status.state == "failed" and status.exit_code == code
    assert said.code == code and "Traceback" not in said.err


def test_json_of_an_interrupted_run_has_its_exit_code(cli, tuidl, monkeypatch):
    from tuidl.train import session

    monkeypatch.setattr(session, "load", lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGINT))
    said = cli(*tuidl.language("--json"))
    assert said.lines[-1]["exit_code"] == said.code == 130


def test_a_run_that_does_not_listen_is_killed(background, cli, tuidl, one_line):
    pid = tuidl.reader("long").status().identity.pid
    os.kill(pid, signal.SIGSTOP)
    said = cli("kill", "long")
    assert said.code == 0 and said.err == "" and said.out.startswith("long: killed at about step")
    tuidl.wait("long", "failed")
    status = tuidl.reader("long").status()
    assert status.reason == "killed by command" and status.exit_code == 137
    said = cli("kill", "long")
    assert said.code == 2 and "no trainer to kill" in one_line(said.err)
    assert cli("kill", "nobody").code == 2


def test_steering_a_run_that_is_not_there(cli, one_line, tuidl):
    for words in (["pause", "nobody"], ["stop", "../x"], ["set", "nobody", "optimizer.lr=1"], ["show", "nobody"]):
        said = cli(*words)
        assert said.code == 2
        one_line(said.err)


def test_steering_a_run_that_is_lost(cli, one_line, tuidl):
    process = tuidl.start(*tuidl.language("--name", "x", steps_per_epoch="many"))
    tuidl.wait("x", "running", "evaluating")
    process.kill()
    process.communicate()
    assert read_state(tuidl.paths("x"))[1] == "lost"
    said = cli("pause", "x")
    assert said.code == 2 and "lost" in one_line(said.err)
    assert "lost" in cli("runs").out and cli("show", "x").out.splitlines()[1].startswith("lost")
