"""The terminal goes, in every way that happens; the trainer does not notice, and no viewer is left behind."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from terminal import Terminal

from tuidl.runs import LIVE_STATES, RunPaths, find_run, kill, read_state
from tuidl.runs.launch import prepare_run, spawn_trainer
from tuidl.spec import load_preset

TIMES = int(os.environ.get("TUIDL_HANGUPS", "3"))  # 20 for the full count
TUIDL = [sys.executable, "-P", "-m", "tuidl"]

# how the viewer is started, so that the closing of its terminal reaches it differently
WAYS = {
    "hang-up": [],
    "hang-up ignored": ["sh", "-c", 'trap "" HUP; exec "$@"', "sh"],
    "no controlling terminal": ["setsid", "--wait"],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunPaths]:
    root = tmp_path_factory.mktemp("runs")
    overrides = ["training.epochs=100000", "training.threads=1", "data.name=drawn-digits", "data.train_limit=2000"]
    paths = prepare_run(load_preset("mnist-mlp", overrides), "mnist-mlp", "long", root, None)
    trainer = spawn_trainer(paths, ["--offline"])
    deadline = time.monotonic() + 60
    while read_state(paths)[1] not in ("running", "evaluating") and time.monotonic() < deadline:
        time.sleep(0.1)
    yield paths
    kill(paths)
    trainer.wait(10)


def viewers(root: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "attach" in words and str(root) in words and process.status() != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


@pytest.mark.parametrize("way", WAYS)
def test_no_viewer_stays_and_the_trainer_goes_on(run: RunPaths, way: str, tmp_path: Path) -> None:
    root = run.directory.parent
    command = [*WAYS[way], *TUIDL, "attach", "long", "--runs-dir", str(root)]
    for _ in range(TIMES):
        terminal = Terminal(command, {"TUIDL_SETTINGS": str(tmp_path / "settings.json")})
        assert terminal.wait_for(b"long", 0, 20) is not None, "the screen never came up"
        assert viewers(root)
        terminal.hang_up()
        deadline = time.monotonic() + 2
        while viewers(root) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not viewers(root), f"a viewer is left 2 s after the end of its terminal ({way})"
        terminal.close()
        before = read_state(find_run(root, "long"))
        assert before[1] in LIVE_STATES
    heart = before[0].heartbeat  # type: ignore[union-attr]
    time.sleep(1.5)
    status, state = read_state(run)
    assert state in LIVE_STATES and status is not None and status.heartbeat > heart


def test_a_terminal_that_nobody_reads_does_not_keep_the_viewer_from_ending(run: RunPaths, tmp_path: Path) -> None:
    root = run.directory.parent
    command = [*TUIDL, "attach", "long", "--runs-dir", str(root)]
    terminal = Terminal(command, {"TUIDL_SETTINGS": str(tmp_path / "settings.json")}, deaf=True)
    deadline = time.monotonic() + 20
    while not viewers(root) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(4)
    assert viewers(root)
    terminal.process.terminate()
    terminal.process.wait(5)
    terminal.hang_up()
    assert read_state(run)[1] in LIVE_STATES
