"""The small dialogs: a question to be answered, a number to be given, a text to be read."""

import textwrap
from collections.abc import Sequence
from typing import ClassVar, TypeVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.events import Key
from textual.screen import ModalScreen
from textual.widgets import Footer, Input, Static

from tuidl.tui.screens.behaviour import ClosesOnce

Answer = TypeVar("Answer")


class Dialog(ClosesOnce, ModalScreen[Answer]):
    """A box in front of the screen."""

    DEFAULT_CSS = """
    Dialog { align: center middle; background: transparent; }
    Dialog > Vertical { width: 64; max-width: 100%; height: auto; padding: 0 2;
        background: $surface; border: round $accent; border-title-color: $accent; }
    Dialog Input { height: 1; border: none; background: $boost; margin: 1 0; }
    """


class Confirm(Dialog[bool]):
    """A question that is answered by enter or escape. It says in a sentence what will happen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,y", "dismiss(True)", "Yes", id="confirm.yes"),
        Binding("escape,n", "dismiss(False)", "No", id="confirm.no"),
    ]

    def __init__(self, title: str, sentence: str, yes: str, key: str = "") -> None:
        """`yes` says what enter does; `key` is the key that led here, which a second time means yes as well."""
        super().__init__()
        self._title, self._sentence, self._yes, self._key = title, sentence, yes, key

    def on_key(self, event: Key) -> None:
        """Take the same key twice for a yes."""
        if event.key == self._key:
            event.stop()
            self.dismiss(True)

    def compose(self) -> ComposeResult:
        """The sentence, and the two keys."""
        with Vertical() as box:
            box.border_title = self._title
            yield Static(Content(f"\n{self._sentence}\n"))
            yield Static(Content(f"enter: {self._yes}    escape: no\n"))


class AskNumber(Dialog[int | None]):
    """Asks for a whole number; escape gives None."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Cancel", id="ask.cancel")]

    def __init__(self, title: str, sentence: str, default: int) -> None:
        super().__init__()
        self._title, self._sentence, self._default = title, sentence, default

    def compose(self) -> ComposeResult:
        """The sentence and the input."""
        with Vertical() as box:
            box.border_title = self._title
            yield Static(Content(f"\n{self._sentence}"))
            field = Input(str(self._default), type="integer", compact=True, max_length=9)
            field.cursor_blink = False
            yield field
            yield Static(Content("enter: go    escape: no\n"))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Give the number back when it is one."""
        text = event.value.strip()
        if text.isdecimal() and int(text) > 0:
            self.dismiss(int(text))
        else:
            self.notify("a whole number above 0, please", severity="warning")


class Help(ClosesOnce, ModalScreen[None]):
    """What the panel in focus shows and how to read it, and all keys that work now."""

    DEFAULT_CSS = """
    Help { align: center middle; background: transparent; }
    Help > VerticalScroll { width: 84; max-width: 100%; height: auto; max-height: 100%; padding: 1 2;
        background: $surface; border: round $accent; border-title-color: $accent; scrollbar-size-vertical: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,f1,question_mark,enter", "dismiss", "Close", id="help.close"),
    ]

    def __init__(self, title: str, about: str, keys: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self._title, self._about, self._keys = title, about, keys

    def compose(self) -> ComposeResult:
        """The text, then the keys."""
        width = max((len(key) for key, _ in self._keys), default=0)
        indent = " " * (width + 2)
        table = "\n".join(
            textwrap.fill(what, 76, initial_indent=f"{key:<{width}}  ", subsequent_indent=indent)
            for key, what in self._keys
        )
        with VerticalScroll() as box:
            box.border_title = self._title
            yield Static(Content(f"{self._about}\n\n" if self._about else ""))
            yield Static(Content(table))
        yield Footer(show_command_palette=False)
