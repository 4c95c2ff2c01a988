"""The form as it is drawn: one setting a row, with what may stand there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip
from textual.widgets import Input

from tuidl.spec.schema import Field
from tuidl.text import clean
from tuidl.tui.draw.strips import Span, strip
from tuidl.tui.field_help import bounds_of, label_of
from tuidl.tui.format import fit
from tuidl.tui.rows import Rows
from tuidl.tui.value_input import ValueInput

LABEL, VALUE = 27, 20  # cells; what is left of the row says what may stand there
WHEEL = 3  # rows that one notch of the mouse wheel moves
_AWAY = -9  # the row of the input while it rests
_INDENT = 2  # cells before a value, where a choice has its arrow


@dataclass(frozen=True)
class Shown:
    """What a row shows. `text` is as typed; behind it stands the error, or the note, or what may stand there."""

    field: Field
    text: str
    changed: bool = False
    error: str = ""
    note: str = ""

    @property
    def path(self) -> str:
        """The setting that the row is for."""
        return self.field.path

    @property
    def typed(self) -> bool:
        """Whether the value is typed, and not chosen or switched."""
        return not self.field.choices and self.field.type != "boolean"

    def neighbour(self, by: int) -> str:
        """Return the choice that far away; past the last comes the first. A switch has two."""
        choices = self.field.choices or ("false", "true")
        place = choices.index(self.text) if self.text in choices else -1 if by > 0 else 0
        return choices[(place + by) % len(choices)]


@dataclass(frozen=True)
class Line:
    """One row of the form: a heading or a field."""

    heading: str = ""
    shown: Shown | None = None


class FormView(Rows):
    """The sections with their fields, one below the other, and a cursor. `▸` here, `*` changed, `✗` not valid."""

    TITLE: ClassVar[str] = "Set-up"
    ABOUT: ClassVar[str] = (
        "Everything that can be set, as the preset has it. Change a value and see at once what it means: a field that "
        "is changed carries *, one that is not valid ✗ and why. Below stands what the field under the cursor does.\n\n"
        "Type into a field, or go through its choices with ← and →; enter shows all of them. A new model, loss, "
        "optimizer or schedule brings settings of its own; what you had changed and the new one also has is kept. "
        "Nothing is started or written before you say so."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,tab", "move(1)", "Next field", id="form.down", show=False, tooltip="To the next field."),
        Binding("up,shift+tab", "move(-1)", "Previous field", id="form.up", show=False,
                tooltip="To the field before."),
        Binding("right,space", "turn(1)", "Next choice", id="form.next", show=False, tooltip="The next choice."),
        Binding("left", "turn(-1)", "Previous choice", id="form.previous", show=False, tooltip="The choice before."),
        Binding("enter", "enter", "Choose", id="form.enter", show=False,
                tooltip="See every choice and what it does; after typing, to the next field."),
    ]  # fmt: skip

    @dataclass
    class Edited(Message):
        """The user has given a field another text."""

        path: str
        text: str

    @dataclass
    class Stepped(Message):
        """The user wants a number doubled or halved."""

        path: str
        up: bool

    @dataclass
    class ListWanted(Message):
        """The user wants to see all choices of a field."""

        path: str

    @dataclass
    class Moved(Message):
        """The cursor is on another field."""

        path: str

    def __init__(self, sections: Mapping[str, Sequence[Shown]], *, id: str) -> None:
        super().__init__(id=id)
        self.input = ValueInput()
        self.lines = lines_of(sections)
        self.path = self.fields[0].path
        self._top = 0  # the first line in sight

    def compose(self) -> ComposeResult:
        """The input; all else is drawn."""
        yield self.input

    # --- what stands where ------------------------------------------------------------------------------------------

    @property
    def fields(self) -> list[Shown]:
        """The fields from top to bottom."""
        return [line.shown for line in self.lines if line.shown]

    @property
    def here(self) -> Shown:
        """The field under the cursor."""
        return self.fields[self._place]

    @property
    def _place(self) -> int:
        return next(place for place, shown in enumerate(self.fields) if shown.path == self.path)

    def _line_of(self, path: str) -> int:
        return next(at for at, line in enumerate(self.lines) if line.shown and line.shown.path == path)

    def show(self, sections: Mapping[str, Sequence[Shown]]) -> None:
        """Show the fields as they are now: they come and go with the kind that is chosen.

        The cursor stays on its field; what is being typed is left alone.
        """
        place = self._place
        self.lines = lines_of(sections)
        if all(shown.path != self.path for shown in self.fields):
            self.go_to(self.fields[min(place, len(self.fields) - 1)].path)
        self.keep_in_sight()
        self.redraw()

    def put(self) -> None:
        """Write the value of the field under the cursor into the input, whatever the user has typed."""
        self.input.put(self.here)

    def go_to(self, path: str) -> None:
        """Move the cursor to a field, and the keys with it."""
        self.path = path
        self.put()
        if not self.input.has_focus:
            self.input.focus(scroll_visible=False)
        self.keep_in_sight()
        self.redraw()
        self.post_message(self.Moved(path))

    def keep_in_sight(self) -> None:
        """Scroll as far as it takes to see the cursor, and the heading where that is just above."""
        if not self.content_size.height:
            return
        last = self._line_of(self.path)
        first = last - bool(self.lines[last - 1].heading)
        self._show_from(min(first, max(self._top, last - self.content_size.height + 1)))

    def _show_from(self, top: int) -> None:
        self._top = max(0, min(top, len(self.lines) - self.content_size.height))
        row = self._line_of(self.path) - self._top if self.here.typed else _AWAY
        self.input.styles.offset = (LABEL, row)

    # --- how it looks -----------------------------------------------------------------------------------------------

    def paint(self, width: int, height: int) -> list[Strip]:
        """Return the lines in sight, and at the edge where in the form they are."""
        look, width = self.palette, width - 1
        shown = self.lines[self._top : self._top + height]
        thumb = range(0)
        if len(self.lines) > height:
            first = self._top * height // len(self.lines)
            thumb = range(first, first + max(1, height * height // len(self.lines)))
        return [
            strip([*fitted(self._spans(line), width), ("▐" if at in thumb else " ", look.axis)], width + 1, look.text)
            for at, line in enumerate(shown)
        ]

    def _spans(self, line: Line) -> list[Span]:
        look = self.palette
        shown = line.shown
        if shown is None:
            return [(f"── {line.heading}", look.accent)]
        here = shown.path == self.path
        active = here and self.input.has_focus
        style = look.val if shown.changed else look.cursor if here else look.text
        sign = ("✗", look.bad) if shown.error else ("*" if shown.changed else " ", look.val)
        return [
            ("▸" if active else "›" if here else " ", look.accent), sign,
            (f" {fit(label_of(shown.path), LABEL - 3)}", style),
            (fit(_value(shown), VALUE), look.bad if shown.error else style if shown.changed or here else look.text),
            (f" ✗ {clean(shown.error, limit=200)}", look.bad) if shown.error
            else (f" {shown.note or _note(shown)}", look.muted),
        ]  # fmt: skip

    # --- keys and mouse ---------------------------------------------------------------------------------------------

    def action_move(self, by: int) -> None:
        """Go to a neighbouring field; past the last comes the first."""
        fields = self.fields
        self.go_to(fields[(self._place + by) % len(fields)].path)

    def jump(self, by: int) -> None:
        """Go to the first field of the next section, or of this section and then of the one before."""
        here = self._line_of(self.path)
        starts = [at + 1 for at, line in enumerate(self.lines) if line.heading][::by]
        at = next((at for at in starts if (at - here) * by > 0), starts[0])
        shown = self.lines[at].shown
        if shown:
            self._show_from(at - 1)  # as much of the section as there is room for
            self.go_to(shown.path)

    def action_turn(self, by: int) -> None:
        """Go to a neighbouring choice."""
        if not self.here.typed:
            self.post_message(self.Edited(self.path, self.here.neighbour(by)))

    def action_enter(self) -> None:
        """Ask for the list of choices, or switch."""
        if self.here.field.choices:
            self.post_message(self.ListWanted(self.path))
        else:
            self.action_turn(1)

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        if event.value != self.here.text:
            self.post_message(self.Edited(self.path, event.value))

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_move(1)

    @on(ValueInput.Stepped)
    def _stepped(self, event: ValueInput.Stepped) -> None:
        self.post_message(self.Stepped(self.path, event.up))

    def on_click(self, event: events.Click) -> None:
        """Go to the field; the arrows of a choice turn it, what is between shows all, a box is switched."""
        at = event.y + self._top
        shown = self.lines[at].shown if at < len(self.lines) else None
        if event.widget is not self or shown is None:
            return
        self.go_to(shown.path)
        where, end = event.x - LABEL, len(_value(shown))
        if shown.typed or not 0 <= where < end:
            return
        if shown.field.choices and 1 < where < end - 2:
            self.action_enter()
        else:
            self.action_turn(-1 if where < 2 else 1)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Scroll; the cursor stays on its field."""
        event.stop()
        self._show_from(self._top + WHEEL)
        self.redraw()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Scroll back."""
        event.stop()
        self._show_from(self._top - WHEEL)
        self.redraw()

    def on_resize(self) -> None:
        """Keep the cursor in sight."""
        self.keep_in_sight()
        self.redraw()

    def on_descendant_focus(self) -> None:
        """Show whether the keys go here."""
        self.redraw()

    on_descendant_blur = on_descendant_focus


def lines_of(sections: Mapping[str, Sequence[Shown]]) -> list[Line]:
    """Return the form line by line."""
    lines = []
    for title, fields in sections.items():
        changes = sum(shown.changed for shown in fields)
        lines.append(Line(heading=f"{title}{f' · {changes} changed' if changes else ''}"))
        lines += [Line(shown=shown) for shown in fields]
    return lines


def fitted(spans: Sequence[Span], width: int) -> list[Span]:
    """Return spans in exactly `width` cells, the last one filled up or cut with `…`."""
    used = sum(len(text) for text, _ in spans[:-1])
    text, style = spans[-1]
    return [*spans[:-1], (fit(text, width - used), style)]


def _value(shown: Shown) -> str:
    """Return the value as it is drawn, of at most `VALUE` cells."""
    text = clean(shown.text, limit=60)
    if shown.field.choices:
        room = VALUE - 2 * _INDENT
        return f"‹ {text if len(text) <= room else fit(text, room)} ›"
    if shown.field.type == "boolean":
        return "[x] on" if text == "true" else "[ ] off"
    if not text and shown.field.type == "array":
        text = "none"
    return " " * _INDENT + fit(text, VALUE - _INDENT)


def _note(shown: Shown) -> str:
    """Return what may stand in a field."""
    choices = shown.field.choices
    if not choices:
        return bounds_of(shown.field)
    return f"{choices.index(shown.text) + 1 if shown.text in choices else '–'} of {len(choices)}"
