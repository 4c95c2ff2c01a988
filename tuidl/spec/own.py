"""Presets of one's own: saving one, and a list in which a broken one does no harm."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuidl.errors import StorageError, UsageError
from tuidl.runs.atomic import write_atomic
from tuidl.runs.launch import at_home
from tuidl.runs.names import is_name
from tuidl.spec.load import (
    PRESET_LIMIT,
    build_spec,
    own_preset_directory,
    preset_directory,
    preset_files,
    read_toml,
    validate,
)
from tuidl.spec.run import CHOICES, RunSpec
from tuidl.spec.settings import Group
from tuidl.text import clean


@dataclass(frozen=True)
class Preset:
    """A preset in the list of all. A broken one has no `spec` but an `error`, one line that says what is wrong."""

    name: str
    path: Path
    own: bool
    spec: RunSpec | None
    error: str = ""


def list_presets() -> list[Preset]:
    """Return every preset, the built-in ones first, each read as far as it can be."""
    return [_read(name, path) for name, path in preset_files().items()]


def _read(name: str, path: Path) -> Preset:
    own = path.parent != preset_directory()
    try:
        return Preset(name, path, own, build_spec(read_toml(path), where=path.name))
    except UsageError as error:
        return Preset(name, path, own, None, str(error))


def save_preset(name: str, spec: RunSpec, about_title: str = "") -> Path:
    """Write `spec` as a preset of the user's own, `name`, and return its file; one that exists is never overwritten.

    Only what differs from the defaults is written. `about_title` is the line that names it in lists, the title of
    `spec` when empty. Raises UsageError for a name that is bad or taken, StorageError.
    """
    if not is_name(name):
        raise UsageError(
            f"{clean(name, limit=80)!r} cannot be the name of a preset: use 1 to 64 letters, digits, '.', '_' or '-', "
            "the first one a letter or a digit, and no '..'"
        )
    path = own_preset_directory() / f"{name}.toml"
    if preset_files().get(name, path) != path:
        raise UsageError(f"{name!r} is a built-in preset; choose another name")
    if about_title:
        about = spec.about.model_dump(mode="json") | {"title": about_title}
        spec = validate(spec.model_dump(mode="json") | {"about": about}, where="preset")
    data = _as_toml(at_home(spec))
    if len(data) > PRESET_LIMIT:
        raise UsageError(f"a preset of {len(data)} bytes is larger than {PRESET_LIMIT // 1024} KB; shorten its texts")
    try:
        _write(path, data)
    except (OSError, StorageError) as error:
        cause = error.__cause__ or error
        reason = getattr(cause, "strerror", None) or str(cause)
        raise StorageError(
            f"{clean(str(path))} cannot be written ({reason}); $TUIDL_PRESETS_DIR can name another folder for presets"
        ) from error
    return path


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        write_atomic(path, data, exclusive=True)
    except FileExistsError:
        raise UsageError(f"{clean(str(path))} exists already; choose another name") from None


def _as_toml(spec: RunSpec) -> bytes:
    import tomli_w

    chosen: dict[str, Any] = {}
    for name, info in RunSpec.model_fields.items():
        value = getattr(spec, name)
        if not isinstance(value, Group):
            if value != info.default or name == "task":
                chosen[name] = value
        elif changed := _changed(value, always="kind" if name in CHOICES else ""):
            chosen[name] = changed
    return tomli_w.dumps(chosen).encode()


def _changed(group: Group, always: str) -> dict[str, Any]:
    """Return the settings of a group that are not at their default, and `always` that one."""
    fields = type(group).model_fields
    found = group.model_dump(mode="json")
    return {key: value for key, value in found.items() if key == always or getattr(group, key) != fields[key].default}
