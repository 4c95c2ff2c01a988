"""What it takes to go on with a run: its newest sound checkpoint, the same data, the same number format."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

import tuidl
from tuidl.errors import DataError, TuidlError, UsageError
from tuidl.runs import RunPaths, read_status
from tuidl.runs.past import repeat_of
from tuidl.spec import RunSpec, validate, value_at
from tuidl.spec.load import with_live_change
from tuidl.spec.models import Model
from tuidl.spec.schema import fields_of
from tuidl.text import clean
from tuidl.train import events
from tuidl.train.checkpoint import Checkpoints, Saved, name_of
from tuidl.train.data.fetch import Progress
from tuidl.train.device import Hardware
from tuidl.train.events import Event
from tuidl.train.state import State, state_of


@dataclass(frozen=True)
class Wishes:
    """How a run is to be carried out, beside what its spec says.

    `resume` goes on from the newest sound checkpoint, with `changes` (`key=value`, live settings only) made there;
    `take_over` does so although it cannot be told from here whether its last trainer still lives.
    `asked_at` is when it was asked for, in seconds since 1970, where this process is older.
    """

    download: bool = True
    progress: Progress | None = None
    resume: bool = False
    take_over: bool = False
    device: str | None = None
    changes: tuple[str, ...] = ()
    asked_at: float | None = None


@dataclass(frozen=True)
class Past:
    """A run as it is to go on. `saved` is None where it ended before its first checkpoint: it begins anew then."""

    spec: RunSpec  # as it was at that step, with the changes that are made now
    saved: Saved | None
    skipped: Mapping[str, str]  # of each newer checkpoint, by its name, why it is no good
    changes: tuple[tuple[str, Any, Any], ...]  # key, before, after
    files: Mapping[str, str]  # sha256 of the data that was trained on; empty where the run ended before it was loaded
    versions: Mapping[str, str]
    kind: str  # of device
    precision: str

    @property
    def step(self) -> int:
        """How many steps had been taken."""
        return self.saved.step if self.saved else 0

    def check_data(self, files: Mapping[str, str]) -> None:
        """Raise DataError where the data is not what the run was trained on."""
        if self.files and dict(files) != dict(self.files):
            raise DataError(
                "the data has changed since the run began; tuidl run RUN starts it anew on what is here now"
            )

    def events(self, hardware: Hardware) -> Iterator[Event]:
        """Yield what a viewer should know before the first step."""
        live = {field.path: value_at(self.spec, field.path) for field in fields_of(self.spec) if field.live}
        live |= {key: before for key, before, _ in self.changes}
        file = f"checkpoints/{name_of(self.step)}" if self.saved else ""
        state = state_of(self.saved) if self.saved else State()
        yield events.Resumed(
            self.step, file, dict(self.skipped), live, state.best_step, state.best_metrics, state.seconds
        )
        for key, before, after in self.changes:
            yield events.Changed(self.step, key, before, after)
        for line in self.skipped.values():
            yield events.Warned(self.step, line)
        differ = [name for name in ("tuidl", "torch", "cuda") if self.versions.get(name, now(name)) != now(name)]
        if str(hardware.device) != (self.kind or str(hardware.device)):
            differ.append("device")
        if hardware.precision != (self.precision or hardware.precision):
            differ.append("number format")
        if differ:
            text = f"another {' and '.join(differ)} than before: the run goes on, but not to the bit as it would have"
            yield events.Warned(self.step, text)


def now(name: str) -> str:
    """Return the version of tuidl, torch or CUDA in this process."""
    return {"tuidl": tuidl.__version__, "torch": torch.__version__, "cuda": torch.version.cuda or ""}[name]


def look_back(paths: RunPaths, stored: Mapping[str, Any], wishes: Wishes) -> Past:
    """Return how the run in `paths` goes on. Raises UsageError where there is nothing to go on with."""
    name = clean(paths.name, limit=80)
    status = read_status(paths)
    if status and status.state == "completed":
        raise UsageError(f"run {name} is completed; tuidl run {name} repeats it")
    spec, _, _ = repeat_of(stored, paths.name)
    versions = stored.get("versions")
    if isinstance(versions, dict) and versions.get("tuidl") == "0.1.0" and _computes_otherwise(spec.model):
        raise UsageError(
            f"run {name} was begun by tuidl 0.1.0, whose ResNet and whitened filters compute otherwise; "
            f"tuidl run {name} begins it anew"
        )
    spec = _as_it_ran(spec, stored, wishes.device)
    saved, skipped = Checkpoints(paths.checkpoints).newest_sound()
    if saved is None and skipped:
        why = "; ".join(skipped.values())
        raise UsageError(f"run {name} has no sound checkpoint: {why}; tuidl run {name} repeats it")
    if saved:
        spec = _with_live(spec, saved)
    changes = []
    for text in wishes.changes:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"{clean(text, limit=100)!r}: write it as KEY=VALUE, for example optimizer.lr=0.001")
        changed = with_live_change(spec, key.strip(), value.strip())
        changes.append((key.strip(), value_at(spec, key.strip()), value_at(changed, key.strip())))
        spec = changed
    data, device = stored.get("data"), stored.get("device")
    return Past(
        spec, saved, skipped, tuple(changes),
        files=data["files"] if isinstance(data, dict) and isinstance(data.get("files"), dict) else {},
        versions=versions if isinstance(versions, dict) else {},
        kind=str(device.get("kind", "")) if isinstance(device, dict) else "",
        precision=str(device.get("precision", "")) if isinstance(device, dict) else "",
    )  # fmt: skip


def _computes_otherwise(model: Model) -> bool:
    """Return whether the weights of a model of tuidl 0.1.0 would now be those of another function."""
    return model.kind == "resnet" or getattr(model, "first_filters", "random") == "whitening"


def _as_it_ran(spec: RunSpec, stored: Mapping[str, Any], device: str | None) -> RunSpec:
    """Return the spec with what was chosen automatically, so that it is not chosen otherwise now.

    The data may not be replaced: whoever has begun on the real set does not go on with a stand-in.
    """
    changed = spec
    if stored.get("data"):
        changed = spec.model_copy(update={"data": spec.data.model_copy(update={"stand_in": "none"})})
    if device:
        return changed.model_copy(update={"device": device})
    ran = stored.get("device")
    if isinstance(ran, dict) and ran.get("kind"):
        told = changed.model_dump(mode="json")  # what a file says comes in as data, and is validated
        told["precision"] = ran.get("precision", "auto")
        if ran["kind"] == "cpu":
            told["device"] = "cpu"
            told["training"]["threads"] = ran.get("threads", 0)
        return validate(told, where="run.json")
    return changed


def _with_live(spec: RunSpec, saved: Saved) -> RunSpec:
    """Return the spec with the live settings as they were when the checkpoint was written."""
    try:
        then = validate(saved.header["spec"], where="checkpoint")
        for field in fields_of(spec):
            if field.live and value_at(then, field.path) != value_at(spec, field.path):
                spec = with_live_change(spec, field.path, json.dumps(value_at(then, field.path)))
    except (KeyError, TypeError, AttributeError, TuidlError) as error:
        raise UsageError(f"the checkpoint of step {saved.step} is of another run") from error
    return spec
