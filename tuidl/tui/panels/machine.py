"""The machine that trains: its GPU, or processor and memory."""

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psutil
from textual.strip import Strip

from tuidl.runs import Identity
from tuidl.text import clean
from tuidl.tui.draw.strips import Span, strip
from tuidl.tui.format import byte_count
from tuidl.tui.panels.panel import Panel
from tuidl.tui.snapshot import Snapshot

EVERY = 1.0  # seconds between two looks


@dataclass(frozen=True)
class Gauge:
    """One thing measured: a share 0..1 for its bar, or None, and the words for it."""

    name: str
    share: float | None
    text: str


class Machine:
    """Looks at the machine and at the trainer on it. May block for some milliseconds, so it is asked in a thread."""

    def __init__(self) -> None:
        self._process: psutil.Process | None = None
        self._at = 0.0
        self._gauges: tuple[Gauge, ...] = ()
        self._nvml: Any = None

    def look(self, identity: Identity | None, device: str) -> tuple[Gauge, ...]:
        """Return what is measured, at most once in `EVERY` seconds anew; nothing of a trainer on another machine."""
        if identity is None or identity.host != socket.gethostname():
            return ()
        now = time.monotonic()
        if now - self._at >= EVERY:
            self._at = now
            self._gauges = (*self._gpu(device), *self._cpu(identity.pid))
        return self._gauges

    def _cpu(self, pid: int) -> list[Gauge]:
        cores, memory = psutil.cpu_count() or 1, psutil.virtual_memory()
        gauges = [Gauge("cpu", psutil.cpu_percent() / 100, f"of {cores} cores")]
        try:
            if self._process is None or self._process.pid != pid:
                self._process = psutil.Process(pid)
                self._process.cpu_percent()  # the first answer has nothing to compare with
            used = self._process.cpu_percent() / 100
            gauges.append(Gauge("trainer", min(1.0, used / cores), f"{used:.1f} cores"))
            resident = self._process.memory_info().rss
            gauges.append(Gauge("its memory", resident / memory.total, byte_count(resident)))
        except psutil.Error:
            self._process = None
        left = byte_count(memory.available)
        gauges.append(Gauge("memory", 1 - memory.available / memory.total, f"{left} free"))
        return gauges

    def _gpu(self, device: str) -> list[Gauge]:
        """Return what the NVIDIA driver tells of the trainer's GPU; what it refuses to tell is left out."""
        if not device.startswith("cuda"):
            return []
        import pynvml

        try:
            if self._nvml is None:
                pynvml.nvmlInit()
                self._nvml = pynvml
            handle = pynvml.nvmlDeviceGetHandleByIndex(int(device.partition(":")[2] or 0))
        except (pynvml.NVMLError, ValueError):
            return []
        gauges = []
        for ask in (_utilisation, _gpu_memory, _power, _temperature):
            try:
                gauges.append(ask(pynvml, handle))
            except pynvml.NVMLError:
                continue
        return gauges


def _utilisation(nvml: Any, handle: Any) -> Gauge:
    return Gauge("gpu", nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100, "busy")


def _gpu_memory(nvml: Any, handle: Any) -> Gauge:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return Gauge("gpu memory", memory.used / memory.total, f"{byte_count(memory.used)} of {byte_count(memory.total)}")


def _power(nvml: Any, handle: Any) -> Gauge:
    watts = nvml.nvmlDeviceGetPowerUsage(handle) / 1000
    limit = nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000
    return Gauge("power", watts / limit if limit else None, f"{watts:.0f} of {limit:.0f} W")


def _temperature(nvml: Any, handle: Any) -> Gauge:
    degrees = nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)
    return Gauge("temperature", degrees / 100, f"{degrees} °C")


class MachinePanel(Panel):
    """Bars for processor, memory and GPU."""

    TITLE = "machine"
    ABOUT = (
        "How busy the machine is that trains. With a GPU: the share of time it computes, its memory, its power and "
        "temperature. Without one: the processor, the trainer's share of it, and memory.\n\n"
        "A GPU that is busy less than half of the time waits for something: batches that are too small, or data that "
        "comes too slowly. Full GPU memory ends a run; lower the batch size before it comes to that. On a shared "
        "machine, look here before you start a second run."
    )
    gauges: Sequence[Gauge] = ()  # as shown
    gauges_now: Sequence[Gauge] = ()  # as measured last

    def show(self, snapshot: Snapshot) -> None:
        """Show what was measured."""
        gauges = self.gauges_now if snapshot.live else ()
        if gauges != self.gauges or self.snapshot is None or self.snapshot.live != snapshot.live:
            self.gauges = gauges
            super().show(snapshot)

    def paint(self, width: int, height: int) -> list[Strip]:
        """Return one row a gauge: name, bar, per cent and words."""
        look, told = self.palette, self.snapshot
        if not self.gauges:
            reason = "not training" if told is None or not told.live else "the trainer is on another machine"
            return [strip([(reason, look.muted)], width, look.text)]
        name_width = max(len(gauge.name) for gauge in self.gauges)
        text_width = max(len(gauge.text) for gauge in self.gauges)
        bar = max(0, min(30, width - name_width - text_width - 8))
        return [self._row(gauge, name_width, bar, width) for gauge in self.gauges[:height]]

    def _row(self, gauge: Gauge, name_width: int, bar: int, width: int) -> Strip:
        look = self.palette
        spans: list[Span] = [(f"{clean(gauge.name):<{name_width}} ", look.muted)]
        if gauge.share is not None:
            share = min(1.0, max(0.0, gauge.share))
            full = round(share * bar)
            tone = look.bad if share > 0.95 else look.accent
            spans += [("━" * full, tone), ("─" * (bar - full), look.axis), (f" {share:4.0%} ", look.text)]
        spans.append((clean(gauge.text), look.muted))
        return strip(spans, width, look.text)
