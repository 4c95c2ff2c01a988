"""The machine that tuidl runs on, looked at part by part: torch, the NVIDIA driver, processor, terminal.

Nothing here judges; `tuidl.cli.doctor` does.
"""

import os
import platform
import re
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Torch:
    """The installed torch, the CUDA it was built for (None: a build for CPUs), and whether a GPU can be used."""

    version: str = ""
    torchvision: str = ""
    cuda: tuple[int, int] | None = None
    usable: bool = False
    complaint: str = ""  # what torch said when it was asked for a GPU
    broken: tuple[tuple[str, str], ...] = ()  # packages that cannot be imported, and why
    other: str = ""  # the platform of a build for something else than CUDA, such as ROCm


@dataclass(frozen=True)
class GpuUser:
    """A process that holds memory of a GPU; name and user are empty when they are hidden from us."""

    pid: int
    user: str
    name: str
    memory: int | None


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU as its driver sees it: bytes, and per cent of the time busy; None where that is not told."""

    index: int
    name: str
    free: int | None
    total: int | None
    busy: int | None
    users: tuple[GpuUser, ...] = ()


@dataclass(frozen=True)
class Nvidia:
    """The NVIDIA driver. `trouble` says why it could not be asked, empty when all is well."""

    driver: str = ""
    cuda: tuple[int, int] = (0, 0)
    gpus: tuple[Gpu, ...] = ()
    trouble: str = ""
    cards: int = 0  # NVIDIA display devices on the PCI bus, seen without any driver


@dataclass(frozen=True)
class Terminal:
    """Where the screen would be shown; `size` is (columns, lines), None when there is no terminal."""

    size: tuple[int, int] | None
    encoding: str
    environ: Mapping[str, str] = field(default_factory=dict)


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


class Machine:
    """What the checks look at."""

    @cached_property
    def torch(self) -> Torch:
        """Return what is known of torch."""
        return look_at_torch()

    @cached_property
    def nvidia(self) -> Nvidia:
        """Return what the NVIDIA driver tells."""
        return look_at_nvidia()

    @cached_property
    def processor(self) -> Processor:
        """Return cores and memory."""
        return look_at_processor()

    @cached_property
    def terminal(self) -> Terminal:
        """Return what is known of the terminal."""
        return look_at_terminal()

    @cached_property
    def devices(self) -> tuple[str, ...]:
        """Return the devices that torch can use, best first."""
        from tuidl.train.device import available

        return tuple(available())

    def try_device(self, name: str) -> str:
        """Compute something on a device and return how auto precision is chosen there. Raises what goes wrong."""
        import torch

        from tuidl.train.device import choose_precision

        ones = torch.ones(64, 64, device=name)
        if float((ones @ ones).sum()) != 64**3:
            raise RuntimeError("a product of matrices came out wrong")
        precision, why = choose_precision(torch.device(name), "auto")
        return f"precision auto is {precision}: {why}"


def look_at_torch() -> Torch:
    """Import torch and torchvision, and ask whether a GPU can be used; what fails is told, not raised."""
    broken: list[tuple[str, str]] = []
    torch, torchvision = _imported("torch", broken), _imported("torchvision", broken)
    if torch is None:
        return Torch(torchvision=_version_of(torchvision), broken=tuple(broken))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")  # torch tells of an old driver by a warning
        usable = bool(torch.cuda.is_available())
    built = torch.version.cuda
    other = "Apple GPUs" if torch.backends.mps.is_built() else ""
    if torch.version.hip:
        other = f"ROCm {torch.version.hip}"
    return Torch(
        _version_of(torch), _version_of(torchvision), numbers(built) if built else None,
        usable, str(said[0].message).splitlines()[0] if said else "", tuple(broken), other,
    )  # fmt: skip


def _imported(name: str, broken: list[tuple[str, str]]) -> Any:
    try:
        return import_module(name)
    except Exception as error:  # a broken binary package raises nearly anything
        broken.append((name, str(error).splitlines()[0] if str(error) else type(error).__name__))
        return None


def _version_of(module: Any) -> str:
    return str(getattr(module, "__version__", "")) if module is not None else ""


def look_at_nvidia() -> Nvidia:
    """Ask the NVIDIA driver about itself and its GPUs."""
    cards = _cards_on_bus()
    try:
        import pynvml
    except ImportError:
        return Nvidia(trouble="the package nvidia-ml-py is not installed", cards=cards)
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return Nvidia(trouble=str(error), cards=cards)
    try:
        cuda = int(pynvml.nvmlSystemGetCudaDriverVersion_v2())  # 12040 is 12.4
        return Nvidia(
            _text(pynvml.nvmlSystemGetDriverVersion()), (cuda // 1000, cuda % 1000 // 10),
            tuple(_gpu(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())), cards=cards,
        )  # fmt: skip
    except pynvml.NVMLError as error:
        return Nvidia(trouble=str(error), cards=cards)
    finally:
        pynvml.nvmlShutdown()


def _gpu(nvml: Any, index: int) -> Gpu:
    def ask(question: Callable[..., Any], *more: Any) -> Any:
        """Return the answer, or None: much is refused in containers and on GPUs split by MIG."""
        try:
            return question(*more)
        except nvml.NVMLError:
            return None

    handle = ask(nvml.nvmlDeviceGetHandleByIndex, index)
    if handle is None:
        return Gpu(index, "a GPU that does not answer", None, None, None)
    memory = ask(nvml.nvmlDeviceGetMemoryInfo, handle)
    busy = ask(nvml.nvmlDeviceGetUtilizationRates, handle)
    running = [
        *(ask(nvml.nvmlDeviceGetComputeRunningProcesses, handle) or ()),
        *(ask(nvml.nvmlDeviceGetGraphicsRunningProcesses, handle) or ()),
    ]
    memory_of = {process.pid: process.usedGpuMemory for process in running if process.pid != os.getpid()}
    return Gpu(
        index, _text(ask(nvml.nvmlDeviceGetName, handle) or "NVIDIA GPU"),
        memory and int(memory.free), memory and int(memory.total), busy and int(busy.gpu),
        tuple(_gpu_user(pid, used) for pid, used in memory_of.items()),
    )  # fmt: skip


def _gpu_user(pid: int, memory: int | None) -> GpuUser:
    """Return who runs process `pid`; in a container the number may be one of the host, which nobody here knows."""
    import psutil

    try:
        process = psutil.Process(pid)
        return GpuUser(pid, process.username(), process.name(), memory)
    except psutil.Error:
        return GpuUser(pid, "", "", memory)


def _cards_on_bus() -> int:
    """Return how many NVIDIA display devices Linux sees on the PCI bus."""
    found = 0
    for device in Path("/sys/bus/pci/devices").glob("*"):
        try:
            maker, kind = ((device / name).read_text("ascii").strip() for name in ("vendor", "class"))
        except (OSError, ValueError):
            continue
        found += maker == "0x10de" and kind.startswith("0x03")
    return found


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


def look_at_terminal() -> Terminal:
    """Return what standard output is."""
    try:
        size: tuple[int, int] | None = os.get_terminal_size(sys.stdout.fileno()) if sys.stdout.isatty() else None
    except (OSError, ValueError):
        size = None
    return Terminal(size, sys.stdout.encoding or "", os.environ)


def numbers(text: str) -> tuple[int, int]:
    """Return the first two numbers of a version such as 2.11.0+cu126."""
    found = [int(number) for number in re.findall(r"\d+", text)[:2]]
    return (found[0], found[1]) if len(found) == 2 else (0, 0)


def _text(value: str | bytes) -> str:
    """Return text from the driver's library, which older versions of it give as bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value
