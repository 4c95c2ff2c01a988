"""What the presets reach, and in what time: each one over several seeds, through the command line as a user runs it.

    python benchmarks/presets.py                      # three seeds of the presets made for a CPU
    python benchmarks/presets.py cifar-speed --seeds 5

Prints a table of medians and spreads, and with --save writes it with the hardware beside this file as JSON.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

# what decides for each preset: a metric of `finished`, and whether larger is better
TARGETS = {
    "mnist-mlp": ("test_accuracy", ">=", 0.98),
    "fashion-mlp": ("test_accuracy", ">=", 0.88),
    "cifar-cnn": ("test_accuracy", ">=", 0.75),
    "cifar-speed": ("test_accuracy", ">=", 0.94),
    "char-lstm": ("best_val_loss", "<=", 1.60),
    "mnist-gan": ("test_score", ">=", 7.0),
}
FOR_CPU = ["mnist-mlp", "fashion-mlp", "cifar-cnn", "char-lstm", "mnist-gan"]


def train(preset: str, seed: int, extra: list[str]) -> dict[str, Any]:
    """Train once and return the `finished` line, with the seconds of the whole command."""
    with tempfile.TemporaryDirectory() as runs:
        command = [sys.executable, "-m", "tuidl", "run", preset, "--seed", str(seed), "--json", "--quiet", *extra]
        begin = time.monotonic()
        command += ["--runs-dir", runs, "--set", "data.stand_in=none"]
        done = subprocess.run(command, capture_output=True, text=True)
        seconds = time.monotonic() - begin
    if done.returncode:
        raise SystemExit(f"{preset}, seed {seed}: exit code {done.returncode}\n{done.stderr}")
    finished: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**finished, "command_seconds": seconds}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="*", default=FOR_CPU)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--save", action="store_true")
    args, extra = parser.parse_known_args()
    rows = []
    for preset in args.presets:
        metric, sign, target = TARGETS[preset]
        found = [train(preset, seed, extra) for seed in range(args.seeds)]
        values = sorted(run["metrics"][metric] for run in found)
        middle = statistics.median(values)
        rows.append({
            "preset": preset, "metric": metric, "target": f"{sign} {target}", "median": middle, "values": values,
            "reached": middle >= target if sign == ">=" else middle <= target,
            "training_seconds": [run["seconds"] for run in found],
            "command_seconds": [run["command_seconds"] for run in found],
            "metrics": [run["metrics"] for run in found],
        })  # fmt: skip
        training, command = (statistics.median(rows[-1][key]) for key in ("training_seconds", "command_seconds"))
        spread = f"{values[0]:.4f} to {values[-1]:.4f}, {args.seeds} seeds"
        verdict = "reached" if rows[-1]["reached"] else "MISSED"
        print(f"{preset:12} {metric} {middle:.4f} ({spread}), wanted {sign} {target}: {verdict}", flush=True)
        print(f"{'':12} training {training:.0f} s, whole command {command:.0f} s", flush=True)
    if args.save:
        import torch

        processor = torch.cpu.get_capabilities().get("cpu_name", platform.processor())
        hardware = {"processor": processor, "cores": os.cpu_count()}
        if torch.cuda.is_available():
            hardware["gpu"] = torch.cuda.get_device_name()
        content = {"date": str(date.today()), "hardware": hardware, "torch": torch.__version__, "rows": rows}
        (Path(__file__).parent / "presets.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
