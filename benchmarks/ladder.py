"""How fast a preset trains: as the lectures teach it, with one thing after the other mended, and in tuidl.

    python benchmarks/ladder.py                          # the presets that suit this machine, about 20 minutes
    python benchmarks/ladder.py mnist-mlp --quick        # one of them, to see that it works
    python benchmarks/ladder.py mnist-mlp --brief --rounds 40
    python benchmarks/ladder.py --peers --accuracy --compile --save

Every rung is a process of its own (`ladder_rungs.py`) with the same model, batch and optimizer, on the same data. They
train in turns of a second or two, several rounds long, so that whatever else the machine does strikes all alike; what
counts is the ratio to the lectures' loop in the same round: its median, and the quartiles as its spread. tuidl is
measured as it ships, by what `tuidl run` writes into its run directory; its evaluations are left out, as no rung has
any. Needs the data sets in the data directory (or $TUIDL_DATA_DIR); a stand-in does as well, and is then named.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import platform
import pty
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import psutil
import torch
from ladder_rungs import FRAMEWORKS, WARM_UP, WHY, ladder, store_data
from screen import TUIDL, training, watching

from presets import train as train_preset
from tuidl.errors import DeviceError
from tuidl.gpus import look_at_nvidia
from tuidl.processor import look_at_processor
from tuidl.runs import LIVE_STATES, MetricsBlock, RunPaths, RunReader, read_state, read_status
from tuidl.spec import RunSpec, load_preset
from tuidl.spec.tasks import TASKS
from tuidl.train.device import choose_device
from tuidl.train.meter import Meter

FOR_ALL, FOR_GPU = ("mnist-mlp", "cifar-cnn", "char-lstm"), ("mnist-gan", "cifar-speed")
COMPROMISED = ("2.6.2", "2.6.3")  # of Lightning: whoever imports one of them runs a stranger's code
TAUGHT_WHY = {
    "images": "A DataLoader that transforms one image after the other; fp32; .item() for loss and accuracy each step.",
    "text": "Random windows cut from the text one after the other; fp32; .item() for loss and accuracy each step.",
}
TUIDL_WHY = "As it ships: also gradient norm, update ratio and a guard against NaN, and every step is recorded on disk."
SCREEN_WHY = "The same with a screen of 120x40 watching, which is a process of its own."
PEER_WHY = {
    "lightning": "The lectures' DataLoader, a progress bar, loss and accuracy on it.",
    "keras": "On torch, a progress bar; arrays that are normalised once, or the DataLoader where images are augmented.",
}
Result = dict[str, Any]


# ---------------------------------------------------------------- who trains in turns


SPINS = {"GOMP_SPINCOUNT": "300000"}  # what OpenMP does by itself, which tuidl changes for its own trainers


class Runner(Protocol):
    """Something that trains when it is its turn; `pid` is the process that does."""

    pid: int

    def turn(self, seconds: float) -> float:
        """Train for about so long and return the steps a second."""
        ...


class Worker:
    """A rung, or another framework, in a process of its own; its terminal is one where progress bars can draw."""

    def __init__(self, preset: str, data: Path, device: torch.device, what: str) -> None:
        """Start it and wait for its first step; RuntimeError says what it printed last where it takes none."""
        terminal, end = pty.openpty()
        script = Path(__file__).with_name("ladder_rungs.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script), preset, str(data), str(device), what],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=end, text=True, bufsize=1,
            env={**os.environ, **SPINS, "COLUMNS": "120", "LINES": "40", "TERM": "xterm-256color"},
        )  # fmt: skip
        os.close(end)
        self.pid = self._process.pid
        self._said = b""
        threading.Thread(target=self._listen, args=(terminal,), daemon=True).start()
        self._reply()

    def _listen(self, terminal: int) -> None:
        with contextlib.suppress(OSError):  # the terminal ends with its process
            while data := os.read(terminal, 65536):
                self._said = (self._said + data)[-2000:]

    def _reply(self) -> Result:
        assert self._process.stdout
        if line := self._process.stdout.readline():
            reply: Result = json.loads(line)
            return reply
        self._process.wait()
        time.sleep(0.1)  # for its last words
        said = self._said.decode(errors="replace")
        named = re.findall(r"^[\w.]*(?:Error|Exception): .+", said, re.MULTILINE)
        raise RuntimeError((named or said.split("\n"))[-1].strip() or "it ended without a word")

    def turn(self, seconds: float) -> float:
        """Train for about so long and return the steps a second."""
        assert self._process.stdin
        self._process.stdin.write(f"{seconds}\n")
        reply = self._reply()
        return float(reply["steps"] / reply["seconds"])

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


class Shipped:
    """A run of tuidl, perhaps with its screen; both are stopped (SIGSTOP) while others have their turn."""

    def __init__(self, paths: RunPaths, screen: int | None = None) -> None:
        status = read_status(paths)
        assert status and status.identity
        self.pid = status.identity.pid
        self._pids = (self.pid, screen) if screen else (self.pid,)
        self._reader, self._evaluated = RunReader(paths), {0}
        started = next(event for event in self._reader.events() if event["event"] == "started")
        self.facts = {name: started[name] for name in ("device", "precision", "reasons")}
        self.turn(1.0)  # the first second is not like the others

    def turn(self, seconds: float) -> float:
        """Train for about so long and return the steps a second."""
        self._reader.metrics()
        self.tell(signal.SIGCONT)
        self._blocks(0.0)  # the first of them reaches back to before the stop
        self._blocks(WARM_UP)
        blocks = self._blocks(seconds)
        self.tell(signal.SIGSTOP)
        return sum(block.count for block in blocks) / sum(length(block) for block in blocks)

    def tell(self, number: int) -> None:
        """Stop run and screen, or let them go on."""
        for pid in self._pids:
            os.kill(pid, number)

    def _blocks(self, seconds: float) -> list[MetricsBlock]:
        """Wait for blocks of so many seconds of training, at least one; a block that follows an evaluation holds it."""
        found: list[MetricsBlock] = []
        while not found or sum(length(block) for block in found) < seconds:
            time.sleep(0.02)
            blocks = self._reader.metrics()
            if not blocks and read_state(self._reader.paths)[1] not in LIVE_STATES:
                raise RuntimeError("the run of tuidl has ended")
            self._evaluated |= {event["step"] for event in self._reader.events() if event["event"] == "evaluation"}
            found += [block for block in blocks if block.first_step - 1 not in self._evaluated]
        return found


def length(block: MetricsBlock) -> float:
    """Return the seconds of training in a block."""
    return block.elapsed[1] - block.elapsed[0]


@dataclass
class Row:
    """One line of the table: who trains, and by how they are told apart."""

    group: str
    label: str
    why: str
    start: Callable[[contextlib.ExitStack], Runner]
    parts: str = ""


def rung_rows(preset: str, spec: RunSpec, data: Path, device: torch.device, with_compile: bool) -> list[Row]:
    """Return the rungs by hand: as taught, each thing alone, one on top of the other."""
    rows = []

    def starter(what: str) -> Callable[[contextlib.ExitStack], Runner]:
        def start(stack: contextlib.ExitStack) -> Runner:
            worker = Worker(preset, data, device, what)
            stack.callback(worker.close)
            return worker

        return start

    rungs = ladder(spec, device, with_compile)
    highest = max(len(rung.parts) for rung in rungs if not rung.threads)
    for rung in rungs:
        what = ",".join(rung.parts)
        if not rung.parts:
            group, label, why = "", "as taught", TAUGHT_WHY[TASKS[spec.task].data]
        elif len(rung.parts) == 1:
            group, (label, why) = "each alone", WHY[rung.parts[0].partition("=")[0]]
        else:
            last = rung.parts[-1].partition("=")[0]
            group, label, why = "one on top of the other", f"+ {WHY[last][0]}", ""
            label += " = all together" if len(rung.parts) == highest and not rung.threads else ""
        if rung.threads:
            label = f"{'' if group == 'each alone' else '+ '}{rung.threads} thread{'s' * (rung.threads > 1)}"
        rows.append(Row(group, label, why, starter(what), what))
    return sorted(rows, key=lambda row: ["", "each alone", "one on top of the other"].index(row.group))


def tuidl_rows(preset: str, root: Path, device: torch.device) -> list[Row]:
    """Return tuidl as it ships, without and with a screen."""

    def start(stack: contextlib.ExitStack, watched: bool) -> Runner:
        paths = stack.enter_context(training(root, "--device", str(device), preset=preset))
        terminal = stack.enter_context(watching(paths)) if watched else None
        if terminal:
            time.sleep(3)
        run = Shipped(paths, terminal.process.pid if terminal else None)
        stack.callback(run.tell, signal.SIGCONT)
        return run

    return [
        Row("tuidl", "tuidl run", TUIDL_WHY, lambda stack: start(stack, False)),
        Row("tuidl", "tuidl run, with a screen", SCREEN_WHY, lambda stack: start(stack, True)),
    ]


def peer_rows(preset: str, spec: RunSpec, data: Path, device: torch.device) -> list[Row]:
    """Return the other frameworks."""

    def starter(name: str) -> Callable[[contextlib.ExitStack], Runner]:
        def start(stack: contextlib.ExitStack) -> Runner:
            if importlib.util.find_spec(name) is None:
                raise RuntimeError("not installed")
            if name == "lightning" and version(name) in COMPROMISED:
                raise RuntimeError(f"version {version(name)} was compromised; install another one")
            worker = Worker(preset, data, device, name)
            stack.callback(worker.close)
            return worker

        return start

    fitting = {"classification": list(FRAMEWORKS), "language": ["lightning"]}.get(spec.task, [])
    return [Row("other frameworks", name, PEER_WHY[name], starter(name)) for name in fitting]


# ---------------------------------------------------------------- measuring


def in_turns(runners: dict[int, Runner], rounds: int, seconds: float) -> dict[int, list[float]]:
    """Return the steps a second of each runner in each round; every other round goes the other way."""
    speeds: dict[int, list[float]] = {key: [] for key in runners}
    for number in range(rounds):
        for key in sorted(runners, reverse=bool(number % 2)):
            speeds[key].append(runners[key].turn(seconds))
    return speeds


def quartiles(values: Sequence[float]) -> list[float]:
    """Return the lower quartile, the median and the upper quartile."""
    return statistics.quantiles(values, n=4, method="inclusive")


def memory_of(pid: int) -> Result:
    """Return the most memory a process has had so far and what it holds of the GPUs, both in MB."""
    memory = psutil.Process(pid).memory_info().rss
    with contextlib.suppress(OSError):
        status = Path(f"/proc/{pid}/status").read_text().split()
        memory = int(status[status.index("VmHWM:") + 1]) * 1024
    users = [user for gpu in look_at_nvidia().gpus for user in gpu.users if user.pid == pid]
    return {"memory_mb": memory / 1e6, "gpu_mb": sum(user.memory or 0 for user in users) / 1e6 if users else None}


def measure(preset: str, device: torch.device, args: argparse.Namespace) -> Result:
    """Measure the ladder of one preset."""
    spec, began = load_preset(preset), others()
    rounds, seconds = (args.rounds or 3, 0.6) if args.quick else (args.rounds or 9, 1.5)
    examples = spec.training.batch_size * getattr(spec.model, "unroll", 1)
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        root, data = Path(directory), Path(directory, "data.pt")
        start = first_steps(preset, device, root, 3 if args.quick else 5)
        name = store_data(spec, data)
        rungs = rung_rows(preset, spec, data, device, args.compile)
        if args.brief:
            rungs = [row for row in rungs if not row.group or "all together" in row.label or row.label == "+ 1 thread"]
        rows = [*rungs, *tuidl_rows(preset, root, device)]
        rows += peer_rows(preset, spec, data, device) if args.peers else []
        runners, troubles = {}, {}
        for key, row in enumerate(rows):
            try:
                runners[key] = row.start(stack)
            except RuntimeError as error:
                troubles[key] = str(error)
        if 0 in troubles:
            raise SystemExit(f"the loop as taught does not run here: {troubles[0]}")
        speeds = in_turns(runners, rounds, seconds)
        memory = {key: memory_of(runner.pid) for key, runner in runners.items()}
    found = []
    for key, row in enumerate(rows):
        line: Result = {"group": row.group, "label": row.label, "why": row.why, "parts": row.parts}
        if key in troubles:
            line["trouble"] = troubles[key]
        else:
            line |= {
                "ratio": quartiles([one / base for one, base in zip(speeds[key], speeds[0], strict=True)]),
                "examples_per_second": quartiles([speed * examples for speed in speeds[key]]),
                "steps_per_second": quartiles(speeds[key]), **memory[key],
            }  # fmt: skip
        found.append(line)
    by_hand = [key for key in speeds if rows[key].parts]
    best = max(by_hand, key=lambda key: statistics.median(speeds[key]))
    shipped, run = next((key, runner) for key, runner in runners.items() if isinstance(runner, Shipped))
    against = quartiles([one / other for one, other in zip(speeds[shipped], speeds[best], strict=True)])
    return {
        "data": name, "unit": "characters" if spec.task == "language" else "images", "batch": spec.training.batch_size,
        "tuidl_on": run.facts, "rows": found, "first_step_s": start,
        "fastest_by_hand": rows[best].parts, "tuidl_against_fastest": against, "rounds": rounds, "seconds": seconds,
        "others": [began, others()],
    }  # fmt: skip


def others() -> Result:
    """Return how busy the machine is while nothing of ours runs; the load average also remembers what did."""
    return {"cores_busy_percent": psutil.cpu_percent(interval=2.0), "load_average": os.getloadavg()[0]}


def first_steps(preset: str, device: torch.device, root: Path, times: int) -> Result:
    """Return the seconds from the start of `tuidl run` to its first step on record, and those of loading torch."""
    found: dict[str, list[float]] = {"tuidl run": [], "python -c 'import torch'": []}
    for number in range(times):
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", "import torch"], check=True)
        found["python -c 'import torch'"].append(time.monotonic() - began)
        paths = RunPaths(root / f"start-{number}")
        began = time.monotonic()
        command = [*TUIDL, "run", preset, "--quiet", "--max-steps", "1", "--device", str(device)]
        run = subprocess.Popen(
            [*command, "--name", paths.name, "--runs-dir", str(root)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while run.poll() is None and not (paths.metrics.exists() and RunReader(paths).metrics()):
            time.sleep(0.005)
        found["tuidl run"].append(time.monotonic() - began)
        run.kill()
        run.wait()
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def meter_cost(device: torch.device, writes: int) -> Result:
    """Return the microseconds of recording one step of ten numbers, the device not waited for."""
    meter, times = Meter([str(number) for number in range(9)], device), []
    row = [torch.rand((), device=device) for _ in range(9)]  # the tenth is the learning rate
    for number in range(writes):
        if number % 256 == 0:
            meter.drain(wait=True)  # or the queue of a GPU runs full, and the write waits for it
        began = time.perf_counter_ns()
        meter.write(row, 0.1)
        times.append((time.perf_counter_ns() - began) / 1000)
    times.sort()
    return {"mean_us": statistics.fmean(times), "p999_us": times[int(0.999 * len(times))], "writes": writes}


def accuracy(device: torch.device, quick: bool) -> Result:
    """Return what mnist-mlp reaches in its ten epochs over five seeds."""
    more = ["--device", str(device), *(["--epochs", "1"] if quick else [])]
    values = [train_preset("mnist-mlp", seed, more)["metrics"]["test_accuracy"] for seed in range(5)]
    return {"mean": statistics.fmean(values), "deviation": statistics.stdev(values), "values": values, "quick": quick}


def machine(device: torch.device) -> Result:
    """Return what the figures depend on."""
    processor = look_at_processor()
    peers = {name: version(name) for name in FRAMEWORKS if importlib.util.find_spec(name)}
    found: Result = {
        "device": str(device), "processor": processor.name, "cores": processor.usable, "quota": processor.quota,
        "threads": torch.get_num_threads(), "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT"),
        "python": platform.python_version(), "torch": torch.__version__, "tuidl": version("tuidl"), **peers,
    }  # fmt: skip
    if device.type == "cuda":
        found |= {"gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
        found |= {"driver": look_at_nvidia().driver}
    return found


# ---------------------------------------------------------------- showing


def show(preset: str, found: Result) -> None:
    """Print the ladder of one preset."""
    unit = f"{found['unit']}/s"
    print(f"\n{preset} on {found['data']}, batch {found['batch']}; tuidl: {'; '.join(found['tuidl_on']['reasons'])}")
    print(f"{'':32}{'× as taught':>12} {'middle half':>15} {unit:>13} {'ms/step':>9} {'MB':>7} {'GPU MB':>7}")
    group = ""
    for row in found["rows"]:
        if row["group"] != group:
            group = row["group"]
            print(f"  {group}:")
        if "trouble" in row:
            print(f"  {row['label']:<30}not measured: {row['trouble'][:80]}")
            continue
        low, middle, high = row["ratio"]
        spread, on_gpu = f"{low:.2f} to {high:.2f}", f"{row['gpu_mb']:.0f}" if row["gpu_mb"] else ""
        print(
            f"  {row['label']:<30}{middle:>12.2f} {spread:>15} {row['examples_per_second'][1]:>13,.0f} "
            f"{1000 / row['steps_per_second'][1]:>9.2f} {row['memory_mb']:>7.0f} {on_gpu:>7}"
        )
        for line in textwrap.wrap(row["why"], 100):
            print(f"      {line}")
    low, middle, high = found["tuidl_against_fastest"]
    fastest, busy = found["fastest_by_hand"], [round(look["cores_busy_percent"]) for look in found["others"]]
    print(f"  tuidl run against the fastest by hand ({fastest}): {middle:.2f} ({low:.2f} to {high:.2f})")
    print("  to the first step: " + ", ".join(f"{name} {took:.1f} s" for name, took in found["first_step_s"].items()))
    print(f"  {found['rounds']} rounds of {found['seconds']} s; others used {busy[0]} %, then {busy[1]} % of the cores")
    if max(busy) > 5:
        print("  the machine was not quiet: take these figures as provisional")


def main() -> None:
    """Measure, print, and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="*", metavar="PRESET", help=f"default {', '.join(FOR_ALL)}; on a GPU also "
                        f"{', '.join(FOR_GPU)}")  # fmt: skip
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps")
    parser.add_argument("--quick", action="store_true", help="few and short rounds, to see that it works")
    parser.add_argument("--brief", action="store_true", help="only the loop as taught, all by hand together, and tuidl")
    parser.add_argument("--rounds", type=int, default=0, help="turns for each; more where a machine is not quiet")
    parser.add_argument("--compile", action="store_true", help="also torch.compile, which takes minutes")
    parser.add_argument("--peers", action="store_true", help="also Lightning and Keras, where they are installed")
    parser.add_argument("--accuracy", action="store_true", help="also the accuracy of mnist-mlp over five seeds")
    parser.add_argument("--save", action="store_true", help="write benchmarks/ladder.json")
    args = parser.parse_args()
    try:
        device, _ = choose_device(args.device)
    except DeviceError as error:
        parser.error(str(error))
    if device.type == "cpu" and "cifar-speed" in args.presets:
        parser.error("cifar-speed is made for a GPU: a single step takes a CPU longer than a turn")
    unknown = set(args.presets) - {*FOR_ALL, *FOR_GPU}
    if unknown:
        parser.error(f"no ladder is known for {', '.join(sorted(unknown))}")
    results: Result = {"date": str(date.today()), "machine": machine(device)}
    print(", ".join(f"{name} {value}" for name, value in results["machine"].items() if value), flush=True)
    results["meter"] = meter_cost(device, 2_000 if args.quick else 20_000)
    print("one step recorded: {mean_us:.1f} µs, p99.9 {p999_us:.0f} µs".format(**results["meter"]), flush=True)
    if args.accuracy:
        results["accuracy"] = accuracy(device, args.quick)
        print("mnist-mlp, test accuracy: {mean:.4f} ± {deviation:.4f}, 5 seeds".format(**results["accuracy"]))
    results["presets"] = {}
    for preset in args.presets or [*FOR_ALL, *(FOR_GPU if device.type == "cuda" else ())]:
        results["presets"][preset] = measure(preset, device, args)
        show(preset, results["presets"][preset])
        sys.stdout.flush()
    if args.save:
        path = Path(__file__).with_suffix(".json")
        stored = json.loads(path.read_text()) if path.exists() else {}
        if stored.get("machine") != results["machine"]:
            stored = {}  # figures of two machines, or of two versions, belong into no one file
        results["presets"] = stored.get("presets", {}) | results["presets"]
        path.write_text(json.dumps(stored | results, indent=1) + "\n")


if __name__ == "__main__":
    main()
