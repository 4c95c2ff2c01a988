"""The set-up form without a widget: a preset, what the user has changed of it, and what is not valid yet."""

import json
import re
import shlex
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tuidl.errors import UsageError
from tuidl.runs.names import check_name
from tuidl.spec import RunSpec, build_spec, validate, value_at
from tuidl.spec.datasets import DATASETS
from tuidl.spec.run import CHOICES
from tuidl.spec.schema import Field, fields_of
from tuidl.spec.tasks import TASKS
from tuidl.tui.knobs import stepped

RUN_NAME = "name"  # the one field that is not a setting of the spec
SECTIONS: dict[str, tuple[str, ...]] = {  # title: groups and single settings, in the order in which they are shown
    "Data": ("data", "augmentation"),
    "Model": ("model", "loss"),
    "Optimizer": ("optimizer",),
    "Regularization": ("regularization",),
    "Schedule": ("schedule",),
    "Training": ("training", "device", "precision", "seed", RUN_NAME, "early_stopping", "evaluation", "checkpoints"),
}
HIDDEN = ("about", "task")  # the text of the preset, and what a form cannot change without changing everything else
_TASKS_OF = {  # what only some tasks read; everything else is read by all
    "augmentation": ("classification", "gan"),
    "regularization.label_smoothing": ("classification", "language"),
    "evaluation.probes": ("classification",),
    "evaluation.worst": ("classification",),
    "evaluation.mirror": ("classification",),
    "evaluation.prompt": ("language",),
    "evaluation.sample_length": ("language",),
    "evaluation.temperatures": ("language",),
    "evaluation.sample_images": ("gan",),
    "evaluation.score_images": ("gan",),
}
_WHERE = "form"  # how the errors of the spec begin; cut off before they are shown
_RUN_NAME = Field(
    RUN_NAME, "string", "", "Name of the run and of its directory; empty makes one from preset and time.", "", False
)


@dataclass(frozen=True)
class Wrong:
    """What was typed into a field and cannot be taken yet, and why in one line."""

    text: str
    error: str


class Form:
    """The state of the form. `spec` is always valid: a text that is not, waits beside it until it fits.

    `home` is what a field has when it is not changed: the preset's value, or the default where another kind of
    model, loss, optimizer or schedule has been chosen, whose settings the preset does not have.
    """

    def __init__(self, preset: str, base: RunSpec) -> None:
        self.preset = preset
        self.base = base
        self.spec = base
        self.run_name = ""
        self._devices: tuple[str, ...] = ()
        self._wrong: dict[str, Wrong] = {}
        self._fields: list[Field] | None = None

    # --- what there is to see ---------------------------------------------------------------------------------------

    def fields(self) -> list[Field]:
        """Return the fields that mean something for the task, section by section, with the choices that fit it."""
        if self._fields is None:
            found = self._all_fields()
            self._fields = [self._fitted(field) for field in found if self._matters(field.path)]
        return self._fields

    def sections(self) -> dict[str, list[Field]]:
        """Return the fields of each section."""
        found: dict[str, list[Field]] = {title: [] for title in SECTIONS}
        for field in self.fields():
            found[section_of(field.path)].append(field)
        return found

    def field(self, path: str) -> Field:
        """Return one field; KeyError when the form has none of that path now."""
        for field in self.fields():
            if field.path == path:
                return field
        raise KeyError(path)

    def text(self, path: str) -> str:
        """Return the field as it is typed: what the user typed while that is not valid, else the value."""
        return self._wrong[path].text if path in self._wrong else as_text(self._value(path))

    @property
    def errors(self) -> dict[str, str]:
        """What is wrong with each field that is not valid yet."""
        return {path: wrong.error for path, wrong in self._wrong.items()}

    def changed(self, path: str) -> bool:
        """Return whether a field differs from what it would be unchanged."""
        return path in self._wrong or self._value(path) != self.home(path)

    def changes(self) -> list[str]:
        """Return the fields that the user has changed."""
        return [field.path for field in self._all_fields() if self.changed(field.path)]

    def home(self, path: str) -> Any:
        """Return the value that the field has when it is not changed."""
        group, _, key = path.rpartition(".")
        if path == RUN_NAME:
            return ""
        if not group or key == "kind":
            return value_at(self.base, path)
        origin = getattr(self.base, group) if self.of_preset(path) else type(getattr(self.spec, group))()
        return getattr(origin, key)

    def of_preset(self, path: str) -> bool:
        """Return whether the preset has this setting too, and not only the kind that has been chosen since."""
        group, _, key = path.rpartition(".")
        return not group or key == "kind" or type(getattr(self.base, group)) is type(getattr(self.spec, group))

    def overrides(self) -> list[str]:
        """Return the fewest `group.key=value` that turn the preset into `spec`."""
        return [
            f"{field.path}={_as_override(value)}"
            for field in self._all_fields()
            if field.path != RUN_NAME and (value := self._value(field.path)) != self.home(field.path)
        ]

    def command(self) -> list[str]:
        """Return the words of the command that does the same without a screen."""
        name = ["--name", self.run_name] if self.run_name else []
        return ["tuidl", "run", self.preset, *(word for text in self.overrides() for word in ("--set", text)), *name]

    def command_line(self) -> str:
        """Return that command as it is typed into a shell."""
        return shlex.join(self.command())

    # --- what there is to do ----------------------------------------------------------------------------------------

    def set(self, path: str, text: str) -> tuple[str, ...]:
        """Take what was typed into a field, or keep it with its error until it fits.

        A new kind brings its own settings. What the user had changed and the new kind also has is kept where it is
        valid there; the paths of these are returned.
        """
        try:
            spec, kept = self._with(path, text)
        except UsageError as error:
            self._wrong[path] = Wrong(text, _plain(error, path))
            self._fields = None
            return ()
        self._wrong.pop(path, None)
        self._take(spec)
        return kept

    def step(self, path: str, up: bool) -> None:
        """Double or halve a number, within its bounds; from zero up goes a small one."""
        field = self.field(path)
        value = self._value(path)
        if field.type == "integer":
            text = "1" if up and value == 0 else str(int(float(stepped(replace(field, value=value), up))))
        else:
            text = as_text(float(stepped(replace(field, value=value), up)))
        self.set(path, text)

    def reset(self, path: str) -> tuple[str, ...]:
        """Put a field back to what it is unchanged; returns what `set` does."""
        return self.set(path, as_text(self.home(path)))

    def reset_all(self) -> None:
        """Put everything back."""
        self._wrong.clear()
        self.run_name = ""
        self._take(self.base)

    def offer_devices(self, names: Sequence[str]) -> None:
        """Offer these devices beside auto and the CPU; until then only those."""
        self._devices = tuple(name for name in names if name != "cpu")
        self._fields = None

    # --- how ---------------------------------------------------------------------------------------------------------

    def _take(self, spec: RunSpec) -> None:
        """Make `spec` the present one and try again what did not fit the one before."""
        self.spec = spec
        paths = {field.path for field in self._all_fields()}
        for path, wrong in list(self._wrong.items()):
            del self._wrong[path]
            if path not in paths:
                continue
            try:
                self.spec, _ = self._with(path, wrong.text)
            except UsageError as error:
                self._wrong[path] = Wrong(wrong.text, _plain(error, path))
        self._fields = None

    def _with(self, path: str, text: str) -> tuple[RunSpec, tuple[str, ...]]:
        """Return the spec with one field changed, and what a new kind has kept. Raises UsageError."""
        group, _, key = path.rpartition(".")
        if path == RUN_NAME:
            self.run_name = check_name(text) if text else ""
            return self.spec, ()
        if group in CHOICES and key == "kind":
            return self._with_kind(group, text)
        home = self.home(path)
        if text == as_text(home):  # exactly this value, which the text may not be able to say
            return _replaced(self.spec, path, home), ()
        field = {field.path: field for field in fields_of(self.spec)}[path]
        typed = _unescape(text) if field.type == "string" else text.strip()
        if field.type in ("number", "integer"):
            if not typed:
                raise UsageError("a number is missing")
            typed = re.sub(r"^([+-]?)0+(?=\d)", r"\1", typed)  # a digit typed behind the 0 that stood there
        if field.type == "array" and not typed.startswith("["):
            typed = f"[{typed}]"
        spec = build_spec(self.spec.model_dump(mode="json"), [f"{path}={typed}"], where=_WHERE)
        if field.type == "string" and value_at(spec, path) != typed:
            raise UsageError("blanks and line breaks at either end cannot be kept")
        return spec, ()

    def _with_kind(self, group: str, kind: str) -> tuple[RunSpec, tuple[str, ...]]:
        here, origin = getattr(self.spec, group), getattr(self.base, group)
        if here.kind == kind:
            return self.spec, ()
        data = self.spec.model_dump(mode="json")
        data[group] = origin.model_dump(mode="json") if origin.kind == kind else {"kind": kind}
        spec = validate(data, where=_WHERE)
        kept = []
        for key in type(here).model_fields:
            path = f"{group}.{key}"
            if key == "kind" or key not in type(getattr(spec, group)).model_fields:
                continue
            value = getattr(here, key)
            if value == self.home(path) or value == value_at(spec, path):
                continue
            try:
                spec = _replaced(spec, path, value)
            except UsageError:
                continue  # the new kind has other bounds: its own value stands
            kept.append(path)
        return spec, tuple(kept)

    def _value(self, path: str) -> Any:
        return self.run_name if path == RUN_NAME else value_at(self.spec, path)

    def _all_fields(self) -> list[Field]:
        """Return every field in the order of the sections, whether or not it matters now."""
        order = [name for names in SECTIONS.values() for name in names]
        found = [field for field in fields_of(self.spec) if _group_of(field.path) not in HIDDEN]
        return sorted([*found, _RUN_NAME], key=lambda field: order.index(_group_of(field.path)))

    def _matters(self, path: str) -> bool:
        if path == "data.path":
            chosen = DATASETS.get(self.text("data.name"))
            return chosen is not None and chosen.format == "own-text"
        tasks = _TASKS_OF.get(path) or _TASKS_OF.get(_group_of(path))
        return tasks is None or self.spec.task in tasks

    def _fitted(self, field: Field) -> Field:
        """Return the field with the choices that fit the task."""
        task, path = TASKS[self.spec.task], field.path
        group, _, key = path.rpartition(".")
        choices = field.choices
        if group in CHOICES and key == "kind":
            choices = tuple(CHOICES[group].for_task(task.key))
        elif path in ("data.name", "data.stand_in"):
            choices = tuple(name for name in choices if name == "none" or DATASETS[name].kind == task.data)
        elif path == "evaluation.metric":
            choices = ("auto", *dict(task.metrics))
        elif path == "device":
            here = self.spec.device
            known = ("auto", *self._devices, "cpu")
            choices = known if here in known else (*known, here)
        return replace(field, choices=choices)


def section_of(path: str) -> str:
    """Return the title of the section that a field stands in."""
    return next(title for title, names in SECTIONS.items() if _group_of(path) in names)


def as_text(value: Any) -> str:
    """Return a value as it stands in a field of one row; `Form.set` reads it back as the same value."""
    if isinstance(value, str):
        return "".join(_escape(char) for char in value)
    if isinstance(value, tuple | list):
        return ", ".join(as_text(item) for item in value)
    if isinstance(value, float):
        return repr(value).removesuffix(".0").replace("e-0", "e-").replace("e+0", "e+")
    return json.dumps(value)


def _as_override(value: Any) -> str:
    if isinstance(value, str):
        return value
    text = as_text(value)
    return f"[{text.replace(' ', '')}]" if isinstance(value, tuple | list) else text


def _escape(char: str) -> str:
    """Return a character, or how it is written where it would leave the row or command the terminal."""
    if char in "\\\n\t":
        return {"\\": "\\\\", "\n": "\\n", "\t": "\\t"}[char]
    if unicodedata.category(char)[0] in "CZ" and char != " ":
        return f"\\U{ord(char):08x}"
    return char


def _unescape(text: str) -> str:
    """Undo `_escape`. A backslash that begins nothing known stands for itself."""
    plain = {"\\\\": "\\", "\\n": "\n", "\\t": "\t"}
    return re.sub(
        r"\\(?:[\\nt]|U00(?:0[0-9a-f]|10)[0-9a-f]{4})",
        lambda found: plain.get(found[0]) or chr(int(found[0][2:], 16)),
        text,
    )


def _replaced(spec: RunSpec, path: str, value: Any) -> RunSpec:
    data = spec.model_dump(mode="json")
    group, _, key = path.rpartition(".")
    (data[group] if group else data)[key] = value
    return validate(data, where=_WHERE)


def _group_of(path: str) -> str:
    return path.partition(".")[0]


def _plain(error: UsageError, path: str) -> str:
    """Return the error without what the form says anyway: where it is and what was typed."""
    text = str(error).removeprefix(f"{_WHERE} with --set: ").removeprefix(f"{_WHERE}: ")
    return re.sub(rf"^{re.escape(path)}(\.\d+)? = ", "", text)
