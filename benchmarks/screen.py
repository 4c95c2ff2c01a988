"""What the screen costs: bytes to the terminal, the time from key to paint, the first frame, and the training's speed.

    python benchmarks/screen.py                 # everything, about 15 minutes on two cores
    python benchmarks/screen.py bytes keys      # some of it
    python benchmarks/screen.py --save          # also into benchmarks/screen.json

Needs MNIST in the data directory (or $TUIDL_DATA_DIR); without it the stand-in is trained on, which costs the same.
"""

import argparse
import contextlib
import json
import os
import platform
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
from terminal import Terminal

from tuidl.runs import LIVE_STATES, RunPaths, RunReader, RunWriter, create_run, find_run, read_state, send, write_spec
from tuidl.spec import load_preset

TUIDL = [sys.executable, "-P", "-m", "tuidl"]
LOCAL = {"SSH_CONNECTION": "", "SSH_TTY": ""}
REMOTE = {"SSH_CONNECTION": "192.0.2.1 1 192.0.2.2 22"}
ONE_THREAD = ["--set", "training.threads=1"]
Result = dict[str, object]


@contextlib.contextmanager
def training(root: Path, *more: str, preset: str = "mnist-mlp") -> Iterator[RunPaths]:
    """A run that trains at full speed until the end of the block."""
    command = [*TUIDL, "run", preset, "--epochs", "100000", "--detach", "--runs-dir", str(root), *more]
    name = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    paths = find_run(root, name)
    while read_state(paths)[1] == "starting":
        time.sleep(0.1)
    try:
        yield paths
    finally:
        end(paths)


def end(paths: RunPaths) -> None:
    """Stop a run and wait for its end."""
    if read_state(paths)[1] in LIVE_STATES:
        send(paths, "stop")
    while read_state(paths)[1] in LIVE_STATES:
        time.sleep(0.1)


@contextlib.contextmanager
def watching(paths: RunPaths, env: dict[str, str] | None = None, **line: object) -> Iterator[Terminal]:
    """The screen on a run, in a terminal of 120x40."""
    with tempfile.NamedTemporaryFile(suffix=".json") as settings:
        environment = {**LOCAL, **(env or {}), "TUIDL_SETTINGS": settings.name + ".none"}
        command = [*TUIDL, "attach", paths.name, "--runs-dir", str(paths.directory.parent)]
        terminal = Terminal(command, environment, **line)  # type: ignore[arg-type]
        try:
            yield terminal
        finally:
            terminal.close()


def traffic(terminal: Terminal, seconds: float) -> tuple[float, float]:
    """Return kB a second to the terminal, and the viewer's share of a core, over some seconds."""
    viewer = psutil.Process(terminal.process.pid)
    bytes_before, cpu_before, began = terminal.total, viewer.cpu_times(), time.monotonic()
    time.sleep(seconds)
    passed, cpu = time.monotonic() - began, viewer.cpu_times()
    used = cpu.user + cpu.system - cpu_before.user - cpu_before.system
    return (terminal.total - bytes_before) / passed / 1000, used / passed


def measure_bytes(root: Path, quick: bool) -> Result:
    """What reaches the terminal while a run trains at full speed, and when nothing happens."""
    seconds = 8 if quick else 30
    found: Result = {}
    with training(root, *ONE_THREAD) as paths:
        time.sleep(5)
        for name, env in (("local", LOCAL), ("over SSH", REMOTE)):
            with watching(paths, env) as terminal:
                time.sleep(4)
                rate, cpu = traffic(terminal, seconds)
                found[f"{name}, kB/s"], found[f"{name}, share of a core"] = rate, cpu
        with watching(paths) as terminal:
            time.sleep(4)
            terminal.press("z")
            for panel in range(1, 10):
                terminal.press(str(panel))
                time.sleep(1)
                found[f"panel {panel} alone, kB/s"] = traffic(terminal, seconds / 3)[0]
        with watching(paths) as terminal:
            time.sleep(3)
            send(paths, "pause")
            time.sleep(3)
            before = terminal.total
            time.sleep(10)
            found["paused, bytes in 10 s"] = terminal.total - before
            send(paths, "continue")
    with watching(paths) as terminal:
        time.sleep(5)
        before = terminal.total
        time.sleep(10)
        found["finished, bytes in 10 s"] = terminal.total - before
    return found


# key -> what then stands on the screen, and the key that takes it away: the cursor of the charts, and the drawer of
# knobs, for which Textual lays out and sends the whole screen anew
KEYS = {"cursor": ("\x1b[H", b"step 1 ", "\x1b"), "drawer of knobs": ("k", b"ew value", "k")}


def key_times(terminal: Terminal, presses: int, key: str, text: bytes, back: str) -> list[float]:
    """Return the seconds from a key to its effect on the far end of the line, for presses at odd moments."""
    times = []
    for _ in range(presses):
        time.sleep(random.uniform(0.3, 0.8))
        terminal.forget()
        pressed = terminal.press(key)
        seen = terminal.wait_for(text, pressed, 30)
        times.append((seen or pressed + 30) - pressed)
        time.sleep(0.3)
        terminal.press(back)
    return times


def measure_keys(root: Path, quick: bool) -> Result:
    """From a key press to the repaint, while the trainer uses every core."""
    presses, found = 8 if quick else 30, {}
    lines = {"local": {}, "50 kB/s behind 2 MB": {"rate": 50_000.0, "delay": 0.025}}
    with training(root, "--set", f"training.threads={os.cpu_count()}") as paths:
        time.sleep(5)
        for name, line in lines.items():
            with watching(paths, None if name == "local" else REMOTE, **line) as terminal:
                time.sleep(6)
                for what, keys in KEYS.items():
                    times = sorted(key_times(terminal, presses, *keys))
                    found[f"{name}, {what}, median ms"] = statistics.median(times) * 1000
                    found[f"{name}, {what}, p95 ms"] = times[int(0.95 * (len(times) - 1))] * 1000
                    found[f"{name}, {what}, worst ms"] = times[-1] * 1000
    return dict(found)


def renice(pid: int, niceness: int) -> None:
    """Give all threads of a process another niceness; back from a higher one only root can go."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.setpriority(os.PRIO_PROCESS, int(thread.name), niceness)


def measure_niceness(root: Path, quick: bool) -> Result:
    """Whether the trainer should be nice: keys of the screen, and its own speed beside another program."""
    presses, found = 8 if quick else 30, {}
    with training(root, "--set", f"training.threads={os.cpu_count()}") as paths:
        status, _ = read_state(paths)
        assert status and status.identity
        time.sleep(5)
        with watching(paths) as terminal:
            time.sleep(6)
            for niceness in (0, 10):
                renice(status.identity.pid, niceness)
                times = sorted(key_times(terminal, presses, *KEYS["cursor"]))
                found[f"niceness {niceness}, cursor, median ms"] = statistics.median(times) * 1000
                found[f"niceness {niceness}, cursor, p95 ms"] = times[int(0.95 * (len(times) - 1))] * 1000
        speeds: dict[int, list[float]] = {0: [], 10: []}
        other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            for turn in range(4 if quick else 16):
                niceness = (0, 10, 10, 0)[turn % 4]
                renice(status.identity.pid, niceness)
                speeds[niceness].append(speed(RunReader(paths), 2.0))
        finally:
            other.kill()
            other.wait()
    slower = statistics.median(speeds[10]) / statistics.median(speeds[0])
    return found | {"speed beside a busy program, niceness 10 against 0": slower}


EMPTY_APP = textwrap.dedent("""
    from textual.app import App
    from textual.widgets import Static
    class Empty(App):
        def compose(self):
            yield Static("nothing here")
    Empty().run()
""")


def first_frame(command: list[str], env: dict[str, str]) -> float:
    """Return the seconds from start to the first text on the screen."""
    terminal = Terminal(command, {**LOCAL, **env})
    deadline = time.monotonic() + 20
    while terminal.first_text() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    seconds = terminal.first_text() or 20.0
    terminal.close()
    return seconds


def measure_start(root: Path, quick: bool) -> Result:
    """The first frame, against a program of Textual's that shows one line. Taken in turns."""
    paths = big_run(root, 2000, "small")
    commands = {
        "empty": [sys.executable, "-c", EMPTY_APP],
        "home": TUIDL,
        "attach": [*TUIDL, "attach", paths.name, "--runs-dir", str(root)],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(3 if quick else 12):
        for name, command in commands.items():
            times[name].append(first_frame(command, {"TUIDL_RUNS_DIR": str(root), "TUIDL_SETTINGS": "/nowhere"}))
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        **{f"{name}, ms": value * 1000 for name, value in medians.items()},
        "home against empty": medians["home"] / medians["empty"],
        "attach against empty": medians["attach"] / medians["empty"],
    }


def speed(reader: RunReader, seconds: float) -> float:
    """Return the steps a second over some seconds, evaluations left out: how much of them falls into them is chance."""
    reader.metrics()
    time.sleep(seconds)
    blocks = [block for block in reader.metrics() if block.count > 1]
    return sum(block.count - 1 for block in blocks) / sum(block.elapsed[1] - block.elapsed[0] for block in blocks)


def beside(paths: RunPaths, screens: int, deaf: bool, seconds: float, pairs: int) -> list[float]:
    """Return the speed of training beside screens as a share of its speed alone, for pairs of moments.

    The machine's own speed drifts by more than the screens cost, so the same screens are stopped (SIGSTOP) and
    go on in turns, each time the other way round, and only neighbours in time are compared.
    """
    reader, ratios = RunReader(paths), []
    with contextlib.ExitStack() as stack:
        terminals = [stack.enter_context(watching(paths, deaf=deaf)) for _ in range(screens)]
        time.sleep(5)
        for pair in range(pairs):
            speeds = {}
            for watched in (True, False) if pair % 2 else (False, True):
                for terminal in terminals:
                    terminal.process.send_signal(signal.SIGCONT if watched else signal.SIGSTOP)
                time.sleep(0.3)
                speeds[watched] = speed(reader, seconds)
            ratios.append(speeds[True] / speeds[False])
        for terminal in terminals:
            terminal.process.send_signal(signal.SIGCONT)
    return ratios


def measure_training(root: Path, quick: bool) -> Result:
    """The speed of training with one and three screens and a terminal nobody reads, against none."""
    pairs = 8 if quick else 48
    # the last of them shows what chance alone makes of it
    kinds = {"one": (1, False), "three": (3, False), "blocked": (1, True), "none": (0, False)}
    found: Result = {}
    for threads in (1, 2):
        with training(root, "--set", f"training.threads={threads}") as paths:
            time.sleep(5)
            for name, (screens, deaf) in kinds.items():
                ratios = sorted(beside(paths, screens, deaf, 1.0, pairs))
                middle = [round(ratios[at * len(ratios) // 4], 3) for at in (1, 3)]
                found[f"{threads} threads, {name}"] = statistics.median(ratios)
                found[f"{threads} threads, {name}, middle half"] = middle
    return found


def big_run(root: Path, steps: int, name: str) -> RunPaths:
    """Return a finished run of so many steps with six columns, a spike in the middle of its loss."""
    paths = create_run(root, name, "mnist-mlp")
    spec = load_preset("mnist-mlp")
    write_spec(paths, {"format": 1, "preset": {"name": "mnist-mlp"}, "seed": 0, "spec": spec.model_dump(mode="json")})
    writer = RunWriter(paths)
    size, columns = 500, ("loss", "accuracy", "penalty", "grad_norm", "update_ratio", "lr")
    facts = {
        "steps": steps,
        "steps_per_epoch": 429,
        "labels": [],
        "parameters": 1,
        "device": "cpu",
        "precision": "fp32",
    }
    writer.event("started", 0, elapsed=0.0, **facts, data="mnist", stand_in=False)
    for first in range(0, steps, size):
        block = {column: [random.random() for _ in range(size)] for column in columns}
        if first <= steps // 2 < first + size:
            block["loss"][size // 2] = 900.0
        if first + size == steps:
            block["accuracy"] = [0.25] * size  # what the legend says once all has been read
        writer.metrics(first + 1, block, (first / 1000, (first + size) / 1000))
    writer.status.update(state="completed", step=steps, total_steps=steps, elapsed=steps / 1000, exit_code=0)
    writer.close()
    return paths


def measure_open(root: Path, quick: bool) -> Result:
    """A long run: until its first frame, until the last of it is drawn, and the memory of the viewer."""
    found: Result = {}
    for name, steps in (("1 M points", 167_000), ("6 M points", 1_000_000)):  # six columns a step
        paths = big_run(root, steps, f"steps-{steps}")
        firsts, wholes, memory = [], [], 0
        for _ in range(2 if quick else 9):
            with watching(paths) as terminal:
                seen = terminal.wait_for(b"25.00%", 0, 20)
                wholes.append((seen or terminal.started + 20) - terminal.started)
                firsts.append(terminal.first_text() or 20.0)
                time.sleep(1)
                memory = max(memory, psutil.Process(terminal.process.pid).memory_info().rss)
        found[f"{name}, first frame, s"] = statistics.median(firsts)
        found[f"{name}, all of it, s"] = statistics.median(wholes)
        found[f"{name}, memory, MB"] = memory / 1e6
    found["loading python, textual and numpy, s"] = statistics.median(bare_start() for _ in range(3))
    return found


def bare_start() -> float:
    """Return the seconds that loading what every screen needs takes."""
    began = time.monotonic()
    subprocess.run(
        [sys.executable, "-c", "import textual.app, textual.widgets, numpy, tuidl.runs, tuidl.spec"], check=True
    )
    return time.monotonic() - began


def measure_redraw(root: Path, quick: bool) -> Result:
    """One repaint of a chart of 120x30 from a thousand and from a million steps, and with plotext instead."""
    from redraw import redraw_times  # beside this file; loads numpy and plotext

    return redraw_times(20 if quick else 100)


def measure_list(root: Path, quick: bool) -> Result:
    """Home with 500 runs: the list made anew, and again when nothing has changed."""
    from tuidl.runs.listing import RunLister

    for index in range(500):
        big_run(root, 500, f"run-{index:03d}")
    began = time.monotonic()
    lister = RunLister(root)
    assert len(lister.list()) == 500
    cold = time.monotonic() - began
    began = time.monotonic()
    lister.list()
    return {"first, s": cold, "again, s": time.monotonic() - began}


MEASURES: dict[str, Callable[[Path, bool], Result]] = {
    "start": measure_start, "list": measure_list, "open": measure_open, "redraw": measure_redraw,
    "bytes": measure_bytes, "keys": measure_keys, "niceness": measure_niceness, "training": measure_training,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", nargs="*", metavar="|".join(MEASURES), help="what to measure; default everything")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, to see that it works")
    parser.add_argument("--save", action="store_true", help="write benchmarks/screen.json")
    args = parser.parse_args()
    unknown = set(args.which) - set(MEASURES)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    results: dict[str, Result] = {}
    for name in args.which or MEASURES:
        with tempfile.TemporaryDirectory() as directory:
            results[name] = MEASURES[name](Path(directory), args.quick)
        print(name)
        for key, value in results[name].items():
            print(f"  {key:<40} {value:.4g}" if isinstance(value, float) else f"  {key:<40} {value}", flush=True)
    if args.save:
        path = Path(__file__).with_suffix(".json")
        stored = json.loads(path.read_text()) if path.exists() else {}
        stored |= {"python": platform.python_version(), "cores": os.cpu_count()} | results
        path.write_text(json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    main()
