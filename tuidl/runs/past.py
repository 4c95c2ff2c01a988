"""What of a past run it takes to repeat it."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from tuidl.errors import UsageError
from tuidl.spec import RunSpec, build_spec
from tuidl.spec.load import explain
from tuidl.text import clean


class PastPreset(BaseModel):
    """From which preset a run was made."""

    name: str = "run"


class PastData(BaseModel):
    """What data a run was really trained on."""

    used: str
    stand_in: bool


class PastDevice(BaseModel):
    """What a run computed on."""

    kind: str = ""
    threads: int = 0


class PastRun(BaseModel):
    """What `run.json` must hold for a run to be repeated; it may come from a stranger."""

    model_config = ConfigDict(strict=True)

    spec: dict[str, Any]
    preset: PastPreset = PastPreset()
    data_dir: str | None = None
    data: PastData | None = None
    device: PastDevice | None = None


def repeat_of(stored: Mapping[str, Any], name: str, overrides: Iterable[str] = ()) -> tuple[RunSpec, str, str | None]:
    """Return what repeats a run: its spec, the preset's name and the data directory.

    `stored` is what `run.json` of run `name` holds. Raises UsageError where that is not enough.
    """
    shown = clean(name, limit=80)
    try:
        past = PastRun.model_validate(stored)
    except ValidationError as error:
        raise UsageError(f"run {shown!r} cannot be repeated: run.json: {explain(error)}") from error
    if past.data and past.data.stand_in:  # what was trained on, whether or not the real data is here by now
        overrides = [f"data.name={past.data.used}", *overrides]
    if past.device and past.device.kind == "cpu" and past.device.threads:  # sums in the same order, to the bit
        overrides = [f"training.threads={past.device.threads}", *overrides]
    return build_spec(past.spec, overrides, where=f"run {shown}"), past.preset.name, past.data_dir
