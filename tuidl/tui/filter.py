"""The row in which the filter of a list is typed."""

from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Static

from tuidl.tui.lists import RowList


class Filter(Horizontal):
    """Filters a list while the user types, then gives the keys back to it and goes."""

    DEFAULT_CSS = """
    Filter { dock: bottom; height: 1; margin-bottom: 1; padding: 0 1; background: $surface; }
    Filter > Static { width: auto; color: $text-muted; }
    Filter > Input { width: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "keep", "Keep", id="filter.keep", priority=True, tooltip="Back to the filtered list."),
        Binding("up,down", "keep", "Keep", show=False, id="filter.leave", tooltip="Back to the filtered list."),
        Binding("escape", "give_up", "No filter", id="filter.give_up", tooltip="Show everything again."),
    ]

    class Gone(Message):
        """The keys go to the list again."""

    def __init__(self, rows: RowList[Any]) -> None:
        super().__init__()
        self.rows = rows

    def compose(self) -> ComposeResult:
        """What is filtered, and by what."""
        yield Static(f"{self.rows.TITLE} with in their name: ", markup=False)
        line = Input(self.rows.filter_text, compact=True, select_on_focus=False)
        line.cursor_blink = False  # it would send bytes for ever
        yield line

    def on_mount(self) -> None:
        """Take the keys."""
        self.screen.set_focus(self.query_one(Input))

    @on(Input.Changed)
    def _follow(self, event: Input.Changed) -> None:
        event.stop()
        self.rows.filter(event.value)

    def action_keep(self) -> None:
        """Leave the list filtered."""
        self.screen.set_focus(self.rows)
        self.post_message(self.Gone())
        self.remove()

    def action_give_up(self) -> None:
        """Leave the list whole."""
        self.rows.filter("")
        self.action_keep()
