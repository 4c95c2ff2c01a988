"""The dashboard: one run, live or finished, with full control over it."""

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.events import DescendantFocus, Resize
from textual.getters import query_one
from textual.message import Message
from textual.reactive import Reactive
from textual.screen import Screen
from textual.widget import Widget

from tuidl.errors import TuidlError
from tuidl.runs import RunPaths, kill, send
from tuidl.tui.arrangement import LOG, PANELS, arrange
from tuidl.tui.budget import Budget
from tuidl.tui.companion import start_trainer
from tuidl.tui.feed import Feed
from tuidl.tui.keybar import KeyBar
from tuidl.tui.knobs import as_text, undo_of
from tuidl.tui.panels.chart import ChartPanel
from tuidl.tui.panels.knobs import KnobDrawer
from tuidl.tui.panels.machine import Gauge, Machine, MachinePanel
from tuidl.tui.panels.matrix import ConfusionPanel
from tuidl.tui.panels.panel import Panel
from tuidl.tui.panels.registry import panels_of
from tuidl.tui.panels.statusbar import StatusBar
from tuidl.tui.screens.behaviour import Settles
from tuidl.tui.screens.dialogs import AskNumber, Confirm
from tuidl.tui.snapshot import Snapshot

if TYPE_CHECKING:
    from tuidl.tui.app import TuidlApp

IDLE = 1.0  # seconds between looks at a run that does not train
DEAF = 15.0  # seconds until a run that has not answered a command is said to be silent
RESUMABLE = ("stopped", "diverged", "failed", "lost")


class DashboardScreen(Settles, Screen[None]):
    """Watches a run directory, and steers its run through the inbox."""

    ABOUT = (
        "The run as it trains. Tab or a number goes to a panel; F1 there explains what it shows. What you do here "
        "changes the run only where a key says so: leaving never does."
    )
    CSS_PATH = "dashboard.tcss"
    focused: Reactive[Widget | None] = Reactive(None, repaint=False)  # else each move of the focus repaints all
    AUTO_FOCUS = ""  # the panels come later, and the first of them takes the focus
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "pause", "Pause", id="run.pause", tooltip="Hold the run after its next step; again to go on."),
        Binding("space", "go_on", "Continue", id="run.continue", tooltip="Go on training."),
        Binding("tab", "walk(1)", "Panel", id="panel.next", tooltip="To the next panel."),
        Binding("shift+tab", "walk(-1)", "Panel before", id="panel.before", show=False, tooltip="To the panel before."),
        Binding("k", "knobs", "Knobs", id="run.knobs", tooltip="Change learning rate, dropout and the like, live."),
        Binding("R", "resume", "Resume", id="run.resume", tooltip="Go on from the newest checkpoint."),
        Binding("z", "maximise", "Full", id="panel.maximise", tooltip="The panel in focus alone, or all again."),
        Binding("q", "leave", "Leave", id="run.leave", tooltip="Leave the screen; the run goes on training."),
        Binding("h,escape", "home", "Home", id="go.home", tooltip="All presets and runs; the run goes on training."),
        Binding("u", "undo", "Undo", id="run.undo", tooltip="Take the newest change of a knob back."),
        Binding("e", "command('evaluate-now')", "Evaluate", id="run.evaluate",
                tooltip="Measure on the validation data now; the run itself is not changed by it."),
        Binding("g", "command('sample-now')", "Sample", id="run.sample", tooltip="Write text or draw images now."),
        Binding("full_stop", "steps", "Steps", id="run.steps", tooltip="Run a number of steps, then pause."),
        Binding("t", "stop", "Stop", id="run.stop", tooltip="End the run after this step, with a checkpoint."),
        Binding("T", "kill", "Kill", id="run.kill", tooltip="End the trainer at once, without a checkpoint."),
        Binding("o", "panel('log')", "Log", id="panel.log", show=False, tooltip="The end of the trainer's log."),
        *(Binding(str(n), f"nth({n})", f"Panel {n}", id=f"panel.{n}", show=False, tooltip=f"Go to panel {n}.")
          for n in range(1, 10)),
    ]  # fmt: skip

    class Left(Message):
        """The user wants to leave the program."""

    class HomeWanted(Message):
        """The user wants to see Home."""

    status = query_one(StatusBar)
    drawer = query_one(KnobDrawer)
    body = query_one("#body", Container)

    def __init__(self, paths: RunPaths, interval: float, bytes_a_second: float) -> None:
        """`interval` is the least time between two frames in seconds."""
        super().__init__()
        self.paths, self.interval, self.budget = paths, interval, Budget(bytes_a_second)
        self.feed = Feed(paths)
        self.machine = Machine()
        self.snapshot: Snapshot | None = None
        self.maximised = False
        self.chosen = ""
        self._kind = ""
        self._gauges: Sequence[Gauge] = ()
        self._asked: dict[str, float] = {}  # commands without an answer yet, and when they were sent
        self._seen_events = 0
        self._silence_told: set[str] = set()

    @property
    def tuidl(self) -> "TuidlApp":
        """The program."""
        return self.app  # type: ignore[return-value]

    def compose(self) -> ComposeResult:
        """Status on top, the panels, the keys."""
        yield StatusBar()
        yield Container(id="body")
        yield KnobDrawer()
        yield KeyBar()

    def on_mount(self) -> None:
        """Begin to follow the run."""
        self.follow()

    @work(exclusive=True, group="follow", exit_on_error=True)
    async def follow(self) -> None:
        """Look at the run again and again; a look that finds nothing new draws nothing."""
        while True:
            started = time.monotonic()
            if self.is_current and self.tuidl.link.ready:
                await self.look()
            pause = self.interval if self.snapshot is None or self.snapshot.live else max(IDLE, self.interval)
            if self.feed.more:
                pause = 0.02  # a long history is being read: a slice after the other
            await asyncio.sleep(max(0.01, pause - (time.monotonic() - started)))

    async def look(self) -> None:
        """Take one snapshot and show it."""
        snapshot = await asyncio.to_thread(self._poll)
        if snapshot.spec is not None and not self._kind:
            await self._build(snapshot.spec.task)
        before = self._repaints()
        self.snapshot = snapshot
        self._show(snapshot)
        if self._repaints() != before:
            self.call_after_refresh(self.tuidl.link.frame_sent)

    def _poll(self) -> Snapshot:
        snapshot = self.feed.poll()
        identity = snapshot.status.identity if snapshot.status else None
        if snapshot.live and snapshot.state != "paused":
            self._gauges = self.machine.look(identity, str(snapshot.facts.get("device_kind", "")))
        return snapshot

    def _repaints(self) -> int:
        return sum(rows.repaints for rows in (self.status, *self.panels))

    @property
    def panels(self) -> list[Panel]:
        """Every panel of the run's task."""
        return list(self.query(Panel).results())

    async def _build(self, task: str) -> None:
        self._kind = task
        self.chosen = PANELS[task][0]
        await self.body.mount(*panels_of(task, self.feed.artifact))
        for chart in self.query(ChartPanel).results():
            chart.x_axis, chart.smoothing = self.tuidl.settings.x_axis, self.tuidl.settings.smoothing
        for matrix in self.query(ConfusionPanel).results():
            matrix.rates = self.tuidl.settings.rates_in_matrix
        self.place_panels()
        self.query_one(f"#{self.chosen}", Panel).focus()

    def _show(self, snapshot: Snapshot) -> None:
        before = self.status.snapshot.state if self.status.snapshot else ""
        with self.app.batch_update():
            height = self.status.styles.height
            self.status.show(snapshot, self.tuidl.link.state, self.feed.more)
            if self.status.styles.height != height:  # a notice more or less: the panels have another height
                self.call_after_refresh(self.place_panels)
            for panel in self.query(MachinePanel).results():
                panel.gauges_now = self._gauges
            self._paint(snapshot)
            if self.drawer.is_open:
                self.drawer.show(snapshot)
        if snapshot.state != before:
            self.refresh_bindings()
        self._hear(snapshot)

    def _hear(self, snapshot: Snapshot) -> None:
        """Tell the answers to what was asked from here."""
        for event in snapshot.events[self._seen_events :]:
            asked = event.get("event") == "answer" and self._asked.pop(str(event.get("id")), None) is not None
            if asked and not (event.get("ok") and self.drawer.is_open):  # it shows the new value itself, in that corner
                self.tuidl.tell(str(event.get("text", "")), wrong=not event.get("ok"))
        self._seen_events = len(snapshot.events)
        now = time.monotonic()
        for identifier, sent in list(self._asked.items()):
            if now - sent > DEAF or not snapshot.live:
                del self._asked[identifier]
                self.tuidl.tell("the run has not answered; the command waits in its inbox", wrong=True)

    def _paint(self, snapshot: Snapshot) -> None:
        """Show the snapshot on every panel that is seen: the one in focus first, then whoever waits longest.

        While the run moves on, only as many as the terminal's budget bears. Once it stands still, all.
        """
        moving = snapshot.state in ("running", "evaluating")
        waiting = [panel for panel in self.panels if panel.display]
        for panel in sorted(waiting, key=lambda panel: (not panel.has_focus, panel.painted_at)):
            if moving and not self.budget.open:
                return
            before = panel.sent
            panel.show(snapshot)
            if panel.sent != before:
                self.budget.spend(panel.sent - before)
                panel.painted_at = time.monotonic()

    # ---------------------------------------------------------------- panels

    def place_panels(self) -> None:
        """Give every panel its place."""
        if not self._kind:
            return
        width, height = self.body.size
        if width < 1 or height < 1:
            return
        places = arrange(self._kind, width, height, self.chosen, self.maximised)
        with self.app.batch_update():
            for panel in self.panels:
                place = places.get(panel.id or "")
                panel.display = place is not None
                if place is not None:
                    panel.styles.offset = (place.x, place.y)
                    panel.styles.width, panel.styles.height = place.width, place.height
                    panel.border_title = self._title(panel)
                    if self.snapshot is not None and panel.snapshot is not self.snapshot:
                        panel.show(self.snapshot)

    def _title(self, panel: Panel) -> str:
        names = PANELS[self._kind]
        key = str(names.index(panel.id) + 1) if panel.id in names else "o"
        return f"{key} {panel.TITLE or panel.id}"

    def on_resize(self, event: Resize) -> None:
        """Arrange anew."""
        self.call_after_refresh(self.place_panels)

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """Let the panel in focus be seen."""
        if isinstance(event.widget, Panel) and event.widget.id and event.widget.id != self.chosen:
            self.chosen = event.widget.id
            self.place_panels()

    def action_nth(self, number: int) -> None:
        """Go to a panel by its number."""
        if self._kind and number <= len(PANELS[self._kind]):
            self.action_panel(PANELS[self._kind][number - 1])

    def action_panel(self, name: str) -> None:
        """Go to a panel."""
        if not self._kind:
            return
        self.chosen = PANELS[self._kind][0] if name == LOG == self.chosen else name
        self.place_panels()
        self.query_one(f"#{self.chosen}", Panel).focus()

    def action_walk(self, by: int) -> None:
        """Go to the next panel, or the one before, also to one that is not seen yet."""
        if self._kind:
            names = PANELS[self._kind]
            here = names.index(self.chosen) if self.chosen in names else 0
            self.action_panel(names[(here + by) % len(names)])

    def action_maximise(self) -> None:
        """Show the panel in focus alone, or all again."""
        self.maximised = not self.maximised
        self.place_panels()

    @on(ChartPanel.ViewChanged)
    def _same_view(self, event: ChartPanel.ViewChanged) -> None:
        """Keep all charts on one stretch of the x axis, and remember how the user likes curves."""
        for chart in self.query(ChartPanel).results():
            if chart is not event.panel:
                chart.follow(event.panel)
        self.tuidl.remember(x_axis=event.panel.x_axis, smoothing=event.panel.smoothing)

    @on(ConfusionPanel.UnitChanged)
    def _same_unit(self, event: ConfusionPanel.UnitChanged) -> None:
        self.tuidl.remember(rates_in_matrix=event.rates)

    # ---------------------------------------------------------------- steering

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer only what can be done now."""
        snapshot = self.snapshot
        live = snapshot is not None and snapshot.live
        if action == "resume":
            return snapshot is not None and snapshot.state in RESUMABLE
        if action in ("pause", "go_on", "steps", "knobs", "command", "stop", "kill", "undo"):
            if not live:
                return False
            if action in ("pause", "go_on"):
                return (snapshot is not None and snapshot.state == "paused") == (action == "go_on")
            if action == "command" and parameters == ("sample-now",):
                return bool(snapshot and snapshot.spec and snapshot.spec.task != "classification")
            if action == "undo":
                return bool(snapshot and undo_of(snapshot.changes))
        return True

    @work(group="steer", exit_on_error=False)
    async def command(self, verb: str, **arguments: str) -> None:
        """Put a command into the inbox of the run."""
        try:
            identifier = await asyncio.to_thread(send, self.paths, verb, **arguments)
        except TuidlError as error:
            self.tuidl.tell(str(error), wrong=True)
        else:
            self._asked[identifier] = time.monotonic()

    def action_command(self, verb: str) -> None:
        """Send a command without arguments."""
        self.command(verb)

    def action_pause(self) -> None:
        """Pause, or go on."""
        self.command("continue" if self.snapshot and self.snapshot.state == "paused" else "pause")

    def action_go_on(self) -> None:
        """Go on."""
        self.action_pause()

    def action_undo(self) -> None:
        """Take the newest change back."""
        change = undo_of(self.snapshot.changes) if self.snapshot else None
        if change:
            self.command("set", key=change.key, value=as_text(change.before))

    @work(group="dialog", exclusive=True)
    async def action_steps(self) -> None:
        """Ask how many steps, then run them and pause."""
        count = await self.app.push_screen_wait(AskNumber("steps", "Run how many steps, then pause?", 1))
        if count:
            self.command("steps", count=str(count))

    @work(group="dialog", exclusive=True)
    async def action_stop(self) -> None:
        """Ask, then end the run in order."""
        sentence = (
            "The run ends after its present step, and a checkpoint is written. Everything stays in its directory, and "
            "R goes on from there."
        )
        if await self.app.push_screen_wait(Confirm("stop", sentence, "stop this run")):
            self.command("stop")

    @work(group="dialog", exclusive=True)
    async def action_kill(self) -> None:
        """Ask, then end the trainer at once."""
        sentence = (
            "The trainer is ended at once, in the middle of whatever it does. No checkpoint is written: R then goes "
            "on from the last one. Use this only when it does not react to stop."
        )
        if await self.app.push_screen_wait(Confirm("kill", sentence, "kill the trainer")):
            try:
                self.tuidl.tell(await asyncio.to_thread(kill, self.paths))
            except TuidlError as error:
                self.tuidl.tell(str(error), wrong=True)

    @work(group="dialog", exclusive=True)
    async def action_resume(self) -> None:
        """Ask, then go on with a run that has ended."""
        options, calmer = ["--resume"], ""
        if self.snapshot and self.snapshot.spec and self.snapshot.state == "diverged":
            lr = self.snapshot.spec.optimizer.lr / 10
            options.append(f"--set=optimizer.lr={lr:g}")
            calmer = f" As it has diverged, the learning rate becomes {lr:g}, a tenth of what it was."
        sentence = "The run goes on from its newest checkpoint, as if it had not ended; what came after that is redone."
        if await self.app.push_screen_wait(Confirm("resume", sentence + calmer, "go on training")):
            try:
                await start_trainer(self.paths, options)
            except TuidlError as error:
                self.tuidl.tell(str(error), wrong=True)

    @work(group="dialog", exclusive=True)
    async def action_leave(self) -> None:
        """Leave the program; ask first where a run goes on, so that nobody leaves in fear."""
        sentence = (
            "The run goes on training without this screen. Come back with `tuidl attach`, from any terminal of this "
            "machine."
        )
        alone = self.snapshot is None or not self.snapshot.live
        question = Confirm("leave", sentence, "leave, the run goes on", key="q")
        if alone or await self.app.push_screen_wait(question):
            self.post_message(self.Left())

    def action_home(self) -> None:
        """Show Home."""
        self.post_message(self.HomeWanted())

    def action_knobs(self) -> None:
        """Open or close the drawer of knobs."""
        if self.drawer.is_open:
            self.drawer.close()
        else:
            self.drawer.open(self.snapshot)

    @on(KnobDrawer.Closed)
    def _focus_chosen(self) -> None:
        if self.chosen:
            self.query_one(f"#{self.chosen}", Panel).focus()

    @on(KnobDrawer.Changed)
    def _change(self, event: KnobDrawer.Changed) -> None:
        self.command("set", key=event.key, value=event.text)
