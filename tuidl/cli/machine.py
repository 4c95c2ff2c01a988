"""The machine that tuidl runs on, looked at part by part: torch, the NVIDIA driver, processor, terminal.

Nothing here judges; `tuidl.cli.doctor` does.
"""

import os
import re
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import Any

from tuidl.gpus import Gpu, GpuUser, Nvidia, look_at_nvidia
from tuidl.processor import Processor, look_at_processor

__all__ = [
    "Gpu", "GpuUser", "Machine", "Nvidia", "Processor", "Terminal", "Torch", "look_at_nvidia", "look_at_terminal",
    "look_at_torch", "numbers",
]  # fmt: skip


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
class Terminal:
    """Where the screen would be shown; `size` is (columns, lines), None when there is no terminal."""

    size: tuple[int, int] | None
    encoding: str
    environ: Mapping[str, str] = field(default_factory=dict)


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
