"""The building blocks of the spec: a setting with its help and bounds, and a registry of named choices.

Whatever the form, the command line or the validation needs to know about a setting stands beside its default.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

from tuidl.text import clean, did_you_mean


@dataclass(frozen=True)
class Entry:
    """What a student reads about one choice, and where its code is.

    `implementation` is `module:attribute` inside tuidl or torch; it is written here by us and never read from a file.
    """

    key: str
    title: str
    summary: str
    formula: str
    source: str
    implementation: str = ""


class Group(BaseModel):
    """A group of settings: strict types, no unknown keys, no NaN or infinity, immutable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Choice(Group):
    """A group whose `kind` names one entry of a registry and whose other settings belong to that entry alone."""

    entry: ClassVar[Entry]
    tasks: ClassVar[tuple[str, ...]] = ()  # the tasks it can serve; empty means every task
    kind: str


C = TypeVar("C", bound=Choice)


class Registry(Generic[C]):
    """The choices of one kind by key, in the order in which they are shown."""

    def __init__(self, what: str) -> None:
        self.what = what
        self._classes: dict[str, type[C]] = {}

    def add(
        self, key: str, *, title: str, summary: str, formula: str, source: str, implementation: str = ""
    ) -> Callable[[type[C]], type[C]]:
        """Register the decorated class of settings under `key`."""

        def register(cls: type[C]) -> type[C]:
            if cls.model_fields["kind"].default != key:
                raise TypeError(f"{cls.__name__}.kind must default to {key!r}")
            cls.entry = Entry(key, title, summary, formula, source, implementation)
            self._classes[key] = cls
            return cls

        return register

    def __getitem__(self, key: str) -> type[C]:
        return self._classes[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._classes)

    def classes(self) -> tuple[type[C], ...]:
        """Return every registered class."""
        return tuple(self._classes.values())

    def for_task(self, task: str) -> list[str]:
        """Return the keys that can serve `task`."""
        return [key for key, cls in self._classes.items() if not cls.tasks or task in cls.tasks]


def setting(
    default: Any,
    *,
    help: str,
    unit: str = "",
    live: bool = False,
    entry: Entry | None = None,
    role: str = "",
    **bounds: Any,
) -> Any:
    """Declare one setting.

    `help` is one sentence, `unit` what the number counts, `live` whether it may change while training, `bounds` are
    pydantic's ge/gt/le/lt/max_length. `entry` and `role` make it a regularizer (see `tuidl.spec.regularizers`).
    """
    extra: dict[str, Any] = {"unit": unit, "live": live}
    if entry:
        extra |= {"role": role, "formula": entry.formula, "source": entry.source, "title": entry.title}
    return Field(default, description=help, json_schema_extra=extra, **bounds)


def named(choices: dict[str, Entry]) -> Any:
    """Return the type of a setting that holds one key of `choices`."""

    def check(value: str) -> str:
        if value not in choices:
            raise ValueError(f"{clean(value, limit=60)!r} is not known; {did_you_mean(value, choices)}")
        return value

    return Annotated[str, AfterValidator(check), WithJsonSchema({"type": "string", "enum": list(choices)})]


def catalogue(*entries: Entry) -> dict[str, Entry]:
    """Return `entries` by key."""
    return {entry.key: entry for entry in entries}
