"""The flat list of fields from which form, command line and documents are made."""

import json
import re
import subprocess
import sys
from typing import Any

import pytest
from pydantic import BaseModel

from tuidl.errors import UsageError
from tuidl.spec.load import build_spec, value_at
from tuidl.spec.losses import LOSSES
from tuidl.spec.models import MODELS
from tuidl.spec.regularizers import REGULARIZERS, Regularization
from tuidl.spec.run import CHOICES, RunSpec
from tuidl.spec.schema import describe_choice, fields_of
from tuidl.spec.settings import Choice, Registry
from tuidl.spec.tasks import TASKS


def leaves(model: BaseModel, prefix: str = "") -> dict[str, Any]:
    """Return every value of a spec by its path."""
    found: dict[str, Any] = {}
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            found |= leaves(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def specs() -> dict[str, RunSpec]:
    """Return a spec for each choice there is."""
    made = {}
    fitting: dict[str, dict[str, Any]] = {
        "classification": {},
        "language": {"task": "language", "data": {"name": "python-docs"}, "model": {"kind": "gru"}},
        "gan": {"task": "gan", "model": {"kind": "dcgan"}, "loss": {"kind": "wgan-gp"}},
    }
    for task, data in fitting.items():
        for group, registry in CHOICES.items():
            for kind in registry.for_task(task):
                made[f"{task} {group}.{kind}"] = build_spec({**data, group: {"kind": kind}})
    return made


SPECS = specs()


@pytest.mark.parametrize("name", SPECS)
def test_fields_cover_every_leaf_once_with_its_value_type_and_help(name: str) -> None:
    spec = SPECS[name]
    fields = fields_of(spec)
    found = {field.path: field.value for field in fields}
    assert len(found) == len(fields)
    assert found == leaves(spec)
    types = {"string": str, "number": float, "integer": int, "boolean": bool, "array": tuple}
    for field in fields:
        assert type(field.value) is types[field.type], field.path
        assert re.match(r"[A-Z]", field.help) and field.help.endswith("."), field.path
        assert len(field.help) <= 160, field.path
        if field.choices:
            assert field.value in field.choices, field.path
        if field.type in ("number", "integer"):
            assert (field.minimum is None) != (field.above is None), field.path
            assert (field.maximum is None) != (field.below is None), field.path
        json.dumps(field.as_dict())


def test_defaults_of_the_fields_are_those_of_the_spec() -> None:
    spec = RunSpec()
    for field in fields_of({}):
        assert field.value is None
        default = value_at(spec, field.path)
        assert field.default == (list(default) if isinstance(default, tuple) else default), field.path


@pytest.mark.parametrize("group", sorted(CHOICES))
def test_kinds_decide_which_fields_a_group_has(group: str) -> None:
    for kind in CHOICES[group]:
        own = {field.path.partition(".")[2] for field in fields_of({group: kind}) if field.path.startswith(f"{group}.")}
        assert own == set(CHOICES[group][kind].model_fields)
    assert fields_of({group: "no such"}) == fields_of({})


def test_choices_are_all_kinds_in_their_order() -> None:
    by_path = {field.path: field for field in fields_of({})}
    for group, registry in CHOICES.items():
        assert by_path[f"{group}.kind"].choices == tuple(registry)
    assert by_path["task"].choices == tuple(TASKS)
    assert "relu" in by_path["model.activation"].choices
    assert by_path["precision"].choices == ("auto", "fp32", "bf16", "fp16")


@pytest.mark.parametrize("group", sorted(CHOICES))
def test_each_choice_describes_itself_as_json(group: str) -> None:
    for kind in CHOICES[group]:
        said = json.loads(json.dumps(describe_choice(CHOICES[group][kind])))
        assert said["key"] == kind
        assert {"title", "summary", "formula", "source", "tasks", "fields"} <= said.keys()
        assert {field["path"] for field in said["fields"]} == set(CHOICES[group][kind].model_fields)
        assert set(said["tasks"]) <= set(TASKS)


def test_every_regularizer_names_settings_that_exist() -> None:
    paths = {field.path for spec in SPECS.values() for field in fields_of(spec)}
    groups = set(RunSpec.model_fields)
    for item in REGULARIZERS.values():
        for path in item.paths:
            assert path in paths or path in groups, path
    assert {f"regularization.{name}" for name in Regularization.model_fields} <= {
        path for item in REGULARIZERS.values() for path in item.paths
    }
    for field in fields_of({}):
        if field.path.startswith("regularization."):
            assert field.live and field.default == 0 and field.minimum == 0  # zero switches it off


def test_a_registry_refuses_a_class_of_another_kind() -> None:
    registry: Registry[Choice] = Registry("thing")
    with pytest.raises(TypeError, match="other"):

        @registry.add("other", title="", summary="", formula="", source="")
        class Thing(Choice):
            kind: str = "thing"


def test_every_kind_fits_some_task() -> None:
    for registry in (MODELS, LOSSES):
        assert {kind for task in TASKS for kind in registry.for_task(task)} == set(registry)


def test_metric_and_its_direction_come_from_the_task() -> None:
    assert (RunSpec().metric, RunSpec().larger_is_better) == ("val_accuracy", True)
    spec = build_spec({"evaluation": {"metric": "val_loss"}})
    assert (spec.metric, spec.larger_is_better) == ("val_loss", False)
    gan = SPECS["gan optimizer.adam"]
    assert (gan.metric, gan.larger_is_better) == ("frechet", False)
    with pytest.raises(UsageError):
        build_spec({**gan.model_dump(mode="json"), "evaluation": {"metric": "val_loss"}})


def test_the_spec_is_read_without_torch_numpy_or_a_screen() -> None:
    code = (
        "import sys, tuidl.spec, tuidl.spec.schema\n"
        "tuidl.spec.load_preset('mnist-mlp', ['optimizer.lr=0.1'])\n"
        "heavy = {'torch', 'torchvision', 'numpy', 'textual', 'rich', 'safetensors'}\n"
        "print(sorted(heavy & {name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
