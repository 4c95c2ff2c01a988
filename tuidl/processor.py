"""The processor and the memory of this machine, as far as a container lets us use them. Loads no torch."""

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Processor:
    """Cores of the machine, those this process may use, the share a container allows, and memory in bytes."""

    name: str
    cores: int
    threads: int
    usable: int
    quota: float | None
    free: int
    total: int


def look_at_processor() -> Processor:
    """Return what the system and a container around us allow."""
    import psutil

    threads = psutil.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else threads
    memory = psutil.virtual_memory()
    free, total = int(memory.available), int(memory.total)
    limit, used = _cgroup("memory.max"), _cgroup("memory.current")
    if limit and limit[0] < total:
        total = int(limit[0])
        free = min(free, max(0, total - int(used[0]))) if used else min(free, total)
    quota = _cgroup("cpu.max")
    return Processor(
        _processor_name(), psutil.cpu_count(logical=False) or threads, threads, usable,
        quota[0] / quota[1] if len(quota) == 2 and quota[1] else None, free, total,
    )  # fmt: skip


def _cgroup(name: str) -> list[float]:
    """Return the numbers in a limit of our container; none when there is no limit."""
    try:
        return [float(word) for word in Path("/sys/fs/cgroup", name).read_text("ascii").split()]
    except (OSError, ValueError):  # no such file, or the word "max"
        return []


def _processor_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", errors="replace")
        return re.findall(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)[0]  # type: ignore[no-any-return]
    except (OSError, IndexError):
        return platform.processor() or platform.machine()
