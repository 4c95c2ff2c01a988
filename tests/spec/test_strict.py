"""The spec takes nothing that it does not know, and says what was wrong, where, and what is near."""

import math
from pathlib import Path
from typing import Any

import pytest

from tuidl.errors import UsageError
from tuidl.spec.load import PRESET_LIMIT, build_spec, load_preset, preset_names, read_toml, validate
from tuidl.spec.run import RunSpec


def refused(data: Any, *overrides: str) -> str:
    with pytest.raises(UsageError) as caught:
        build_spec(data, overrides)
    message = str(caught.value)
    assert "\n" not in message and message.isprintable()
    assert caught.value.exit_code == 2
    return message


# group, key, wrong value; what the message must name besides key and value
WRONG: list[tuple[str, str, Any, str]] = [
    # bool is an int in Python, but not here
    ("training", "epochs", True, "valid integer"),
    ("training", "epochs", 3.0, "integer"),
    ("training", "epochs", 3.5, "integer"),
    ("training", "epochs", "3", "integer"),
    ("training", "epochs", [3], "integer"),
    ("training", "epochs", None, "integer"),
    ("training", "epochs", 0, "nearest is 1"),
    ("training", "epochs", 100_001, "nearest is 100000"),
    ("training", "batch_size", 10**30, "65536"),
    ("optimizer", "lr", True, "number"),
    ("optimizer", "lr", "0.1", "number"),
    ("optimizer", "lr", 0, "nearest is 1e-06"),
    ("optimizer", "lr", -1.5, "nearest is 1e-06"),
    ("optimizer", "lr", 1000.5, "nearest is 1000"),
    ("optimizer", "lr", float("nan"), "finite"),
    ("optimizer", "lr", float("inf"), "finite"),
    ("optimizer", "beta1", 1, "nearest is 0.999"),
    ("regularization", "dropout", 0.96, "nearest is 0.95"),
    ("regularization", "l1", -0.1, "nearest is 0"),
    ("augmentation", "crop", 9, "nearest is 8"),
    ("augmentation", "crop", -1, "nearest is 0"),
    ("model", "batch_norm", 1, "true or false"),
    ("model", "batch_norm", "yes", "true or false"),
    ("model", "activation", "rellu", "'relu'"),
    ("model", "activation", 3, "string"),
    ("model", "init", "Xavier", "'xavier'"),
    ("model", "widths", 3, "array"),
    ("model", "widths", [10, True], "integer"),
    ("model", "widths", [10, 0], "nearest is 1"),
    ("model", "widths", [1] * 17, "16"),
    ("data", "name", "mnsit", "'mnist'"),
    ("data", "stand_in", "mnist", "drawn-digits"),
    ("data", "validation", 0.51, "nearest is 0.5"),
    ("evaluation", "metric", "accuracy", "val_accuracy"),
    ("evaluation", "temperatures", [], "1 item"),
    ("evaluation", "temperatures", [1.0] * 4, "3 items"),
    ("evaluation", "temperatures", [0.01], "nearest is 0.05"),
    ("evaluation", "prompt", "x" * 501, "500"),
    ("early_stopping", "patience", -1, "nearest is 0"),
    ("about", "title", "x" * 81, "80"),
]


@pytest.mark.parametrize(("group", "key", "value", "hint"), WRONG)
def test_a_wrong_value_is_refused_with_key_and_what_would_do(group: str, key: str, value: Any, hint: str) -> None:
    message = refused({group: {key: value}})
    assert f"{group}.{key}" in message
    assert hint in message
    if isinstance(value, bool):
        assert f"= {str(value).lower()}" in message
    elif isinstance(value, int | float) and math.isfinite(value):
        assert f"= {value}" in message
    elif isinstance(value, str):
        assert value[:40] in message


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        ({"sed": 1}, "'seed'"),
        ({"optimiser": {"kind": "adam"}}, "'optimizer'"),
        ({"optimizer": {"kind": "adam", "beta_1": 0.5}}, "'optimizer.beta1'"),
        ({"optimizer": {"kind": "sgd", "momentum": 0.5}}, "optimizer."),  # another optimizer has it
        ({"optimizer": {"kind": "adm"}}, "'adam'"),
        ({"optimizer": {"kind": 3}}, "optimizer.kind"),
        ({"model": {"kind": "cnn", "chanels": [3]}}, "'model.channels'"),
        ({"regularization": {"l_1": 0.1}}, "'regularization.l1'"),
        ({"augmentation": {"flipp": 0.1}}, "'augmentation.flip'"),
        ({"schedule": {"kind": "cosin"}}, "'cosine'"),
        ({"loss": {"kind": "crossentropy"}}, "'cross-entropy'"),
        ({"about": {"titel": "x"}}, "'about.title'"),
        ({"device": "gpu"}, "auto, cpu, cuda"),
        ({"device": "cuda:123"}, "auto, cpu, cuda"),
        ({"precision": "fp8"}, "bf16"),
        ({"seed": 2**31}, "nearest is 2147483647"),
        ({"seed": -1}, "nearest is 0"),
        ({"seed": True}, "integer"),
        ({"task": "classifcation"}, "'classification'"),
    ],
)
def test_an_unknown_key_or_choice_is_refused_with_the_nearest(data: dict[str, Any], hint: str) -> None:
    assert hint in refused(data)


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        ({"task": "language"}, "rnn, lstm, gru"),
        ({"task": "gan", "model": {"kind": "dcgan"}}, "non-saturating"),
        ({"model": {"kind": "lstm"}}, "mlp, cnn"),
        ({"loss": {"kind": "wgan-gp"}}, "cross-entropy"),
        ({"data": {"name": "tinyshakespeare"}}, "mnist"),
        ({"task": "language", "model": {"kind": "gru"}}, "tinyshakespeare"),
        ({"data": {"stand_in": "python-docs"}}, "images"),
        ({"task": "language", "model": {"kind": "gru"}, "data": {"name": "text"}}, "data.path"),
        ({"evaluation": {"metric": "frechet"}}, "val_accuracy"),
    ],
)
def test_what_does_not_fit_together_is_refused_with_what_would(data: dict[str, Any], hint: str) -> None:
    assert hint in refused(data)


@pytest.mark.parametrize("group", sorted(RunSpec.model_fields))
@pytest.mark.parametrize("value", [5, "text", [1], None, True, 1.5])
def test_a_group_that_is_no_table_and_a_number_that_is_one_are_refused(group: str, value: Any) -> None:
    try:
        spec = build_spec({group: value})
    except UsageError as error:
        assert group in str(error)
    else:
        assert getattr(spec, group) == value and group == "seed"


@pytest.mark.parametrize("group", ["model", "optimizer", "training", "about"])
@pytest.mark.parametrize("value", [5, "text", [1], None])
@pytest.mark.parametrize("key", ["kind", "lr", "epochs", "title"])
def test_set_on_a_group_that_is_no_table_is_refused_too(group: str, value: Any, key: str) -> None:
    text = {"kind": "mlp", "lr": "0.1", "epochs": "3", "title": "x"}[key]
    with pytest.raises(UsageError):
        build_spec({group: value}, [f"{group}.{key}={text}"])


def test_nothing_is_taken_over_from_what_is_handed_in() -> None:
    data: dict[str, Any] = {"optimizer": {"kind": "sgd"}, "model": {"widths": [3]}}
    spec = build_spec(data, ["optimizer.lr=0.5", "training.epochs=3", "model.kind=cnn"])
    assert data == {"optimizer": {"kind": "sgd"}, "model": {"widths": [3]}}
    with pytest.raises(ValueError, match="frozen"):
        spec.seed = 3  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        spec.optimizer.lr = 3  # type: ignore[misc]


def test_text_of_a_message_is_cut_and_clean() -> None:
    message = refused({"optimizer": {"lr": "\x1b[31m" + "x" * 5000}})
    assert "\x1b" not in message and len(message) < 400
    assert "\x1b" not in refused({"\x1b[31mseed": 1})
    assert len(refused({"x" * 5000: 1})) < 400
    assert len(refused({}, "x" * 5000 + "=1")) < 800  # all the keys there are
    assert len(refused({}, "x" * 5000)) < 400


# --- files -----------------------------------------------------------------------------------------------------------


def preset(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "own.toml"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_sound_and_tells_what_it_is(name: str) -> None:
    spec = load_preset(name)
    about = spec.about
    assert about.title and about.shows and about.expected and about.time_cpu and about.time_gpu
    assert len(about.things_to_try) >= 2
    assert spec.data.stand_in != "none"  # each runs without a network


def test_a_preset_may_be_a_file(tmp_path: Path) -> None:
    path = preset(tmp_path, b'seed = 3\n[optimizer]\nkind = "sgd"\nlr = 0.25\n')
    spec = load_preset(str(path), ["seed=4"])
    assert (spec.seed, spec.optimizer.kind, spec.optimizer.lr) == (4, "sgd", 0.25)


def test_an_empty_preset_is_the_default(tmp_path: Path) -> None:
    assert load_preset(str(preset(tmp_path, b""))) == RunSpec()


def test_a_preset_larger_than_16_kb_is_not_read(tmp_path: Path) -> None:
    assert PRESET_LIMIT == 16 * 1024
    line = b"seed = 3\n"
    just = preset(tmp_path, line + b"#" * (PRESET_LIMIT - len(line)))
    assert read_toml(just) == {"seed": 3}
    with pytest.raises(UsageError, match="16 KB"):
        read_toml(preset(tmp_path, line + b"#" * (PRESET_LIMIT - len(line) + 1)))


@pytest.mark.parametrize(
    "content",
    [b"seed = ", b"seed = 1\nseed = 2", b"\xff\xfe", b"a.b = " + b"[" * 5000, b"x = 1e", b"\x00", b"[[[",
     b"seed = " + b"9" * 5000, b"seed = 0x" + b"f" * 5000],
)  # fmt: skip
def test_a_file_that_is_no_preset_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UsageError, match=r"own\.toml"):
        load_preset(str(preset(tmp_path, content)))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.toml", tmp_path):
        with pytest.raises(UsageError, match="cannot read"):
            read_toml(path)
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(UsageError, match="cannot read"):
        load_preset(str(tmp_path / "folder.toml"))


def test_a_preset_that_is_not_known_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="'mnist-mlp'"):
        load_preset("mnist-mpl")
    with pytest.raises(UsageError):
        load_preset("../presets/mnist-mlp")
    with pytest.raises(UsageError):
        load_preset("")


def test_a_fault_in_a_file_names_the_file(tmp_path: Path) -> None:
    path = preset(tmp_path, b'[optimizer]\nkind = "sgd"\nlr = "fast"\n')
    with pytest.raises(UsageError, match=r"own\.toml: optimizer\.lr"):
        load_preset(str(path))
    with pytest.raises(UsageError, match=r"own\.toml with --set: optimizer\.lr"):
        load_preset(str(path), ["seed=1"])


@pytest.mark.parametrize("value", [b"1979-05-27", b"07:32:00", b"1979-05-27T07:32:00Z", b"nan", b"-inf", b"{a=1}"])
def test_toml_values_that_no_setting_has_are_refused(tmp_path: Path, value: bytes) -> None:
    with pytest.raises(UsageError):
        load_preset(str(preset(tmp_path, b"[optimizer]\nlr = " + value)))


@pytest.mark.parametrize("data", [None, 3, "text", [], [{}], {"model": None}])
def test_a_stored_spec_that_is_none_is_refused(data: Any) -> None:
    with pytest.raises(UsageError, match=r"run\.json"):
        validate(data, where="run.json")
