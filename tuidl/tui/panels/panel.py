"""What all panels of the dashboard have in common."""

from collections.abc import Callable
from typing import ClassVar

from textual.binding import BindingType
from textual.content import Content

from tuidl.text import clean
from tuidl.tui.rows import Rows
from tuidl.tui.snapshot import Artifact, Snapshot

ReadArtifact = Callable[[Artifact], bytes]  # raises TuidlError; immutable files, so the answer is kept


class Panel(Rows):
    """One panel: a framed drawing of one side of a run, with keys of its own while it has the focus.

    `TITLE` stands in its frame, `ABOUT` explains it to a student on F1: what it shows, how to read it, what would be
    alarming. Plain text, paragraphs parted by an empty line.
    """

    TITLE: ClassVar[str] = ""
    ABOUT: ClassVar[str] = ""
    BINDINGS: ClassVar[list[BindingType]] = []
    DEFAULT_CSS = """
    Panel { border: round $foreground 20%; border-title-color: $text-muted; border-subtitle-color: $text-muted; }
    Panel:focus { border: round $accent; border-title-color: $accent; border-title-style: bold; }
    """
    can_focus = True
    _below = ""  # what stands in the lower frame
    painted_at = 0.0  # when something of it was sent last

    def __init__(self, read_artifact: ReadArtifact, *, id: str) -> None:
        super().__init__(id=id)
        self.read_artifact = read_artifact
        self.snapshot: Snapshot | None = None
        self.border_title = self.TITLE

    def put_below(self, text: str) -> None:
        """Write a text into the lower frame. It may be data: it is cleaned, and never markup."""
        if text != self._below:
            self._below = text
            self.sent += self.whole  # Textual sends the whole panel anew
            # later: within a frame that is being made, the frame below has already been taken
            self.call_later(setattr, self, "border_subtitle", Content(clean(text, limit=300)))

    def show(self, snapshot: Snapshot) -> None:
        """Take what is new and repaint the rows that it changed."""
        self.snapshot = snapshot
        self.redraw()
