"""Panels over files that a run leaves again and again: they follow the newest, or go back in time."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar, cast

from pydantic import BaseModel, ConfigDict, ValidationError
from rich.cells import cell_len
from textual.binding import Binding, BindingType
from textual.strip import Strip

from tuidl.errors import TuidlError
from tuidl.text import clean
from tuidl.tui.draw.strips import strip
from tuidl.tui.draw.wrap import wrap
from tuidl.tui.panels.panel import Panel, ReadArtifact
from tuidl.tui.snapshot import Artifact, Snapshot

REMEMBERED = 8  # parsed artifacts that are kept, so that going back and forth is quick

Parsed = TypeVar("Parsed")
AnyFile = TypeVar("AnyFile", bound="ArtifactFile")


class DamagedError(TuidlError):
    """An artifact that does not hold what its kind should hold."""

    def __init__(self, why: str) -> None:
        super().__init__(f"this file of the run is damaged and cannot be shown ({why})")


class ArtifactFile(BaseModel):
    """The content of a JSON artifact; each kind states its fields and how large they may be."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


def parse_json(model: type[AnyFile], data: bytes) -> AnyFile:
    """Return what a JSON artifact holds. Raises DamagedError."""
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))[:40]
        why = first["msg"].removeprefix("Value error, ")
        raise DamagedError(clean(f"{where}: {why}" if where else why, limit=160)) from None


class Scrubber(Panel):
    """A panel that shows one of several files of a kind in order of time. It follows the newest until told otherwise.

    Subclasses say what to draw in `draw`, and name other files that belong to the picture in `companions`.
    """

    KIND: ClassVar[str] = ""
    EMPTY: ClassVar[str] = "nothing yet"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "left",
            "earlier",
            "Time",
            id="artifact.earlier",
            key_display="←→",
            tooltip="Show the one before, and stay there.",
        ),
        Binding("right", "later", "Later", id="artifact.later", show=False, tooltip="Show the one after."),
        Binding("home", "first", "First", id="artifact.first", show=False, tooltip="Show the first one."),
        Binding("end", "newest", "Newest", id="artifact.newest", show=False, tooltip="Follow the newest again."),
    ]

    def __init__(self, read_artifact: ReadArtifact, *, id: str) -> None:
        super().__init__(read_artifact, id=id)
        self._held: Artifact | None = None  # the one that is looked at; None follows the newest
        self._at = 0  # where it was last
        self._parsed: dict[Any, object] = {}
        self._painted: object = None  # what the rows on the screen were made from

    # ------------------------------------------------------------------ for subclasses

    def draw(self, artifact: Artifact, width: int, height: int) -> Sequence[Strip]:
        """Return the rows for an artifact. May raise TuidlError, which is then shown instead."""
        raise NotImplementedError

    def companions(self, artifact: Artifact) -> Sequence[Artifact | None]:
        """Return the other artifacts that the drawing is made from."""
        return ()

    def caption(self, artifact: Artifact) -> Sequence[Sequence[str]]:
        """Return what stands in the frame below: wordings from the longest to the shortest, each in parts."""
        return [self.place(artifact)]

    def content(self, artifact: Artifact, parse: Callable[[Artifact, bytes], Parsed]) -> Parsed:
        """Return what an artifact holds. The files never change, so each is parsed once. Raises TuidlError."""
        directory = self.snapshot.directory if self.snapshot else ""
        key = (directory, artifact.path, artifact.step, artifact.elapsed)
        if key not in self._parsed:
            data = self.read_artifact(artifact)
            try:
                self._parsed[key] = parse(artifact, data)
            except DamagedError as error:
                self._parsed[key] = error
            if len(self._parsed) > REMEMBERED:
                del self._parsed[next(iter(self._parsed))]
        found = self._parsed[key]
        if isinstance(found, DamagedError):
            raise found
        return cast(Parsed, found)  # of this kind, as its key says

    # ------------------------------------------------------------------ where in time

    @property
    def artifacts(self) -> Sequence[Artifact]:
        """All files of this panel's kind."""
        return self.snapshot.artifacts.get(self.KIND, ()) if self.snapshot else ()

    @property
    def position(self) -> int:
        """Which of them is shown; the newest when the one that was looked at is no longer there."""
        items = self.artifacts
        if self._held is not None:
            if self._at < len(items) and items[self._at] == self._held:
                return self._at
            if self._held in items:
                self._at = items.index(self._held)
                return self._at
        return len(items) - 1

    @property
    def shown(self) -> Artifact | None:
        """The one that is shown."""
        return self.artifacts[self.position] if self.artifacts else None

    def place(self, artifact: Artifact) -> list[str]:
        """Return where in time an artifact stands, in parts."""
        number = self.position + 1
        newest = ["newest"] if number == len(self.artifacts) else []
        return [f"step {artifact.step}", f"{number} of {len(self.artifacts)}", *newest]

    def go(self, position: int) -> None:
        """Show the one at `position`; from the newest on, follow."""
        self._at = max(0, position)
        self._held = self.artifacts[self._at] if self._at < len(self.artifacts) - 1 else None
        self.redraw()

    def action_earlier(self) -> None:
        """Go one back."""
        self.go(self.position - 1)

    def action_later(self) -> None:
        """Go one forth."""
        self.go(self.position + 1)

    def action_first(self) -> None:
        """Go to the first."""
        self.go(0)

    def action_newest(self) -> None:
        """Follow the newest."""
        self.go(len(self.artifacts))

    # ------------------------------------------------------------------ drawing

    def show(self, snapshot: Snapshot) -> None:
        """Take what is new; where nothing of it is seen here, nothing is done."""
        self.snapshot = snapshot
        if self._source() != self._painted:
            self.redraw()

    def _source(self) -> object:
        artifact = self.shown
        return artifact and (artifact, len(self.artifacts), *self.companions(artifact))

    def paint(self, width: int, height: int) -> Sequence[Strip]:
        """Return the rows for what is shown, or a sentence that says why there are none."""
        self._painted = self._source()
        artifact = self.shown
        if artifact is None:
            self.put_below("")
            return self.sentence(self.EMPTY, width, height)
        try:
            rows = self.draw(artifact, width, height)
        except TuidlError as error:
            if not isinstance(error, DamagedError):
                self._painted = None  # a file that cannot be read now may be read later
            rows = self.sentence(str(error), width, height)
        self.put_below(self._fitting(artifact, width))
        return rows

    def sentence(self, text: str, width: int, height: int) -> list[Strip]:
        """Return a text of our own or of an error in as many rows as it needs and has."""
        look = self.palette
        return [strip([(line, look.muted)], width, look.text) for line in wrap(clean(text), width)[:height]]

    def _fitting(self, artifact: Artifact, width: int) -> str:
        wordings = [" · ".join(parts) for parts in self.caption(artifact)]
        return next((text for text in wordings if cell_len(text) <= width - 4), wordings[-1])
