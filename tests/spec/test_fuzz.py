"""Whatever is in a preset, a stored run or a `--set`: it becomes a sound spec or a UsageError, and nothing else."""

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tuidl.errors import UsageError
from tuidl.spec.load import build_spec, preset_directory, read_toml, validate, with_live_change
from tuidl.spec.run import CHOICES, RunSpec
from tuidl.spec.schema import Field, fields_of
from tuidl.text import clean

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def every_field() -> list[Field]:
    found = {field.path: field for field in fields_of(RunSpec())}
    for group, registry in CHOICES.items():
        for kind in registry:
            found |= {field.path: field for field in fields_of({group: kind})}
    return list(found.values())


FIELDS = every_field()
PATHS = [field.path for field in FIELDS]

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-2, 5)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["adam", "mlp", "cnn", "lstm", "wgan-gp", "cosine", "gan", "language", "mnist", "text", "relu"])
    | st.dates()
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
keys = st.sampled_from([path.rpartition(".")[2] for path in PATHS]) | st.text(max_size=8)
tables = st.dictionaries(keys, values, max_size=4)
presets = st.dictionaries(
    st.sampled_from(list(RunSpec.model_fields)) | st.text(max_size=8), tables | values, max_size=4
)
set_texts = (
    st.text(max_size=60)
    | st.builds("{}={}".format, st.sampled_from(PATHS), st.text(max_size=30))
    | st.builds("{}={}".format, st.sampled_from(PATHS), values.map(str))
    | st.builds("{}.kind={}".format, st.sampled_from(list(CHOICES)), st.sampled_from(["sgd", "cnn", "lstm", "kl", "x"]))
)


def sound_or_refused(data: Any, *overrides: str) -> RunSpec | None:
    try:
        spec = build_spec(data, overrides)
    except UsageError as error:
        message = str(error)
        assert message == clean(message)  # a terminal has nothing to obey
        assert len(message) < 2000
        return None
    assert RunSpec.model_validate_json(spec.model_dump_json()) == spec
    return spec


@QUICK
@given(st.binary(max_size=400))
def test_any_bytes(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "own.toml"
    path.write_bytes(content)
    try:
        data = read_toml(path)
    except UsageError as error:
        assert "own.toml" in str(error)
        return
    sound_or_refused(data)


def pieces_of_presets() -> Iterator[str]:
    for path in sorted(preset_directory().glob("*.toml")):
        yield from path.read_text(encoding="utf-8").splitlines()


LINES = list(pieces_of_presets())


@QUICK
@given(st.lists(st.sampled_from(LINES) | st.text(max_size=15), max_size=12))
def test_any_mixture_of_lines_of_presets(tmp_path: Path, lines: list[str]) -> None:
    path = tmp_path / "own.toml"
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    try:
        data = read_toml(path)
    except UsageError:
        return
    sound_or_refused(data)


@QUICK
@given(presets)
def test_any_nested_table(data: dict[str, Any]) -> None:
    sound_or_refused(data)


@QUICK
@given(presets, st.lists(set_texts, max_size=3))
def test_any_nested_table_with_any_set(data: dict[str, Any], overrides: list[str]) -> None:
    sound_or_refused(data, *overrides)


@QUICK
@given(st.lists(set_texts, max_size=4))
def test_any_set(overrides: list[str]) -> None:
    sound_or_refused({}, *overrides)


@QUICK
@given(values)
def test_any_stored_spec(data: Any) -> None:
    try:
        spec = validate(data, where="run.json")
    except UsageError as error:
        assert str(error).startswith("run.json")
        return
    assert isinstance(spec, RunSpec)


@QUICK
@given(st.sampled_from(PATHS) | st.text(max_size=30), st.text(max_size=40) | values.map(str))
def test_any_live_change(key: str, text: str) -> None:
    spec = build_spec({"optimizer": {"kind": "momentum"}})
    live = {field.path for field in fields_of(spec) if field.live}
    try:
        changed = with_live_change(spec, key, text)
    except UsageError:
        return
    assert key in live
    before, after = spec.model_dump(), changed.model_dump()
    group, _, name = key.partition(".")
    before[group].pop(name), after[group].pop(name)
    assert before == after


def sound_values(field: Field) -> st.SearchStrategy[Any]:
    """Return values that a field takes, as far as its schema tells."""
    low = field.minimum if field.minimum is not None else field.above
    high = field.maximum if field.maximum is not None else field.below
    match field.type:
        case "boolean":
            return st.booleans()
        case "integer":
            return st.integers(int(low or 0), int(high if high is not None else 10))
        case "number":
            return st.floats(
                low, high, exclude_min=field.minimum is None, exclude_max=field.maximum is None, allow_nan=False
            )
        case "string" if field.choices:
            return st.sampled_from(field.choices)
        case _:
            return st.just(field.default)


@QUICK
@given(st.data())
def test_every_value_that_the_schema_allows_is_taken_and_survives_json(data: st.DataObject) -> None:
    """What the form may offer, the validation takes; and a spec is the same after it was stored."""
    kinds = {
        group: data.draw(st.sampled_from(registry.for_task("classification"))) for group, registry in CHOICES.items()
    }
    chosen: dict[str, Any] = {group: {"kind": kind} for group, kind in kinds.items()}
    for field in data.draw(st.lists(st.sampled_from(fields_of(kinds)), max_size=8, unique_by=lambda field: field.path)):
        group, _, name = field.path.rpartition(".")
        if not group or name in ("kind", "name", "stand_in", "metric"):  # these must fit together
            continue
        chosen.setdefault(group, {})[name] = data.draw(sound_values(field))
    spec = build_spec(chosen)
    for group, values_of in chosen.items():
        for name, value in values_of.items():
            found = getattr(getattr(spec, group), name)
            assert (list(found) if isinstance(found, tuple) else found) == value
    stored = json.loads(json.dumps(spec.model_dump(mode="json")))
    assert validate(stored, where="run.json") == spec
    assert build_spec(stored) == spec


@pytest.mark.parametrize("name", sorted(path.stem for path in preset_directory().glob("*.toml")))
def test_presets_survive_json(name: str) -> None:
    spec = build_spec(tomllib.loads((preset_directory() / f"{name}.toml").read_text(encoding="utf-8")))
    assert validate(json.loads(json.dumps(spec.model_dump(mode="json"))), where="run.json") == spec
