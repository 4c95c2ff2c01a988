"""Checkpoints: one safetensors file each, with JSON in its header. Nothing on the way in or out can run code.

The tensors of a file: the weights under their own names, `best:` before the names of the best weights so far (absent
where the best are these), `rest:` before everything else that a run goes on from. The header also holds the sha256 of
the whole file but its own 64 digits, so that no flipped bit is ever trained on.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from tuidl.errors import StorageError, UsageError
from tuidl.files import read_capped
from tuidl.runs.atomic import sweep_temps, write_atomic
from tuidl.runs.files import storage_error
from tuidl.runs.jsonio import dump_json, load_object
from tuidl.text import clean
from tuidl.train.events import Checkpoint, Continuation

FORMAT = 2
MAX_HEADER = 1 << 20  # bytes
MAX_FILE = 16 << 30  # bytes
BEST, REST = "best:", "rest:"

# Inside the texts of a header each quote has a backslash before it, so this stands in it once.
_SUM = re.compile(rb'"sha256":"([0-9a-f]{64})"')


@dataclass(frozen=True)
class Saved:
    """A checkpoint on disk: its tensors on the CPU and what its header says."""

    weights: dict[str, Tensor]
    best_weights: dict[str, Tensor]
    rest: Continuation
    header: dict[str, Any]

    @property
    def step(self) -> int:
        """How many steps had been taken."""
        step: int = self.header["step"]
        return step


def name_of(step: int) -> str:
    """Return the name of the file of a step."""
    return f"step-{step:09d}.safetensors"


class Checkpoints:
    """The checkpoints of one run. A new one is complete on the disk before an old one goes."""

    def __init__(self, directory: Path, keep: int = 2) -> None:
        """Keep the newest `keep` sound ones, and the one named `best`."""
        self.directory, self.keep = directory, keep
        self.best: str | None = None
        self._damaged: set[str] = set()
        sweep_temps(directory)

    def save(self, event: Checkpoint, header: Mapping[str, Any], guard: Callable[[], None] = lambda: None) -> str:
        """Write a checkpoint and return the file's name. Raises StorageError, and whatever `guard` raises.

        `guard` looks whether the run is still this process's, before a file takes its place and before one goes.
        """
        name = name_of(event.step)
        tensors = {
            **event.weights,
            **{BEST + key: value for key, value in event.best_weights.items()},
            **{REST + key: value for key, value in event.rest.tensors.items()},
        }
        held = {key: value.detach().contiguous().cpu() for key, value in tensors.items()}
        told = {"format": FORMAT, "step": event.step, "metrics": event.metrics, "values": event.rest.values, **header}
        data = _signed(save(held, {"tuidl": dump_json(told).decode(), "sha256": "0" * 64}))
        path = self.directory / name
        try:
            if path.is_dir():  # nothing of ours, and no file can take its place
                path.rename(path.with_name(f"aside-{name}"))
            write_atomic(path, data, guard=guard)
            if path.read_bytes() != data:  # it is no checkpoint then, and must not push out one that is
                path.unlink(missing_ok=True)
                raise StorageError(f"{clean(str(path))} does not hold what was written to it; the disk is failing")
            self._damaged.discard(name)
            if event.best:
                self.best = name
            guard()
            self._prune()
        except OSError as error:
            raise storage_error(path, error) from error
        return name

    def newest_sound(self) -> tuple[Saved | None, dict[str, str]]:
        """Return the newest checkpoint that can be read, and of each newer one by its name why it cannot.

        Raises StorageError where it cannot be told what checkpoints there are.
        """
        skipped: dict[str, str] = {}
        try:
            files = self._files()
        except OSError as error:
            raise storage_error(self.directory, error) from error
        for path in reversed(files):
            try:
                return read(path), skipped
            except UsageError as error:
                skipped[path.name] = str(error)
        return None, skipped

    def leave(self, names: Iterable[str]) -> None:
        """Leave damaged files where they are, and count them no longer among those that are kept."""
        self._damaged.update(names)

    def _files(self) -> list[Path]:
        # not by glob, which keeps silent about a directory that it cannot read
        return sorted(path for path in self.directory.iterdir() if path.match("step-*.safetensors"))

    def _prune(self) -> None:
        sound = [path for path in self._files() if path.name not in self._damaged and path.is_file()]
        for path in sound[: -self.keep]:
            if path.name != self.best:
                path.unlink(missing_ok=True)


def read(path: Path) -> Saved:
    """Return the checkpoint at `path`; UsageError when it is absent, damaged or not one of tuidl's."""
    try:
        data = read_capped(path, MAX_FILE)
        _check_sum(data)
        header = _header(data)
        tensors = load(data)
        rest = {key.removeprefix(REST): value for key, value in tensors.items() if key.startswith(REST)}
        best = {key.removeprefix(BEST): value for key, value in tensors.items() if key.startswith(BEST)}
        weights = {key: value for key, value in tensors.items() if not key.startswith((REST, BEST))}
        return Saved(weights, best, Continuation(rest, header["values"]), header)
    except (
        OSError, SafetensorError, LookupError, TypeError, ValueError, AttributeError, AssertionError, RuntimeError
    ) as error:  # fmt: skip
        raise UsageError(f"checkpoint {clean(path.name)} cannot be read: {clean(str(error), limit=120)}") from error


def _header_end(data: bytes) -> int:
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(MAX_HEADER, len(data) - 8):
        raise ValueError("it is cut short, or its header is too large")
    return 8 + length


def _signed(data: bytes) -> bytes:
    """Return the safetensors file `data` with its sum in the place that was left for it."""
    begin, _ = _sum_place(data)
    return b"".join((data[:begin], _sum(data, begin), data[begin + 64 :]))


def _check_sum(data: bytes) -> None:
    """Raise ValueError where a single bit is not as it was written."""
    begin, told = _sum_place(data)
    if told != _sum(data, begin):
        raise ValueError("it is damaged: its checksum is another")


def _sum_place(data: bytes) -> tuple[int, bytes]:
    """Return where in `data` the digits of the sum begin, and what they are."""
    found = _SUM.search(data, 8, _header_end(data))
    if not found:
        raise ValueError("it has no checksum")
    return found.start(1), found[1]


def _sum(data: bytes, begin: int) -> bytes:
    view = memoryview(data)
    digest = hashlib.sha256(view[:begin])
    digest.update(view[begin + 64 :])
    return digest.hexdigest().encode()


def _header(data: bytes) -> dict[str, Any]:
    """Return what tuidl wrote into the header of a safetensors file, looked at before its tensors are."""
    told = json.loads(data[8 : _header_end(data)])["__metadata__"]["tuidl"]
    header = load_object(told.encode())
    if header["format"] != FORMAT:
        raise ValueError(f"it has format {str(header['format'])[:20]!r}, this tuidl reads {FORMAT}")
    if type(header["step"]) is not int or header["step"] < 0 or not isinstance(header["values"], dict):
        raise ValueError("its header is not one of tuidl's")
    return header


def all_finite(tensors: Sequence[Tensor]) -> bool:
    """Return whether every number is finite; waits for the device once."""
    looked = [tensor.isfinite().all() for tensor in tensors if tensor.is_floating_point()]
    return bool(torch.stack(looked).all()) if looked else True


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Return the state of torch's own random numbers, which dropout draws from."""
    states = {"torch.cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["torch.cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_generator(generator: torch.Generator, state: Tensor) -> None:
    """Let `generator` go on from `state`, or stay as it is where that comes from another kind of device."""
    if state.shape == generator.get_state().shape:
        generator.set_state(state)


def restore_random_state(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Go on with the random numbers of `random_state`, as far as they are of this kind of device."""
    torch.set_rng_state(states["torch.cpu"])
    if device.type == "cuda" and "torch.cuda" in states:
        torch.cuda.set_rng_state(states["torch.cuda"], device)
