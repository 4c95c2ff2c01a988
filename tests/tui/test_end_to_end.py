"""A whole evening in one minute, in tmux, by keys alone: set up, train, steer, lose the terminal, come back, stop."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tuidl.runs import RunPaths, RunReader, kill, read_spec, read_state, run_names

pytestmark = pytest.mark.skipif(not shutil.which("tmux"), reason="tmux is not installed")
PATIENCE = 90.0


class Tmux:
    """A tmux server of its own with one window of 120x40."""

    def __init__(self, socket: Path, environment: dict[str, str]) -> None:
        self.socket = socket
        own = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}  # the window's
        self.environment = {**own, **environment, "TERM": "xterm-256color"}

    def __call__(self, *words: str) -> str:
        command = ["tmux", "-S", str(self.socket), "-f", "/dev/null", *words]
        return subprocess.run(command, env=self.environment, check=True, capture_output=True, text=True).stdout

    def open(self, session: str, *command: str) -> None:
        self("new-session", "-d", "-s", session, "-x", "120", "-y", "40", shlex.join(command))

    def press(self, session: str, *keys: str) -> None:
        for key in keys:
            self("send-keys", "-t", session, key)

    def type(self, session: str, text: str) -> None:
        self("send-keys", "-t", session, "-l", text)

    def screen(self, session: str) -> str:
        return self("capture-pane", "-p", "-t", session)

    def wait(self, session: str, *texts: str) -> str:
        """Wait until all of `texts` stand on the screen, and return it."""
        deadline = time.monotonic() + PATIENCE
        while True:
            seen = self.screen(session)
            if all(text in seen for text in texts):
                return seen
            if time.monotonic() > deadline:
                pytest.fail(f"waited for {texts} in vain:\n{seen}")
            time.sleep(0.1)


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[Tmux]:
    server = Tmux(
        tmp_path / "socket",
        {
            "TUIDL_RUNS_DIR": str(tmp_path / "runs"), "TUIDL_DATA_DIR": str(tmp_path / "no-data"),
            "XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path), "OMP_NUM_THREADS": "1",
        },
    )  # fmt: skip
    yield server
    for name in run_names(tmp_path / "runs"):
        paths = RunPaths(tmp_path / "runs" / name)
        if read_state(paths)[1] in ("starting", "running", "paused", "evaluating"):
            kill(paths)
    subprocess.run(["tmux", "-S", str(server.socket), "kill-server"], check=False, capture_output=True)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def test_start_steer_lose_the_terminal_come_back_and_stop(tmux: Tmux, tmp_path: Path) -> None:
    tuidl = [sys.executable, "-P", "-m", "tuidl"]
    tmux.open("first", *tuidl)
    tmux.wait("first", "mnist-mlp", "Presets")
    tmux.press("first", "/")
    tmux.type("first", "mnist-mlp")
    tmux.press("first", "Enter", "Enter")
    tmux.wait("first", "Optimizer", "Start")

    tmux.press("first", "NPage", "NPage")  # Data, Model, Optimizer
    for _ in range(13):
        if "nesterov ›" in tmux.screen("first"):
            break
        tmux.press("first", "Right")
        time.sleep(0.3)
    tmux.wait("first", "nesterov", "momentum")
    set_field(tmux, "first", "dropout", "0.3")
    set_field(tmux, "first", "epochs", "2000")
    tmux.wait("first", "optimizer.kind=nesterov", "regularization.dropout=0.3")
    tmux.press("first", "F5")
    tmux.wait("first", "running", "step")

    (name,) = run_names(tmp_path / "runs")
    paths = RunPaths(tmp_path / "runs" / name)
    spec = read_spec(paths)["spec"]
    assert spec["optimizer"]["kind"] == "nesterov" and spec["regularization"]["dropout"] == 0.3

    tmux.press("first", "k")
    tmux.wait("first", "new value", "optimizer.lr")
    for _ in range(20):
        if "› optimizer.lr" in tmux.screen("first"):
            break
        tmux.press("first", "Down")
        time.sleep(0.1)
    tmux.type("first", "0.01")
    tmux.press("first", "Enter")
    tmux.wait("first", "0.01 *")
    tmux.press("first", "k", "space")  # closes the drawer, pauses
    tmux.wait("first", "paused")
    standing = read_state(paths)[0].step  # type: ignore[union-attr]
    tmux.press("first", "space")
    tmux.wait("first", "running")
    until(lambda: read_state(paths)[0].step > standing)  # type: ignore[union-attr]

    tmux("respawn-pane", "-k", "-t", "first", "sleep 1000")  # the terminal goes away under the screen
    before = read_state(paths)[0].step  # type: ignore[union-attr]
    until(lambda: read_state(paths)[0].step > before)  # type: ignore[union-attr]

    tmux.open("second", *tuidl, "attach", name)
    tmux.wait("second", name, "running")
    tmux.press("second", "k")
    tmux.wait("second", "0.01 *")  # the change that was made from the lost terminal is known here
    tmux.press("second", "k")
    tmux.press("second", "t")
    tmux.wait("second", "checkpoint")
    tmux.press("second", "Enter")
    tmux.wait("second", "stopped")

    events = RunReader(paths).events()
    changes = [(event["key"], event["after"]) for event in events if event["event"] == "change"]
    states = [event["state"] for event in events if event["event"] == "state"]
    assert changes == [("optimizer.lr", 0.01)]
    assert "paused" in states and states.index("paused") < len(states) - 1
    assert events[-1]["event"] == "finished" and events[-1]["status"] == "stopped"
    assert any(event["event"] == "checkpoint" for event in events)
    assert json.loads(json.dumps(read_spec(paths)["spec"])) == spec, "the spec is that of the start"


def set_field(tmux: Tmux, session: str, label: str, value: str) -> None:
    """Walk down to a field of the form and type its value."""
    here = chosen_field(tmux, session, "")
    for _ in range(80):
        if here == label:
            break
        tmux.press(session, "Down")
        here = chosen_field(tmux, session, here)
    else:
        pytest.fail(f"no field {label}:\n{tmux.screen(session)}")
    tmux.press(session, "C-u")
    tmux.type(session, value)
    tmux.wait(session, f"* {label}")


def chosen_field(tmux: Tmux, session: str, before: str) -> str:
    """Return the label of the field under the cursor, once it is another than before."""
    deadline = time.monotonic() + PATIENCE
    while True:
        rows = (row for row in tmux.screen(session).splitlines() if "▸" in row[:3])
        label = next(rows, "")[3:28].strip()
        if label and label != before:
            return label
        assert time.monotonic() < deadline, "the cursor does not move"
        time.sleep(0.05)
