"""What a field of the form is called, what may stand in it, and what there is to read about it."""

from collections.abc import Mapping
from typing import Any

from tuidl.spec.augmentations import AUGMENTATIONS
from tuidl.spec.datasets import DATASETS
from tuidl.spec.layers import ACTIVATIONS, INITS
from tuidl.spec.regularizers import REGULARIZERS
from tuidl.spec.run import CHOICES
from tuidl.spec.schema import Field
from tuidl.spec.settings import Entry
from tuidl.text import clean
from tuidl.tui.form import RUN_NAME, SECTIONS, Form, as_text, section_of

_ENTRIES: dict[str, Mapping[str, Any]] = {
    "data.name": DATASETS, "data.stand_in": DATASETS, "model.activation": ACTIVATIONS, "model.init": INITS,
}  # fmt: skip
_LARGE = 1e6  # a bound from here on only keeps nonsense out


def label_of(path: str) -> str:
    """Return what stands before a field: short, as its section says the rest."""
    group, _, key = path.rpartition(".")
    if path == RUN_NAME:
        return "run name"
    words = key.replace("_", " ")
    if key == "kind":
        return group
    if not group or SECTIONS[section_of(path)][0] == group:
        return words
    return f"{group.replace('_', ' ')} {words}"


def bounds_of(field: Field) -> str:
    """Return between which values a number may lie, with its unit."""
    low = f"> {field.above:g}" if field.above is not None else f"{field.minimum:g}" if field.minimum is not None else ""
    high = f"< {field.below:g}" if field.below is not None else ""
    if not high and field.maximum is not None and field.maximum < _LARGE:
        high = f"{field.maximum:,.6g}"
    bounds = f"{low} … {high}" if high else f"from {low}" if low and not field.unit else ""
    return f"{bounds} {field.unit}".strip()


def entry_of(path: str, key: str) -> Entry | None:
    """Return what there is to read about a choice, or about a setting that is a regularizer or an augmentation."""
    group, _, name = path.rpartition(".")
    if group in CHOICES and name == "kind":
        return CHOICES[group][key].entry if key in CHOICES[group] else None
    if group == "augmentation":
        change = AUGMENTATIONS[name]
        return Entry(name, change.title, change.summary, "", change.source)
    if path in _ENTRIES:
        found = _ENTRIES[path].get(key)
        return Entry(key, found.title, found.summary, getattr(found, "formula", ""), found.source) if found else None
    return next((item.entry for item in REGULARIZERS.values() if item.paths == (path,)), None)


def help_of(form: Form, path: str) -> list[str]:
    """Return what there is to know of a field: what it does, what may stand there, how it is computed."""
    field, text = form.field(path), form.text(path)
    entry = entry_of(path, text)
    about = f"{entry.title}: {entry.summary}" if entry and field.choices else field.help
    home = clean(as_text(form.home(path)), limit=60) or "empty"
    facts = [bounds_of(field), f"{'preset' if form.of_preset(path) else 'default'}: {home}"]
    facts += ["may change while training"] if field.live else []
    lines = [f"{path}  {about}", " · ".join(fact for fact in [*facts, _keys(field)] if fact)]
    if entry and (entry.formula or entry.source):
        lines.append("   ".join(part for part in (entry.formula, f"({entry.source})") if part))
    return lines


def _keys(field: Field) -> str:
    if field.choices:
        return "← → the next, enter: all"
    if field.type == "boolean":
        return "space: switch"
    if field.type in ("number", "integer"):
        return "< halves, > doubles"
    return "commas between" if field.type == "array" else ""
