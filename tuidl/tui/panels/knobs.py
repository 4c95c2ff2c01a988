"""The drawer of knobs: every live setting of a run, changed while it trains."""

from dataclasses import dataclass
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.events import Key
from textual.getters import query_one
from textual.message import Message
from textual.strip import Strip
from textual.widgets import Input

from tuidl.spec.schema import Field
from tuidl.text import clean
from tuidl.tui.draw.strips import Span, strip
from tuidl.tui.knobs import as_text, check, live_fields, stepped, undo_of
from tuidl.tui.rows import Rows
from tuidl.tui.snapshot import Snapshot

NUMERIC = "0123456789.eE+-[],"


class KnobInput(Input, inherit_bindings=False):
    """Takes what a number is made of; every other key keeps its meaning on the screen."""

    BINDINGS: ClassVar[list[BindingType]] = [*Input.BINDINGS]  # of the input alone: up and down belong to the drawer

    def check_consume_key(self, key: str, character: str | None) -> bool:
        """Return whether this key is typed here."""
        return character is not None and character in NUMERIC

    async def _on_key(self, event: Key) -> None:
        if not self.check_consume_key(event.key, event.character):
            event.prevent_default()  # keeps Textual from calling the handler of the class above as well


class KnobList(Rows):
    """One row a knob: its name, its value, and `*` where it was changed since the start."""

    def __init__(self) -> None:
        super().__init__(id="knob-list")
        self.fields: list[Field] = []
        self.changed: set[str] = set()
        self.row = 0

    @property
    def field(self) -> Field | None:
        """The knob under the cursor."""
        return self.fields[self.row] if self.fields else None

    def paint(self, width: int, height: int) -> list[Strip]:
        """Return the knobs around the cursor."""
        look = self.palette
        if not self.fields:
            return [strip([("nothing here may change while it trains", look.muted)], width, look.text)]
        first = max(0, min(self.row - height // 2, len(self.fields) - height))
        found = []
        for index, field in list(enumerate(self.fields))[first : first + height]:
            here = index == self.row
            value = clean(as_text(field.value), limit=20)
            name = field.path[: max(4, width - len(value) - 5)]
            gap = " " * max(1, width - len(name) - len(value) - 4)
            mark = "*" if field.path in self.changed else " "
            spans: list[Span] = [
                ("› " if here else "  ", look.accent),
                (name, look.cursor if here else look.text),
                (gap, look.text),
                (f"{value} {mark}", look.mark if mark == "*" else look.cursor if here else look.text),
            ]
            found.append(strip(spans, width, look.text))
        return found


class KnobDrawer(Vertical):
    """The list of knobs, an input for the chosen one, and what it means."""

    DEFAULT_CSS = """
    KnobDrawer { dock: right; layer: drawer; width: 46; max-width: 100%; height: 1fr; display: none;
        background: $surface; border: round $accent; border-title-color: $accent; }
    KnobDrawer.-open { display: block; }
    KnobDrawer KnobList { height: 1fr; }
    KnobDrawer Input { height: 1; border: none; background: $boost; }
    KnobDrawer KnobHelp { height: 5; }
    """
    TITLE = "knobs"
    ABOUT = (
        "Everything that may change while the run trains. A change takes effect at the next step, is marked ┊ on the "
        "curves, and is kept in the run's story, so that you can see later what it did.\n\n"
        "Up and down choose a knob. Type a value and press enter, or use > and < to double and halve it. u takes the "
        "newest change back. Lower the learning rate when the loss jumps up and down; raise dropout or weight decay "
        "when train and validation part."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "move(1)", "Knob", id="knobs.next", tooltip="To the next knob."),
        Binding("up", "move(-1)", "Knob before", show=False, id="knobs.before", tooltip="To the knob before."),
        Binding("greater_than_sign", "step(True)", "Double", id="knobs.double", tooltip="Double this knob."),
        Binding("less_than_sign", "step(False)", "Halve", id="knobs.halve", tooltip="Halve this knob."),
        Binding("escape", "close", "Close", id="knobs.close", tooltip="Back to the panels."),
    ]
    list = query_one("#knob-list", KnobList)
    input = query_one("#knob-value", KnobInput)

    @dataclass
    class Changed(Message):
        """A change that the trainer should make."""

        key: str
        text: str

    class Closed(Message):
        """The drawer was closed."""

    snapshot: Snapshot | None = None

    def __init__(self) -> None:
        super().__init__(disabled=True)  # what is closed takes no focus

    @property
    def is_open(self) -> bool:
        """Whether the drawer is seen."""
        return self.has_class("-open")

    def open(self, snapshot: Snapshot | None) -> None:
        """Show the knobs as they stand."""
        self.disabled = False
        self.add_class("-open")
        if snapshot:
            self.show(snapshot)
        self.input.focus()

    def close(self) -> None:
        """Hide the knobs and say so."""
        self.remove_class("-open")
        self.disabled = True
        self.post_message(self.Closed())

    def compose(self) -> ComposeResult:
        """List, input, help."""
        self.border_title = self.TITLE
        yield KnobList()
        yield KnobInput(placeholder="new value, then enter", id="knob-value", compact=True, select_on_focus=False)
        yield KnobHelp()

    def on_mount(self) -> None:
        """Nothing blinks: over a slow line every blink costs."""
        self.input.cursor_blink = False

    def show(self, snapshot: Snapshot) -> None:
        """Take the values as they are now."""
        self.snapshot = snapshot
        self.list.fields = live_fields(snapshot.spec) if snapshot.spec and snapshot.live else []
        self.list.changed = {change.key for change in snapshot.changes}
        self.list.row = min(self.list.row, max(0, len(self.list.fields) - 1))
        undo = undo_of(snapshot.changes)
        told = f"u: {undo.key} back to {as_text(undo.before)}" if undo else ""
        self.border_subtitle = Content(clean(told, limit=40))  # a name from a file of the run, and never markup
        self.list.redraw()
        self.query_one(KnobHelp).show(self.list.field, "")

    def action_move(self, by: int) -> None:
        """Go to the next knob, or the one before."""
        if self.list.fields:
            self.list.row = (self.list.row + by) % len(self.list.fields)
            self.list.redraw()
            self.input.clear()
            self.query_one(KnobHelp).show(self.list.field, "")

    def action_step(self, up: bool) -> None:
        """Double or halve a number."""
        field = self.list.field
        if field and field.type in ("number", "integer"):
            self._change(field.path, stepped(field, up))

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if self.list.field and event.value.strip():
            self._change(self.list.field.path, event.value.strip())

    def _change(self, key: str, text: str) -> None:
        if self.snapshot is None or self.snapshot.spec is None:
            return
        wrong = check(self.snapshot.spec, key, text)
        self.query_one(KnobHelp).show(self.list.field, wrong)
        if not wrong:
            self.input.clear()
            self.post_message(self.Changed(key, text))

    def action_close(self) -> None:
        """Close the drawer."""
        self.close()


class KnobHelp(Rows):
    """What the chosen knob does, its bounds, or what is wrong with the value."""

    field: Field | None = None
    wrong = ""

    def show(self, field: Field | None, wrong: str) -> None:
        """Explain `field`, or say what is wrong."""
        self.field, self.wrong = field, wrong
        self.redraw()

    def paint(self, width: int, height: int) -> list[Strip]:
        """Return the words, broken to the width."""
        import textwrap

        look, field = self.palette, self.field
        if field is None:
            return []
        bounds = [
            f"{word} {bound:g}"
            for word, bound in (
                ("at least", field.minimum), ("above", field.above), ("at most", field.maximum), ("below", field.below),
            )
            if bound is not None
        ]  # fmt: skip
        text = (
            f"✗ {self.wrong}" if self.wrong else f"{field.help} {', '.join(bounds).capitalize()}{'.' if bounds else ''}"
        )
        tone = look.bad if self.wrong else look.muted
        lines = textwrap.wrap(clean(text), max(8, width))[:height]
        return [strip([(line, tone)], width, look.text) for line in lines]
