"""The preview beside the form: what it asks, what it shows, and when."""

import asyncio
from typing import Any

import pytest
from setupkit import GPUS, LAYERS, FakeCompanion, image_samples, setup, text_samples
from textual.app import App
from textual.widgets import Input

from tuidl.errors import UsageError
from tuidl.spec import RunSpec, load_preset
from tuidl.tui.companion import CompanionError, SupersededError
from tuidl.tui.draw.palette import palette_of
from tuidl.tui.screens.setup_preview import (
    PREPARING,
    VIEWS,
    Known,
    data_line,
    learning_rates,
    steps_per_epoch,
    total_steps,
)

# --- the preview ------------------------------------------------------------------------------------------------------


async def test_the_preview_follows_the_section() -> None:
    async with setup() as driver:
        views = []
        for _ in range(6):
            views.append(driver.screen.preview.view)
            await driver.press("pagedown")
        assert views == ["Data", "Learning", "Learning", "Learning", "Learning", "Device"]


async def test_data_shows_where_it_is_its_splits_and_samples() -> None:
    async with setup() as driver:
        assert "MNIST is not here: it would be downloaded" in driver.text and "else Drawn digits" in driver.text
        assert "55,000 train · 5,000 validation" in driver.text and "examples of each class" in driver.text
        await driver.press("right", "right", "right")  # to the drawn digits
        await driver.settle()
        assert driver.form.spec.data.name == "drawn-digits" and "is made on the spot" in driver.text


async def test_text_is_shown_clean_and_never_read_as_markup() -> None:
    async with setup("char-lstm") as driver:
        assert "65 different characters" in driver.text and "[red]any[/red]" in driver.text
        assert "\x1b" not in driver.text and "␛]52;c;evil" in driver.text


async def test_learning_shows_the_schedule_and_the_layers() -> None:
    async with setup() as driver:
        await driver.to("schedule.kind")
        assert "learning rate" in driver.text and "1,000,350 parameters" in driver.text and "196,250" in driver.text
        assert "10 epochs × 429 = 4,290 steps" in driver.text
        await driver.to("training.max_steps")
        await driver.type("100")
        await driver.press("pageup", "pageup")
        assert "ends after 100 steps" in driver.text


async def test_device_shows_each_gpu_who_uses_it_and_which_is_taken() -> None:
    async with setup() as driver:
        await driver.to("device")
        assert driver.view.here.field.choices == ("auto", "cuda:0", "cuda:1", "cpu")
        assert "▸ cuda:1  H200" in driver.text and "chosen: it has the most free memory" in driver.text
        assert "140.0 GB of 150.0 GB free · 0 % busy" in driver.text
        assert "anna␛[2J: python 130.0 GB (pid 42)" in driver.text
        await driver.press("right")
        assert "▸ cuda:0  H200" in driver.text and "chosen: asked for" in driver.text


async def test_before_torch_is_loaded_one_still_line_says_so() -> None:
    companion = FakeCompanion()
    gate = asyncio.Event()
    companion.gate = lambda name, arguments: gate
    async with setup(companion=companion) as driver:
        assert "looking whether it is here" in driver.text
        await driver.to("model.widths")
        assert PREPARING in driver.text and "10 epochs" in driver.text  # the schedule needs no torch
        await driver.type("9")
        assert driver.form.spec.model.widths == (9,)  # and the keys never wait
        gate.set()
        await driver.settle()
        assert "1,000,009 parameters" in driver.text


async def test_a_question_is_asked_again_only_when_its_answer_may_differ() -> None:
    async with setup() as driver:
        counts = driver.companion.count
        assert (counts("describe"), counts("samples"), counts("devices"), counts("data")) == (1, 1, 1, 1)
        await driver.to("augmentation.shift")
        await driver.type("3")
        await driver.settle()
        assert counts("describe") == 1 and counts("samples") >= 2
        assert driver.companion.asked[-1][1]["spec"]["augmentation"]["shift"] == 3.0
        before = len(driver.companion.asked)
        await driver.to("schedule.kind")
        await driver.press("right")
        await driver.settle()
        assert len(driver.companion.asked) == before


async def test_it_waits_for_a_pause_in_the_typing() -> None:
    async with setup() as driver:
        before = len(driver.companion.asked)
        await driver.to("model.widths")
        await driver.type("123")
        assert len(driver.companion.asked) == before


async def test_a_pause_in_the_typing_asks() -> None:
    asked = asyncio.Event()

    class Companion(FakeCompanion):
        async def ask(self, name: str, **arguments: Any) -> Any:
            if name == "describe" and arguments["spec"]["model"]["widths"] == [123]:
                asked.set()
            return await super().ask(name, **arguments)

    async with setup(companion=Companion(), patience=0.001) as driver:
        await driver.to("model.widths")
        await driver.type("123")
        await asyncio.wait_for(asked.wait(), 30)


async def test_an_answer_that_comes_too_late_is_not_shown() -> None:
    companion = FakeCompanion()
    first, late = asyncio.Event(), []

    def gate(name: str, arguments: dict[str, Any]) -> asyncio.Event | None:
        if name == "describe" and arguments["spec"]["model"]["widths"] == [1]:
            late.append(name)
            return first
        return None

    companion.gate = gate
    async with setup(companion=companion) as driver:
        await driver.settle()
        await driver.to("model.widths")
        await driver.type("1")
        driver.screen._ask_what_changed()
        await driver.pilot.pause()
        assert late == ["describe"]
        await driver.type("12")
        await driver.settle()
        first.set()
        await driver.settle()
        assert "1,000,012 parameters" in driver.text


async def test_what_cannot_be_built_is_one_line_and_the_rest_stands() -> None:
    async with setup() as driver:
        driver.companion.broken["describe"] = CompanionError("the image is too small for 5 poolings\x1b[0m")
        await driver.to("model.widths")
        await driver.type("3")
        await driver.settle()
        assert "✗ the image is too small for 5 poolings␛[0m" in driver.text and "learning rate" in driver.text
        driver.companion.broken.clear()
        await driver.type("4")
        await driver.settle()
        assert "✗ the image" not in driver.text and "1,000,004 parameters" in driver.text


async def test_without_a_companion_everything_else_works() -> None:
    companion = FakeCompanion()
    companion.broken = {name: UsageError("it is gone") for name in ("describe", "samples", "devices", "data")}
    async with setup(companion=companion) as driver:
        await driver.settle()
        for path in ("data.name", "model.kind", "device"):
            await driver.to(path)
            assert "✗ it is gone" in driver.text
        await driver.press("ctrl+t")
        assert len(driver.app.started) == 1


async def test_a_fault_in_an_answer_is_said_and_the_form_goes_on() -> None:
    companion = FakeCompanion()
    companion.broken = {"describe": ZeroDivisionError("by zero")}
    async with setup(companion=companion) as driver:
        await driver.settle()
        await driver.to("model.widths")
        assert "✗ ZeroDivisionError: by zero" in driver.text
        await driver.type("3")
        assert driver.form.spec.model.widths == (3,)


async def test_being_superseded_is_no_problem() -> None:
    companion = FakeCompanion()
    companion.broken = {"describe": SupersededError("superseded")}
    async with setup(companion=companion) as driver:
        await driver.settle()
        await driver.to("model.kind")
        assert "superseded" not in driver.text


async def test_the_screen_may_go_while_answers_are_on_their_way() -> None:
    companion = FakeCompanion()
    gate = asyncio.Event()
    companion.gate = lambda name, arguments: gate
    async with setup(companion=companion) as driver:
        await driver.press("escape")
        gate.set()
        await driver.pilot.pause()
        assert driver.app.screen is not driver.screen


async def test_f9_goes_to_the_preview_and_back() -> None:
    async with setup(size=(80, 24)) as driver:
        await driver.to("optimizer.lr")
        assert not driver.screen.preview.is_on_screen
        await driver.press("f9")
        assert driver.screen.preview.has_focus and "parameters" in driver.text and "tuidl run mnist-mlp" in driver.text
        await driver.press("right")
        assert "[Device]" in driver.text
        await driver.press("left", "left")
        assert "[Data]" in driver.text
        await driver.press("f9")
        assert driver.view.input.has_focus and driver.row("lr").startswith("▸")
        await driver.press("f9", "escape")
        assert driver.app.screen is driver.screen and driver.view.input.has_focus


async def test_a_long_model_can_be_scrolled() -> None:
    companion = FakeCompanion()
    layers = [{"name": f"layer{at}", "kind": "Conv2d", "shape": [64, 32, 32], "parameters": at} for at in range(60)]

    async def ask(name: str, **arguments: Any) -> Any:
        if name == "describe":
            return {"layers": layers, "parameters": 1, "memory": 4e6, "activations": 9e6}
        return await FakeCompanion.ask(companion, name, **arguments)

    companion.ask = ask  # type: ignore[method-assign]
    async with setup(companion=companion) as driver:
        await driver.settle()
        await driver.to("model.kind")
        assert "more rows: F9, then ↓" in driver.text and "layer59" not in driver.text
        assert "about 4.0 MB while training" in driver.text
        await driver.press("f9", *["pagedown"] * 6)
        assert "layer59" in driver.text and "more rows" not in driver.text
        await driver.press("up")
        assert "more rows" in driver.text


# --- sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["mnist-mlp", "char-lstm", "mnist-gan"])
async def test_any_size_is_survived(preset: str) -> None:
    async with setup(preset, (120, 40)) as driver:
        for size in [(60, 20), (1, 1), (300, 100), (20, 5), (100, 12), (99, 24), (3, 60), (80, 24)]:
            await driver.pilot.resize_terminal(*size)
            await driver.press("pagedown", "down", "f9", "right", "f9")
        assert [row for row in driver.rows if row.startswith("▸")]


@pytest.mark.parametrize("width", [60, 80, 99])
async def test_a_narrow_terminal_shows_the_form_alone(width: int) -> None:
    async with setup(size=(width, 24)) as driver:
        assert driver.view.size.width == width and not driver.screen.preview.is_on_screen


@pytest.mark.parametrize("width", [100, 120, 200])
async def test_a_wide_one_shows_both(width: int) -> None:
    async with setup(size=(width, 40)) as driver:
        assert driver.screen.preview.is_on_screen and driver.view.size.width >= 56


# --- the numbers behind ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["mnist-mlp", "char-lstm", "mnist-gan"])
@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("size", [(1, 1), (5, 3), (40, 14), (54, 33), (200, 60)])
def test_every_view_is_drawn_in_every_size(preset: str, name: str, size: tuple[int, int]) -> None:
    spec = load_preset(preset)
    samples = text_samples() if spec.task == "language" else image_samples(spec.model_dump(mode="json"))
    look = palette_of(App().theme_variables)
    for known in (Known(spec), Known(spec, {"layers": LAYERS, "parameters": 3}, samples, GPUS, {})):
        for coloured in (True, False):
            for row in VIEWS[name](known, *size, look, coloured):
                assert row.cell_length == size[0]


def spec_with(*overrides: str, preset: str = "mnist-mlp") -> RunSpec:
    return load_preset(preset, overrides)


@pytest.mark.parametrize(
    ("spec", "examples", "steps"),
    [
        (spec_with("training.batch_size=128"), 55_000, 429),
        (spec_with("training.batch_size=128"), 100, 1),
        (spec_with("optimizer.kind=gradient-descent"), 55_000, 1),
        (spec_with("training.batch_size=64", "model.unroll=64", preset="char-lstm"), 1_003_856, 244),
        (spec_with("training.batch_size=64", "model.carry_state=false", preset="char-lstm"), 1_003_856, 245),
        (spec_with("loss.kind=wgan-gp", "loss.d_steps=5", "training.batch_size=128", preset="mnist-gan"), 55_000, 85),
    ],
)
def test_steps_are_counted_as_the_trainer_counts_them(spec: RunSpec, examples: int, steps: int) -> None:
    assert steps_per_epoch(spec, examples) == steps


def test_the_curve_goes_from_the_first_step_to_the_last() -> None:
    spec = spec_with("schedule.kind=cosine", "training.epochs=10", "optimizer.lr=0.5")
    steps, rates = learning_rates(spec, 100)
    assert steps[0] == 0 and steps[-1] == total_steps(spec, 100) - 1 == 999
    assert rates[0] == 0.5 and rates[-1] < 0.001 and len(steps) == len(rates) == 200
    short = spec_with("training.max_steps=3")
    assert learning_rates(short, 100)[0] == [0, 1, 2]


def test_where_data_is_said_in_a_sentence() -> None:
    spec = spec_with(preset="cifar-cnn")
    assert data_line(Known(spec), "cifar10") == ("", "CIFAR-10: looking whether it is here")
    here = Known(spec, data={"cifar10": {"state": "present"}})
    assert data_line(here, "cifar10") == ("✓", "CIFAR-10 is here")
    absent = Known(spec, data={"cifar10": {"state": "absent"}})
    sign, sentence = data_line(absent, "cifar10")
    assert sign == "↓" and sentence.endswith("it would be downloaded (170.5 MB), else Drawn shapes")


async def test_the_input_neither_blinks_nor_selects() -> None:
    async with setup() as driver:
        await driver.to("optimizer.lr")
        field = driver.view.query_one(Input)
        assert not field.cursor_blink and field.selection.is_empty
        assert field.cursor_position == len(field.value)
