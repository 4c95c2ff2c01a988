"""`tuidl run`: what it prints where, what it writes, and that a run can be repeated to the bit."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import torch

from tuidl.cli.run import resolve
from tuidl.runs import find_run, read_spec
from tuidl.train.checkpoint import read

COLOUR = re.compile(r"\x1b\[[0-9;:]*\b(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[0-9;:]*m")


def same_numbers(one, other) -> bool:
    """Whether two runs measured the same, to the bit."""

    def columns(reader):
        found: dict[str, bytes] = {}
        for block in reader.metrics():
            for name, values in block.columns.items():
                found[name] = found.get(name, b"") + values.tobytes()
        return found

    def evaluations(reader):
        return [(event["step"], event["metrics"]) for event in reader.events() if event["event"] == "evaluation"]

    mine, theirs = columns(one), columns(other)
    assert mine and theirs
    return mine == theirs and evaluations(one) == evaluations(other)


def test_json_run_prints_json_lines_from_started_to_finished(json_run):
    assert json_run.done.returncode == 0
    kinds = [line["event"] for line in json_run.lines]
    assert kinds[-1] == "finished" and kinds.count("finished") == kinds.count("started") == 1
    before, after = kinds[: kinds.index("started")], kinds[kinds.index("started") + 1 :]
    assert set(before) == {"warning"}
    assert {"metrics", "evaluation", "checkpoint"} <= set(after)
    assert "{" not in json_run.done.stderr


def test_json_finished_sums_the_run_up(json_run):
    last = json_run.lines[-1]
    assert last["status"] == "completed" and last["run"] == "digits" and last["steps"] == 20
    assert last["epochs"] > 0 and last["seconds"] > 0
    assert {"test_accuracy", "test_loss", "val_accuracy", "best_val_accuracy", "best_step"} <= last["metrics"].keys()
    assert 0 <= last["metrics"]["test_accuracy"] <= 1
    assert 0 < last["costs"]["first_step_seconds"] < 600 and last["costs"]["peak_memory"] > 1e8


def test_json_started_holds_the_spec_and_the_reasons(json_run):
    (first,) = [line for line in json_run.lines if line["event"] == "started"]
    assert first["spec"]["data"]["train_limit"] == 1000 and first["spec"]["training"]["max_steps"] == 20
    assert any("device" in reason for reason in first["reasons"])
    assert any("precision" in reason for reason in first["reasons"])


def test_stand_in_is_said_and_written(json_run):
    (warning,) = [line for line in json_run.lines if line["event"] == "warning"]
    assert "mnist" in warning["text"] and "tuidl data get mnist" in warning["text"] and "\n" not in warning["text"]
    data = json_run.reader.spec()["data"]
    assert data["asked"] == "mnist" and data["used"] == "drawn-digits" and data["stand_in"] is True
    assert all(len(value) == 64 for value in data["files"].values())


def test_stand_in_is_said_in_one_plain_line(cli, digits):
    said = cli(*digits)
    notes = [line for line in said.err.splitlines() if line.startswith("note: ")]
    assert said.code == 0 and len(notes) == 1 and "mnist" in notes[0]
    assert "drawn-digits" in said.err


def test_the_line_about_the_stand_in_names_the_stand_in(json_run):
    (warning,) = [line for line in json_run.lines if line["event"] == "warning"]
    assert "drawn-digits" in warning["text"]


def test_run_json_can_repeat_the_run(json_run):
    stored = json_run.reader.spec()
    assert {"format", "created", "preset", "seed", "spec", "device", "versions", "data", "reasons"} <= stored.keys()
    assert stored["preset"]["name"] == "mnist-mlp" and stored["versions"]["torch"] == torch.__version__


def test_run_directory_belongs_to_its_owner_alone(json_run):
    assert json_run.reader.paths.directory.stat().st_mode & 0o777 == 0o700
    assert json_run.reader.status().state == "completed" and json_run.reader.status().exit_code == 0


def test_plain_run_prints_results_on_stdout_and_the_rest_on_stderr(plain_run, escapes):
    done = plain_run.done
    assert done.returncode == 0
    out = done.stdout.splitlines()
    assert out[-1].startswith("completed: test_loss") and all(line.startswith("epoch ") for line in out[:-1])
    assert "parameters on text" in done.stderr and "tuidl show plain" in done.stderr
    assert re.search(r"first step after [\d.]+ s, [\d.]+ GB of memory; ", done.stderr)
    assert "step 20/20" in done.stderr
    assert not escapes(done.stdout) and not escapes(done.stderr)


def test_quiet_prints_the_result_only(cli, tuidl):
    said = cli(*tuidl.language("--quiet"))
    assert said.code == 0 and said.err == ""
    assert len(said.out.splitlines()) == 1 and said.out.startswith("completed: ")
    said = cli(*tuidl.language("--quiet", "--json"))
    assert [line["event"] for line in said.lines] == ["finished"] and said.err == ""


def test_a_language_run_writes_samples(cli, tuidl):
    said = cli(*tuidl.language("--json", "--name", "writer"))
    (sample,) = [line for line in said.lines if line["event"] == "sample"]
    assert json.loads(tuidl.reader("writer").artifact(sample["files"][0]))["samples"]


def in_terminal(tuidl, words, stdout_too=True, **environ):
    """Run a command on a pseudo-terminal; return exit code, what the terminal got, and what a pipe on stdout got."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    stdout = slave if stdout_too else subprocess.PIPE
    process = subprocess.Popen(
        [*tuidl.command, *words], env=tuidl.environ | environ, cwd=tuidl.root, stdin=slave, stdout=stdout, stderr=slave
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            chunk = os.read(master, 65536)
        except OSError:  # the last process has closed the terminal
            break
        if not chunk:
            break
        shown += chunk
    os.close(master)
    out = process.stdout.read() if process.stdout else b""
    return process.wait(), shown.decode(), out.decode()


def test_terminal_gets_a_bar_and_still_the_results(tuidl):
    code, shown, _ = in_terminal(tuidl, tuidl.language())
    assert code == 0 and "\x1b[" in shown
    assert "step 20" in shown and "completed: test_loss" in shown
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h")  # the cursor that a bar hides is given back


def test_results_go_into_a_file_beside_the_bar(tuidl):
    code, shown, out = in_terminal(tuidl, tuidl.language(), stdout_too=False)
    assert code == 0 and "\x1b[" in shown
    assert "\x1b" not in out and out.splitlines()[-1].startswith("completed: test_loss")


def test_no_color_is_respected(tuidl):
    code, shown, _ = in_terminal(tuidl, tuidl.language(), NO_COLOR="1")
    assert code == 0 and "completed: test_loss" in shown
    assert not COLOUR.search(shown)


def test_dumb_terminal_gets_no_escape_codes(tuidl):
    code, shown, _ = in_terminal(tuidl, tuidl.language(), TERM="dumb")
    assert code == 0 and "completed: test_loss" in shown
    assert "\x1b" not in shown


def test_json_on_a_terminal_has_no_bar(tuidl):
    code, shown, _ = in_terminal(tuidl, tuidl.language("--json"))
    assert code == 0 and "\x1b" not in shown
    assert [json.loads(line)["event"] for line in shown.splitlines()][-1] == "finished"


def test_run_goes_on_when_the_reader_of_its_output_leaves(tuidl):
    process = tuidl.start(*tuidl.language("--json", "--name", "unread"))
    process.stdout.close()
    _, err = process.communicate()
    assert "Traceback" not in err and "Exception ignored" not in err
    assert process.returncode == 0 and tuidl.reader("unread").status().state == "completed"


def test_repeated_run_is_the_same_to_the_bit(json_run, shared_tuidl, cli, monkeypatch, tuidl):
    monkeypatch.setattr("tuidl.train.data.load.STAND_IN_SIZES", (20_000, 4_000))  # as in the run that is repeated
    monkeypatch.setenv("TUIDL_RUNS_DIR", str(shared_tuidl.runs))
    said = cli("run", json_run.name, "--name", "again", "--offline", "--quiet")
    assert said.code == 0, said.err
    assert same_numbers(shared_tuidl.reader(json_run.name), shared_tuidl.reader("again"))
    assert shared_tuidl.reader("again").spec()["preset"] == json_run.reader.spec()["preset"]


def test_same_seed_same_run_and_other_seed_other_run(cli, tuidl):
    for name, seed in (("first", 3), ("second", 3), ("third", 4)):
        assert cli(*tuidl.language("--seed", seed, "--name", name, "--quiet")).code == 0
    assert same_numbers(tuidl.reader("first"), tuidl.reader("second"))
    assert not same_numbers(tuidl.reader("first"), tuidl.reader("third"))


def test_repeated_run_takes_changes(cli, tuidl):
    assert cli(*tuidl.language("--name", "one", "--quiet")).code == 0
    assert cli("run", "one", "--name", "two", "--max-steps", "5", "--set", "optimizer.lr=0.5", "--quiet").code == 0
    spec = tuidl.reader("two").spec()["spec"]
    assert spec["optimizer"]["lr"] == 0.5 and spec["training"]["max_steps"] == 5 and spec["model"]["width"] == 8


def test_run_on_a_stand_in_is_repeated_on_the_stand_in(json_run, shared_tuidl):
    from tuidl.cli import build_parser

    args = build_parser().parse_args(["run", json_run.name, "--runs-dir", str(shared_tuidl.runs)])
    spec, _, _ = resolve(args)
    assert spec.data.name == "drawn-digits"


def test_threads_follow_omp_num_threads():
    code = "from tuidl.train import device; print(device.choose('cpu').threads)"
    for threads in ("1", "2"):
        env = {**os.environ, "OMP_NUM_THREADS": threads}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
        assert done.stdout.strip() == threads


def test_diverging_run_says_at_which_step_and_keeps_finite_weights(cli, tuidl, digits):
    diverge = ["--set", "optimizer.kind=sgd", "--set", "optimizer.lr=1000", "--set", "evaluation.every_steps=1"]
    said = cli(*digits, *diverge, "--name", "wild", "--json")
    last = said.lines[-1]
    assert said.code == 4 and last["event"] == "finished" and last["status"] == "diverged"
    assert re.search(r"not finite at step \d+", last["reason"])
    status = tuidl.reader("wild").status()
    assert status.state == "diverged" and status.exit_code == 4 and status.reason == last["reason"]
    newest = sorted(tuidl.paths("wild").checkpoints.glob("step-*.safetensors"))[-1]
    assert all(tensor.isfinite().all() for tensor in read(newest).weights.values())


def test_name_is_made_from_preset_and_time(cli, tuidl):
    assert cli(*tuidl.language("--quiet")).code == 0
    (directory,) = tuidl.runs.iterdir()
    assert re.fullmatch(r"char-lstm-\d{4}-\d{4}", directory.name)
    assert find_run(tuidl.runs, "char").directory == directory
    assert read_spec(find_run(tuidl.runs, str(directory)))["seed"] == 0
