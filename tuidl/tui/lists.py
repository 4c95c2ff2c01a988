"""Lists to choose from, drawn row by row: presets and runs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from rich.cells import cell_len
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip

from tuidl.text import clean
from tuidl.tui.draw.palette import Palette
from tuidl.tui.draw.sparkline import sparkline
from tuidl.tui.draw.strips import Span, strip
from tuidl.tui.draw.wrap import wrap
from tuidl.tui.format import duration, fit, metric, moment, share, state_sign
from tuidl.tui.rows import Rows

if TYPE_CHECKING:
    from tuidl.runs import RunSummary
    from tuidl.tui.overview import PresetEntry

Item = TypeVar("Item")

WHEEL = 3  # rows that one notch of the mouse wheel moves
NAME_LIMIT = 80  # characters of a name or title that are shown
ROOM = 3  # rows from which on a list has room for more than its items


@lru_cache(maxsize=4096)
def _cells(name: str) -> int:
    """Return the cells that a name takes."""
    return cell_len(clean(name, limit=NAME_LIMIT))


class RowList(Rows, Generic[Item]):
    """A list with a highlighted row. Subclasses say what an item is called and how its row looks.

    The highlight belongs to an item, not to a place: it stays on the same one whatever comes or goes around it.
    """

    TITLE: ClassVar[str] = ""
    ABOUT: ClassVar[str] = ""
    DEFAULT_CSS = "RowList { height: 1fr; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "Up", show=False, id="list.up", tooltip="To the row above."),
        Binding("down", "move(1)", "Down", show=False, id="list.down", tooltip="To the row below."),
        Binding("pageup", "page(-1)", "Page up", show=False, id="list.page_up", tooltip="A screenful up."),
        Binding("pagedown", "page(1)", "Page down", show=False, id="list.page_down", tooltip="A screenful down."),
        Binding("home", "to(0)", "First", show=False, id="list.first", tooltip="To the first row."),
        Binding("end", "to(-1)", "Last", show=False, id="list.last", tooltip="To the last row."),
    ]
    can_focus = True

    class Highlighted(Message):
        """Another item is highlighted, or the highlighted one has changed."""

        def __init__(self, rows: "RowList[Item]") -> None:
            super().__init__()
            self.rows = rows

    class Opened(Message):
        """The user wants the highlighted item."""

        def __init__(self, rows: "RowList[Item]") -> None:
            super().__init__()
            self.rows = rows

    class Scrolled(Message):
        """Other items have come into view, or those in view have changed."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.border_title = self.TITLE
        self.placeholder: Sequence[str] = ("reading…",)  # stands where there is no item
        self.filter_text = ""
        self._items: tuple[Item, ...] = ()
        self._shown: tuple[Item, ...] = ()
        self._cursor = 0
        self._top = 0  # the first item in view
        self._told_in_view: tuple[Item, ...] = ()
        self.longest = 0  # cells of the longest name

    # ---------------------------------------------------------------- to be said by subclasses

    def name_of(self, item: Item) -> str:
        """Return what tells `item` from all others, and what the filter looks at."""
        raise NotImplementedError

    def row(self, item: Item, width: int) -> Sequence[Span]:
        """Return the row of `item`."""
        raise NotImplementedError

    def heading(self, width: int) -> str:
        """Return what stands over the columns, or nothing."""
        return ""

    # ---------------------------------------------------------------- items

    def show(self, items: Sequence[Item]) -> None:
        """Show these items from now on."""
        items = tuple(items)
        if items == self._items and items:
            return
        self._items = items
        self.longest = max((_cells(self.name_of(item)) for item in items), default=0)
        self._sift()

    def filter(self, text: str) -> None:
        """Show only items with `text` in their name."""
        self.filter_text = text
        self._sift()

    @property
    def chosen(self) -> Item | None:
        """The highlighted item."""
        return self._shown[self._cursor] if self._shown else None

    @property
    def in_view(self) -> tuple[Item, ...]:
        """The items whose rows are on the screen."""
        return self._shown[self._top : self._top + self._capacity]

    def _sift(self) -> None:
        before, name = self.chosen, self.name_of(self.chosen) if self.chosen is not None else ""
        wanted = self.filter_text.casefold()
        self._shown = tuple(item for item in self._items if wanted in self.name_of(item).casefold())
        place = next((index for index, item in enumerate(self._shown) if self.name_of(item) == name), None)
        if place is not None and self._top:
            self._top += place - self._cursor  # the rows in view stay where they are
        self._cursor = place if place is not None else max(0, min(self._cursor, len(self._shown) - 1))
        self._look(before)

    # ---------------------------------------------------------------- moving

    def action_move(self, rows: int) -> None:
        """Move the highlight."""
        self.highlight(self._cursor + rows)

    def action_page(self, direction: int) -> None:
        """Move the highlight by what is in view."""
        self.highlight(self._cursor + direction * max(1, self._capacity - 1))

    def action_to(self, index: int) -> None:
        """Move the highlight to the first or the last item."""
        self.highlight(index % len(self._shown) if self._shown else 0)

    def action_open(self) -> None:
        """Ask for the highlighted item."""
        if self.chosen is not None:
            self.post_message(self.Opened(self))

    def highlight(self, index: int) -> None:
        """Highlight the item at `index`, or the nearest one there is."""
        before = self.chosen
        self._cursor = max(0, min(index, len(self._shown) - 1))
        self._look(before)

    def _look(self, before: Item | None) -> None:
        """Bring the highlighted row into view, paint, and tell what has changed since `before`."""
        self._top = max(min(self._top, self._cursor), self._cursor - self._capacity + 1)
        self._set_top(self._top)
        if self.chosen != before:
            self.post_message(self.Highlighted(self))

    def _set_top(self, top: int) -> None:
        self._top = max(0, min(top, len(self._shown) - self._capacity))
        self.redraw()
        if self.in_view != self._told_in_view:
            self._told_in_view = self.in_view
            self.post_message(self.Scrolled())

    def on_click(self, event: events.Click) -> None:
        """Highlight the row; a double click opens it."""
        place = event.get_content_offset(self)
        if place is None:
            return
        index = self._top + place.y - bool(self._heading(self.content_size.width))
        if self._top <= index < min(len(self._shown), self._top + self._capacity):
            self.highlight(index)
            if event.chain == 2:
                self.action_open()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Scroll; the highlight stays where it is."""
        event.stop()
        self._set_top(self._top + WHEEL)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Scroll; the highlight stays where it is."""
        event.stop()
        self._set_top(self._top - WHEEL)

    def watch_has_focus(self, has_focus: bool) -> None:
        """Show whether the keys go here."""
        super().watch_has_focus(has_focus)
        self.redraw()

    def on_resize(self) -> None:
        """Keep the highlighted row in view."""
        self._look(self.chosen)

    # ---------------------------------------------------------------- drawing

    def paint(self, width: int, height: int) -> list[Strip]:
        """Return heading, rows, and how much there is beyond them."""
        look = self.palette
        if not self._shown:
            return self._without_items(width)[:height]
        heading = self._heading(width)
        rows = [strip([(f"  {heading}", look.muted)], width, look.text)] if heading else []
        for index, item in enumerate(self.in_view, self._top):
            rows.append(self._item_row(item, width, index == self._cursor))
        if self._has_foot:
            rows += [strip([], width, look.text)] * (height - len(rows))
            rows[-1] = strip([(self._foot(), look.muted)], width, look.text)
        return rows

    def _without_items(self, width: int) -> list[Strip]:
        look = self.palette
        told = [f"nothing here is named {self.filter_text!r}"] if self._items else self.placeholder
        lines = [line for paragraph in told for line in wrap(clean(paragraph), max(1, width - 3)) or [""]]
        return [strip([(f"  {line}", look.muted)], width, look.text) for line in lines]

    def _item_row(self, item: Item, width: int, chosen: bool) -> Strip:
        look = self.palette
        spans = [("› " if chosen and self.has_focus else "· " if chosen else "  ", look.accent), *self.row(item, width)]
        if not chosen:
            return strip(spans, width, look.text)
        behind = Style(bgcolor=look.ramp[2 if self.has_focus else 1].bgcolor, bold=self.has_focus or None)
        return strip([(text, style + behind) for text, style in spans], width, look.text + behind)

    def _heading(self, width: int) -> str:
        return self.heading(width) if self.content_size.height > ROOM + 1 else ""

    @property
    def _has_foot(self) -> bool:
        """Whether the last row tells what is not in view."""
        height = self.content_size.height - bool(self._heading(self.content_size.width))
        return self.content_size.height >= ROOM and (bool(self.filter_text) or len(self._shown) > height)

    @property
    def _capacity(self) -> int:
        """How many items fit."""
        height = self.content_size.height - bool(self._heading(self.content_size.width)) - self._has_foot
        return max(1, height)

    def _foot(self) -> str:
        above, below = self._top, len(self._shown) - self._top - self._capacity
        found = f"{len(self._shown)} of {len(self._items)} have {clean(self.filter_text, limit=20)!r}"
        parts = [
            found if self.filter_text else "",
            f"↑ {above} more" if above > 0 else "",
            f"↓ {below} more" if below > 0 else "",
        ]
        return "  " + "   ".join(filter(None, parts))


class PresetList(RowList["PresetEntry"]):
    """What can be trained."""

    TITLE = "Presets"
    ABOUT = (
        "A preset is a ready experiment: a network, the data it learns from, and good settings for both. Beside the "
        "list stands what the highlighted one shows, what result to expect, how long it takes, and whether its data "
        "is already on this machine.\n\n"
        "Enter opens the preset's settings. Nothing trains before you start it there, and nothing you change there "
        "alters the preset itself. New here? Take mnist-mlp: it is done in seconds, and one look at its curves "
        "teaches more than a page of text.\n\n"
        "Alarming here: a preset marked with ! cannot be read; the text beside the list says which line is wrong."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Set up", id="preset.open", tooltip="Look at the preset's settings, change, start."),
    ]

    def name_of(self, item: "PresetEntry") -> str:
        """Return the preset's name."""
        return item.name

    def row(self, item: "PresetEntry", width: int) -> Sequence[Span]:
        """Return name and title; of the title as much as has room and makes sense."""
        look = self.palette
        room = min(self.longest, max(8, width // 2 - 2))
        name = fit(clean(item.name, limit=NAME_LIMIT), room)
        if item.problem:
            return [(name, look.text), ("  ! ", look.bad), (clean(item.problem, limit=200), look.muted)]
        left = width - room - 4
        title = clean(item.title, limit=NAME_LIMIT)
        if cell_len(title) > left:
            title = title.partition(":")[0]
        return [(name, look.text), ("  ", look.muted), (fit(title, left), look.muted)]


@dataclass(frozen=True)
class Column:
    """One column of the list of runs: its heading, the room it needs, and how a run fills it."""

    name: str
    heading: str
    width: int
    spans: Callable[["RunList", "RunSummary", int], Sequence[Span]]


def _state(rows: "RunList", run: "RunSummary", width: int) -> Sequence[Span]:
    sign, word = state_sign(run.state)
    return [(fit(f"{sign} {word}" if width > 1 else sign, width), rows.tone(run.state))]


def _name(rows: "RunList", run: "RunSummary", width: int) -> Sequence[Span]:
    return [(fit(clean(run.name, limit=NAME_LIMIT), width), rows.palette.text)]


def _done(rows: "RunList", run: "RunSummary", width: int) -> Sequence[Span]:
    text = share(run.step, run.total_steps) or ("" if run.state == "unreadable" else f"{run.step:,}")
    return [(fit(text, width).strip().rjust(width), rows.palette.text)]


def _best(rows: "RunList", run: "RunSummary", width: int) -> Sequence[Span]:
    value = metric(run.best.metric, run.best.value) if run.best else ""
    return [(fit(value, width).strip().rjust(width), rows.palette.text)]


def _metric(rows: "RunList", run: "RunSummary", width: int) -> Sequence[Span]:
    name = run.best.metric.removeprefix("val_") if run.best else ""
    return [(fit(clean(name, limit=40), width), rows.palette.muted)]


def _curve(rows: "RunList", run: "RunSummary", width: int) -> Sequence[Span]:
    return [(fit(sparkline(rows.curves.get(run.name, ()), width), width), rows.palette.train)]


def _trained(rows: "RunList", run: "RunSummary", width: int) -> Sequence[Span]:
    text = duration(run.seconds) if run.seconds > 0 else ""
    return [(fit(text, width).strip().rjust(width), rows.palette.muted)]


def _started(rows: "RunList", run: "RunSummary", width: int) -> Sequence[Span]:
    return [(fit(moment(run.created, datetime.now().astimezone()), width), rows.palette.muted)]


COLUMNS = (
    Column("state", "state", 12, _state),
    Column("name", "run", 20, _name),
    Column("done", "done", 5, _done),
    Column("best", "best", 8, _best),
    Column("metric", "of", 8, _metric),
    Column("curve", "curve", 8, _curve),
    Column("trained", "trained", 7, _trained),
    Column("started", "started", 7, _started),
)
BY_WORTH = ("state", "name", "done", "best", "curve", "metric", "started", "trained")
GAP = 2
WIDEST = {"name": 40, "curve": 24}


def fit_columns(width: int, longest_name: int) -> dict[str, int]:
    """Return the columns that `width` cells have room for, and their widths.

    Where room is short the state keeps only its sign and the least worthy columns are left out; where there is plenty
    names and curves grow.
    """
    widths = {column.name: column.width for column in COLUMNS}
    widths["name"] = max(8, min(widths["name"], longest_name))
    chosen: dict[str, int] = {}
    left = width + GAP
    for name in BY_WORTH:
        size = widths[name]
        if name == "state" and width < 50:
            size = 1
        if name == "name":
            size = min(size, max(1, left - GAP))
        if left >= size + GAP:
            chosen[name] = size
            left -= size + GAP
    for name, most in (("name", longest_name), ("curve", WIDEST["curve"]), ("name", WIDEST["name"])):
        if name in chosen:
            grown = max(chosen[name], min(chosen[name] + left, most, WIDEST[name]))
            left -= grown - chosen[name]
            chosen[name] = grown
    return {column.name: chosen[column.name] for column in COLUMNS if column.name in chosen}


class RunList(RowList["RunSummary"]):
    """What has been trained and what trains now, the newest first."""

    TITLE = "Runs"
    ABOUT = (
        "Every training that was started here, the newest first. The sign tells how it stands: ▶ it trains now, ⏸ it "
        "waits for you, ✓ it did all its steps, ■ somebody stopped it, ✗ its loss was no longer a number, ! it "
        "ended with an error, ? its trainer is gone without a word.\n\n"
        "Best is the best value so far of the metric that decides which weights are kept, measured on validation "
        "data, from which the network does not learn. The small curve is that metric from its first measurement to "
        "the last, each on a scale of its own: it tells rising from falling, not one run from another. × marks a "
        "value that is not a number.\n\n"
        "Enter opens a run: watch it live, steer it, or look back at all it did. r sets up a new run with the same "
        "settings. Runs do not need this program: they go on when you leave it.\n\n"
        "Alarming here: an accuracy curve that falls, a loss curve that rises, ✗ and ?."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Open", id="run.open", tooltip="Watch the run live, or look back at it."),
    ]

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.curves: Mapping[str, Sequence[float]] = {}  # by the name of the run

    def show_curves(self, curves: Mapping[str, Sequence[float]]) -> None:
        """Draw these curves."""
        self.curves = curves
        self.redraw()

    def tone(self, state: str) -> Style:
        """Return the style of a state's sign and word."""
        look: Palette = self.palette
        if state in ("running", "starting", "evaluating"):
            return look.good
        if state in ("diverged", "failed", "lost"):
            return look.bad
        return look.warn if state in ("paused", "unreadable") else look.text

    def name_of(self, item: "RunSummary") -> str:
        """Return the run's name."""
        return item.name

    def row(self, item: "RunSummary", width: int) -> Sequence[Span]:
        """Return the columns there is room for."""
        spans: list[Span] = []
        for column, size in self._columns(width):
            spans += [*column.spans(self, item, size), (" " * GAP, self.palette.text)]
        return spans

    def heading(self, width: int) -> str:
        """Return the names of the columns."""
        texts = []
        for column, size in self._columns(width):
            right = column.name in ("done", "best", "trained")
            texts.append(fit(column.heading, size).strip().rjust(size) if right else fit(column.heading, size))
        return (" " * GAP).join(texts)

    def _columns(self, width: int) -> list[tuple[Column, int]]:
        sizes = fit_columns(width - 2, self.longest)
        return [(column, sizes[column.name]) for column in COLUMNS if column.name in sizes]
