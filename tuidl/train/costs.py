"""What a run has cost: memory at its peak, and the wait for the first step."""

import dataclasses
import sys
import time
from collections.abc import Iterator

import psutil
import torch

from tuidl.train.events import Event, Finished, Metrics


def with_costs(stream: Iterator[Event], device: torch.device, asked_at: float | None = None) -> Iterator[Event]:
    """Yield `stream`, its `Finished` with what it cost: `first_step_seconds`, `peak_memory` and `peak_gpu_memory`.

    The wait is that from `asked_at` (seconds since 1970; by default the start of this process) until the first
    numbers were there, at most a tenth of a second after the first step. Memory is in bytes; what is not known is left
    out.
    """
    began = psutil.Process().create_time() if asked_at is None else asked_at
    costs: dict[str, float] = {}
    for event in stream:
        if isinstance(event, Metrics):
            costs.setdefault("first_step_seconds", time.time() - began)
        if isinstance(event, Finished):
            costs |= _memory(device)
            event = dataclasses.replace(event, costs=costs)
        yield event


def _memory(device: torch.device) -> dict[str, float]:
    found: dict[str, float] = {}
    if sys.platform != "win32":
        from resource import RUSAGE_SELF, getrusage

        unit = 1 if sys.platform == "darwin" else 1024
        found["peak_memory"] = getrusage(RUSAGE_SELF).ru_maxrss * unit
    if device.type == "cuda":
        found["peak_gpu_memory"] = torch.cuda.max_memory_allocated(device)
    return found
