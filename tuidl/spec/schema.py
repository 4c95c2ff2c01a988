"""The spec as a flat list of fields, of which the form, `tuidl presets --json` and the checks of `--set` are made."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from tuidl.spec.run import CHOICES, RunSpec
from tuidl.spec.settings import Choice, Entry, Group


@dataclass(frozen=True)
class Field:
    """One setting: `path` is `group.key`, `type` one of string, number, integer, boolean, array."""

    path: str
    type: str
    default: Any
    help: str
    unit: str
    live: bool
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()
    value: Any = None

    def as_dict(self) -> dict[str, Any]:
        """Return the field as JSON-ready data."""
        return asdict(self)


def fields_of(source: RunSpec | Mapping[str, str]) -> list[Field]:
    """Return every field of a spec with its values, or of the default spec with the kinds that `source` names."""
    spec = source if isinstance(source, RunSpec) else None
    found: list[Field] = []
    for name, info in RunSpec.model_fields.items():
        if name in CHOICES:
            registry = CHOICES[name]
            kind = (
                getattr(spec, name).kind if spec else str(source.get(name, "")) if isinstance(source, Mapping) else ""
            )
            group: type[Group] = registry[kind if kind in registry else info.default.kind]
            found += _group(name, group, getattr(spec, name, None), {"kind": tuple(registry)})
        elif isinstance(info.annotation, type) and issubclass(info.annotation, Group):
            found += _group(name, info.annotation, getattr(spec, name, None), {})
    top = _properties(RunSpec)
    plain = [name for name in top if "type" in top[name] and name not in CHOICES and top[name]["type"] != "object"]
    return [_field(name, top[name], getattr(spec, name, None), ()) for name in plain] + found


def describe(entry: Entry) -> dict[str, str]:
    """Return what a reader needs to know about a choice."""
    return {
        "key": entry.key,
        "title": entry.title,
        "summary": entry.summary,
        "formula": entry.formula,
        "source": entry.source,
    }


def describe_choice(cls: type[Choice]) -> dict[str, Any]:
    """Return a registered choice with its own fields."""
    return {**describe(cls.entry), "tasks": list(cls.tasks), "fields": [f.as_dict() for f in _group("", cls, None, {})]}


@cache
def _properties(cls: type[Group]) -> dict[str, Any]:
    """Return the JSON schema of each setting; making it takes longer than a step of training may wait."""
    properties: dict[str, Any] = cls.model_json_schema()["properties"]
    return properties


def _group(name: str, cls: type[Group], value: Group | None, choices: Mapping[str, tuple[str, ...]]) -> list[Field]:
    properties = _properties(cls)
    prefix = f"{name}." if name else ""
    return [
        _field(prefix + key, schema, getattr(value, key, None), choices.get(key, ()))
        for key, schema in properties.items()
    ]


def _field(path: str, schema: Mapping[str, Any], value: Any, choices: tuple[str, ...]) -> Field:
    return Field(
        path=path,
        type=schema.get("type", "string"),
        default=schema.get("default"),
        help=schema.get("description", "Which of the choices."),
        unit=schema.get("unit", ""),
        live=schema.get("live", False),
        minimum=schema.get("minimum"),
        maximum=schema.get("maximum"),
        above=schema.get("exclusiveMinimum"),
        below=schema.get("exclusiveMaximum"),
        choices=choices or tuple(schema.get("enum", ())),
        value=value,
    )
