"""Forty hostile strings as names, labels, log lines, events and samples: none is obeyed, none breaks the program."""

import asyncio
import os
import re
import shutil
import sys
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from faketrainer import FACTS, shown
from fullrun import FullTrainer
from terminal import Terminal
from textual import events
from textual.app import App
from textual.pilot import Pilot
from textual.widgets import Input

from tuidl.errors import UsageError
from tuidl.runs import RunPaths, RunWriter, create_run, write_spec
from tuidl.runs.listing import summarise
from tuidl.spec import load_preset
from tuidl.tui.app import TuidlApp
from tuidl.tui.arrangement import LOG, PANELS
from tuidl.tui.budget import Budget
from tuidl.tui.details import run_details
from tuidl.tui.feed import Feed
from tuidl.tui.panels.matrix import ConfusionPanel
from tuidl.tui.panels.scrubber import Scrubber
from tuidl.tui.screens.dashboard import DashboardScreen
from tuidl.tui.screens.home import HomeScreen
from tuidl.tui.screens.setup import SetupScreen

PAYLOADS = [
    # what a terminal obeys
    "\x1b[31mred\x1b[0m",
    "\x1b[2J\x1b[3J\x1b[H",
    "\x1b[1;1r\x1b[10S\x1b[5L",
    "\x1b[?1049l\x1b[?25h\x1b[?1003l",
    "\x1b[6n\x1b[c\x1b[>q\x1b[21t",  # questions whose answers arrive as keys
    "\x1b]0;owned\x07",
    "\x1b]2;owned\x1b\\",
    "\x1b]52;c;ZXZpbA==\x07",  # the clipboard
    "\x1b]8;;http://evil.example\x1b\\click\x1b]8;;\x1b\\",
    "\x1b]777;notify;you;won\x07",
    "\x1b]1337;File=inline=1:AAAA\x07",
    "\x1b]4;1;rgb:00/00/00\x1b\\\x1b]11;#000\x07",
    "\x1bPq#0;2;0;0;0~-\x1b\\",
    '\x1bP$q"p\x1b\\\x1bP+q544e\x1b\\',
    "\x1b_Ga=T,f=24;AAAA\x1b\\",
    "\x1b^privacy\x1b\\\x1bXstring\x1b\\",
    "\x1bc\x1b7\x1b8\x1bM\x1bD",
    "\x1b(0lqk\x0e\x0f",
    "\x9b31mred\x9b0m",
    "\x9d0;owned\x9c",
    "\x90q~\x9c\x9f\x98",
    "".join(map(chr, range(0x80, 0xA0))),
    "".join(map(chr, (*range(0x20), 0x7F))),
    # what moves or hides text
    "good\b\b\b\bevil\x7f",
    "good\r\nevil\revil\n\n",
    "a\0b\0",
    "a\tb\t\tc\vd\fe",
    "\u202egnp.exe\u202c\u202d",
    "\u2066\u2067\u2068x\u2069\u200e\u200f\u061c",
    "pay\u200bpal\u200c\u200d\u2060\ufeff\u00ad\u180e",
    "a\u2028b\u2029c\u0085d",
    "\ufff9a\ufffab\ufffb\U000e0041\U000e007f",
    "\ue000\uf8ff\U000f0000\U0010fffd\ufdd0\uffff",
    "\ud800x\udc9b\udfff",
    # what is hard to measure
    "Z" + "\u0300\u0336\u20dd" * 200,
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f3f3\ufe0f\u200d\U0001f308 \U0001f1e9\U0001f1ea \u2601\ufe0f",
    "猫犬鳥漢字ﾈｺ" * 12,
    "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    # what Rich and Textual would obey
    "[bold]x[/bold] [@click=app.quit]x[/] [link=file:///etc]x[/link] [/] [[x]] [$primary]x[/] [red",
    "n" * 10_000,
]
HOSTILE = [f"h{number:02}{text}" for number, text in enumerate(PAYLOADS)]
MARKS = [text[:3] for text in HOSTILE]  # tell which of them stands somewhere
MARKUP = next(text for text in HOSTILE if "[bold]" in text)
SURROGATES = next(text for text in HOSTILE if "\ud800" in text)
UNSAFE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
TASKS = {"classification": "mnist-mlp", "language": "char-lstm", "gan": "mnist-gan"}
SIZES = [(80, 24), (120, 40)]


def test_there_are_forty() -> None:
    assert len(set(HOSTILE)) == 40


# ---------------------------------------------------------------------- runs and presets full of them


@dataclass
class World:
    """A directory of runs: one of every task that holds all strings, and for every string one run that is named so."""

    root: Path
    presets: Path

    def run(self, name: str) -> RunPaths:
        return RunPaths(self.root / name)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    directory = tmp_path_factory.mktemp("hostile")
    found = World(directory / "runs", directory / "presets")
    for number, text in enumerate(HOSTILE):
        write_run_named(found.root, f"one-{number:02}", text)
    for task, preset in TASKS.items():
        write_run_of_all(found.root, task, preset)
    write_presets(found.presets)
    return found


@pytest.fixture(autouse=True)
def presets(own_settings: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUIDL_PRESETS_DIR", str(world.presets))


def write_run_named(root: Path, name: str, text: str) -> None:
    """Write a run that has `text` wherever there is one of a kind: title, preset, device, data, reason, settings."""
    paths = create_run(root, name, "mnist-mlp")
    spec = load_preset("mnist-mlp").model_dump(mode="json")
    spec["about"] |= {"title": text[:80], "shows": text[:600], "things_to_try": [text[:400]]}
    spec["evaluation"]["prompt"] = text[:500]
    spec["data"]["path"] = text[:1000]
    data = {"used": text, "asked": text, "stand_in": False}
    preset = {"name": text, "title": text}
    write_spec(paths, {"format": 1, "preset": preset, "spec": spec, "device": {"name": text}, "data": data})
    with RunWriter(paths) as writer:
        trainer = FullTrainer(paths, writer, "classification")
        trainer.tell("started", **FACTS | {"device": text, "data": text, "precision": text, "labels": [text]})
        trainer.train()
        trainer.tell("finished", status=text, reason=text)
        if text == SURROGATES:  # the writer refuses them; a stranger's file need not
            trainer.state("failed", reason="@")
            paths.status.write_bytes(paths.status.read_bytes().replace(b'"@"', b'"\\ud800"'))
        else:
            trainer.state("failed", reason=text, best={"metric": text, "value": 0.5, "step": 100}, exit_code=5)
        paths.trainer_log.write_bytes(text.encode("utf-8", "surrogatepass"))


def write_run_of_all(root: Path, task: str, preset: str) -> None:
    """Write a run that waits, with all strings wherever there may be many: labels, events, log, samples."""
    paths = create_run(root, f"all-{task}", preset)
    spec = load_preset(preset).model_dump(mode="json")
    write_spec(paths, {"format": 1, "preset": {"name": MARKUP, "title": MARKUP}, "spec": spec})
    with RunWriter(paths) as writer:
        trainer = FullTrainer(paths, writer, task)
        trainer.tell("started", **FACTS | {"device": MARKUP, "data": MARKUP, "labels": HOSTILE, "vocabulary": HOSTILE})
        trainer.train()
        sound = [text for text in HOSTILE if text != SURROGATES]  # which would make the whole file unreadable
        trainer.classified([SURROGATES, "b"])
        trainer.classified([text[:10_000] for text in sound], worst=len(sound))
        trainer.drawn([text[:10_000] for text in sound])
        trainer.wrote(SURROGATES, SURROGATES)
        for number in range(0, len(sound), 3):
            trainer.wrote(sound[number] + "\n", *sound[number : number + 3])
        for text in HOSTILE:
            trainer.tell("warning", text=text)
            trainer.tell("answer", id=text, ok=False, text=text)
            trainer.tell("change", key=text, before=text, after=text)
            trainer.tell("evaluation", metrics={text: 1.0}, artifacts=[{"path": text, "kind": "confusion"}])
            trainer.tell("failed", reason=text)
            trainer.tell("finished", status=text, reason=text)
            trainer.tell(text)
        trainer.state("paused", best={"metric": MARKUP, "value": 0.5, "step": 100})
        log = "\n".join(text[:300] for text in HOSTILE)
        paths.trainer_log.write_bytes(log.encode("utf-8", "surrogatepass"))


def write_presets(directory: Path) -> None:
    """Write a preset for every string; TOML knows no surrogates, and refuses what is not escaped."""
    directory.mkdir()
    for number, text in enumerate(HOSTILE):
        raw = text.replace("\\", "\\\\").replace('"', '\\"')
        told = f'title = "{escaped(text[:80])}"\nshows = "{escaped(text[:200])}"\nexpected = "{escaped(text[:100])}"'
        for name, about in (("own", told), ("raw", f'title = "{raw}"')):
            path = directory / f"{name}-{number:02}.toml"
            path.write_bytes(f"[about]\n{about}\n".encode("utf-8", "surrogatepass"))


def escaped(text: str) -> str:
    return "".join(char if char.isascii() and char.isalnum() else f"\\U{ord(char):08x}" for char in text)


# ---------------------------------------------------------------------- what may stand on a screen


def check(app: App[Any]) -> str:
    """Return the text on the screen; fail where something of it is not text."""
    for strip in app.screen._compositor.render_strips():
        for text, style, control in strip:
            assert not control
            assert not (unsafe := [char for char in text if unicodedata.category(char) in UNSAFE]), (unsafe, text)
            if style is not None:
                assert style.link is None, (style.link, text)
                # what a scrollbar has of its own is none of data
                assert not (actions := [key for key in style.meta if key.startswith("@") and key != "@mouse.down"]), (
                    actions,
                    text,
                )
    return shown(app)


async def look(pilot: Pilot[Any], screen: DashboardScreen) -> str:
    """Let the dashboard see its run, all panels at once."""
    screen.budget = Budget(1e12)
    await screen.look()
    await pilot.pause()
    return check(pilot.app)


def dashboard_of(app: App[Any]) -> DashboardScreen:
    return next(screen for screen in reversed(app.screen_stack) if isinstance(screen, DashboardScreen))


def told(text: str) -> set[str]:
    """Return the marks in a text."""
    return {mark for mark in MARKS if mark in text}


async def all_of(pilot: Pilot[Any], panel: Any) -> str:
    """Look at everything that a panel has to show, and return the text of it."""
    seen = ""
    if isinstance(panel, Scrubber):
        for place in range(len(panel.artifacts)):
            panel.go(place)
            seen += check(pilot.app)
        await pilot.pause()  # for the lower frame
        seen += check(pilot.app)
    if isinstance(panel, ConfusionPanel):
        panel.go(1)  # the one that is sound
        panel.action_select()
        panel.action_move(-len(HOSTILE), -len(HOSTILE))
        for _ in HOSTILE:
            await asyncio.sleep(0)  # for the lower frame
            seen += check(pilot.app)
            panel.action_move(1, 1)
    if panel.id in ("events", LOG):
        before = -1
        while panel.offset_rows > before:
            before = panel.offset_rows
            panel.action_back()
            seen += check(pilot.app)
    return seen


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("size", SIZES)
async def test_every_panel_shows_them_as_text(world: World, task: str, size: tuple[int, int]) -> None:
    app = TuidlApp(world.root, run=world.run(f"all-{task}"))
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        screen = dashboard_of(app)
        await look(pilot, screen)
        texts: dict[str, str] = {}
        for name in (*PANELS[task], LOG):
            screen.action_panel(name)
            screen.maximised = name in ("matrix", "samples", "events", LOG)
            screen.place_panels()
            await pilot.pause()
            assert app.focused is not None and app.focused.id == name
            texts[name] = check(app) + await all_of(pilot, app.focused)
        assert told(texts[LOG]) == set(MARKS)
        assert told(texts["events"]) >= set(MARKS[-20:])  # of so many, the oldest are not shown
        if task == "classification":
            assert set(MARKS) - told(texts["matrix"]) <= {SURROGATES[:3]} and "damaged" in texts["matrix"]
        if task == "language":
            assert set(MARKS) - told(texts["samples"]) <= {SURROGATES[:3]} and "damaged" in texts["samples"]
            assert "[bold]x[/bold]" in texts["samples"]
        screen.action_panel("machine")
        screen.maximised = False
        screen.place_panels()
        await pilot.press("k")
        text = await look(pilot, screen)
        assert "optimizer.lr" in text and f"u: {MARKS[-1]}" in text
        await pilot.press("question_mark")
        await pilot.pause()
        check(app)


@pytest.mark.parametrize("size", SIZES)
async def test_what_a_run_has_one_of_is_shown_as_text(world: World, size: tuple[int, int]) -> None:
    app = TuidlApp(world.root, run=world.run("one-00"))
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        screen = dashboard_of(app)
        for number, text in enumerate(HOSTILE):
            screen.feed = Feed(world.run(f"one-{number:02}"))
            while screen.feed.more:
                await screen.look()
            seen = check(app)
            status = seen[: seen.index("╭")]
            assert f"one-{number:02}" in status and text[:3] in status, text
        await pilot.pause()
        check(app)


async def test_a_change_can_be_undone_whatever_it_is_named(world: World) -> None:
    app = TuidlApp(world.root, run=world.run("all-gan"))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        screen = dashboard_of(app)
        await screen.look()
        await pilot.press("k")
        snapshot = screen.snapshot
        for change in snapshot.changes:
            screen.drawer.show(type(snapshot)(**{**vars(snapshot), "changes": (change,)}))
            await pilot.pause()
            assert f"u: {change.key[:3]}" in check(app)


@pytest.mark.parametrize("size", SIZES)
async def test_home_shows_them_as_text(world: World, size: tuple[int, int]) -> None:
    app = TuidlApp(world.root)
    app.ask = nothing  # type: ignore[method-assign]
    async with app.run_test(size=size) as pilot:
        home = await begun(pilot)
        seen = ""
        for rows in (home.preset_list, home.run_list):
            home.set_focus(rows)
            await pilot.pause()
            for zoomed in (False, True):
                if zoomed:
                    home.action_zoom()
                    await pilot.pause()
                for place in range(len(rows._shown)):
                    rows.highlight(place)
                    home.show_details()
                    seen += check(app)
                await settled(pilot)
                check(app)
            home.action_zoom()
        assert not set(MARKS) - told(seen)
        assert "[bold]x[/bold]" in seen and "TOML" in seen


async def nothing(name: str, **arguments: Any) -> dict[str, Any]:
    """A companion that knows of data alone, and nothing good."""
    if name != "data":
        raise UsageError(MARKUP)
    return {MARKUP: {"state": MARKUP}, "mnist": {"state": MARKUP, "note": MARKUP}}


async def settled(pilot: Pilot[Any]) -> None:
    """Wait for what is read beside the screen."""
    for _ in range(4):
        await pilot.pause()
        await pilot.app.workers.wait_for_complete(
            [worker for worker in pilot.app.workers if worker.node is pilot.app.screen]
        )
    await pilot.pause()


async def begun(pilot: Pilot[Any]) -> HomeScreen:
    await settled(pilot)
    assert isinstance(pilot.app.screen, HomeScreen)
    return pilot.app.screen


async def test_directories_may_be_named_like_that(world: World, tmp_path: Path) -> None:
    app = TuidlApp(tmp_path, run=world.run("one-00"))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        screen = dashboard_of(app)
        for text in HOSTILE:
            name = text.replace("/", "|").replace("\0", "|").replace("\ud800", "|").replace("\udfff", "|")
            directory = Path(shutil.copytree(world.root / "one-06", tmp_path / os.fsdecode(os.fsencode(name)[:200])))
            screen.feed = Feed(RunPaths(directory))
            await screen.look()
            assert text[:3] in check(app)
        home = HomeScreen(tmp_path, None)
        await app.push_screen(home)
        for directory in tmp_path.iterdir():
            home.preset_details.show(run_details(summarise(RunPaths(directory)), None))
            assert told(check(app)) & told(str(directory))


async def test_a_run_that_is_named_like_that_can_be_repeated(world: World) -> None:
    app = TuidlApp(world.root)
    app.ask = nothing  # type: ignore[method-assign]
    async with app.run_test(size=(120, 40)) as pilot:
        await begun(pilot)
        for number in (5, 27, 38, 39):
            app.post_message(HomeScreen.RepeatChosen(f"one-{number:02}"))
            await pilot.pause()
            screen = app.screen
            assert isinstance(screen, SetupScreen), number
            assert MARKS[number] in check(app)
            screen.form_view.go_to("seed")
            await pilot.pause()
            check(app)
            app.screen.dismiss()
            await pilot.pause()


async def test_messages_are_shown_as_text(world: World) -> None:
    app = TuidlApp(world.root, run=world.run("one-00"))
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await pilot.pause()
        seen = ""
        for start in range(0, len(HOSTILE), 8):
            for text in HOSTILE[start : start + 8]:
                app.tell(text[:60])
            await pilot.pause()
            seen += check(app)
            app.clear_notifications()
        assert told(seen) == set(MARKS)


async def test_what_is_pasted_is_text(world: World) -> None:
    app = TuidlApp(world.root)
    app.ask = nothing  # type: ignore[method-assign]
    async with app.run_test(size=(120, 40)) as pilot:
        await begun(pilot)
        for key in ("slash", "ctrl+p"):
            await pilot.press(key)
            await pilot.pause()
            line = app.focused
            assert isinstance(line, Input)
            for start in range(0, len(HOSTILE), 4):
                line.clear()
                for text in HOSTILE[start : start + 4]:
                    app.post_message(events.Paste(text[:22]))
                await pilot.pause()
                check(app)
                assert told(line.value) == set(MARKS[start : start + 4])
            await pilot.press("escape")


# ---------------------------------------------------------------------- the bytes that reach a terminal

SENT = re.compile(
    r"\x1b\[(?:"
    r"(?:(?:\d|[34]8;2;\d+;\d+;\d+);?)*m"  # style and true colour, which no string here has
    r"|\d+;\d+H"
    r"|\?(?:7|25|1000|1003|1004|1006|1015|1016|1049|2004|2026|2048)[hl]"
    r"|\?(?:2026|2048)\$p"
    r"|[<>]\d*u"
    r"|6n"  # the link's question
    r")"
    r"|\x1b]22;[a-z-]+\x07"  # the shape of the mouse pointer
)


class Recorder(Terminal):
    """A terminal that keeps all it was sent."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        self.received = bytearray()
        super().__init__(*arguments, **more)

    def _arrive(self, data: bytes) -> None:
        self.received += data
        super()._arrive(data)

    def settle(self, quiet: float = 0.2, most: float = 5.0) -> None:
        """Wait until nothing has come for a while."""
        end = time.monotonic() + most
        while time.monotonic() < end:
            before = len(self.received)
            time.sleep(quiet)
            if len(self.received) == before:
                return

    def keys(self, *keys: str) -> None:
        for key in keys:
            self.press(key)
            self.settle()


ESCAPE, LEFT, PAGE_UP, PAGE_DOWN = "\x1b", "\x1b[D", "\x1b[5~", "\x1b[6~"


@pytest.fixture
def terminal(world: World) -> Iterator[Recorder]:
    command = [sys.executable, "-P", "-m", "tuidl", "attach", "all-language", "--runs-dir", str(world.root)]
    found = Recorder(command, {"COLORTERM": "truecolor"}, size=(120, 40))
    yield found
    found.close()


def test_none_reaches_the_terminal(terminal: Recorder) -> None:
    assert terminal.wait_for(b"all-language", 0, 30) is not None
    terminal.settle()
    terminal.keys(*"12345678o", PAGE_UP, "2", LEFT, LEFT, "z", "k", "?", ESCAPE, ESCAPE, "h")
    assert terminal.wait_for(b"Presets", 0, 20) is not None
    terminal.keys(PAGE_DOWN, PAGE_DOWN, "\t", PAGE_DOWN, PAGE_DOWN, "\r", *"39o", "z", "h")
    pasted = "".join(HOSTILE).encode("utf-8", "replace").decode().replace("\x1b", "")  # as terminals paste it
    terminal.keys("/", f"\x1b[200~{pasted:.2000}\x1b[201~", ESCAPE, "q")
    assert terminal.process.wait(10) == 0, bytes(terminal.received[-8000:]).decode("utf-8", "replace")
    assert_harmless(bytes(terminal.received))


def assert_harmless(received: bytes) -> None:
    text = received.decode("utf-8")
    for hostile in HOSTILE:
        if any(unicodedata.category(char) in UNSAFE for char in hostile):
            assert hostile not in text
    rest = SENT.sub("", text).replace("\r\n", "")
    strange = [rest[at - 40 : at + 40] for at, char in enumerate(rest) if unicodedata.category(char) in UNSAFE]
    assert not strange, strange[:10]
    assert len(told(rest)) > len(MARKS) / 2  # most of them were drawn; only what changes between frames is sent
    assert text.count("\x1b[?1049l") == 1
