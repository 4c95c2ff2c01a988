"""What all panels of the dashboard have in common."""

from collections.abc import Callable
from typing import ClassVar

from textual.binding import BindingType

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

    def __init__(self, read_artifact: ReadArtifact, *, id: str) -> None:
        super().__init__(id=id)
        self.read_artifact = read_artifact
        self.snapshot: Snapshot | None = None
        self.border_title = self.TITLE

    def show(self, snapshot: Snapshot) -> None:
        """Take what is new and repaint the rows that it changed."""
        self.snapshot = snapshot
        self.redraw()
