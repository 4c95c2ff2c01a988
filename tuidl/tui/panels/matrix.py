"""The confusion matrix of every evaluation."""

from collections.abc import Sequence
from typing import Annotated, ClassVar

import numpy as np
from pydantic import FailFast, Field, model_validator
from textual.binding import Binding, BindingType
from textual.events import Click
from textual.message import Message
from textual.strip import Strip

from tuidl.text import clean
from tuidl.tui.draw.matrix import Cell, Confusion, Matrix
from tuidl.tui.panels.panel import ReadArtifact
from tuidl.tui.panels.scrubber import ArtifactFile, Scrubber, parse_json
from tuidl.tui.snapshot import Artifact

MOST_CLASSES = 1000
LONGEST_LABEL = 60  # characters

Count = Annotated[int, Field(ge=0, le=10**12)]
Row = Annotated[list[Count], Field(max_length=MOST_CLASSES), FailFast()]  # one error is enough of a million
SPLITS = {"confusion-val": "validation", "confusion-test": "test"}  # by the beginning of the file's name


class ConfusionFile(ArtifactFile):
    """What an artifact of kind `confusion` must hold. Recall and precision follow from the counts."""

    labels: list[str] = Field(min_length=1, max_length=MOST_CLASSES)
    counts: Annotated[list[Row], Field(max_length=MOST_CLASSES), FailFast()]

    @model_validator(mode="after")
    def _is_square(self) -> "ConfusionFile":
        if len(self.counts) != len(self.labels) or any(len(row) != len(self.labels) for row in self.counts):
            raise ValueError("the matrix is not as large as its classes are many")
        return self


def shown_label(label: str) -> str:
    """Return the name of a class as it may be shown, never empty."""
    return clean(label, limit=LONGEST_LABEL).strip() or "␣"


def parse_confusion(data: bytes) -> Confusion:
    """Return the matrix in an artifact of kind `confusion`. Raises DamagedError."""
    found = parse_json(ConfusionFile, data)
    return Confusion(tuple(map(shown_label, found.labels)), np.array(found.counts, dtype=np.int64))


class ConfusionPanel(Scrubber):
    """The matrix with its most frequent mistakes. `c` changes between counts and rates, enter looks at single cells."""

    TITLE = "confusion matrix"
    KIND = "confusion"
    EMPTY = "the first evaluation has not been made yet"
    ABOUT = (
        "Each row is a true class, each column a class that the model predicts. A number says how many images of the "
        "row's class were taken for the column's class, so what is right stands on the diagonal, in [brackets], and "
        "everything beside it is a mistake. Shading tells the same: the share of the row. Press c for rates instead of "
        "counts: per cent of each true class, which is fair to classes with few images.\n\n"
        "Recall, at the right, is the diagonal divided by its row: of all real cats, how many were found. Precision, "
        "below, is the diagonal divided by its column: of all that were called cat, how many are one. The list of the "
        "most confused pairs says where to look first: 4 as 9 is a 4 that was taken for a 9. Enter lets the arrow keys "
        "go from cell to cell, escape leaves; otherwise left and right go through time.\n\n"
        "Early in training a rough matrix is normal. Alarming is one column that lights up: the model says the same "
        "for everything, as it does when the learning rate is too high or the data is out of order. Alarming as "
        "well: a row without a mark on the diagonal (a class that is never recognised, perhaps because there is too "
        "little of it), and a pair that stays confused in both directions while the loss still falls: look "
        "whether the labels of those two can be told apart at all."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        *Scrubber.BINDINGS,  # a key that is bound again below would otherwise lose its meaning there
        Binding("c", "unit", "Counts/rates", id="matrix.unit", tooltip="Counts, or per cent of each true class."),
        Binding("enter", "select", "Cells", id="matrix.select", tooltip="Go from cell to cell with the arrow keys."),
        Binding("escape", "leave_cells", "Back", id="matrix.leave", tooltip="Leave the cells."),
        *(
            Binding(key, f"move({down}, {right})", "Cell" if key == "up" else f"Cell {key}", id=f"matrix.{key}",
                    show=key == "up", key_display="↑↓←→", tooltip="Go to the next cell.")
            for key, down, right in (("up", -1, 0), ("down", 1, 0), ("left", 0, -1), ("right", 0, 1))
        ),
    ]  # fmt: skip

    class UnitChanged(Message):
        """The user has changed between counts and rates."""

        def __init__(self, rates: bool) -> None:
            super().__init__()
            self.rates = rates

    def __init__(self, read_artifact: ReadArtifact, *, id: str) -> None:
        super().__init__(read_artifact, id=id)
        self.rates = False  # whether rates are shown, not counts
        self.cursor: Cell | None = None  # the true and the predicted class that is looked at
        self._drawing: Matrix | None = None

    def draw(self, artifact: Artifact, width: int, height: int) -> Sequence[Strip]:
        """Return the matrix."""
        self._drawing = None
        confusion = self.content(artifact, lambda _, data: parse_confusion(data))
        if self.cursor and max(self.cursor) >= len(confusion.labels):
            self.cursor = None
        self._drawing = Matrix(confusion, width, height, rates=self.rates, cursor=self.cursor)
        return self._drawing.strips(self.palette)

    def caption(self, artifact: Artifact) -> Sequence[Sequence[str]]:
        """Return the cell that is looked at, or what the matrix was measured on, and when."""
        if self._drawing is None:
            return [self.place(artifact)]
        if self.cursor is not None:
            return [[self._drawing.confusion.tell(self.cursor)]]
        stem = artifact.path.rpartition("/")[2].rpartition("-")[0]
        split = [SPLITS[stem]] if stem in SPLITS else []
        left_out, place = self._drawing.left_out, self.place(artifact)
        classes = len(self._drawing.confusion.labels)
        part = [f"{classes - left_out} of {classes} classes"] if left_out else []
        return [
            [*part, self._drawing.unit, *split, *place],
            [*part, *split, *place],
            [*split, *place],
            place,
            place[:1],
        ]

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Let the arrow keys go through the cells after enter, through time otherwise."""
        if action in ("move", "leave_cells"):
            return self.cursor is not None
        if action in ("earlier", "later", "select"):
            return self.cursor is None
        return True

    def action_unit(self) -> None:
        """Change between counts and rates."""
        self.rates = not self.rates
        self.redraw()
        self.post_message(self.UnitChanged(self.rates))

    def action_select(self) -> None:
        """Begin with the most frequent mistake."""
        if self._drawing is not None:
            pairs = self._drawing.confusion.pairs_by_count
            self._point_at((pairs[0].true, pairs[0].predicted) if pairs else (0, 0))

    def action_leave_cells(self) -> None:
        """Give the arrow keys back."""
        self._point_at(None)

    def action_move(self, down: int, right: int) -> None:
        """Go to a neighbour of the cell, as far as there is one."""
        if self.cursor is not None and self._drawing is not None:
            last = len(self._drawing.confusion.labels) - 1
            true, predicted = self.cursor
            self._point_at((min(max(true + down, 0), last), min(max(predicted + right, 0), last)))

    def on_click(self, event: Click) -> None:
        """Look at the cell under the mouse."""
        place = event.get_content_offset(self)
        if place is not None and self._drawing is not None:
            self._point_at(self._drawing.cell_at(*place))

    def _point_at(self, cell: Cell | None) -> None:
        changed = (self.cursor is None) != (cell is None)
        self.cursor = cell
        self.redraw()
        if changed:
            self.refresh_bindings()
