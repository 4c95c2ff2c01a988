"""The dialogs of Set-up: all choices of a field with what they do, and the name of a preset of one's own."""

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from tuidl.text import clean
from tuidl.tui.draw.wrap import wrap
from tuidl.tui.field_help import entry_of
from tuidl.tui.screens.behaviour import ClosesOnce


class Choices(ClosesOnce, ModalScreen[str | None]):
    """All choices of a field: enter takes one, escape none."""

    DEFAULT_CSS = """
    Choices { align: center middle; background: transparent; }
    Choices OptionList, Choices OptionList:focus {
        width: 76; max-width: 100%; height: auto; max-height: 100%; padding: 0 1; background: $surface;
        border: round $accent; border-title-color: $accent; border-subtitle-color: $foreground 60%;
        scrollbar-size-vertical: 1; scrollbar-background: $surface; scrollbar-color: $foreground 30%;
    }
    Choices OptionList > .option-list--option-highlighted, Choices OptionList:focus > .option-list--option-highlighted {
        background: $accent; color: $background; text-style: none;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss(None)", "Cancel", id="choices.cancel", tooltip="Leave it as it is."),
    ]

    def __init__(self, title: str, path: str, choices: Sequence[str], chosen: str) -> None:
        super().__init__()
        self._title, self._path, self._choices, self._chosen = title, path, choices, chosen

    def compose(self) -> ComposeResult:
        """One option a choice, the present one under the cursor."""
        found = OptionList(
            *(Option(self._words(key), id=str(at)) for at, key in enumerate(self._choices)), markup=False
        )
        found.border_title, found.border_subtitle = self._title, "enter: take   escape: leave"
        if self._chosen in self._choices:
            found.highlighted = self._choices.index(self._chosen)
        yield found

    def _words(self, key: str) -> Content:
        entry = entry_of(self._path, key)
        mark = "● " if key == self._chosen else "  "
        if entry is None:
            return Content.assemble(mark, (clean(key, limit=60), "bold"))
        summary = "".join(f"\n  {line}" for line in wrap(entry.summary, min(76, self.app.size.width) - 7))
        return Content.assemble(mark, (key, "bold"), f"  {entry.title}", summary)

    @on(OptionList.OptionSelected)
    def _take(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._choices[event.option_index])


class SaveAs(ClosesOnce, ModalScreen[str | None]):
    """Asks for the name of a preset of one's own and saves it; gives the name, or None."""

    DEFAULT_CSS = """
    SaveAs { align: center middle; background: transparent; }
    SaveAs > Vertical { width: 64; max-width: 100%; height: auto; padding: 1 2; background: $surface;
        border: round $accent; border-title-color: $accent; }
    SaveAs Input { background: $boost; margin: 1 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Cancel", id="save.cancel", tooltip="Save nothing."),
    ]

    def __init__(self, save: Callable[[str], str]) -> None:
        """`save` saves under a name and returns what was wrong, or nothing."""
        super().__init__()
        self._save = save

    def compose(self) -> ComposeResult:
        """The sentence and the input."""
        with Vertical() as box:
            box.border_title = "Save as a preset of your own"
            yield Static(Content("Its name: letters, digits, '.', '_' or '-'. It then stands beside the others."))
            name = Input(compact=True, max_length=64)
            name.cursor_blink = False
            yield name
            yield Static(Content("enter: save    escape: cancel"), id="save-problem")

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        problem = self._save(event.value.strip())
        if problem:
            self.query_one("#save-problem", Static).update(Content.assemble((f"✗ {problem}", "$text-error bold")))
        else:
            self.dismiss(event.value.strip())
