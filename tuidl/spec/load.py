"""From a TOML preset, or a stored run, and `--set` overrides to a validated `RunSpec`. Everything is read as data."""

import json
import math
import os
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import platformdirs
from pydantic import ValidationError

from tuidl.errors import UsageError
from tuidl.files import expand, open_regular
from tuidl.runs.names import is_name
from tuidl.spec.run import CHOICES, RunSpec
from tuidl.spec.schema import Field, fields_of
from tuidl.text import clean, did_you_mean

TAUGHT = ("mnist-mlp", "fashion-mlp", "cifar-cnn", "char-lstm", "mnist-gan")  # in this order; others by name
PRESET_LIMIT = 16 * 1024  # bytes; TOML parsing time grows faster than its input


def preset_directory() -> Path:
    """Return the folder of the built-in presets: inside the installed package, or beside it in a checkout."""
    packaged = Path(str(resources.files("tuidl"))) / "presets"
    return packaged if packaged.is_dir() else packaged.parent.parent / "presets"


def own_preset_directory() -> Path:
    """Return the folder of the user's own presets: $TUIDL_PRESETS_DIR, else in the user's configuration directory."""
    chosen = os.environ.get("TUIDL_PRESETS_DIR")
    return expand(chosen) if chosen else platformdirs.user_config_path("tuidl") / "presets"


def preset_names() -> list[str]:
    """Return the names of all presets: the built-in ones, then the user's own."""
    return list(preset_files())


def preset_files() -> dict[str, Path]:
    """Return the file of each preset by its name, in the order of `preset_names`; a built-in name cannot be taken."""
    names = [*TAUGHT, *sorted(path.stem for path in preset_directory().glob("*.toml") if path.stem not in TAUGHT)]
    files = {name: preset_directory() / f"{name}.toml" for name in names}
    try:
        own = sorted(path for path in own_preset_directory().iterdir() if path.suffix == ".toml" and is_name(path.stem))
    except OSError:  # no such folder, or one that is closed to us
        own = []
    return files | {path.stem: path for path in own if path.stem not in files}


def load_preset(target: str, overrides: Iterable[str] = ()) -> RunSpec:
    """Return the spec of the preset named `target`, or of the TOML file at that path, with `group.key=value` overrides.

    Raises UsageError with file, key, value and the nearest valid choice.
    """
    known = preset_files()
    path = known.get(target) or Path(target)
    if target not in known and not target.endswith(".toml"):
        raise UsageError(f"there is no preset {clean(target, limit=80)!r}; {did_you_mean(target, known)}")
    return build_spec(read_toml(path), overrides, where=path.name)


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML preset of at most 16 KB; UsageError says what is wrong with it."""
    shown = clean(str(path), limit=300)
    try:
        with open_regular(path, follow=True) as file:
            raw = file.read(PRESET_LIMIT + 1)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read preset {shown}: {getattr(error, 'strerror', None) or error}") from error
    if len(raw) > PRESET_LIMIT:
        raise UsageError(f"preset {shown} is larger than {PRESET_LIMIT // 1024} KB; a preset holds settings only")
    try:
        return tomllib.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # covers bad TOML, bad UTF-8, absurd numbers and absurd nesting
        raise UsageError(f"preset {shown} is not valid TOML: {clean(str(error), limit=200)}") from error


def build_spec(data: Mapping[str, Any], overrides: Iterable[str] = (), where: str = "preset") -> RunSpec:
    """Return the validated spec of `data` with `group.key=value` overrides applied in order."""
    merged: dict[str, Any] = {key: dict(value) if isinstance(value, Mapping) else value for key, value in data.items()}
    for group in CHOICES:  # a group that names no kind means the default one
        if isinstance(merged.get(group, {}), dict):
            merged[group] = {"kind": RunSpec.model_fields[group].default.kind, **merged.get(group, {})}
    pairs = [_split(text) for text in overrides]
    # a new kind first: it brings its own settings, and those the other overrides may then change
    for key, text in sorted(pairs, key=lambda pair: not pair[0].endswith(".kind")):
        _apply(merged, key, text)
    return validate(merged, where=f"{where} with --set" if pairs else where)


def validate(data: Mapping[str, Any], where: str) -> RunSpec:
    """Return `data` as a spec; UsageError names `where`, key, value and the nearest valid choice of the first fault."""
    try:
        return RunSpec.model_validate_json(json.dumps(data))
    except ValidationError as error:
        raise UsageError(f"{where}: {explain(error)}") from None
    except (TypeError, ValueError, RecursionError) as error:  # dates and other TOML values that no setting has
        raise UsageError(f"{where}: {clean(str(error), limit=200)}") from None


def with_live_change(spec: RunSpec, key: str, text: str) -> RunSpec:
    """Return `spec` with one live setting changed; UsageError when it is not live or the value is out of bounds."""
    field = _field(spec.model_dump(mode="json"), key)
    if not field.live:
        live = [item.path for item in fields_of(spec) if item.live]
        raise UsageError(f"{key} cannot change while training; {did_you_mean(key, live)}")
    return build_spec(spec.model_dump(mode="json"), [f"{key}={text}"], where="set")


def value_at(spec: RunSpec, path: str) -> Any:
    """Return the value of the setting at `group.key` or `key`."""
    value: Any = spec
    for part in path.split("."):
        value = getattr(value, part)
    return value


def _split(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(
            f"--set {clean(text, limit=100)!r}: write it as group.key=value, for example optimizer.lr=0.01"
        )
    return key.strip(), value


def _apply(data: dict[str, Any], key: str, text: str) -> None:
    group, _, name = key.rpartition(".")
    if group and not isinstance(data.setdefault(group, {}), dict):
        raise UsageError(f"{clean(group, limit=80)} in the preset is not a table of settings")
    if group in CHOICES and name == "kind":
        text = text.strip()
        if data[group].get("kind") != text:
            data[group] = {"kind": text}
        return
    field = _field(data, key)
    # blanks around a name mean nothing, but a prompt may well end with one
    value = text.strip() if field.choices else text if field.type == "string" else _parse(text.strip())
    if group:
        data[group][name] = value
    else:
        data[name] = value


def _field(data: Mapping[str, Any], key: str) -> Field:
    known = {field.path: field for field in fields_of(_kinds(data))}
    if key not in known:
        raise UsageError(f"there is no setting {clean(key, limit=80)!r} here; {did_you_mean(key, known)}")
    return known[key]


def _kinds(data: Mapping[str, Any]) -> dict[str, str]:
    kinds = {}
    for group in CHOICES:
        chosen = data.get(group)
        if isinstance(chosen, Mapping) and isinstance(chosen.get("kind"), str):
            kinds[group] = chosen["kind"]
    return kinds


def _parse(text: str) -> Any:
    """Read a value as TOML would, and a bare word as text."""
    if len(text) > 1000:
        raise UsageError(f"--set value is {len(text)} characters long; at most 1000 are read")
    try:
        read = tomllib.loads(f"value = {text}")
        if len(read) == 1:  # a line break in the text could begin a second setting
            return read["value"]
    except (ValueError, RecursionError):
        pass
    try:
        return float(text)  # what TOML is too strict for: .5, 1.
    except ValueError:
        return text


_PLAIN = {"missing": "is missing", "extra_forbidden": "is not a setting", "bool_type": "must be true or false"}


def explain(error: ValidationError) -> str:
    """Return the first fault of a pydantic error in one line."""
    fault = error.errors(include_url=False)[0]
    path = [str(part) for part in fault["loc"]]
    group = path[0] if path else ""
    if group in CHOICES and len(path) > 1:
        del path[1]  # pydantic puts the kind of a tagged union into the path
    key = clean(".".join(path), limit=100)
    kind, context = fault["type"], fault.get("ctx", {})
    value = clean(json.dumps(fault["input"], default=str), limit=60)
    if kind == "extra_forbidden":
        return f"{key} is not a setting here; {did_you_mean(key, _siblings(error, key))}"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        chosen = fault["input"].get("kind", "") if isinstance(fault["input"], dict) else ""
        return (
            f"{group}.kind = {clean(str(chosen), limit=60)!r} is not known; {did_you_mean(str(chosen), CHOICES[group])}"
        )
    if kind == "value_error":
        message = str(context.get("error", fault["msg"]))
        return f"{key} = {message}" if key else message
    if kind in ("greater_than_equal", "less_than_equal", "greater_than", "less_than"):
        bound = next(iter(context.values()))
        nearest = bound if kind.endswith("equal") else _inside(bound, kind)
        return f"{key} = {value} is out of range: {fault['msg'].removeprefix('Input ')}; nearest is {nearest}"
    if kind == "literal_error":
        return f"{key} = {value} is not known; choose one of {context.get('expected', '')}"
    if kind == "string_pattern_mismatch":  # the only setting with a pattern
        return f"{key} = {value} is not known; choose one of auto, cpu, cuda, cuda:1 (or another number), mps"
    if kind in _PLAIN:
        return f"{key} = {value} {_PLAIN[kind]}"
    return f"{key} = {value}: {fault['msg'].removeprefix('Input ')}"


def _inside(bound: float, kind: str) -> float:
    """Return a round number just inside an open bound."""
    small = 10.0 ** math.floor(math.log10(abs(bound)) - 3) if bound else 1e-6
    return bound + small if kind == "greater_than" else bound - small


def _siblings(error: ValidationError, key: str) -> list[str]:
    loc = error.errors(include_url=False)[0]["loc"]
    kinds = {str(loc[0]): str(loc[1])} if len(loc) > 2 and str(loc[0]) in CHOICES else {}
    paths = [field.path for field in fields_of(kinds)]
    group = key.rpartition(".")[0]
    if not group:
        return sorted({path.partition(".")[0] for path in paths})
    return [path for path in paths if path.startswith(f"{group}.")] or paths
