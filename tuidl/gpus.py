"""The NVIDIA GPUs of this machine and who uses them, as their driver tells. Loads no torch."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


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
    uuid: str = ""  # the same for every program, whatever CUDA_VISIBLE_DEVICES hides or reorders


@dataclass(frozen=True)
class Nvidia:
    """The NVIDIA driver. `trouble` says why it could not be asked, empty when all is well."""

    driver: str = ""
    cuda: tuple[int, int] = (0, 0)
    gpus: tuple[Gpu, ...] = ()
    trouble: str = ""
    cards: int = 0  # NVIDIA display devices on the PCI bus, seen without any driver


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
        _text(ask(nvml.nvmlDeviceGetUUID, handle) or ""),
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


def _text(value: str | bytes) -> str:
    """Return text from the driver's library, which older versions of it give as bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value
