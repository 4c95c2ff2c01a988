"""The program: screens, theme, keys, the line to the terminal, the companion. It shows; it never trains."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual import events, on
from textual._compositor import CompositorUpdate
from textual.app import App, SystemCommand
from textual.await_complete import AwaitComplete
from textual.binding import Binding, BindingType
from textual.command import CommandPalette
from textual.content import Content
from textual.geometry import Size
from textual.message import Message
from textual.screen import Screen
from textual.theme import ThemeProvider
from textual.widgets import Input, OptionList, Static

from tuidl.errors import TuidlError
from tuidl.text import clean
from tuidl.tui import budget as budgets
from tuidl.tui import terminal, themes
from tuidl.tui.companion import Companion
from tuidl.tui.frames import Frames
from tuidl.tui.keys import KeysInOrder
from tuidl.tui.link import Link
from tuidl.tui.screens.behaviour import ClosesOnce, Settles
from tuidl.tui.screens.dialogs import Help
from tuidl.tui.screens.home import HomeScreen
from tuidl.tui.settings import load_settings, save_settings, settings_path

if TYPE_CHECKING:
    from tuidl.runs import RunPaths
    from tuidl.spec import RunSpec
    from tuidl.tui.screens.setup import SetupScreen

LOCAL_RATE, REMOTE_RATE = 4.0, 2.0  # frames a second
SMALLEST = (60, 20)
OF_TEXTUAL = ("Theme", "Screenshot")  # the commands of Textual's own that the palette offers
TYPING = frozenset(binding.action for binding in Input.BINDINGS if isinstance(binding, Binding)) | {"screen.copy_text"}


def is_small(size: Size) -> bool:
    """Return whether a terminal is too small to show anything but that."""
    return size.width < SMALLEST[0] or size.height < SMALLEST[1]


class Ground(Settles, Screen[None]):
    """Lies below all other screens."""


class TooSmall(Settles, Screen[None]):
    """Stands in front of everything while the terminal is too small to show anything else."""

    def compose(self) -> Iterable[Static]:
        """One sentence."""
        yield Static(Content(f"tuidl needs a terminal of at least {SMALLEST[0]}x{SMALLEST[1]}; please make it larger"))

    def on_screen_resume(self) -> None:
        """Go at once where the terminal has grown while another screen was in front."""
        if not is_small(self.app.size):
            self.dismiss()


class Palette(ClosesOnce, CommandPalette):
    """Textual's own, which fast hands end: with a page key before its list stands, and with enter twice."""

    def dismiss(self, result: Any = None) -> AwaitComplete:
        """Close, and search no more."""
        self.workers.cancel_node(self)
        return super().dismiss(result)

    def _action_command_list(self, action: str) -> None:
        with contextlib.suppress(KeyError):  # of a row that has no place yet
            super()._action_command_list(action)

    @on(Input.Submitted)
    @on(OptionList.OptionSelected)
    def _once(self, event: Message) -> None:
        if self.app.screen is not self:
            event.prevent_default()


class TuidlApp(KeysInOrder, App[int]):
    """Home, or one run where one is named."""

    TITLE = "tuidl"
    CSS_PATH = "app.tcss"
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark,f1", "explain", "Help", id="app.help",
                tooltip="What the part in focus shows, and all keys."),
        Binding("q", "leave", "Quit", id="app.quit", tooltip="Leave tuidl; runs go on training."),
        Binding("ctrl+l", "redraw", "Redraw", show=False, id="app.redraw",
                tooltip="Draw the whole screen anew, when something else has written on it."),
        Binding("ctrl+q", "leave", "Quit", show=False, id="app.quit_at_once", priority=True, tooltip="Leave at once."),
    ]  # fmt: skip

    def __init__(self, runs_root: Path, data_dir: str | None = None, run: "RunPaths | None" = None) -> None:
        """`run` is shown at once where given, Home otherwise. `data_dir` is where new runs look for their data."""
        super().__init__()
        self.runs_root, self.data_dir, self._run_first = runs_root, data_dir, run
        self.settings, self._settings_problem = load_settings(settings_path())
        self.link = Link(self._write)
        self.frames = Frames()
        self.companion: Companion | None = None
        self.left_running = ""  # name of a live run that the user was watching when leaving

    def _write(self, text: str) -> None:
        if self._driver is not None and not self.is_headless:  # Textual has no public way to ask the terminal
            self._driver.write(text)

    def get_default_screen(self) -> Screen[Any]:
        """Return what lies below all screens."""
        return Ground(id="_default")

    def _display(self, screen: Screen[Any], renderable: Any) -> None:
        """Send of a frame only what differs from the one before; Textual has no public place for that."""
        if isinstance(renderable, CompositorUpdate) and not self._batch_count:
            renderable = self.frames.reduce(renderable)
        super()._display(screen, renderable)

    def action_redraw(self) -> None:
        """Send the whole screen again."""
        self.frames.forget()
        self.screen.refresh()

    @property
    def interval(self) -> float:
        """The least time between two frames in seconds."""
        return 1.0 / (self.settings.rate or (REMOTE_RATE if terminal.is_remote() else LOCAL_RATE))

    @property
    def bytes_a_second(self) -> float:
        """How much panels may send to the terminal; a rate of one's own raises or lowers it alike."""
        budget, usual = (budgets.REMOTE, REMOTE_RATE) if terminal.is_remote() else (budgets.LOCAL, LOCAL_RATE)
        return budget * (self.settings.rate or usual) / usual

    def compose(self) -> Iterable[Static]:
        """What stands there until the first screen does."""
        if self._run_first is not None:
            yield Static(Content(f"opening {clean(self._run_first.name, limit=80)} …"))

    def on_mount(self) -> None:
        """Show the first screen, and begin what takes longer once it stands."""
        self.animation_level = "none"
        self.set_keymap(self.settings.keymap)
        for theme in (themes.DARK, themes.LIGHT):
            self.register_theme(theme)
        known = self.settings.theme in self.available_themes
        self.theme = self.settings.theme if known else themes.DARK.name
        if self._run_first is None:
            self.push_screen(HomeScreen(self.runs_root, self))
        else:
            self.call_after_refresh(self.open_run, self._run_first)  # what a run needs is loaded behind the first frame
        if self._settings_problem:
            self.tell(self._settings_problem, wrong=True)
        self.theme_changed_signal.subscribe(self, lambda theme: self.remember(theme=theme.name))
        if not self.is_headless:
            terminal.watch(self._terminated)

    def _terminated(self) -> None:
        self.call_later(self.exit, 143)

    async def ask(self, name: str, **arguments: Any) -> Any:
        """Ask the companion, which is started by the first question. Raises TuidlError."""
        if self.companion is None:
            self.companion = Companion()
            await self.companion.start()
        if self.data_dir and name in ("data", "describe", "samples"):
            arguments["data_dir"] = self.data_dir
        return await self.companion.ask(name, **arguments)

    async def on_unmount(self) -> None:
        """Let an idle companion go."""
        if self.companion is not None:
            await self.companion.close()

    # ---------------------------------------------------------------- screens

    def open_run(self, paths: "RunPaths") -> None:
        """Show the dashboard of a run."""
        from tuidl.tui.screens.dashboard import DashboardScreen

        self.push_screen(DashboardScreen(paths, self.interval, self.bytes_a_second))

    @on(HomeScreen.RunChosen)
    def _run_chosen(self, event: HomeScreen.RunChosen) -> None:
        from tuidl.runs import RunPaths

        if isinstance(self.screen, HomeScreen):  # not yet opened by an enter just before this one
            self.open_run(RunPaths(Path(event.directory)))

    @on(HomeScreen.PresetChosen)
    async def _preset_chosen(self, event: HomeScreen.PresetChosen) -> None:
        from tuidl.spec import load_preset

        try:
            await self._open_setup(event.name, load_preset(event.name))
        except TuidlError as error:
            self.tell(str(error), wrong=True)

    @on(HomeScreen.RepeatChosen)
    async def _repeat_chosen(self, event: HomeScreen.RepeatChosen) -> None:
        from tuidl.runs import find_run, read_spec
        from tuidl.runs.past import repeat_of

        try:
            stored = read_spec(find_run(self.runs_root, event.name))
            spec, preset, _ = repeat_of(stored, event.name)
            await self._open_setup(preset, spec, target=event.name)
        except TuidlError as error:
            self.tell(str(error), wrong=True)

    async def _open_setup(self, preset: str, spec: "RunSpec", target: str = "") -> None:
        """Show the form, and take no key before it stands: a second one must not reach a screen without a form."""
        from tuidl.tui.screens.setup import SetupScreen

        if not isinstance(self.screen, SetupScreen):  # enter, twice
            await self.push_screen(SetupScreen(preset, spec, self, target=target))

    async def start_run(self, event: "SetupScreen.Started") -> None:
        """Make the run's directory, hand it to the companion, and show it."""
        import asyncio

        from tuidl.runs.launch import prepare_run

        try:
            paths = await asyncio.to_thread(
                prepare_run, event.spec, event.preset, event.run_name or None, self.runs_root, self.data_dir
            )
            companion = self.companion or Companion()
            self.companion = None  # it becomes the trainer; the next question starts another
            await companion.train(paths)
        except TuidlError as error:
            self.tell(str(error), wrong=True)
            return
        from tuidl.tui.screens.dashboard import DashboardScreen

        await self.switch_screen(DashboardScreen(paths, self.interval, self.bytes_a_second))

    async def on_setup_screen_started(self, event: "SetupScreen.Started") -> None:
        """Start what was set up."""
        self.run_worker(self.start_run(event), group="start", exclusive=True)

    def on_dashboard_screen_home_wanted(self) -> None:
        """Go to Home, which lies below or, after `attach`, does not exist yet. A second wish finds it in front."""
        if not any(isinstance(screen, HomeScreen) for screen in self.screen_stack):
            self.switch_screen(HomeScreen(self.runs_root, self))
        while not isinstance(self.screen, HomeScreen):
            self.pop_screen()

    def on_dashboard_screen_left(self) -> None:
        """Leave."""
        self.action_leave()

    def action_leave(self) -> None:
        """Leave the program. Every run goes on."""
        self.left_running = self._watched()
        self.exit(0)

    def _watched(self) -> str:
        for screen in reversed(self.screen_stack):
            snapshot = getattr(screen, "snapshot", None)
            if snapshot is not None and snapshot.live:
                return str(snapshot.name)
        return ""

    # ---------------------------------------------------------------- for all screens

    def tell(self, text: str, wrong: bool = False) -> None:
        """Show a short message in a corner; it may come from anywhere."""
        self.notify(clean(text, limit=400), severity="warning" if wrong else "information", timeout=5, markup=False)

    def remember(self, **changes: Any) -> None:
        """Keep settings for the next time."""
        if all(getattr(self.settings, name) == value for name, value in changes.items()):
            return
        for name, value in changes.items():
            setattr(self.settings, name, value)
        try:
            save_settings(self.settings, settings_path())
        except TuidlError as error:
            self.tell(str(error), wrong=True)

    def action_explain(self) -> None:
        """Explain the part in focus, and all keys that work now."""
        title, about = "help", ""
        node: Any = self.focused or self.screen
        while node is not None and not about:
            about = getattr(node, "ABOUT", "")
            title = getattr(node, "TITLE", "") or title
            node = node.parent
        self.push_screen(Help(title, about, self._keys()))

    def _keys(self) -> list[tuple[str, str]]:
        """Return every key that works now and what it does, those of the part in focus first."""
        found: dict[str, list[str]] = {}
        for active in self.screen.active_bindings.values():
            binding = active.binding
            if binding.id is None and binding.action in TYPING:
                continue  # everybody knows how to type
            if active.enabled and (binding.description or binding.tooltip) and not binding.system:
                found.setdefault(binding.tooltip or binding.description, []).append(self.get_key_display(binding))
        return [(" ".join(dict.fromkeys(keys)), what) for what, keys in found.items()]

    def action_command_palette(self) -> None:
        """Show the palette, but not a second one behind which the first is open, and only where there is room."""
        if not any(isinstance(screen, CommandPalette | TooSmall) for screen in self.screen_stack):
            self.push_screen(Palette())

    def search_themes(self) -> None:
        """Show the themes."""
        self.push_screen(Palette([ThemeProvider], placeholder="Search for themes…"))

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """Offer every key's action in the palette as well, once, and of Textual's own what no key does better."""
        yield from (command for command in super().get_system_commands(screen) if command.title in OF_TEXTUAL)
        told: set[str] = set()
        for active in screen.active_bindings.values():
            binding = active.binding
            title = f"{(binding.id or '').partition('.')[0]}: {binding.description}"
            if active.enabled and binding.description and binding.id and title not in told:
                told.add(title)
                run = lambda action=binding.action, node=active.node: self.run_action(action, node)  # noqa: E731
                yield SystemCommand(title, binding.tooltip or binding.description, run)

    async def on_event(self, event: events.Event) -> None:
        """Take what is pasted as text: an input shows it, and the terminal would obey what is hidden in it."""
        if isinstance(event, events.Paste):
            event.text = clean("\n".join(event.text.splitlines()), keep_newlines=True)
        await super().on_event(event)

    def on_cursor_position(self, event: events.CursorPosition) -> None:
        """The terminal has swallowed the last frame."""
        self.link.answered()

    def on_resize(self, event: events.Resize) -> None:
        """Put one sentence in front where nothing else fits."""
        self.frames.forget()
        small = is_small(event.size)
        if small and not isinstance(self.screen, TooSmall):
            if self.screen.query(OptionList):
                self.screen.dismiss()  # Textual cannot lay out a list of options in a few columns, not even behind
            self.push_screen(TooSmall())
        elif not small and isinstance(self.screen, TooSmall):
            self.pop_screen()


def show(runs_root: Path, data_dir: str | None = None, run: "RunPaths | None" = None) -> tuple[int, str]:
    """Run the program until the user leaves; return the exit code and the name of a live run that was left."""
    os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")
    app = TuidlApp(runs_root, data_dir, run)
    app.run()
    return app.return_code or 0, app.left_running
