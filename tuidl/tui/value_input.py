"""The one input of a form, which goes to the field that is typed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Input

if TYPE_CHECKING:
    from tuidl.tui.fields import Shown


class ValueInput(Input, inherit_bindings=False):
    """The input in which a value is typed: one line, still, and on a number `<` and `>` halve and double.

    It has the focus all the time: each change of focus sends the whole screen anew. On a field that is not typed it
    rests out of sight, and its keys are the form's.
    """

    DEFAULT_CSS = """
    ValueInput.-textual-compact, ValueInput.-textual-compact:focus {
        position: absolute; width: 20; height: 1; padding: 0 0 0 2; background: $foreground 10%;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [  # of the input alone: up, down and the pages belong to the form
        *Input.BINDINGS,
        Binding("ctrl+up", "step(True)", "Double", id="field.double", show=False, tooltip="Double a number; also >."),
        Binding("ctrl+down", "step(False)", "Halve", id="field.halve", show=False, tooltip="Halve a number; also <."),
    ]
    _SIGNS: ClassVar[Mapping[str, bool]] = {">": True, "<": False}

    @dataclass
    class Stepped(Message):
        """The user wants the number doubled or halved."""

        up: bool

    def __init__(self) -> None:
        super().__init__(compact=True, select_on_focus=False)
        self.cursor_blink = False
        self.numeric = False
        self.resting = False
        self.untouched = False  # nothing has been typed since the value was put here

    def put(self, shown: "Shown") -> None:
        """Take the place of a field's value."""
        self.resting = not shown.typed
        if self.resting:
            return
        self.numeric = shown.field.type in ("number", "integer")
        self.placeholder = "none" if shown.field.type == "array" else ""
        if self.value != shown.text:
            with self.prevent(Input.Changed):
                self.value = shown.text
        self.cursor_position = len(shown.text)
        self.untouched = True

    def action_step(self, up: bool) -> None:
        """Ask for the number to be doubled or halved."""
        if self.numeric:
            self.post_message(self.Stepped(up))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Leave all keys to the form while resting."""
        return not self.resting and super().check_action(action, parameters)

    def check_consume_key(self, key: str, character: str | None) -> bool:
        """Leave all characters to the form while resting."""
        return not self.resting and super().check_consume_key(key, character)

    def on_key(self, event: events.Key) -> None:
        """Take `<` and `>`, which stand in no number, for keys; take no character while resting.

        The first sign typed on a number begins a new one: 3 on 10 means 3, not 103.
        """
        up = self._SIGNS.get(event.character or "")
        begins, self.untouched = self.untouched and event.is_printable and up is None, False
        if self.resting:
            event.prevent_default()
        elif self.numeric and up is not None:
            event.stop()
            event.prevent_default()
            self.action_step(up)
        elif self.numeric and begins:
            with self.prevent(Input.Changed):
                self.value = ""

    def on_paste(self, event: events.Paste) -> None:
        """Take nothing while resting."""
        if self.resting:
            event.prevent_default()
            event.stop()
