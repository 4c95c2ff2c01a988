"""The layout of every screen as text, at three sizes; and that no size, and no storm of sizes or keys, breaks it.

`TUIDL_UPDATE_LAYOUTS=1 pytest tests/tui/test_layout.py` writes the texts anew; look at the difference then.
`TUIDL_STORMS=0-100` lets a hundred storms of keys loose instead of four, `26-27` that of seed 26 alone.
"""

import asyncio
import base64
import difflib
import io
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from faketrainer import FACTS, shown
from fullrun import FullTrainer, grid
from PIL import Image
from textual import events
from textual.geometry import Region, Size
from textual.pilot import Pilot

from tuidl.runs import RunPaths, RunWriter, create_run, write_spec
from tuidl.spec import load_preset
from tuidl.tui.app import Palette, TooSmall, TuidlApp
from tuidl.tui.budget import Budget
from tuidl.tui.panels.images import ImagesPanel
from tuidl.tui.panels.machine import Gauge
from tuidl.tui.screens.dashboard import DashboardScreen
from tuidl.tui.screens.dialogs import AskNumber, Confirm
from tuidl.tui.screens.home import HomeScreen
from tuidl.tui.screens.setup import SetupScreen
from tuidl.tui.screens.setup_dialogs import Choices, SaveAs
from tuidl.tui.screens.setup_preview import Preview

LAYOUTS = Path(__file__).parent / "layouts"
SIZES = [(60, 20), (80, 24), (140, 45)]
SCREENS = ("home", "setup", "classification", "language", "gan")
DIGITS = [str(digit) for digit in range(10)]

# as the presets were when the layouts were written: what they say and set may change without a change of the layout
PRESETS = {
    "digits": """
task = "classification"
[about]
title = "MLP on MNIST: read handwritten digits"
shows = "A multi-layer perceptron learns to tell ten digits apart. Watch training and validation accuracy part ways."
things_to_try = ["model.activation=sigmoid: how much slower does it learn?", "optimizer.lr=100: see a run diverge."]
expected = "98.3 % of the test digits right after 10 epochs"
time_cpu = "about 10 s"
time_gpu = "seconds"
[data]
name = "mnist"
stand_in = "drawn-digits"
[model]
kind = "mlp"
widths = [250, 100]
[optimizer]
kind = "adam"
lr = 0.002
[schedule]
kind = "one-cycle"
""",
    "writer": """
task = "language"
[about]
title = "LSTM on Shakespeare: write like the text it reads"
shows = "Character by character the network learns letters, words, names and the shape of a play."
expected = "1.52 nats a character on the validation text"
[data]
name = "tinyshakespeare"
stand_in = "python-docs"
[model]
kind = "lstm"
""",
    "drawer": """
task = "gan"
[about]
title = "DCGAN on MNIST: draw digits that nobody wrote"
shows = "A generator turns noise into digits while a discriminator learns to catch it."
[data]
name = "mnist"
stand_in = "drawn-digits"
[model]
kind = "dcgan"
[loss]
kind = "non-saturating"
""",
}
PRESET_OF = {"classification": "digits", "language": "writer", "gan": "drawer"}
MakeRun = Callable[..., FullTrainer]
GAUGES = (
    Gauge("gpu", 0.93, "busy"), Gauge("gpu memory", 0.25, "35.0 GB of 139.8 GB"), Gauge("power", 0.6, "420 of 700 W"),
    Gauge("cpu", 0.5, "of 16 cores"), Gauge("memory", 0.25, "96.0 GB free"),
)  # fmt: skip


# ---------------------------------------------------------------------- a world in which nothing varies


class Noon(datetime):
    """A clock that stands still."""

    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        return datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def frozen(tmp_path: Path, own_settings: Path) -> Iterator[None]:
    """Presets, clock, machine, colours and the place of the runs are the same everywhere."""
    presets = tmp_path / "presets"
    presets.mkdir()
    for name, text in PRESETS.items():
        (presets / f"{name}.toml").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)  # so that the runs are in `runs`, whatever the directory is named
        patch.setattr("tuidl.spec.load.preset_directory", lambda: presets)
        patch.setattr("tuidl.spec.load.TAUGHT", tuple(PRESETS))
        patch.setattr("tuidl.tui.lists.datetime", Noon)
        patch.setattr("tuidl.tui.panels.machine.Machine.look", lambda *_: GAUGES)
        patch.setenv("TZ", "UTC")
        patch.setenv("TERM", "xterm-256color")
        patch.setenv("COLORTERM", "truecolor")
        patch.delenv("NO_COLOR", raising=False)
        time.tzset()
        yield
    time.tzset()


async def answer(name: str, **arguments: Any) -> Any:
    """Answer as a companion does."""
    return ANSWERS[name](arguments.get("spec"))


def samples(spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": "images", "shape": [8, 1, 28, 28], "raw": discs(), "augmented": discs(), "labels": DIGITS,
        "targets": list(range(8)), "counts": {digit: 5000 + 100 * int(digit) for digit in DIGITS},
        "splits": {"train": 55_000, "val": 5_000, "test": 10_000}, "stand_in": False, "reason": "", "data": "mnist",
    }  # fmt: skip


def discs() -> str:
    """Return eight images as the companion packs them."""
    data, _ = grid(8, 1, 28)
    return base64.b64encode(Image.open(io.BytesIO(data)).tobytes()).decode()


ANSWERS: dict[str, Callable[[Any], Any]] = {
    "data": lambda _: {
        "mnist": {"state": "present"}, "drawn-digits": {"state": "built in"}, "tinyshakespeare": {"state": "absent"},
    },
    "devices": lambda _: [
        {"name": "cuda:0", "title": "H200", "free": 20e9, "total": 150e9, "busy": 97, "chosen": False, "reason": "",
         "users": [{"user": "anna", "name": "python", "memory": 130e9, "pid": 42}]},
        {"name": "cpu", "title": "Some processor", "free": None, "total": None, "busy": None, "chosen": True,
         "reason": "nobody else uses it", "users": []},
    ],
    "describe": lambda _: {
        "layers": [
            {"name": "0", "kind": "Flatten", "shape": [784], "parameters": 0},
            {"name": "1", "kind": "Linear", "shape": [250], "parameters": 196_250},
            {"name": "2", "kind": "ReLU", "shape": [250], "parameters": 0},
            {"name": "3", "kind": "Linear", "shape": [10], "parameters": 2_510},
        ],
        "parameters": 198_760, "memory": 3_180_160, "activations": 777_216,
    },
    "samples": samples,
}  # fmt: skip


@pytest.fixture
def make_run() -> Iterator[Callable[..., FullTrainer]]:
    """Return a function that begins a run."""
    writers = []

    def make(name: str, task: str, created: str = "2026-11-21T09:30:00+00:00") -> FullTrainer:
        paths = create_run(Path("runs"), name, PRESET_OF[task])
        spec = load_preset(PRESET_OF[task])
        about = {"name": PRESET_OF[task], "title": spec.about.title}
        facts = {"device": {"name": "cuda:0"}, "data": {"used": spec.data.name, "asked": spec.data.name}}
        content = {"format": 1, "created": created, "preset": about, "spec": spec.model_dump(mode="json"), **facts}
        write_spec(paths, content)
        writers.append(RunWriter(paths))
        trainer = FullTrainer(paths, writers[-1], task)
        known = {"labels": DIGITS, "device": "cuda:0", "device_kind": "cuda:0", "data": spec.data.name}
        trainer.tell("started", **{**FACTS, **known})
        return trainer

    yield make
    for writer in writers:
        writer.close()


def go_on(trainer: FullTrainer) -> None:
    """Train for three epochs, and leave what the task leaves."""
    for epoch in (1, 2, 3):
        trainer.learn()
        if trainer.task == "classification":
            trainer.classified(DIGITS, val_loss=0.5 / epoch, val_accuracy=1 - 0.1 / epoch)
        elif trainer.task == "gan":
            trainer.drawn(DIGITS, score=5.0 + epoch, frechet=9.0 - epoch)
        else:
            line = "Nay, but this dotage of our general's o'erflows the measure.\nThose his goodly eyes\n"
            trainer.wrote("ROMEO:\n", *(line * epoch for _ in range(3)), val_loss=2.0 / epoch, val_accuracy=0.2 * epoch)
    trainer.tell("change", key="optimizer.lr", before=0.002, after=0.001)
    trainer.tell("answer", id="1", ok=True, text="optimizer.lr = 0.001 from step 301")
    trainer.tell("warning", text="the loss has risen for 20 steps")
    best = {"metric": "val_accuracy", "value": 0.967, "step": 300}
    trainer.state("running", best=best if trainer.task == "classification" else None)
    trainer.paths.trainer_log.write_text("a line that torch has printed\n")


@asynccontextmanager
async def program(name: str, size: tuple[int, int], make_run: MakeRun) -> AsyncIterator[Pilot[int]]:
    """Show a screen by its name."""
    run: RunPaths | None = None
    if name in PRESET_OF:
        trainer = make_run("a-run", name)
        go_on(trainer)
        run = trainer.paths
    elif name == "home":
        for task, state, created in (
            ("gan", "failed", "2025-06-15T12:00:00+00:00"), ("language", "completed", "2026-02-03T12:00:00+00:00"),
            ("classification", "running", "2026-11-21T09:30:00+00:00"),
        ):  # fmt: skip
            trainer = make_run(f"{PRESET_OF[task]}-1", task, created)
            go_on(trainer)
            trainer.state(state, reason="out of memory" if state == "failed" else "")
    app = TuidlApp(Path("runs"), run=run)
    app.ask = answer  # type: ignore[method-assign]
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        if name == "setup":
            await read(pilot)
            app.post_message(HomeScreen.PresetChosen("digits"))
            await pilot.pause()
            assert isinstance(app.screen, SetupScreen)
        await SETTLE[name](pilot)
        yield pilot


async def read(pilot: Pilot[int]) -> None:
    """Wait for what a screen reads or asks beside the keys."""
    for _ in range(4):
        await pilot.pause()
        await pilot.app.workers.wait_for_complete(
            [worker for worker in pilot.app.workers if worker.node is pilot.app.screen]
        )
    await pilot.pause()


async def watch(pilot: Pilot[int]) -> None:
    await pilot.pause()
    screen = pilot.app.screen
    assert isinstance(screen, DashboardScreen)
    screen.budget = Budget(1e12)  # all panels at once
    await screen.look()
    while screen.feed.more:
        await screen.look()
    await pilot.pause()
    await screen.look()
    await pilot.pause()


SETTLE = {"home": read, "setup": read} | dict.fromkeys(PRESET_OF, watch)


# ---------------------------------------------------------------------- layouts


def stored(name: str, size: tuple[int, int]) -> Path:
    return LAYOUTS / "{}-{}x{}.txt".format(name, *size)


def compare(path: Path, wanted: list[str], found: list[str]) -> None:
    if found != wanted:
        pytest.fail("\n".join(difflib.unified_diff(wanted, found, path.name, "now", lineterm="")), pytrace=False)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "{}x{}".format(*size))
@pytest.mark.parametrize("name", SCREENS)
async def test_layout(name: str, size: tuple[int, int], make_run: MakeRun) -> None:
    path = stored(name, size)
    async with program(name, size, make_run) as pilot:
        found = [row.rstrip() for row in shown(pilot.app).splitlines()]
    if os.environ.get("TUIDL_UPDATE_LAYOUTS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(found) + "\n")
    compare(path, path.read_text().splitlines() if path.exists() else [], found)


COLOURS = {"no colour": {"NO_COLOR": "1"}, "16 colours": {"TERM": "xterm", "COLORTERM": ""}}


@pytest.mark.parametrize("colours", COLOURS)
@pytest.mark.parametrize("name", SCREENS)
async def test_fewer_colours_change_the_pictures_alone(
    name: str, colours: str, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in COLOURS[colours].items():
        monkeypatch.setenv(variable, value)
    size = SIZES[-1]
    path = stored(name, size)
    async with program(name, size, make_run) as pilot:
        assert pilot.app.no_color or pilot.app.console.color_system == "standard"
        pictures = [widget.content_region for kind in (ImagesPanel, Preview) for widget in pilot.app.screen.query(kind)]
        wanted = without(pictures, path.read_text().splitlines(), size[0])
        found = without(pictures, shown(pilot.app).splitlines(), size[0])
    compare(path, wanted, found)


def without(regions: Iterable[Region], rows: Iterable[str], width: int) -> list[str]:
    """Return rows with what stands in some regions left out."""
    left = [list(row.ljust(width)) for row in rows]
    for x, y, wide, high in regions:
        for row in left[y : y + high]:
            row[x : x + wide] = " " * wide
    return ["".join(row).rstrip() for row in left]


# ---------------------------------------------------------------------- storms

STORM = [(1, 1), (2, 2), (10, 3), (40, 10), (60, 20), (80, 24), (200, 60), (300, 100)]


async def resize(pilot: Pilot[int], size: tuple[int, int], pause: bool = False) -> None:
    """Make the terminal as large as that."""
    if pause:
        await pilot.resize_terminal(*size)
        return
    pilot.app._driver._size = Size(*size)  # type: ignore[union-attr]
    pilot.app.post_message(events.Resize(Size(*size), Size(*size)))
    await asyncio.sleep(0)


async def confirm(pilot: Pilot[int]) -> None:
    pilot.app.push_screen(Confirm("stop", "The run ends after its present step, and so on.", "stop this run"))


async def ask_number(pilot: Pilot[int]) -> None:
    pilot.app.push_screen(AskNumber("steps", "Run how many steps, then pause?", 1))


async def explain(pilot: Pilot[int]) -> None:
    pilot.app.action_explain()


async def palette(pilot: Pilot[int]) -> None:
    pilot.app.action_command_palette()


async def nothing(pilot: Pilot[int]) -> None:
    """No dialog."""


async def choices(pilot: Pilot[int]) -> None:
    await pilot.press("enter")
    await pilot.pause()
    assert isinstance(pilot.app.screen, Choices)


async def save_as(pilot: Pilot[int]) -> None:
    await pilot.press("ctrl+s")
    await pilot.pause()
    assert isinstance(pilot.app.screen, SaveAs)


EVERYWHERE = (nothing, confirm, ask_number, explain, palette)
STORMED = [(name, dialog) for name in ("home", "setup", "classification") for dialog in EVERYWHERE]
LISTS = (palette, choices)  # which close where there is no room for them


@pytest.mark.parametrize(("name", "dialog"), [*STORMED, ("setup", choices), ("setup", save_as)])
async def test_no_size_and_no_storm_of_sizes_breaks_a_screen(
    name: str, dialog: Callable[[Pilot[int]], Awaitable[None]], make_run: MakeRun
) -> None:
    chance = random.Random(f"{name} {dialog.__name__}")
    async with program(name, SIZES[1], make_run) as pilot:
        app, before, behind = pilot.app, shown(pilot.app), type(pilot.app.screen)
        await dialog(pilot)
        await pilot.pause()
        in_front = behind if dialog in LISTS else type(app.screen)
        for size in STORM:
            await resize(pilot, size, pause=True)
            assert isinstance(app.screen, TooSmall if size in STORM[:4] else in_front)
        for _ in range(25):
            await resize(pilot, chance.choice(STORM))
            await resize(pilot, (chance.randint(1, 300), chance.randint(1, 100)))
        await resize(pilot, SIZES[1], pause=True)
        assert type(app.screen) is in_front
        if in_front is not behind:
            await pilot.press("escape")
        await SETTLE[name](pilot)
        assert shown(app) == before


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 6, 20])
async def test_lists_are_closed_where_they_have_no_room(width: int, make_run: MakeRun) -> None:
    async with program("setup", SIZES[1], make_run) as pilot:
        for opened in LISTS:
            await opened(pilot)
            await pilot.pause()
            await resize(pilot, (width, 24), pause=True)
            await resize(pilot, SIZES[1], pause=True)
            assert isinstance(pilot.app.screen, SetupScreen)


KEYS = [
    "up", "down", "left", "right", "enter", "escape", "tab", "shift+tab", "space", "pageup", "pagedown", "home", "end",
    "slash", "question_mark", "full_stop", "plus", "minus", "f8", "f9", "ctrl+p", "ctrl+r", "ctrl+s",
    *"qrzhokxslcmuegtT139",
]  # fmt: skip


@pytest.mark.parametrize("seed", range(*map(int, os.environ.get("TUIDL_STORMS", "0-4").split("-"))))
async def test_no_storm_of_keys_breaks_a_screen(seed: int, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr("tuidl.tui.screens.dashboard.kill", lambda paths: "killed")  # the trainer is this process
    async with program("home", SIZES[1], make_run) as pilot:
        pilot.app.exit = lambda *_, **__: None  # type: ignore[method-assign]
        for number in range(150):
            key = chance.choice(KEYS)
            pilot.app._driver.send_message(events.Key(key, key if len(key) == 1 else None))  # type: ignore[union-attr]
            if number % 10 == 0:
                await resize(pilot, chance.choice(STORM[:6]))
            if chance.random() < 0.1:
                await pilot.pause()
        await resize(pilot, SIZES[1], pause=True)
        assert shown(pilot.app).strip()


async def test_two_sizes_that_wait_for_one_screen_do_not_answer_each_other_for_ever(make_run: MakeRun) -> None:
    async with program("home", SIZES[1], make_run) as pilot:
        behind = pilot.app.screen
        await confirm(pilot)
        await pilot.pause()
        for _ in range(3):
            for size in (Size(80, 24), Size(100, 30)):
                behind.post_message(events.Resize(size, size))
        laid_out = []
        refresh = behind._refresh_layout
        behind._refresh_layout = lambda *size, **more: laid_out.append(size) or refresh(*size, **more)  # type: ignore[method-assign]
        await asyncio.sleep(0.5)
        assert len(laid_out) < 20


async def test_a_terminal_without_room_is_left_alone(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    async with program("home", SIZES[1], make_run) as pilot:
        sent = []
        display = pilot.app._display
        monkeypatch.setattr(pilot.app, "_display", lambda *arguments: sent.append(1) or display(*arguments))
        for size in STORM[:4]:
            await resize(pilot, size, pause=True)
            sent.clear()
            for _ in range(10):
                await asyncio.sleep(0.02)
            assert len(sent) < 3, size


async def press_at_once(pilot: Pilot[int], *keys: str) -> None:
    """Press keys as a fast hand does: none waits for what the one before has done."""
    for key in keys:
        pilot.app._driver.send_message(events.Key(key, None))  # type: ignore[union-attr]
    await pilot.pause()
    await pilot.pause()


@pytest.mark.parametrize("name", ["setup", "classification"])
async def test_enter_twice_opens_one_screen(name: str, make_run: MakeRun) -> None:
    async with program("home", SIZES[1], make_run) as pilot:
        if name == "classification":
            pilot.app.screen.action_go("runs")  # type: ignore[attr-defined]
            await pilot.pause()
        await press_at_once(pilot, "enter", "enter")
        opened = [screen for screen in pilot.app.screen_stack if isinstance(screen, SetupScreen | DashboardScreen)]
        assert len(opened) == 1 and isinstance(opened[0], SetupScreen) == (name == "setup")


@pytest.mark.parametrize("name", ["home", "classification"])  # a dashboard opened from Home, and one from a shell
@pytest.mark.parametrize("keys", [["h", "h", "h"], ["escape", "escape"]])
async def test_leaving_twice_leaves_one_screen(name: str, keys: list[str], make_run: MakeRun) -> None:
    async with program(name, SIZES[1], make_run) as pilot:
        if name == "home":
            pilot.app.screen.action_go("runs")  # type: ignore[attr-defined]
            await pilot.pause()
            await press_at_once(pilot, "enter")
        assert isinstance(pilot.app.screen, DashboardScreen)
        await press_at_once(pilot, *keys)
        assert isinstance(pilot.app.screen, HomeScreen)


async def test_leaving_a_form_twice_leaves_one_screen(make_run: MakeRun) -> None:
    async with program("setup", SIZES[1], make_run) as pilot:
        await press_at_once(pilot, "escape", "escape", "escape")
        assert isinstance(pilot.app.screen, HomeScreen)


@pytest.mark.parametrize(
    "keys", [["full_stop", "enter", "enter"], ["question_mark", "q", "q"], ["q", "q", "q"], ["t", "enter", "enter"]]
)
async def test_answering_twice_answers_one_dialog(keys: list[str], make_run: MakeRun) -> None:
    async with program("classification", SIZES[1], make_run) as pilot:
        pilot.app.exit = lambda *_, **__: None  # type: ignore[method-assign]
        await press_at_once(pilot, keys[0])
        assert not isinstance(pilot.app.screen, DashboardScreen)
        await press_at_once(pilot, *keys[1:])
        assert any(isinstance(screen, DashboardScreen) for screen in pilot.app.screen_stack)


async def test_a_command_of_the_palette_is_done_once(make_run: MakeRun) -> None:
    async with program("home", SIZES[1], make_run) as pilot:
        await pilot.press("ctrl+p", *"theme")
        await pilot.pause()
        await press_at_once(pilot, "down", "enter", "enter", "enter")
        await pilot.pause()
        assert [type(screen) for screen in pilot.app.screen_stack[1:]] == [HomeScreen, Palette]
        await press_at_once(pilot, "pageup", "enter", "enter", "enter")
        assert isinstance(pilot.app.screen, HomeScreen)


async def test_the_palette_takes_page_keys_where_nothing_is_found(make_run: MakeRun) -> None:
    async with program("home", SIZES[1], make_run) as pilot:
        await press_at_once(pilot, "ctrl+p", "pagedown", "pagedown", "pageup")
        await pilot.press("x", "x", "x", "x")
        await press_at_once(pilot, "pagedown", "pagedown", "pageup")
        await pilot.press("escape")
        assert isinstance(pilot.app.screen, HomeScreen)


async def test_no_sentence_stays_where_the_terminal_has_grown_behind_another_screen(make_run: MakeRun) -> None:
    async with program("home", SIZES[1], make_run) as pilot:
        await pilot.press("ctrl+p")
        await resize(pilot, (10, 3), pause=True)
        await pilot.press("ctrl+p")  # there is no room for it
        assert isinstance(pilot.app.screen, TooSmall)
        await confirm(pilot)
        await pilot.pause()
        await resize(pilot, SIZES[1], pause=True)
        await pilot.press("escape", "escape")
        await pilot.pause()
        assert isinstance(pilot.app.screen, HomeScreen)
