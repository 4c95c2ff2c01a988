"""Set-up: a preset as a form, and beside it, alive as the user types, what the run would be."""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.getters import query_one
from textual.message import Message
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Static
from textual.worker import Worker, WorkerState

from tuidl.errors import TuidlError
from tuidl.spec import RunSpec
from tuidl.spec.own import save_preset
from tuidl.text import clean
from tuidl.tui.companion import SupersededError
from tuidl.tui.field_help import help_of, label_of
from tuidl.tui.fields import FormView, Shown
from tuidl.tui.form import Form, section_of
from tuidl.tui.keybar import KeyBar
from tuidl.tui.screens.behaviour import Settles
from tuidl.tui.screens.dialogs import Confirm
from tuidl.tui.screens.setup_dialogs import Choices, SaveAs
from tuidl.tui.screens.setup_preview import IMAGES, VIEW_OF, Preview, data_line

PATIENCE = 0.3  # seconds without a key until the preview asks anew
STARTING = 2.0  # seconds in which a second Start is taken for the same one
_DECIDES = {  # which settings an answer depends on
    "describe": ("task", "data", "model", "loss", "regularization", "optimizer", "training"),
    "samples": ("task", "data", "augmentation", "seed"),
}


class Asks(Protocol):
    """Who answers what only torch knows."""

    async def ask(self, name: str, **arguments: Any) -> Any:
        """Answer the question `name`. Raises TuidlError."""


class CommandLine(Static):
    """The command that does the same without a screen, as it can be copied by hand: one line, or parts that join."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, markup=False)
        self._words: Sequence[str] = ()
        self._lines: list[str] = []
        self.border_title = "without a screen"

    def show(self, words: Sequence[str]) -> None:
        """Show another command."""
        self._words = words
        self.on_resize()

    def on_resize(self) -> None:
        """Break the command anew; the layout is touched only when it takes more rows or fewer."""
        before, self._lines = self._lines, broken(self._words, max(20, self.content_size.width))
        if self._lines != before:
            self.update(Content("\n".join(self._lines)), layout=len(self._lines) != len(before))


def broken(words: Sequence[str], width: int) -> list[str]:
    """Return a command in lines that a shell joins; an option stays with its value."""
    quoted = [clean(shlex.quote(word), keep_newlines=True) for word in words]
    parts = [" ".join(quoted[:3])] + [" ".join(quoted[at : at + 2]) for at in range(3, len(quoted), 2)]
    lines = [""]
    for part in parts:
        if lines[-1] and len(lines[-1]) + len(part) + 3 > width:
            lines[-1] += " \\"
            lines.append(f"  {part}")
        else:
            lines[-1] = f"{lines[-1]} {part}" if lines[-1] else part
    return lines


class SetupScreen(Settles, Screen[None]):
    """The form, the preview, and Start. It starts nothing itself: it posts `Started`."""

    TITLE = "Set-up"
    ABOUT = FormView.ABOUT
    AUTO_FOCUS = ""
    CSS_PATH = "setup.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012 - as Textual types it
    VERTICAL_BREAKPOINTS = [(0, "-low"), (30, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+t,f5", "start", "Start", id="setup.start", tooltip="Start the run as it stands in the form."),
        Binding("ctrl+r", "reset", "Reset", id="setup.reset", tooltip="Put this field back to the preset's value."),
        Binding("pagedown", "jump(1)", "Section", id="setup.next_section", tooltip="To the next section."),
        Binding("pageup", "jump(-1)", "Section before", id="setup.previous_section", show=False,
                tooltip="To the section before."),
        Binding("f9", "preview", "Preview", id="setup.preview", tooltip="To the preview, and back to the form."),
        Binding("ctrl+s", "save", "Save", id="setup.save", tooltip="Save this as a preset of your own."),
        Binding("ctrl+y", "copy", "Copy", id="setup.copy", tooltip="Copy the command that does the same."),
        Binding("f8", "reset_all", "Reset all", id="setup.reset_all", show=False,
                tooltip="Put every field back to the preset's value."),
        Binding("escape,q", "back", "Back", id="setup.back", tooltip="Leave the form without starting anything."),
    ]  # fmt: skip

    class Started(Message):
        """The user wants this run; `run_name` is empty where none was given."""

        def __init__(self, spec: RunSpec, preset: str, run_name: str) -> None:
            super().__init__()
            self.spec, self.preset, self.run_name = spec, preset, run_name

    form_view = query_one("#form", FormView)
    preview = query_one("#preview", Preview)
    command = query_one("#command", CommandLine)

    def __init__(
        self, preset: str, spec: RunSpec, companion: Asks, *, target: str = "", patience: float = PATIENCE
    ) -> None:
        """`spec` is the preset's, or that of the run `target`, which then stands in the command line instead."""
        super().__init__()
        self.preset, self.companion, self.patience = preset, companion, patience
        self.form = Form(target or preset, spec)
        self._origin = "run" if target else "preset"
        self._kept: RunSpec | None = None  # what was saved last as a preset
        self._asked: dict[str, str] = {}  # what was asked last, by question
        self._timer: Timer | None = None
        self._starting = False

    def compose(self) -> ComposeResult:
        """The title, the form with its help, the preview with the command."""
        yield Static(id="title", markup=False)
        with Horizontal(id="body"):
            with Vertical(id="left"):
                yield FormView(self._sections(), id="form")
                yield Static(id="help", markup=False)
            with Vertical(id="side"):
                yield Preview(self.form.spec, id="preview")
                yield CommandLine(id="command")
        yield KeyBar()

    def on_mount(self) -> None:
        """Begin with the first field, and ask what is to be known."""
        self._show()
        self.form_view.go_to(self.form_view.path)
        self._ask("devices")
        self._ask("data")
        self._ask_what_changed()

    # --- what the user does -----------------------------------------------------------------------------------------

    @on(FormView.Edited)
    def _edited(self, event: FormView.Edited) -> None:
        self._show(self.form.set(event.path, event.text))

    @on(FormView.Stepped)
    def _stepped(self, event: FormView.Stepped) -> None:
        self.form.step(event.path, event.up)
        self._show()
        self.form_view.put()

    @on(FormView.ListWanted)
    def _list_wanted(self, event: FormView.ListWanted) -> None:
        def take(chosen: str | None) -> None:
            if chosen is not None:
                self._show(self.form.set(event.path, chosen))

        choices, text = self.form.field(event.path).choices, self.form.text(event.path)
        self.app.push_screen(Choices(label_of(event.path), event.path, choices, text), take)

    @on(FormView.Moved)
    def _moved(self, event: FormView.Moved) -> None:
        """Explain the field, and turn the preview to what it bears on."""
        self._explain()
        self.preview.turn_to(VIEW_OF[section_of(event.path)])

    def action_jump(self, by: int) -> None:
        """Go to another section of the form."""
        self.form_view.jump(by)

    def action_reset(self) -> None:
        """Put the field under the cursor back."""
        self._show(self.form.reset(self.form_view.path))
        self.form_view.put()

    def action_reset_all(self) -> None:
        """Put every field back."""
        self.form.reset_all()
        self._show()
        self.form_view.put()

    def action_start(self) -> None:
        """Say that the user wants this run."""
        if self._complete() and not self._starting:
            self._starting = True
            self.set_timer(STARTING, self._may_start_again)
            self.post_message(self.Started(self.form.spec, self.preset, self.form.run_name))

    def _may_start_again(self) -> None:
        self._starting = False

    def action_save(self) -> None:
        """Ask for a name and save the preset."""
        if self._complete():
            self.app.push_screen(SaveAs(self._save), self._saved)

    def _save(self, name: str) -> str:
        """Save under a name; return what was wrong, or nothing."""
        changes = ", ".join(self.form.overrides())
        title = f"{self.form.preset}, {changes}" if changes else self.form.base.about.title
        spec = self.form.spec
        if changes:  # what the other preset promises holds no longer
            about = spec.about.model_copy(update={"expected": "", "time_cpu": "", "time_gpu": ""})
            spec = spec.model_copy(update={"about": about})
        try:
            save_preset(name, spec, clean(title, limit=79))
        except TuidlError as error:
            return clean(str(error), limit=300)
        return ""

    def _saved(self, name: str | None) -> None:
        if name is not None:
            self._kept = self.form.spec
            self._say(f"saved; it is now a preset: tuidl run {name}")

    def action_copy(self) -> None:
        """Copy the command, and show it for terminals that do not let programs copy."""
        line = self.form.command_line()
        self.app.copy_to_clipboard(line)
        self._say(f"sent to the terminal's clipboard:\n{line}", timeout=12)

    def action_preview(self) -> None:
        """Go to the preview, and back."""
        to_preview = not self.preview.has_focus
        self._turn(to_preview)
        if to_preview:
            self.preview.focus()
        else:
            self.form_view.go_to(self.form_view.path)

    def _turn(self, to_preview: bool) -> None:
        """Show the preview instead of the form, or the form again; a wide screen shows both anyway."""
        if self.has_class("-narrow") or not to_preview:
            self.set_class(to_preview, "-preview")

    def action_back(self) -> None:
        """Leave; ask first where something would be forgotten."""
        if self.preview.has_focus:
            self.action_preview()
            return
        count = len(self.form.changes())
        if not count or (self.form.spec is self._kept and not self.form.errors):
            self.dismiss()
            return
        changes = "the change" if count == 1 else f"{count} changes"
        question = f"Leave and forget {changes}? Nothing is started, and no run is touched."
        self.app.push_screen(Confirm("Leave", question, "leave"), self._leave)

    def _leave(self, yes: bool | None) -> None:
        if yes:
            self.dismiss()

    def _complete(self) -> bool:
        """Return whether all fields are valid; if not, go to the first that is not."""
        wrong = list(self.form.errors)
        if wrong:
            self._say(f"not valid yet: {', '.join(label_of(path) for path in wrong)}", wrong=True)
            self._turn(False)
            self.form_view.go_to(wrong[0])
        return not wrong

    def _say(self, text: str, wrong: bool = False, timeout: float = 5) -> None:
        shown = clean(text, keep_newlines=True, limit=2000)
        self.notify(shown, severity="warning" if wrong else "information", timeout=timeout, markup=False)

    # --- what the user sees -----------------------------------------------------------------------------------------

    def _sections(self) -> dict[str, list[Shown]]:
        form, errors = self.form, self.form.errors
        return {
            title: [
                Shown(field, form.text(field.path), form.changed(field.path), errors.get(field.path, ""),
                      self._data_line() if field.path == "data.name" else "")
                for field in fields
            ]
            for title, fields in form.sections().items()
        }  # fmt: skip

    def _data_line(self) -> str:
        """Return whether the data set that is chosen is here."""
        return " ".join(data_line(self.preview.known, self.form.text("data.name"))) if self.is_mounted else ""

    def _show(self, kept: Sequence[str] = ()) -> None:
        """Bring everything up to the form; `kept` are settings that have outlived a change of kind."""
        self.form_view.show(self._sections())
        changes, errors = len(self.form.changes()), len(self.form.errors)
        self._write("#title", Content.assemble(
            (clean(self.form.preset, limit=60), "bold $accent"),
            (f"   * {changes} changed", "bold $text-warning") if changes else f"   as the {self._origin} has it",
            (f"   ✗ {errors} not valid yet" if errors else "", "bold $text-error"),
            (f"   {clean(self.form.base.about.title, limit=80)}", "$foreground 55%"),
        ))  # fmt: skip
        self._explain(kept)
        self.command.show(self.form.command())
        if self.preview.known.spec is not self.form.spec:
            self.preview.show(spec=self.form.spec)
            if self._timer is not None:
                self._timer.stop()
            self._timer = self.set_timer(self.patience, self._ask_what_changed)

    def _explain(self, kept: Sequence[str] = ()) -> None:
        path = self.form_view.path
        first, *rest = help_of(self.form, path)
        if kept:
            values = ", ".join(f"{label_of(other)} = {self.form.text(other)}" for other in kept)
            rest = [f"kept, as you had changed it: {values}"]
        elif path == "data.name":
            rest[0] = self._data_line()
        error = self.form.errors.get(path)
        wrong = (f"\n✗ {clean(error, limit=300)}", "bold $text-error") if error else ""
        more = ((f"\n{line}", "$foreground 55%") for line in rest)
        self._write("#help", Content.assemble((path, "bold"), first.removeprefix(path), wrong, *more))

    def _write(self, where: str, text: Content) -> None:
        """Write into one of the fixed places; what stands there already is not sent again."""
        place = self.query_one(where, Static)
        if not (isinstance(place.content, Content) and place.content.is_same(text)):
            place.update(text, layout=False)

    # --- what the companion knows -----------------------------------------------------------------------------------

    def _ask_what_changed(self) -> None:
        """Ask those questions whose answer the user's changes may have changed."""
        whole = self.form.spec.model_dump(mode="json")
        for name, groups in _DECIDES.items():
            decides = json.dumps({group: whole[group] for group in groups})
            if self._asked.get(name) != decides:
                self._asked[name] = decides
                more = {"count": IMAGES, "seed": self.form.spec.seed} if name == "samples" else {}
                self._ask(name, spec=whole, **more)

    def _ask(self, name: str, **arguments: Any) -> None:
        """Ask beside the keys; a newer question of the same name takes the place of this one."""
        self.run_worker(self._answer(name, arguments), group=name, exclusive=True, exit_on_error=False)

    async def _answer(self, name: str, arguments: Mapping[str, Any]) -> None:
        asked = self._asked.get(name)
        problems = dict(self.preview.known.problems)
        try:
            answer = await self.companion.ask(name, **arguments)
        except SupersededError:
            return  # somebody has asked anew
        except TuidlError as error:
            answer, problems[name] = None, str(error)
        else:
            problems.pop(name, None)
        if self._asked.get(name) != asked or not self.is_attached:
            return  # the form has moved on
        self.preview.show(problems=problems, **{"model" if name == "describe" else name: answer})
        if name == "devices" and answer is not None:
            self.form.offer_devices([str(device["name"]) for device in answer])
        if name in ("devices", "data"):
            self._show()

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """Say where an answer has gone wrong in a way that nobody has thought of."""
        if event.state is WorkerState.ERROR:
            error = event.worker.error
            said = f"{type(error).__name__}: {error}"
            self.preview.show(problems={**self.preview.known.problems, event.worker.group: said})
