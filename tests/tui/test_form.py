"""The form as a model: what it takes, what it keeps, and the command line that says the same."""

import contextlib
import shlex
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuidl.cli import build_parser
from tuidl.errors import UsageError
from tuidl.spec import RunSpec, load_preset, preset_names, value_at
from tuidl.spec.optimizers import SGD, Nesterov
from tuidl.spec.run import CHOICES
from tuidl.spec.schema import Field, fields_of
from tuidl.spec.tasks import TASKS
from tuidl.tui.field_help import bounds_of, entry_of, help_of, label_of
from tuidl.tui.form import HIDDEN, RUN_NAME, SECTIONS, Form, as_text, section_of

PRESETS = ("mnist-mlp", "cifar-cnn", "char-lstm", "mnist-gan")


def form_of(preset: str = "mnist-mlp") -> Form:
    return Form(preset, load_preset(preset))


def spec_of(line: str) -> tuple[RunSpec, str | None]:
    """Return the spec that a command line asks for, read as the command itself reads it, and the run's name."""
    program, *words = shlex.split(line)
    assert program == "tuidl"
    args = build_parser().parse_args(words)
    return load_preset(args.target, args.overrides), args.name


def assert_same(form: Form) -> None:
    spec, name = spec_of(form.command_line())
    assert spec == form.spec
    assert (name or "") == form.run_name


# --- what stands in it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", preset_names())
def test_an_untouched_form_is_the_preset(preset: str) -> None:
    form = form_of(preset)
    assert form.spec == load_preset(preset)
    assert form.changes() == [] and form.errors == {} and form.overrides() == []
    assert form.command_line() == f"tuidl run {preset}"


@pytest.mark.parametrize("preset", PRESETS)
def test_every_setting_stands_in_one_section(preset: str) -> None:
    spec = load_preset(preset)
    for field in fields_of(spec):
        group = field.path.partition(".")[0]
        assert group in HIDDEN or sum(group in names for names in SECTIONS.values()) == 1, field.path


def test_sections_come_in_order_and_know_their_fields() -> None:
    sections = form_of().sections()
    assert list(sections) == ["Data", "Model", "Optimizer", "Regularization", "Schedule", "Training"]
    assert [field.path for field in sections["Optimizer"]][:2] == ["optimizer.kind", "optimizer.lr"]
    assert section_of(RUN_NAME) == "Training" and RUN_NAME in [field.path for field in sections["Training"]]
    assert not [field for fields in sections.values() for field in fields if field.path.startswith("about")]


@pytest.mark.parametrize("preset", PRESETS)
def test_choices_fit_the_task(preset: str) -> None:
    form = form_of(preset)
    for group, registry in CHOICES.items():
        assert form.field(f"{group}.kind").choices == tuple(registry.for_task(form.spec.task))
    for field in form.fields():
        if field.path == "device":
            continue
        for choice in field.choices:
            form.set(field.path, choice)
            if choice != "text":  # which needs a path as well
                assert form.errors == {}, (field.path, choice)
            form.reset_all()


def test_fields_that_mean_nothing_for_the_task_are_left_out() -> None:
    paths = {preset: {field.path for field in form_of(preset).fields()} for preset in PRESETS}
    assert "augmentation.flip" in paths["cifar-cnn"] and "augmentation.flip" not in paths["char-lstm"]
    assert "evaluation.prompt" in paths["char-lstm"] and "evaluation.prompt" not in paths["mnist-mlp"]
    assert "evaluation.sample_images" in paths["mnist-gan"] and "evaluation.probes" not in paths["mnist-gan"]


def test_the_path_of_a_text_appears_with_the_choice_of_it() -> None:
    form = form_of("char-lstm")
    assert "data.path" not in [field.path for field in form.fields()]
    form.set("data.name", "text")
    assert "data.path" in [field.path for field in form.fields()]
    assert form.errors == {"data.name": "data.path is empty; give the text file, as in --set data.path=book.txt"}
    form.set("data.path", "my book.txt")
    assert form.errors == {} and form.spec.data.name == "text" and form.spec.data.path == "my book.txt"
    assert_same(form)
    form.set("data.path", "")
    assert "data.path" in form.errors and form.spec.data.path == "my book.txt"
    form.set("data.name", "tinyshakespeare")
    assert form.errors == {} and form.overrides() == []


def test_devices_are_offered_once_they_are_known() -> None:
    form = form_of()
    assert form.field("device").choices == ("auto", "cpu")
    form.offer_devices(["cuda:0", "cuda:1", "cpu"])
    assert form.field("device").choices == ("auto", "cuda:0", "cuda:1", "cpu")
    form.set("device", "cuda:1")
    form.offer_devices(["cpu"])
    assert "cuda:1" in form.field("device").choices


@pytest.mark.parametrize("preset", PRESETS)
def test_every_field_has_a_name_and_something_to_read(preset: str) -> None:
    form = form_of(preset)
    labels = [label_of(field.path) for field in form.fields()]
    assert all(0 < len(label) <= 24 for label in labels), labels
    for field in form.fields():
        first, *rest = help_of(form, field.path)
        assert first.startswith(field.path) and len(first) > len(field.path) + 8 and rest
        for choice in field.choices:
            entry = entry_of(field.path, choice)
            assert entry is None or (entry.title and entry.summary)


def test_bounds_and_help_say_what_may_stand_there() -> None:
    form = form_of()
    assert bounds_of(form.field("optimizer.lr")) == "> 0 … 1,000"
    assert bounds_of(form.field("optimizer.beta1")) == "0 … < 1"
    assert bounds_of(form.field("regularization.dropout")) == "0 … 0.95 share"
    assert bounds_of(form.field("training.max_steps")) == "steps"
    lines = help_of(form, "optimizer.kind")
    assert "Adam" in lines[0] and "θ ←" in lines[-1] and "Kingma" in lines[-1]
    assert "may change while training" in help_of(form, "optimizer.lr")[1]
    form.set("optimizer.kind", "sgd")
    assert "default: 0.1" in help_of(form, "optimizer.lr")[1]


# --- what it takes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "path", "text", "value"),
    [
        ("mnist-mlp", "optimizer.lr", "1e-3", 0.001),
        ("mnist-mlp", "optimizer.lr", " .5 ", 0.5),
        ("mnist-mlp", "training.epochs", "3", 3),
        ("mnist-mlp", "training.max_steps", "05", 5),
        ("mnist-mlp", "model.batch_norm", "true", True),
        ("mnist-mlp", "model.widths", "300, 200 ,100", (300, 200, 100)),
        ("mnist-mlp", "model.widths", "[30]", (30,)),
        ("mnist-mlp", "model.widths", "", ()),
        ("mnist-mlp", "model.activation", "tanh", "tanh"),
        ("char-lstm", "evaluation.temperatures", "0.2, 1", (0.2, 1.0)),
        ("char-lstm", "evaluation.prompt", r"one\ntwo", "one\ntwo"),
        ("char-lstm", "evaluation.prompt", r"a\\nb", r"a\nb"),
    ],
)
def test_it_reads_what_is_typed(preset: str, path: str, text: str, value: Any) -> None:
    form = form_of(preset)
    form.set(path, text)
    assert form.errors == {} and value_at(form.spec, path) == value and form.changed(path)
    assert_same(form)


@pytest.mark.parametrize(
    ("path", "text", "says"),
    [
        ("optimizer.lr", "", "a number is missing"),
        ("optimizer.lr", "fast", "valid number"),
        ("optimizer.lr", "0", "greater than 0"),
        ("optimizer.lr", "nan", ""),
        ("regularization.dropout", "1", "less than or equal to 0.95"),
        ("training.epochs", "1.5", "integer"),
        ("model.widths", "12, x", ""),
        ("model.widths", "0", "greater than or equal to 1"),
        (RUN_NAME, "../up", "cannot be the name of a run"),
    ],
)
def test_what_does_not_fit_waits_with_one_plain_line(path: str, text: str, says: str) -> None:
    form = form_of()
    form.set("seed", "7")
    before = form.spec
    form.set(path, text)
    assert form.spec == before and form.text(path) == text and form.changed(path)
    error = form.errors[path]
    assert says in error and "\n" not in error and not error.startswith(("form", path))
    assert_same(form)
    form.reset(path)
    assert form.errors == {} and not form.changed(path)


def test_a_blank_at_the_end_of_a_text_is_not_lost_in_silence() -> None:
    form = form_of("char-lstm")
    form.set("evaluation.prompt", r"JULIET:\n")
    spec = form.spec if "evaluation.prompt" not in form.errors else None
    assert spec is None or spec.evaluation.prompt == "JULIET:\n"
    form.set("evaluation.prompt", r"ROMEO:\n")  # as the preset has it
    assert form.errors == {} and form.changes() == [] and form.spec.evaluation.prompt == "ROMEO:\n"


def test_other_fields_go_on_while_one_is_wrong() -> None:
    form = form_of()
    form.set("optimizer.lr", "x")
    form.set("training.epochs", "3")
    form.set("optimizer.beta1", "0.8")
    assert form.spec.training.epochs == 3 and form.spec.optimizer.lr == form.base.optimizer.lr
    assert list(form.errors) == ["optimizer.lr"] and form.text("optimizer.lr") == "x"
    assert set(form.changes()) == {"optimizer.lr", "training.epochs", "optimizer.beta1"}


@pytest.mark.parametrize("text", ["a\x1b[31mb", "a\u202eb", "tab\there", "back\\slash", "\\n", "\\U00000041", "ü ñ 漢"])
def test_strange_texts_stand_in_one_safe_row_and_come_back(text: str) -> None:
    shown = as_text(text)
    assert shown.isprintable()
    form = form_of("char-lstm")
    form.set("evaluation.prompt", shown)
    assert form.errors == {} and form.spec.evaluation.prompt == text
    assert_same(form)


# --- kinds ------------------------------------------------------------------------------------------------------------


def test_a_new_kind_brings_its_own_settings() -> None:
    form = form_of()
    assert form.set("optimizer.kind", "sgd") == ()
    assert form.spec.optimizer == SGD() and form.overrides() == ["optimizer.kind=sgd"]
    paths = [field.path for field in form.fields() if field.path.startswith("optimizer.")]
    assert paths == ["optimizer.kind", "optimizer.lr", "optimizer.weight_decay"]
    assert_same(form)


def test_what_the_user_had_changed_is_kept_where_the_new_kind_has_it() -> None:
    form = form_of("cifar-cnn")
    form.set("optimizer.weight_decay", "0.01")
    form.set("optimizer.momentum", "0.8")
    assert form.set("optimizer.kind", "rmsprop") == ("optimizer.weight_decay", "optimizer.momentum")
    assert form.set("optimizer.kind", "adam") == ("optimizer.weight_decay",)
    assert form.overrides() == ["optimizer.kind=adam", "optimizer.weight_decay=0.01"]
    assert_same(form)


def test_back_at_the_presets_kind_its_values_stand_again() -> None:
    form = form_of("cifar-cnn")
    form.set("optimizer.kind", "sgd")
    form.set("optimizer.lr", "0.3")
    assert form.set("optimizer.kind", "nesterov") == ("optimizer.lr",)
    assert form.spec.optimizer == Nesterov(lr=0.3, weight_decay=form.base.optimizer.weight_decay)
    form.reset("optimizer.lr")
    assert form.overrides() == [] and form.spec == form.base


def test_a_kept_value_that_the_new_kind_does_not_allow_is_left_behind() -> None:
    form = form_of("mnist-gan")
    form.set("loss.d_steps", "7")
    kept = form.set("loss.kind", "wgan-gp")
    assert kept == ("loss.d_steps",) and form.spec.loss.d_steps == 7
    form.set("loss.penalty", "3")
    assert form.set("loss.kind", "least-squares") == ("loss.d_steps",)


def test_an_error_goes_with_the_setting_it_belongs_to() -> None:
    form = form_of()
    form.set("optimizer.beta1", "2")
    form.set("optimizer.lr", "-")
    form.set("optimizer.kind", "sgd")
    assert list(form.errors) == ["optimizer.lr"]


def test_a_kind_that_does_not_fit_or_exist_is_an_error() -> None:
    form = form_of()
    form.set("model.kind", "lstm")
    assert "does not fit task 'classification'" in form.errors["model.kind"]
    form.set("model.kind", "cnnn")
    assert "'cnn'" in form.errors["model.kind"]
    form.set("model.kind", "mlp")
    assert form.errors == {}


# --- steps and resets -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "start", "up", "text"),
    [
        ("optimizer.lr", "0.001", True, "0.002"),
        ("optimizer.lr", "0.001", False, "5e-4"),
        ("training.batch_size", "128", True, "256"),
        ("training.batch_size", "25", False, "12"),
        ("training.batch_size", "1", False, "1"),
        ("training.max_steps", "0", True, "1"),
        ("regularization.dropout", "0.8", True, "0.95"),
        ("regularization.dropout", "0", False, "0"),
        ("optimizer.beta1", "0.9", True, "0.95"),
    ],
)
def test_numbers_are_doubled_and_halved_within_their_bounds(path: str, start: str, up: bool, text: str) -> None:
    form = form_of()
    form.set(path, start)
    form.step(path, up)
    assert form.errors == {} and float(form.text(path)) == float(text)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("up", [True, False])
def test_every_number_can_be_stepped_again_and_again(preset: str, up: bool) -> None:
    form = form_of(preset)
    for field in form.fields():
        if field.type in ("number", "integer"):
            for _ in range(40):
                form.step(field.path, up)
            assert form.errors == {}, field.path
    assert_same(form)


def test_reset_puts_one_or_all_back() -> None:
    form = form_of("cifar-cnn")
    form.set("model.kind", "resnet")
    form.set("training.epochs", "x")
    form.set(RUN_NAME, "mine")
    form.reset("model.kind")
    assert form.spec.model == form.base.model and list(form.errors) == ["training.epochs"]
    form.reset_all()
    assert form.spec == form.base and form.changes() == [] and form.run_name == ""


# --- the command line -------------------------------------------------------------------------------------------------


def test_the_command_line_is_the_shortest_that_says_it() -> None:
    form = form_of()
    form.set("optimizer.kind", "sgd")
    form.set("optimizer.lr", "0.3")
    form.set("model.widths", "64, 32")
    form.set("device", "cpu")
    form.set(RUN_NAME, "try.1")
    assert form.command_line() == (
        "tuidl run mnist-mlp --set 'model.widths=[64,32]' --set optimizer.kind=sgd --set optimizer.lr=0.3 "
        "--set device=cpu --name try.1"
    )
    form.set("optimizer.lr", "0.1")  # SGD's own default needs no word
    assert "optimizer.lr" not in form.command_line()


def test_a_preset_given_as_a_path_is_quoted() -> None:
    assert Form("my presets/a.toml", load_preset("mnist-mlp")).command_line() == "tuidl run 'my presets/a.toml'"


def good(form: Form, field: Field) -> st.SearchStrategy[str]:
    """Return texts that a field may well take."""
    if field.choices:
        return st.sampled_from(field.choices)
    if field.type == "boolean":
        return st.sampled_from(["true", "false"])
    if field.type == "array":
        item = st.sampled_from(["true", "false"]) if "residual" in field.path else st.integers(1, 300).map(str)
        return st.lists(item, max_size=5).map(", ".join)
    if field.type == "string":
        return st.text(max_size=12)
    low = field.minimum if field.minimum is not None else field.above or 0
    high = min(field.maximum if field.maximum is not None else 1.0, 1e4)
    if field.type == "integer":
        return st.integers(int(low), int(max(low, high))).map(str)
    return st.floats(low, max(low, high)).map(repr)


@settings(max_examples=120, deadline=None)
@given(data=st.data(), preset=st.sampled_from(PRESETS))
def test_whatever_is_typed_the_command_line_says_what_the_form_says(data: st.DataObject, preset: str) -> None:
    form = form_of(preset)
    for _ in range(data.draw(st.integers(1, 8))):
        field = data.draw(st.sampled_from(form.fields()))
        text = data.draw(st.one_of(good(form, field), good(form, field), st.text(max_size=8)))
        if data.draw(st.integers(0, 9)) == 0:
            form.reset(field.path)
            continue
        kept = form.set(field.path, text)
        assert all(form.changed(path) for path in kept)
        assert field.path in form.errors or form.text(field.path) == as_text(value_of(form, field.path))
    assert RunSpec.model_validate_json(form.spec.model_dump_json()) == form.spec
    assert_same(form)
    assert form.spec.task == form.base.task and form.spec.about == form.base.about
    overrides = form.overrides()
    kinds = [text for text in overrides if ".kind=" in text]
    for text in overrides:
        if text not in kinds:  # none of them is idle
            rest = [other for other in overrides if other != text]
            with contextlib.suppress(UsageError):
                assert load_preset(preset, rest) != form.spec


def value_of(form: Form, path: str) -> Any:
    return form.run_name if path == RUN_NAME else value_at(form.spec, path)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), preset=st.sampled_from(PRESETS))
def test_text_and_value_are_two_sides_of_one_thing(data: st.DataObject, preset: str) -> None:
    form = form_of(preset)
    field = data.draw(st.sampled_from(form.fields()))
    form.set(field.path, data.draw(good(form, field)))
    if form.errors:
        return
    spec, text = form.spec, form.text(field.path)
    form.set(field.path, text)
    assert form.errors == {} and form.spec == spec and form.text(field.path) == text


def test_a_key_is_taken_at_once() -> None:
    form = form_of("cifar-cnn")
    form.set("model.kernel", "99")  # one that waits costs a second try
    times = []
    for number in range(40):
        begin = time.perf_counter()
        form.set("optimizer.lr", f"0.{number + 1}")
        times.append(time.perf_counter() - begin)
    assert sorted(times)[20] < 0.05  # a fifth of a blink even on a busy machine; on an idle one it is 2 ms


def test_every_task_has_a_preset_here() -> None:
    assert {load_preset(preset).task for preset in PRESETS} == set(TASKS)
