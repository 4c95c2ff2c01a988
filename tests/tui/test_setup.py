"""Set-up as a screen: its keys, its preview, and what it tells the program."""

import asyncio
import base64
import contextlib
import shlex
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from textual.app import App
from textual.content import Content
from textual.message import Message
from textual.pilot import Pilot
from textual.widgets import Input, OptionList, Static
from textual.worker import WorkerCancelled, WorkerFailed

from tuidl.errors import UsageError
from tuidl.spec import RunSpec, load_preset
from tuidl.spec.datasets import DATASETS
from tuidl.tui.companion import CompanionError, SupersededError
from tuidl.tui.draw.palette import palette_of
from tuidl.tui.fields import LABEL, FormView
from tuidl.tui.form import RUN_NAME
from tuidl.tui.screens.dialogs import Confirm
from tuidl.tui.screens.setup import SetupScreen, broken
from tuidl.tui.screens.setup_dialogs import Choices, SaveAs
from tuidl.tui.screens.setup_preview import (
    PREPARING,
    VIEWS,
    Known,
    data_line,
    learning_rates,
    steps_per_epoch,
    total_steps,
)

GPUS = [
    {"name": "cuda:0", "title": "H200", "free": 20e9, "total": 150e9, "busy": 97, "chosen": False, "reason": "",
     "users": [{"user": "anna\x1b[2J", "name": "python", "memory": 130e9, "pid": 42}]},
    {"name": "cuda:1", "title": "H200", "free": 140e9, "total": 150e9, "busy": 0, "chosen": True,
     "reason": "it has the most free memory of 2 GPUs", "users": []},
    {"name": "cpu", "title": "Some processor", "free": None, "total": None, "busy": None, "chosen": False,
     "reason": "", "users": []},
]  # fmt: skip
LAYERS = [
    {"name": "0", "kind": "Flatten", "shape": [784], "parameters": 0},
    {"name": "1", "kind": "Linear", "shape": [250], "parameters": 196_250},
]


def image_samples(spec: dict[str, Any]) -> dict[str, Any]:
    data = DATASETS[spec["data"]["name"]]
    size = 8 * data.shape[0] * data.shape[1] * data.shape[2]
    return {
        "kind": "images", "shape": [8, *data.shape], "raw": base64.b64encode(bytes(size)).decode(),
        "augmented": base64.b64encode(b"\xff" * size).decode(), "labels": list(data.labels), "targets": [*range(8)],
        "counts": dict.fromkeys(data.labels, 5500), "splits": {"train": 55_000, "val": 5_000, "test": 10_000},
        "stand_in": False, "reason": "", "data": data.key,
    }  # fmt: skip


def text_samples() -> dict[str, Any]:
    return {
        "kind": "text", "excerpt": "First Citizen:\nBefore \x1b]52;c;evil\x07 we proceed [red]any[/red]",
        "vocabulary": 65, "splits": {"train": 1_003_854, "val": 55_770, "test": 55_770}, "stand_in": False,
    }  # fmt: skip


class FakeCompanion:
    """Answers at once, unless the test holds or breaks it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.broken: dict[str, Exception] = {}
        self.gate: Callable[[str, dict[str, Any]], asyncio.Event | None] = lambda name, arguments: None

    async def ask(self, name: str, **arguments: Any) -> Any:
        self.asked.append((name, arguments))
        gate = self.gate(name, arguments)
        if gate is not None:
            await asyncio.shield(gate.wait())
        if name in self.broken:
            raise self.broken[name]
        if name == "devices":
            return GPUS
        if name == "data":
            return {
                key: {"state": "built in" if item.built_in else "absent", "where": None, "note": "", "bytes": 0}
                for key, item in DATASETS.items()
            }
        if name == "describe":
            widths = arguments["spec"]["model"].get("widths", [1])
            return {"layers": LAYERS, "parameters": 1_000_000 + (sum(widths) if isinstance(widths, list) else 0)}
        return text_samples() if arguments["spec"]["task"] == "language" else image_samples(arguments["spec"])

    def count(self, name: str) -> int:
        return sum(asked == name for asked, _ in self.asked)


class Program(App[None]):
    """The least that a screen needs around it."""

    def __init__(self, preset: str, companion: FakeCompanion, patience: float, **more: Any) -> None:
        super().__init__()
        self.preset, self.companion, self.patience, self.more = preset, companion, patience, more
        self.started: list[SetupScreen.Started] = []

    def on_mount(self) -> None:
        spec = load_preset(self.preset)
        self.push_screen(SetupScreen(self.preset, spec, self.companion, patience=self.patience, **self.more))

    def on_setup_screen_started(self, event: SetupScreen.Started) -> None:
        self.started.append(event)


class Driver:
    """The screen as its user meets it."""

    def __init__(self, app: Program, pilot: Pilot[None], screen: SetupScreen) -> None:
        self.app, self.pilot, self.screen = app, pilot, screen
        self.companion, self.form, self.view = app.companion, screen.form, screen.form_view

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def type(self, text: str) -> None:
        await self.press("ctrl+u", *(key_of(char) for char in text))

    async def to(self, path: str) -> None:
        self.view.go_to(path)
        await self.pilot.pause()

    async def settle(self) -> None:
        """Ask what a pause in the typing would ask, and wait for the answers."""
        await self.pilot.pause()
        self.screen._ask_what_changed()
        with contextlib.suppress(WorkerCancelled, WorkerFailed):  # superseded, or meant to fail
            await self.app.workers.wait_for_complete()
        await self.pilot.pause()

    @property
    def rows(self) -> list[str]:
        return [strip.text for strip in self.screen._compositor.render_strips()]

    @property
    def text(self) -> str:
        return "\n".join(self.rows)

    def row(self, label: str) -> str:
        return next(row for row in self.rows if row[2 : LABEL - 1].strip() == label)

    def said(self, where: str) -> str:
        content = self.screen.query_one(where, Static).content
        return content.plain if isinstance(content, Content) else str(content)

    @property
    def toasts(self) -> list[str]:
        return [note.message for note in self.app._notifications]


def key_of(char: str) -> str:
    names = {".": "full_stop", " ": "space", ",": "comma", "-": "minus", "/": "slash", "<": "less_than_sign",
             ">": "greater_than_sign", "\\": "backslash", "_": "underscore"}  # fmt: skip
    return names.get(char, char)


@contextlib.asynccontextmanager
async def setup(
    preset: str = "mnist-mlp", size: tuple[int, int] = (120, 40), companion: FakeCompanion | None = None,
    patience: float = 60.0, **more: Any,
) -> AsyncIterator[Driver]:  # fmt: skip
    app = Program(preset, companion or FakeCompanion(), patience, **more)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        screen = app.screen
        assert isinstance(screen, SetupScreen)
        driver = Driver(app, pilot, screen)
        if companion is None:
            await driver.settle()
        yield driver


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
        assert "▸ cuda:1  H200" in driver.text and "taken: it has the most free memory" in driver.text
        assert "140.0 GB of 150.0 GB free · 0 % busy" in driver.text
        assert "anna␛[2J: python 130.0 GB (pid 42)" in driver.text
        await driver.press("right")
        assert "▸ cuda:0  H200" in driver.text and "taken: asked for" in driver.text


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
