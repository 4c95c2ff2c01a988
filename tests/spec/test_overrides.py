"""`--set` and live changes: typed, in any order, within bounds."""

import itertools
from typing import Any

import pytest

from tuidl.errors import UsageError
from tuidl.spec.load import build_spec, value_at, with_live_change
from tuidl.spec.optimizers import OPTIMIZERS, Momentum
from tuidl.spec.run import CHOICES, RunSpec
from tuidl.spec.schema import fields_of


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("seed=7", "seed", 7),
        ("seed = 7 ", "seed", 7),
        ("seed=1_000", "seed", 1000),
        ("optimizer.lr=0.5", "optimizer.lr", 0.5),
        ("optimizer.lr=.5", "optimizer.lr", 0.5),
        ("optimizer.lr=5.", "optimizer.lr", 5.0),
        ("optimizer.lr=1", "optimizer.lr", 1.0),
        ("optimizer.lr=1e-3", "optimizer.lr", 0.001),
        ("optimizer.lr=1E-3", "optimizer.lr", 0.001),
        ("model.batch_norm=true", "model.batch_norm", True),
        ("model.batch_norm=false", "model.batch_norm", False),
        ("model.widths=[3, 4]", "model.widths", (3, 4)),
        ("model.widths=[]", "model.widths", ()),
        ("model.activation=tanh", "model.activation", "tanh"),
        ("evaluation.temperatures=[0.2,1,2.0]", "evaluation.temperatures", (0.2, 1.0, 2.0)),
        # a text is taken as it is, whatever it looks like
        ("evaluation.prompt=12", "evaluation.prompt", "12"),
        ("evaluation.prompt=true", "evaluation.prompt", "true"),
        ("evaluation.prompt=a=b", "evaluation.prompt", "a=b"),
        ('evaluation.prompt="quoted"', "evaluation.prompt", '"quoted"'),
        ("evaluation.prompt=", "evaluation.prompt", ""),
        ("device=cuda:1", "device", "cuda:1"),
        ("loss.class_weights=[1, 2.5]", "loss.class_weights", (1.0, 2.5)),
        ("regularization.dropout=0", "regularization.dropout", 0.0),
        ("augmentation.crop=4", "augmentation.crop", 4.0),
    ],
)
def test_set_reads_the_value_as_the_setting_needs_it(text: str, path: str, value: Any) -> None:
    found = value_at(build_spec({}, [text]), path)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "seed", "=3", "", "seed=", "seed=x", "seed=1.5", "seed=true", "seed=[1]", "seed=1 2", "seed=nan",
        "optimizer.lr=true", "optimizer.lr=nan", "optimizer.lr=inf", "optimizer.lr=1e999", "optimizer.lr=[0.1]",
        "model.batch_norm=1", "model.batch_norm=yes", "model.batch_norm=True", "model.widths=3", "model.widths=[3,",
        "model.widths=3,4", "optimizer.lr=", "optimizer=adam", "optimizer.lr.x=1", ".lr=1", "optimizer.=1", "seed.=1",
        "model.widths=" + "[" * 900, "seed=" + "9" * 999, "seed=" + "9" * 1001,
    ],
)  # fmt: skip
def test_set_refuses_what_does_not_fit(text: str) -> None:
    with pytest.raises(UsageError):
        build_spec({}, [text])


@pytest.mark.parametrize("text", ["seed=1\nseed=2", "optimizer.lr=0.1\n[model]\nkind='cnn'", "seed=1\nx=2"])
def test_a_value_is_one_value_and_smuggles_in_no_other_line(text: str) -> None:
    with pytest.raises(UsageError):
        build_spec({}, [text])


def test_the_last_of_two_sets_holds() -> None:
    assert build_spec({}, ["seed=1", "seed=2"]).seed == 2
    assert build_spec({}, ["optimizer.kind=sgd", "optimizer.kind=adagrad"]).optimizer.kind == "adagrad"


def test_a_new_kind_brings_its_own_settings() -> None:
    data = {"optimizer": {"kind": "momentum", "lr": 0.7, "momentum": 0.5, "weight_decay": 0.3}, "seed": 9}
    spec = build_spec(data, ["optimizer.kind=nesterov"])
    assert spec.optimizer == OPTIMIZERS["nesterov"](kind="nesterov")
    assert spec.seed == 9  # and nothing else is touched
    assert build_spec(data, ["optimizer.kind=momentum"]).optimizer == Momentum(
        lr=0.7, momentum=0.5, weight_decay=0.3
    )  # the same kind is no change


@pytest.mark.parametrize("group", sorted(CHOICES))
def test_each_kind_that_fits_the_task_can_be_chosen_and_starts_with_its_defaults(group: str) -> None:
    for kind in CHOICES[group].for_task("classification"):
        assert getattr(build_spec({}, [f"{group}.kind={kind}"]), group) == CHOICES[group][kind]()


ORDERLESS = ["optimizer.kind=rmsprop", "optimizer.alpha=0.5", "optimizer.lr=0.25", "model.kind=cnn", "model.kernel=5"]


@pytest.mark.parametrize("order", list(itertools.permutations(range(5))))
def test_sets_apply_in_any_order(order: tuple[int, ...]) -> None:
    spec = build_spec({"optimizer": {"kind": "adam", "beta1": 0.5}}, [ORDERLESS[index] for index in order])
    assert spec.optimizer.model_dump() == {
        "kind": "rmsprop", "alpha": 0.5, "lr": 0.25, "momentum": 0.0, "eps": 1e-8, "weight_decay": 0.0,
    }  # fmt: skip
    assert value_at(spec, "model.kernel") == 5


def test_task_model_loss_and_data_can_be_changed_together() -> None:
    sets = ["task=language", "model.kind=lstm", "data.name=python-docs", "model.width=8"]
    assert build_spec({}, sets) == build_spec({}, sets[::-1])


# --- live changes ----------------------------------------------------------------------------------------------------


def every_kind() -> list[RunSpec]:
    """Return specs that together have every setting there is."""
    groups: list[dict[str, Any]] = [{"optimizer": {"kind": kind}} for kind in OPTIMIZERS]
    groups += [{"schedule": {"kind": kind}} for kind in CHOICES["schedule"]]
    language = {"task": "language", "data": {"name": "python-docs"}}
    for kind in CHOICES["model"].for_task("classification"):
        groups.append({"model": {"kind": kind}})
    for kind in CHOICES["loss"].for_task("classification"):
        groups.append({"loss": {"kind": kind}})
    for kind in CHOICES["model"].for_task("language"):
        groups.append({**language, "model": {"kind": kind}})
    for loss in CHOICES["loss"].for_task("gan"):
        for model in CHOICES["model"].for_task("gan"):
            groups.append({"task": "gan", "model": {"kind": model}, "loss": {"kind": loss}})
    return [build_spec(data) for data in groups]


SPECS = every_kind()


def test_a_live_setting_changes_and_nothing_else() -> None:
    spec = build_spec({"optimizer": {"kind": "momentum"}, "seed": 5})
    changed = with_live_change(spec, "optimizer.momentum", "0.25")
    assert value_at(changed, "optimizer.momentum") == 0.25
    assert value_at(spec, "optimizer.momentum") == 0.9
    expected = spec.model_dump()
    expected["optimizer"]["momentum"] = 0.25
    assert changed.model_dump() == expected


def test_the_knobs_that_the_house_promises_are_live() -> None:
    live = {field.path for spec in SPECS for field in fields_of(spec) if field.live}
    promised = {
        "optimizer.lr", "optimizer.momentum", "optimizer.weight_decay", "regularization.l1", "regularization.dropout",
        "regularization.label_smoothing", "regularization.clip_norm", "augmentation.crop", "evaluation.temperatures",
    }  # fmt: skip
    assert promised <= live
    for path in live:  # what decides how a run is laid out cannot be
        assert not path.endswith(".kind") and path.partition(".")[0] not in (
            "data",
            "training",
            "model",
            "task",
            "seed",
        )


def test_only_live_settings_change_and_only_within_their_bounds() -> None:
    tried = 0
    for spec in SPECS:
        for field in fields_of(spec):
            value = "[1.0]" if field.type == "array" else "0.5"
            if not field.live:
                with pytest.raises(UsageError, match=r"cannot change while training"):
                    with_live_change(spec, field.path, value)
                continue
            if field.type != "number":
                continue
            tried += 1
            low = field.minimum if field.minimum is not None else field.above
            high = field.maximum if field.maximum is not None else field.below
            assert low is not None and high is not None, field.path
            middle = low + (high - low) / 4
            assert value_at(with_live_change(spec, field.path, repr(float(middle))), field.path) == middle
            for bad in (low - 1, high + 1, *([low] if field.minimum is None else []),
                        *([high] if field.maximum is None else [])):  # fmt: skip
                with pytest.raises(UsageError, match=r"out of range"):
                    with_live_change(spec, field.path, repr(float(bad)))
            for word in ("nan", "inf", "fast", "", "true"):
                with pytest.raises(UsageError):
                    with_live_change(spec, field.path, word)
    assert tried > 500


@pytest.mark.parametrize(
    "key", ["", "lr", "optimizer", "optimizer.x", "optimizer.lr ", "optimizer.lr=1", "__class__.x"]
)
def test_a_key_that_is_none_cannot_change(key: str) -> None:
    with pytest.raises(UsageError):
        with_live_change(RunSpec(), key, "0.5")
