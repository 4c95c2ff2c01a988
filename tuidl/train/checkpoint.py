"""Checkpoints: one safetensors file each, with JSON in its header. Nothing on the way in or out can run code."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from tuidl.errors import StorageError, UsageError
from tuidl.runs.atomic import sweep_temps, write_atomic
from tuidl.text import clean

KEEP = 2  # newest checkpoints beside the best one
FORMAT = "1"


@dataclass(frozen=True)
class Saved:
    """A checkpoint on disk: its tensors on the CPU and what its header says."""

    tensors: dict[str, Tensor]
    header: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run. A new one is complete on the disk before an old one goes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.best: str | None = None
        sweep_temps(directory)

    def save(self, step: int, tensors: dict[str, Tensor], header: dict[str, Any], best: bool) -> str:
        """Write the weights of `step` and return the file's name. Raises StorageError."""
        name = f"step-{step:09d}.safetensors"
        held = {key: value.detach().contiguous().cpu() for key, value in tensors.items()}
        data = save(held, {"format": FORMAT, "tuidl": json.dumps({"step": step, **header})})
        path = self.directory / name
        write_atomic(path, data)
        if path.read_bytes() != data:  # what cannot be read back is no checkpoint, and must not push out one that is
            path.unlink(missing_ok=True)
            raise StorageError(f"{clean(str(path))} does not hold what was written to it; the disk is failing")
        if best:
            self.best = name
        self._prune()
        return name

    def _prune(self) -> None:
        files = sorted(self.directory.glob("step-*.safetensors"))
        for path in files[:-KEEP]:
            if path.name != self.best:
                path.unlink(missing_ok=True)


def read(path: Path) -> Saved:
    """Return the checkpoint at `path`; UsageError when it is absent, damaged or not one of tuidl's."""
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads(file.metadata()["tuidl"])
            if not isinstance(header, dict):
                raise ValueError("its header is not one of tuidl's")
            return Saved({name: file.get_tensor(name) for name in file.keys()}, header)  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"checkpoint {clean(str(path))} cannot be read: {clean(str(error), limit=120)}") from error
