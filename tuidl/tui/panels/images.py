"""Grids of images: what a generator draws, and what a classifier gets most wrong."""

import io
import struct
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from rich.cells import cell_len
from textual.binding import Binding, BindingType
from textual.strip import Strip

from tuidl.tui.draw.bars import bars
from tuidl.tui.draw.images import Pixels, Tiling, caption_row, draw, tilings
from tuidl.tui.draw.strips import Span, strip
from tuidl.tui.panels.matrix import MOST_CLASSES, shown_label
from tuidl.tui.panels.panel import ReadArtifact
from tuidl.tui.panels.scrubber import ArtifactFile, DamagedError, Scrubber, parse_json
from tuidl.tui.snapshot import Artifact

MOST_PIXELS = 4 * 1024 * 1024  # of a whole grid
MOST_IMAGES = 10_000
RARE = 0.2  # of its fair share: a class drawn less often does not count as drawn
LEAST_IMAGES = 4  # are shown even where they have to be made smaller for it
FEW_COLORS = (None, "standard", "windows")  # kinds of terminals with 16 colours or none

_PNG = b"\x89PNG\r\n\x1a\n"

Text = Annotated[str, Field(max_length=10_000)]
Index = Annotated[int, Field(ge=0, lt=MOST_IMAGES)]


def decode_png(data: bytes) -> NDArray[np.uint8]:
    """Return the pixels [height, width, channels] of a PNG file, 1 channel where all is grey. Raises DamagedError."""
    if data[:8] != _PNG or len(data) < 24:
        raise DamagedError("not a PNG image")
    width, height = struct.unpack(">II", data[16:24])
    if not 0 < width * height <= MOST_PIXELS:
        raise DamagedError(f"an image of {width} x {height} pixels")
    from PIL import Image  # takes a moment to load, and the first frame has no need of it

    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            pixels = np.asarray(image.convert("RGB"))
    except Exception:  # a decoder at work on a stranger's bytes may fail in any way
        raise DamagedError("the image cannot be decoded") from None
    if pixels.shape[0] * pixels.shape[1] > MOST_PIXELS:
        raise DamagedError("the image is larger than its file says")
    grey = bool((pixels[..., :1] == pixels).all())
    return pixels[..., :1] if grey else pixels


def parse_grid(details: Mapping[str, Any], data: bytes) -> Pixels:
    """Return the images [N, height, width, channels] of a grid, cut apart as its event tells. Raises DamagedError."""
    sizes = [details.get(name) for name in ("count", "columns", "height", "width")]
    if not all(type(size) is int and 0 < size <= MOST_PIXELS for size in sizes):
        raise DamagedError("the event does not tell how the grid is to be cut apart")
    count, columns, height, width = (int(size) for size in sizes if size is not None)
    pixels = decode_png(data)
    columns = min(columns, count)
    rows = -(-count // columns)
    if count > MOST_IMAGES or pixels.shape[0] < rows * height or pixels.shape[1] < columns * width:
        raise DamagedError("the grid is smaller than its event tells")
    parts = pixels[: rows * height, : columns * width].reshape(rows, height, columns, width, -1)
    return parts.swapaxes(1, 2).reshape(rows * columns, height, width, -1)[:count]


class ProbesFile(ArtifactFile):
    """What an artifact of kind `probes` must hold: the answers to a fixed set of images, and which are the worst."""

    labels: list[Text] = Field(min_length=1, max_length=MOST_CLASSES)
    targets: list[Index] = Field(max_length=MOST_IMAGES)
    predicted: list[Index] = Field(max_length=MOST_IMAGES)
    confidence: list[float] = Field(max_length=MOST_IMAGES)
    worst: list[Index] = Field(max_length=MOST_IMAGES)

    @model_validator(mode="after")
    def _fits_together(self) -> "ProbesFile":
        size = len(self.targets)
        if not size == len(self.predicted) == len(self.confidence) or max(self.worst, default=-1) >= size:
            raise ValueError("the lists of the probes are not of one length")
        if max([*self.targets, *self.predicted], default=-1) >= len(self.labels):
            raise ValueError("a probe is of a class that has no label")
        return self

    def verdict(self, number: int) -> tuple[str, str, str]:
        """Return the true class of one of the worst, the predicted one, and the confidence in per cent."""
        at = self.worst[number]
        share = self.confidence[at]
        sure = f"{100 * share:.0f}%" if 0 <= share <= 1 else "?"
        return shown_label(self.labels[self.targets[at]]), shown_label(self.labels[self.predicted[at]]), sure


class HistogramFile(ArtifactFile):
    """What an artifact of kind `histogram` must hold: the share of drawn images that a judge takes for each class."""

    labels: list[Text] = Field(min_length=1, max_length=MOST_CLASSES)
    drawn: list[Annotated[float, Field(ge=0, le=1)]] = Field(max_length=MOST_CLASSES)
    images: int = Field(ge=1, le=10**9)

    @model_validator(mode="after")
    def _fits_together(self) -> "HistogramFile":
        if len(self.drawn) != len(self.labels):
            raise ValueError("there are not as many numbers as classes")
        return self

    @property
    def counts(self) -> list[int]:
        """Images of each class."""
        return [round(share * self.images) for share in self.drawn]

    @property
    def rare(self) -> list[str]:
        """The classes that are drawn less than a fifth as often as they should."""
        return [
            shown_label(label)
            for label, share in zip(self.labels, self.drawn, strict=True)
            if share < RARE / len(self.labels)
        ]


def caption_of(true: str, predicted: str, sure: str, width: int) -> str:
    """Return `4→9 87%`, or of a right answer `4✓ 51%`, in at most `width` cells; nothing where there is no room."""
    for size in (width, 4, 3):
        names = [name[:size] for name in (true, predicted)]
        text = f"{names[0]}✓ {sure}" if true == predicted else f"{names[0]}→{names[1]} {sure}"
        for wording in (text, text.rpartition(" ")[0] if size == 3 else text):
            if cell_len(wording) <= width:
                return wording
    return ""


class ImagesPanel(Scrubber):
    """As many images of a grid as fit whole; `+` and `-` make them larger or smaller."""

    CELLS_AN_IMAGE: ClassVar[int] = 150  # of a large panel; more images are shown rather than larger ones
    CAPTIONS: ClassVar[bool] = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("plus,equals_sign", "larger", "Larger", id="images.larger", tooltip="Fewer images, but larger."),
        Binding("minus", "smaller", "Smaller", id="images.smaller", tooltip="More images, but smaller."),
    ]

    def __init__(self, read_artifact: ReadArtifact, *, id: str) -> None:
        super().__init__(read_artifact, id=id)
        self.zoom = 0  # sizes away from the one that suits the room
        self._seen = (0, 0)  # images with a place, images in the grid

    @property
    def coloured(self) -> bool:
        """Whether the terminal has colours enough for images; otherwise they are made of signs."""
        return not self.app.no_color and self.app.console.color_system not in FEW_COLORS

    def draw(self, artifact: Artifact, width: int, height: int) -> Sequence[Strip]:
        """Return the images."""
        self._seen = (0, 0)
        return self.grid(artifact, width, height)

    def grid(self, artifact: Artifact, width: int, height: int) -> list[Strip]:
        """Return the images in `height` rows."""
        images = self.content(artifact, lambda artifact, data: parse_grid(artifact.details, data))
        count, tall, wide = images.shape[:3]
        choice = tilings((tall, wide), (height, width), count, caption=self.CAPTIONS)
        if not choice:
            return self.sentence("too small for an image; z shows this panel alone", width, height)
        wanted = min(count, max(LEAST_IMAGES, width * height // self.CELLS_AN_IMAGE))
        enough = [at for at, tiling in enumerate(choice) if tiling.shown >= wanted] or [len(choice) - 1]
        fitting = max(enough, key=lambda at: choice[at].area(count))  # which leaves the least of the room empty
        self.zoom = min(fitting, max(fitting + 1 - len(choice), self.zoom))
        tiling = choice[fitting - self.zoom]
        self._seen = (min(count, tiling.shown), count)
        rows = draw(images, tiling, (height, width), self.palette, coloured=self.coloured)
        texts = self.texts(artifact, tiling)
        if texts:
            for number in range(tiling.rows):
                at = number * tiling.pitch // 2 + tiling.caption_at
                row = texts[number * tiling.columns : (number + 1) * tiling.columns]
                rows[at] = strip(caption_row(row, tiling, self.palette.text), width, self.palette.text)
        return rows

    def texts(self, artifact: Artifact, tiling: Tiling) -> Sequence[Span]:
        """Return what stands below each image."""
        return ()

    def caption(self, artifact: Artifact) -> Sequence[Sequence[str]]:
        """Return the place in time, and how many images of how many are seen."""
        seen, count = self._seen
        part = [f"{seen} of {count} images"] if seen < count else []
        place = self.place(artifact)
        return [[*place, *part], place, place[:1]]

    def action_larger(self) -> None:
        """Show fewer images, in the next larger size."""
        self.zoom += 1
        self.redraw()

    def action_smaller(self) -> None:
        """Show more images, in the next smaller size."""
        self.zoom -= 1
        self.redraw()


class WorstPanel(ImagesPanel):
    """The validation images that the classifier gets most wrong."""

    TITLE = "worst mistakes"
    KIND = "worst"
    EMPTY = "the first evaluation has not been made yet"
    CELLS_AN_IMAGE = 400
    CAPTIONS = True
    ABOUT = (
        "Of a fixed set of validation images these have the largest loss: the model is most wrong about them. Below "
        "each stands its true class, an arrow, the class that the model sees, and how sure it is of that. A class "
        "with a ✓ was recognised, though with little confidence. Left and right go through time; + and - change how "
        "large the images are.\n\n"
        "Look for a pattern. Images that you would get wrong as well are no fault of the model; labels that are "
        "plainly wrong are a fault of the data. Mistakes of one kind (all dark, all turned, all cut off) tell which "
        "augmentation could help.\n\n"
        "Alarming are mistakes made with 100 % confidence on images that are clear to you, and more of them as "
        "training goes on: the model is overconfident. The validation loss then rises while the accuracy still "
        "stands. Label smoothing, dropout or weight decay help, or an earlier end."
    )

    def companions(self, artifact: Artifact) -> Sequence[Artifact | None]:
        """Return the probes of the same evaluation, which know what was predicted."""
        found = self.snapshot.artifacts.get("probes", ()) if self.snapshot else ()
        return [next((probes for probes in reversed(found) if probes.step == artifact.step), None)]

    def texts(self, artifact: Artifact, tiling: Tiling) -> Sequence[Span]:
        """Return true and predicted class of each image."""
        probes = self.companions(artifact)[0]
        if probes is None:
            return ()
        try:
            found = self.content(probes, lambda _, data: parse_json(ProbesFile, data))
        except DamagedError:
            return ()  # the images can be seen without it
        shown = range(min(tiling.shown, self._seen[1], len(found.worst)))
        verdicts = [found.verdict(number) for number in shown]
        return [
            (caption_of(*verdict, tiling.width), self.palette.good if verdict[0] == verdict[1] else self.palette.bad)
            for verdict in verdicts
        ]


class DrawnPanel(ImagesPanel):
    """The images that a generator draws from the same noise each time, and which classes they look like."""

    TITLE = "drawn images"
    KIND = "drawn"
    EMPTY = "nothing has been drawn yet"
    ABOUT = (
        "Images that the generator draws, always from the same noise, so that one place shows the same attempt getting "
        "better. Left and right go through time, home goes to the first attempt; + and - change how large they are.\n\n"
        "The bars below count what the drawn images look like to a classifier that was trained on real ones. A healthy "
        "generator draws every class about equally often.\n\n"
        "Alarming is mode collapse: the images become alike, and a few bars hold everything while others are at 0. The "
        "generator has found something that fools the discriminator and repeats it. Alarming as well: noise that does "
        "not clear up, or a checkerboard that stays; then look at the losses, where one of the two players has "
        "probably won. A lower learning rate for the stronger one, or another loss, can bring them back."
    )

    def companions(self, artifact: Artifact) -> Sequence[Artifact | None]:
        """Return the newest count of classes that is not newer than the images, or else the first."""
        found = self.snapshot.artifacts.get("histogram", ()) if self.snapshot else ()
        first = found[0] if found else None
        return [next((histogram for histogram in reversed(found) if histogram.step <= artifact.step), first)]

    def draw(self, artifact: Artifact, width: int, height: int) -> Sequence[Strip]:
        """Return the images, and the bars below where there is room for both."""
        self._seen = (0, 0)
        below = self._bars(artifact, width, height)
        return [*self.grid(artifact, width, height - len(below)), *below]

    def _bars(self, artifact: Artifact, width: int, height: int) -> list[Strip]:
        histogram = self.companions(artifact)[0]
        room = min(7, height // 3)
        if histogram is None or height < 9:
            return []
        try:
            found = self.content(histogram, lambda _, data: parse_json(HistogramFile, data))
        except DamagedError:
            return []
        labels, told = list(map(shown_label, found.labels)), room > 3
        rows = bars(labels, found.counts, width, room - told, self.palette)
        return [strip(self._in_words(found, histogram), width, self.palette.text), *rows] if told else rows

    def _in_words(self, found: HistogramFile, histogram: Artifact) -> list[Span]:
        """Return in words which classes are drawn."""
        rare, count = found.rare, len(found.labels)
        words = f"{count - len(rare)} of {count} classes" + (f", hardly any {', '.join(rare[:10])}" if rare else "")
        tone = self.palette.bad if rare else self.palette.text
        return [(words, tone), (f"  in {found.images} images at step {histogram.step}", self.palette.muted)]
