"""Set-up as a screen: its keys, and what it tells the program."""

import shlex

import pytest
from setupkit import setup
from textual.message import Message
from textual.widgets import OptionList, Static

from tuidl.spec import load_preset
from tuidl.tui.fields import LABEL, FormView
from tuidl.tui.form import RUN_NAME
from tuidl.tui.screens.dialogs import Confirm
from tuidl.tui.screens.setup import SetupScreen, broken
from tuidl.tui.screens.setup_dialogs import Choices, SaveAs

# --- moving -----------------------------------------------------------------------------------------------------------


async def test_it_begins_at_the_first_field_and_goes_through_all() -> None:
    async with setup() as driver:
        paths = [field.path for field in driver.form.fields()]
        seen = []
        for _ in paths:
            seen.append(driver.view.path)
            await driver.press("down")
        assert seen == paths and driver.view.path == paths[0]
        await driver.press("up", "up")
        assert driver.view.path == paths[-2]
        await driver.press("tab", "tab")
        assert driver.view.path == paths[0]
        await driver.press("shift+tab")
        assert driver.view.path == paths[-1]


@pytest.mark.parametrize("size", [(120, 40), (80, 24), (60, 20)])
async def test_the_field_under_the_cursor_is_in_sight(size: tuple[int, int]) -> None:
    async with setup("cifar-cnn", size) as driver:
        for key in ("down", "pagedown", "pageup", "up"):
            for _ in range(60 if key in ("down", "up") else 8):
                await driver.press(key)
                assert [row for row in driver.rows if row.startswith("▸")], (key, driver.view.path)
                if driver.view.here.typed:
                    assert driver.view.input.region.y == next(
                        y for y, row in enumerate(driver.rows) if row.startswith("▸")
                    )


async def test_pages_go_from_section_to_section() -> None:
    async with setup() as driver:
        found = []
        for _ in range(6):
            found.append(driver.view.path)
            await driver.press("pagedown")
        firsts = ["data.name", "model.kind", "optimizer.kind", "regularization.l1", "schedule.kind", "training.epochs"]
        assert found == firsts and driver.view.path == firsts[0]
        await driver.press("pagedown", "down", "down", "pageup")
        assert driver.view.path == "model.kind"
        await driver.press("pageup")
        assert driver.view.path == "data.name"


async def test_the_help_follows_the_cursor() -> None:
    async with setup() as driver:
        await driver.to("optimizer.kind")
        assert "Adam" in driver.said("#help") and "Kingma" in driver.said("#help")
        await driver.to("optimizer.lr")
        assert "how far a step goes" in driver.said("#help") and "> 0 … 1,000" in driver.said("#help")


# --- changing ---------------------------------------------------------------------------------------------------------


async def test_typing_changes_the_setting_marks_it_and_tells_the_command() -> None:
    async with setup() as driver:
        await driver.to("optimizer.lr")
        await driver.type("5e-3")
        assert driver.form.spec.optimizer.lr == 0.005
        assert driver.row("lr").startswith("▸*") and "5e-3" in driver.row("lr")
        assert "* 1 changed" in driver.said("#title") and "Optimizer · 1 changed" in driver.text
        assert "--set optimizer.lr=0.005" in driver.said("#command")
        await driver.press("enter")
        assert driver.view.path == "optimizer.weight_decay" and "0.005" in driver.row("lr")  # as the form writes it


async def test_what_is_not_valid_is_said_and_waits() -> None:
    async with setup() as driver:
        await driver.to("regularization.dropout")
        await driver.type("2")
        assert driver.row("dropout").startswith("▸✗") and "✗ 2 is out of" in driver.row("dropout")
        assert "✗ 2 is out of range: should be less than or equal to 0.95" in driver.said("#help")
        assert "✗ 1 not valid yet" in driver.said("#title") and driver.form.spec.regularization.dropout == 0
        await driver.press("down", "up")
        assert driver.view.input.value == "2"  # it is kept as it was typed
        await driver.press("ctrl+t")
        assert driver.app.started == [] and "dropout" in driver.toasts[-1]
        await driver.type("0.2")
        assert "not valid" not in driver.said("#title")


async def test_start_goes_to_the_field_that_is_not_valid() -> None:
    async with setup() as driver:
        await driver.to("training.epochs")
        await driver.type("x")
        await driver.to("data.name")
        await driver.press("f5")
        assert driver.view.path == "training.epochs" and driver.app.started == []


async def test_choices_turn_both_ways_and_space_turns_too() -> None:
    async with setup() as driver:
        await driver.to("model.activation")
        choices = driver.view.here.field.choices
        start = choices.index("relu")
        await driver.press("right")
        assert driver.form.spec.model.activation == choices[start + 1]
        await driver.press("left", "left")
        assert driver.form.spec.model.activation == choices[start - 1]
        await driver.press("space")
        assert driver.form.spec.model.activation == "relu" and driver.form.changes() == []


async def test_enter_shows_all_choices_with_what_they_do() -> None:
    async with setup() as driver:
        await driver.to("optimizer.kind")
        await driver.press("enter")
        assert isinstance(driver.app.screen, Choices)
        options = driver.app.screen.query_one(OptionList)
        words = str(options.get_option_at_index(1).prompt)
        assert options.option_count == 13 and "sgd" in words and "cheap and noisy" in words
        assert options.highlighted == driver.view.here.field.choices.index("adam")
        await driver.press("home", "down", "enter")
        assert driver.app.screen is driver.screen and driver.form.spec.optimizer.kind == "sgd"
        await driver.press("enter", "escape")
        assert driver.app.screen is driver.screen and driver.form.spec.optimizer.kind == "sgd"


async def test_a_new_kind_swaps_its_fields_in_and_says_what_was_kept() -> None:
    async with setup() as driver:
        await driver.to("optimizer.lr")
        await driver.type("0.3")
        await driver.to("optimizer.kind")
        while driver.form.spec.optimizer.kind != "nesterov":
            await driver.press("left")
        assert "beta1" not in driver.text and driver.row("momentum")
        assert driver.form.overrides() == ["optimizer.kind=nesterov", "optimizer.lr=0.3"]
        assert driver.view.path == "optimizer.kind"
        await driver.press("ctrl+r")
        assert driver.form.spec.optimizer.kind == "adam" and driver.row("beta1")
        assert "kept, as you had changed it: lr = 0.3" in driver.said("#help")


async def test_a_switch_switches() -> None:
    async with setup() as driver:
        await driver.to("model.batch_norm")
        for key in ("space", "enter", "right", "left"):
            before = driver.form.spec.model.batch_norm
            await driver.press(key)
            assert driver.form.spec.model.batch_norm is not before
            assert ("[x] on" if not before else "[ ] off") in driver.row("batch norm")


async def test_numbers_are_doubled_and_halved() -> None:
    async with setup() as driver:
        await driver.to("training.batch_size")
        before = driver.form.spec.training.batch_size
        await driver.press("greater_than_sign")
        assert driver.form.spec.training.batch_size == 2 * before and driver.view.input.value == str(2 * before)
        await driver.press("less_than_sign", "ctrl+down")
        assert driver.form.spec.training.batch_size == before // 2
        await driver.press("ctrl+up")
        assert driver.form.changes() == []


async def test_a_sign_is_a_character_where_a_text_is_typed() -> None:
    async with setup("char-lstm") as driver:
        await driver.to("evaluation.prompt")
        await driver.type("a<b>")
        assert driver.form.spec.evaluation.prompt == "a<b>"


async def test_one_key_resets_a_field_and_another_all() -> None:
    async with setup() as driver:
        for path, text in (("optimizer.lr", "x"), ("training.epochs", "3"), ("model.widths", "7")):
            await driver.to(path)
            await driver.type(text)
        await driver.press("ctrl+r")
        assert driver.view.input.value == "250, 100" and set(driver.form.changes()) == {
            "optimizer.lr",
            "training.epochs",
        }
        await driver.press("f8")
        assert driver.form.changes() == [] and "as the preset has it" in driver.said("#title")


async def test_the_name_of_the_run_is_checked() -> None:
    async with setup() as driver:
        await driver.to(RUN_NAME)
        await driver.type("my run")
        assert RUN_NAME in driver.form.errors
        await driver.type("my-run")
        await driver.press("ctrl+t")
        assert driver.app.started[0].run_name == "my-run"


async def test_the_mouse_goes_turns_switches_and_lists() -> None:
    async with setup() as driver:
        at = {label: y for y, row in enumerate(driver.rows) for label in [row[2 : LABEL - 1].strip()] if label}
        await driver.pilot.click(FormView, offset=(5, at["widths"] - 1))
        assert driver.view.path == "model.widths" and driver.view.input.has_focus
        await driver.pilot.click(FormView, offset=(LABEL + 1, at["batch norm"] - 1))
        assert driver.form.spec.model.batch_norm is True
        await driver.pilot.click(FormView, offset=(LABEL, at["activation"] - 1))
        assert driver.form.spec.model.activation == "tanh"
        await driver.pilot.click(FormView, offset=(LABEL + 7, at["activation"] - 1))
        assert driver.form.spec.model.activation == "relu"
        await driver.pilot.click(FormView, offset=(LABEL + 3, at["activation"] - 1))
        await driver.pilot.pause()
        assert isinstance(driver.app.screen, Choices)


# --- leaving ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["ctrl+t", "f5"])
@pytest.mark.parametrize("path", ["optimizer.kind", "optimizer.lr", "model.batch_norm"])
async def test_start_works_from_any_field_and_once(key: str, path: str) -> None:
    async with setup() as driver:
        await driver.to("training.epochs")
        await driver.type("2")
        await driver.to(path)
        await driver.press(key, key)
        assert len(driver.app.started) == 1
        event = driver.app.started[0]
        assert isinstance(event, Message) and event.preset == "mnist-mlp" and event.run_name == ""
        assert event.spec == load_preset("mnist-mlp", ["training.epochs=2"])


async def test_escape_leaves_at_once_when_nothing_is_changed() -> None:
    async with setup() as driver:
        await driver.press("escape")
        assert driver.app.screen is not driver.screen and driver.app.started == []


async def test_escape_asks_before_changes_are_forgotten() -> None:
    async with setup() as driver:
        await driver.to("model.batch_norm")
        await driver.press("space", "q")
        assert isinstance(driver.app.screen, Confirm)
        await driver.press("escape")
        assert driver.app.screen is driver.screen and driver.form.spec.model.batch_norm
        await driver.press("escape", "enter")
        assert not isinstance(driver.app.screen, SetupScreen | Confirm)


async def test_q_is_a_letter_where_a_text_is_typed() -> None:
    async with setup("char-lstm") as driver:
        await driver.to("evaluation.prompt")
        await driver.type("q?")
        assert driver.form.spec.evaluation.prompt == "q?" and driver.app.screen is driver.screen


async def test_save_makes_a_preset_of_ones_own() -> None:
    async with setup() as driver:
        await driver.to("optimizer.lr")
        await driver.type("0.5")
        await driver.press("ctrl+s")
        assert isinstance(driver.app.screen, SaveAs)
        await driver.press("enter")
        assert "cannot be the name" in driver.app.screen.query_one("#save-problem", Static).content.plain
        await driver.press(*"mine", "enter")
        assert driver.app.screen is driver.screen and "tuidl run mine" in driver.toasts[-1]
        saved = load_preset("mine")
        assert saved.optimizer == driver.form.spec.optimizer and saved.about.title == "mnist-mlp, optimizer.lr=0.5"
        await driver.press("ctrl+s", *"mine", "enter")
        assert "exists already" in driver.app.screen.query_one("#save-problem", Static).content.plain
        await driver.press("escape")
        assert driver.app.screen is driver.screen


async def test_copy_hands_the_command_to_the_terminal_and_shows_it() -> None:
    async with setup() as driver:
        await driver.to("model.widths")
        await driver.type("64, 32")
        await driver.press("ctrl+y")
        line = "tuidl run mnist-mlp --set 'model.widths=[64,32]'"
        assert driver.app.clipboard == line and line in driver.toasts[-1]


async def test_a_run_that_is_repeated_stands_in_the_command() -> None:
    async with setup(target="mlp-1") as driver:
        assert driver.said("#command") == "tuidl run mlp-1"
        await driver.press("ctrl+t")
        assert driver.app.started[0].preset == "mnist-mlp"


@pytest.mark.parametrize("width", [20, 40, 60, 200])
def test_a_command_in_lines_is_still_the_command(width: int) -> None:
    words = ["tuidl", "run", "my preset", "--set", "model.widths=[1,2,3]", "--set", "optimizer.lr=0.1", "--name", "a"]
    lines = broken(words, width)
    assert shlex.split(" ".join(line.removesuffix("\\") for line in lines)) == words
    assert all(line.endswith(" \\") for line in lines[:-1]) and not lines[-1].endswith("\\")
