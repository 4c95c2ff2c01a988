"""Home: what can be trained, and what has been."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.events import DescendantFocus
from textual.getters import query_one
from textual.message import Message
from textual.reactive import Reactive
from textual.screen import Screen
from textual.timer import Timer
from textual.widget import Widget
from textual.worker import Worker, WorkerState

from tuidl.errors import TuidlError
from tuidl.text import clean
from tuidl.tui.details import Details, Paragraph, preset_details, run_details
from tuidl.tui.keybar import KeyBar
from tuidl.tui.lists import PresetList, RowList, RunList
from tuidl.tui.screens.behaviour import Settles

if TYPE_CHECKING:  # what reads presets and runs is loaded once the first frame stands
    from tuidl.runs import RunSummary
    from tuidl.tui.link import Link
    from tuidl.tui.overview import Library, PresetEntry, RunFacts

PERIOD = 1.0  # seconds from one look at the runs to the next

FIRST_STEPS = (
    "Nothing has been trained here yet.",
    "",
    "Choose a preset with ↑ and ↓, press Enter to see its settings, and start it from there. ? explains whatever "
    "has the focus.",
)


class Asks(Protocol):
    """Who answers what takes torch to know."""

    async def ask(self, name: str, **arguments: Any) -> Any:
        """Answer the question `name`. Raises TuidlError."""


class HomeScreen(Settles, Screen[None]):
    """Presets on one side, runs on the other; below or beside each what there is to know of its highlighted row."""

    TITLE = "Home"
    ABOUT = "Everything begins here: choose a preset and train it, or open a run and see what became of it."
    CSS_PATH = "home.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (76, "-normal"), (110, "-wide")]  # noqa: RUF012 - as Textual types it
    VERTICAL_BREAKPOINTS = [(0, "-low"), (30, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab,shift+tab", "switch", "Presets/Runs", id="home.switch", tooltip="To the other list."),
        Binding("left", "go('presets')", "Presets", show=False, id="home.presets", tooltip="To the presets."),
        Binding("right", "go('runs')", "Runs", show=False, id="home.runs", tooltip="To the runs."),
        Binding("slash", "filter", "Filter", id="home.filter", priority=True,  # so what follows at once is not lost
                tooltip="Show only what has some text in its name."),
        Binding("r", "repeat", "Repeat", id="home.repeat", tooltip="Set up a new run with this run's settings."),
        Binding("z", "zoom", "Zoom", id="home.zoom", tooltip="More room for what is told of the row, or less again."),
        Binding("escape", "back", "Back", id="home.back", tooltip="Undo the filter, or the zoom."),
    ]  # fmt: skip

    class PresetChosen(Message):
        """The user wants to set up a run of a preset."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    class RunChosen(Message):
        """The user wants to see a run."""

        def __init__(self, name: str, directory: Path) -> None:
            super().__init__()
            self.name, self.directory = name, directory

    class RepeatChosen(Message):
        """The user wants to set up a run like this one."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    class PresetsRead(Message):
        """The presets are known."""

        def __init__(self, presets: "Sequence[PresetEntry]", problem: str) -> None:
            super().__init__()
            self.presets, self.problem = presets, problem

    class RunsRead(Message):
        """The runs have been looked at."""

        def __init__(self, runs: "Sequence[RunSummary]", problem: str) -> None:
            super().__init__()
            self.runs, self.problem = runs, problem

    class CurvesRead(Message):
        """The curves of the runs in view are known."""

        def __init__(self, curves: Mapping[str, Sequence[float]], more: bool) -> None:
            super().__init__()
            self.curves, self.more = curves, more

    class FactsRead(Message):
        """The facts of a run are known."""

        def __init__(self, run: "RunSummary", facts: "RunFacts") -> None:
            super().__init__()
            self.run, self.facts = run, facts

    focused: Reactive[Widget | None] = Reactive(None, repaint=False)  # else each move of the focus repaints all
    rows: RowList[Any]
    """The list that has the keys, or had them last."""
    preset_list = query_one("#preset-list", PresetList)
    preset_details = query_one("#preset-details", Details)
    run_list = query_one("#run-list", RunList)
    run_details = query_one("#run-details", Details)

    def __init__(self, runs_root: Path, companion: Asks | None) -> None:
        """Without a `companion` nothing is told of where data sets are."""
        super().__init__()
        self.runs_root, self.companion = runs_root, companion
        self.runs: Sequence[RunSummary] = ()
        self._data: Mapping[str, Mapping[str, Any]] | None = None  # where each data set is, once known
        self._facts: dict[str, tuple[RunSummary, RunFacts]] = {}
        self._timer: Timer | None = None  # of the next look
        self._begun = False  # whether the first look is done

    @cached_property
    def library(self) -> "Library":
        """The runs; only for use beside the screen's own thread."""
        from tuidl.tui.overview import Library

        return Library(self.runs_root)

    def compose(self) -> ComposeResult:
        """Two lists, each with the details of its highlighted row, and the keys."""
        with Container(id="presets"):
            yield PresetList(id="preset-list")
            yield Details(id="preset-details")
        with Container(id="runs"):
            yield RunList(id="run-list")
            yield Details(id="run-details")
        yield KeyBar()

    def on_mount(self) -> None:
        """Begin to read once the first frame stands."""
        self.rows = self.preset_list
        self.call_after_refresh(self.read_presets)

    def on_screen_suspend(self) -> None:
        """Look at nothing while another screen is in front."""
        self._rest()

    def on_screen_resume(self) -> None:
        """Catch up."""
        if self._begun:
            self.read_presets()  # and then the runs
            self.ask_for_data()

    # ---------------------------------------------------------------- reading, beside the screen's own thread

    @work(thread=True, exclusive=True, exit_on_error=False, group="presets")
    def read_presets(self) -> None:
        """Read all presets."""
        from tuidl.tui.overview import read_presets

        try:
            self.post_message(self.PresetsRead(read_presets(), ""))
        except TuidlError as error:
            self.post_message(self.PresetsRead((), str(error)))

    @work(thread=True, exclusive=True, exit_on_error=False, group="runs")
    def read_runs(self) -> None:
        """Look at all runs."""
        try:
            self.post_message(self.RunsRead(self.library.runs(), ""))
        except TuidlError as error:
            self.post_message(self.RunsRead((), str(error)))

    @work(thread=True, exclusive=True, exit_on_error=False, group="curves")
    def read_curves(self, runs: "Sequence[RunSummary]") -> None:
        """Read the curves of some runs."""
        self.post_message(self.CurvesRead(*self.library.curves(runs)))

    @work(thread=True, exclusive=True, exit_on_error=False, group="facts")
    def read_facts(self, run: "RunSummary") -> None:
        """Read the facts of one run."""
        from tuidl.tui.overview import read_facts

        self.post_message(self.FactsRead(run, read_facts(run)))

    @work(exclusive=True, exit_on_error=False, group="data")
    async def ask_for_data(self) -> None:
        """Ask where the data sets are."""
        if self.companion is None:
            return
        try:
            self._data = await self.companion.ask("data")
        except TuidlError:
            self._data = None  # Set-up, which cannot do without, tells what is wrong
        self.show_details()

    @on(Worker.StateChanged)
    def _worker_failed(self, event: Worker.StateChanged) -> None:
        if event.state is WorkerState.ERROR:
            self.notify(clean(f"{event.worker.group}: {event.worker.error}", limit=400), severity="error", markup=False)
            if event.worker.group == "runs":
                self._look_again()

    # ---------------------------------------------------------------- showing

    @on(PresetsRead)
    def _show_presets(self, event: PresetsRead) -> None:
        self.preset_list.placeholder = (event.problem,) if event.problem else ("there are no presets",)
        self.preset_list.show(event.presets)
        self.read_runs()

    @on(RunsRead)
    def _show_runs(self, event: RunsRead) -> None:
        self.run_list.placeholder = (event.problem,) if event.problem else FIRST_STEPS
        before, self.runs = self.runs, event.runs
        painted = self._repaints()
        self.run_list.show(event.runs)
        if before != self.runs:
            self.show_details()
        if bool(before) != bool(self.runs):
            self.refresh_bindings()
        link = self._link
        if link is not None and self._repaints() != painted:
            self.call_after_refresh(link.frame_sent)
        if not self._begun:
            self._begun = True
            self.ask_for_data()
        self._look_again()

    def _look_again(self) -> None:
        """Look at the runs in a while; not before this look has ended, so that looks never pile up."""
        self._rest()
        if self.is_current:
            self._timer = self.set_timer(PERIOD, self._look)

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer = None

    def _look(self) -> None:
        if self._link is None or self._link.ready:
            self.read_runs()
        else:
            self._look_again()

    @property
    def _link(self) -> "Link | None":
        """The line to the terminal, where the program has one."""
        return getattr(self.app, "link", None)

    def _repaints(self) -> int:
        return sum(rows.repaints for rows in self.query(RowList).results()) + self.run_details.repaints

    @on(RunList.Scrolled)
    def _fill_view(self) -> None:
        """Read the curves of what is in view."""
        if self.run_list.in_view:
            self.read_curves(self.run_list.in_view)

    @on(CurvesRead)
    def _show_curves(self, event: CurvesRead) -> None:
        self.run_list.show_curves({**self.run_list.curves, **event.curves})
        if event.more:
            self._fill_view()

    @on(RowList.Highlighted)
    def _show_highlighted(self) -> None:
        self.show_details()

    @on(FactsRead)
    def _keep_facts(self, event: FactsRead) -> None:
        self._facts[event.run.name] = (event.run, event.facts)
        self.show_details()

    def show_details(self) -> None:
        """Tell of the highlighted rows; where there is room for one of them, of that in the list with the keys."""
        if self.run_details.display:
            self.preset_details.show(self._about_preset())
            self.run_details.show(self._about_run())
        else:
            self.preset_details.show(self._about_run() if self.rows is self.run_list else self._about_preset())

    def _about_preset(self) -> list[Paragraph]:
        entry = self.preset_list.chosen
        return preset_details(entry, self.runs, self._data) if entry is not None else []

    def _about_run(self) -> list[Paragraph]:
        run = self.run_list.chosen
        if run is None:
            return []
        known, facts = self._facts.get(run.name, (None, None))
        if facts is None or (known != run and not facts.device):  # what it trains on is known only after a while
            self.read_facts(run)
        return run_details(run, facts)

    def on_resize(self) -> None:
        """Tell as much as there is room for."""
        self.call_after_refresh(self.show_details)

    @on(DescendantFocus)
    def _focus_moved(self) -> None:
        if isinstance(self.focused, RowList):
            self.rows = self.focused
        self.show_details()

    # ---------------------------------------------------------------- keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer only what can be done now."""
        if not self.is_mounted or action not in ("switch", "go", "filter", "repeat", "zoom", "back"):
            return True
        if not isinstance(self.focused, RowList):
            return False  # a filter is being typed
        if action == "repeat":
            return self.rows is self.run_list and self.run_list.chosen is not None
        if action == "back":
            return bool(self.rows.filter_text) or self.has_class("-zoomed")
        return True

    @on(RowList.Opened)
    def _open(self, event: RowList.Opened) -> None:
        run, preset = self.run_list.chosen, self.preset_list.chosen
        if event.rows is self.run_list and run is not None:
            self.post_message(self.RunChosen(run.name, run.paths.directory))
        elif event.rows is self.preset_list and preset is not None:
            if preset.problem:
                self.notify(clean(preset.problem, limit=400), severity="warning", markup=False)
            else:
                self.post_message(self.PresetChosen(preset.name))

    def action_switch(self) -> None:
        """Give the keys to the other list."""
        self.action_go("presets" if self.rows is self.run_list else "runs")

    def action_go(self, box: str) -> None:
        """Give the keys to one of the lists."""
        self.remove_class("-zoomed")
        self.rows = self.run_list if box == "runs" else self.preset_list
        self.set_focus(self.rows)

    def action_repeat(self) -> None:
        """Ask for a run like the highlighted one."""
        if self.run_list.chosen is not None:
            self.post_message(self.RepeatChosen(self.run_list.chosen.name))

    def action_zoom(self) -> None:
        """Give the details all the room, or take it back."""
        self.set_class(self.rows is self.run_list, "-at-runs")
        self.toggle_class("-zoomed")
        self.refresh_bindings()

    def action_back(self) -> None:
        """Show everything again."""
        self.remove_class("-zoomed")
        self.rows.filter("")
        self.refresh_bindings()

    # ---------------------------------------------------------------- filter

    async def action_filter(self) -> None:
        """Ask for the text of the filter."""
        from tuidl.tui.filter import Filter

        await self.mount(Filter(self.rows), before=self.query_one(KeyBar))

    def on_filter_gone(self) -> None:
        """Offer the keys of the list again."""
        self.refresh_bindings()
