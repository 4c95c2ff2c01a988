"""What the tests of Set-up share: a companion that answers at once, and hands on the keys."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from textual.app import App
from textual.content import Content
from textual.pilot import Pilot
from textual.widgets import Static
from textual.worker import WorkerCancelled, WorkerFailed

from tuidl.spec import load_preset
from tuidl.spec.datasets import DATASETS
from tuidl.tui.fields import LABEL
from tuidl.tui.screens.setup import SetupScreen

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
