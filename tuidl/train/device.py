"""Choice of device and number format, each with the reason that is shown to the user."""

import os
import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import psutil
import torch

from tuidl.errors import DeviceError

FP16_UNITS = (7, 0)  # compute capability from which on GPUs have tensor cores for fp16 (Volta)
LOOK = 0.15  # seconds in which it is seen how busy the cores are


@dataclass(frozen=True)
class Hardware:
    """Where and in what numbers a run computes, and why."""

    device: torch.device
    precision: str
    threads: int
    reasons: tuple[str, ...]
    notes: list[str] = field(default_factory=list)  # what turned out while training; the loop tells them

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context in which forward passes run: 16 bits for the heavy operations, or nothing special."""
        half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.precision)
        return torch.autocast(self.device.type, half) if half else nullcontext()

    @property
    def name(self) -> str:
        """Return what the hardware is called."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        if self.device.type == "cpu":
            return f"cpu ({self.threads} thread{'s' if self.threads > 1 else ''})"
        return self.device.type


def choose(device: str = "auto", precision: str = "auto", threads: int = 0) -> Hardware:
    """Return the hardware for a run; DeviceError names the devices that exist when the wanted one does not."""
    chosen, why_device = choose_device(device)
    number_format, why_format = choose_precision(chosen, precision)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)  # streams and events without a device of their own belong to this one
        torch.set_float32_matmul_precision("high")  # TF32: fp32 products with bf16's digits, several times as fast
    count, why_count = choose_threads(threads, chosen)
    reasons = [f"device {chosen}: {why_device}", f"precision {number_format}: {why_format}"]
    if chosen.type == "cpu":
        reasons.append(f"threads {count}: {why_count}")
    return Hardware(chosen, number_format, count, tuple(reasons))


def choose_threads(wanted: int, device: torch.device) -> tuple[int, str]:
    """Set and return how many threads compute, and why: one for each core that others leave free."""
    if wanted:
        torch.set_num_threads(wanted)
        return wanted, "asked for"
    cores = torch.get_num_threads()  # those that this process may use, or OMP_NUM_THREADS
    if "OMP_NUM_THREADS" in os.environ:
        return cores, "OMP_NUM_THREADS says so"
    if device.type != "cpu" or cores == 1:
        return cores, "one for each core"
    busy = psutil.cpu_percent(interval=LOOK) / 100 * (psutil.cpu_count() or 1)
    free = max(1, cores - round(busy))
    if free == cores:
        return cores, "one for each core"
    torch.set_num_threads(free)
    return free, f"others keep {busy:.1f} of the cores busy, and threads that wait for a core hold each other up"


def available() -> list[str]:
    """Return the devices that exist here, best first."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an old driver warns on each question; doctor explains it once
        cuda = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return [*cuda, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]


def choose_device(wanted: str) -> tuple[torch.device, str]:
    """Return the device and the reason: the GPU with the most free memory under auto."""
    found = available()
    if wanted == "auto":
        gpus = [name for name in found if name.startswith("cuda")]
        if len(gpus) > 1:
            free = {name: free_memory(name) for name in gpus}
            if None in free.values():
                return torch.device(gpus[0]), f"the first of {len(gpus)} GPUs, as their free memory cannot be read here"
            best = max(gpus, key=lambda name: free[name] or 0)
            room = (free[best] or 0) / 2**30
            return torch.device(best), f"it has the most free memory of {len(gpus)} GPUs ({room:.0f} GiB)"
        return torch.device(found[0]), "the only GPU" if gpus else "no CUDA GPU is usable here (tuidl doctor says why)"
    name = "cuda:0" if wanted == "cuda" else wanted
    if name not in found:
        raise DeviceError(
            f"device {wanted!r} does not exist here; choose one of auto, {', '.join(found)} (tuidl doctor says more)"
        )
    return torch.device(name), "asked for"


def free_memory(name: str) -> int | None:
    """Return the free bytes of a GPU as its driver counts them, None where it does not tell.

    Asking torch itself would open a context on each GPU.
    """
    total: int = torch.cuda.get_device_properties(name).total_memory
    try:
        return total - torch.cuda.device_memory_used(name)
    except Exception:  # NVML has an error class for each way of refusing
        return None


def choose_precision(device: torch.device, wanted: str) -> tuple[str, str]:
    """Return fp32, bf16 or fp16 and the reason."""
    if wanted != "auto":
        return wanted, "asked for"
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16", f"{torch.cuda.get_device_name(device)} computes bf16 in hardware"
        if torch.cuda.get_device_capability(device) >= FP16_UNITS:
            return "fp16", f"{torch.cuda.get_device_name(device)} computes fp16 in hardware, but not bf16"
        return "fp32", f"{torch.cuda.get_device_name(device)} has no tensor cores, which would compute in 16 bits"
    if device.type == "cpu":
        if torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported():
            return "bf16", "this processor computes bf16 in hardware"
        return "fp32", "this processor has no bf16 hardware"
    return "fp32", f"bf16 is not proven on {device.type}"
