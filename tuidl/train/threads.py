"""How many threads compute on a CPU: one for each core that is free, or fewer where a step takes hardly longer."""

import dataclasses
import os
import time
from collections.abc import Callable

import torch

from tuidl.train.device import Hardware
from tuidl.train.tasks.base import Task

WARM_UP, FEWEST, MOST = 1, 2, 50  # steps of each trial that do not count, and how many do
SECONDS = 0.1  # that a trial takes, unless the fewest steps take longer
LONG = 0.5  # seconds of a step that one trial is enough for; shorter ones may have met a busy moment
SLOWER = 1.3  # times the best, from which on still fewer threads are not tried
NO_GAIN = 1.05  # times the best: so little is not worth another core


def fit_threads(hardware: Hardware, wanted: int, rehearse: Callable[[Hardware], Task]) -> Hardware:
    """Return `hardware` with the fewest threads with which a step of this very task is about as fast as can be, set.

    Small layers are done before the threads have met, and two threads of one core share its arithmetic, so neither the
    model nor the machine alone tells the number. Steps are taken on a task that `rehearse` makes for it.
    Nothing is tried where the number is `wanted` or given by OMP_NUM_THREADS, or on a GPU.
    """
    if wanted or hardware.threads == 1 or hardware.device.type != "cpu" or "OMP_NUM_THREADS" in os.environ:
        return hardware
    task = rehearse(hardware)
    task.begin_epoch(0)
    took: dict[int, float] = {}
    for threads in _offered(hardware.threads):
        took[threads] = _step_time(task, threads)
        if took[threads] > SLOWER * min(took.values()):
            break
    if max(took.values()) < LONG:
        took = {threads: min(seconds, _step_time(task, threads)) for threads, seconds in took.items()}
    best = min(took.values())
    chosen = min(threads for threads, seconds in took.items() if seconds <= NO_GAIN * best)
    torch.set_num_threads(chosen)
    told = "a step takes " + ", ".join(f"{1000 * took[threads]:.3g} ms with {threads}" for threads in sorted(took))
    *reasons, reason = hardware.reasons  # the last one is about the threads
    reason = f"threads {chosen}: {told}" if chosen < hardware.threads else f"{reason}; {told}"
    return dataclasses.replace(hardware, threads=chosen, reasons=(*reasons, reason))


def _offered(most: int) -> list[int]:
    """Return the numbers to try: `most`, and the powers of two below it, downwards."""
    return [most, *(2**power for power in range(10, -1, -1) if 2**power < most)]


def _step_time(task: Task, threads: int) -> float:
    """Return the seconds of a step of `task`: the least of a few, as all else can only make it slower."""
    torch.set_num_threads(threads)
    times: list[float] = []
    while len(times) < WARM_UP + FEWEST or (len(times) < WARM_UP + MOST and sum(times) < SECONDS):
        index = len(times) % task.steps_per_epoch
        began = time.perf_counter()
        task.step(index, 0.0)
        times.append(time.perf_counter() - began)
    return min(times[WARM_UP:])
