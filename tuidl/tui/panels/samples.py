"""Text that a language model writes, at each temperature."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Annotated, ClassVar

from pydantic import Field
from rich.cells import cell_len, set_cell_size
from textual.binding import Binding, BindingType
from textual.strip import Strip

from tuidl.text import clean
from tuidl.tui.draw.strips import Span, strip
from tuidl.tui.panels.panel import ReadArtifact
from tuidl.tui.panels.scrubber import ArtifactFile, Scrubber, parse_json
from tuidl.tui.snapshot import Artifact

LONGEST = 20_000  # characters of a sample
MOST_SAMPLES = 8
SIDE_BY_SIDE = 90  # cells from which the samples stand side by side
NARROWEST = 24  # cells of one of them
LEAST_ROWS = 3  # of each sample below the other; with fewer, they are one long text


class Sample(ArtifactFile):
    """One text."""

    temperature: float = Field(ge=0, le=1000)
    text: str = Field(max_length=LONGEST)


class TextFile(ArtifactFile):
    """What an artifact of kind `text` must hold."""

    prompt: str = Field(max_length=LONGEST)
    samples: Annotated[list[Sample], Field(min_length=1, max_length=MOST_SAMPLES)]


@dataclass(frozen=True)
class Written:
    """A text as it may be shown: the prompt, then what the model made of it."""

    title: str
    prompt: str
    text: str


def parse_text(data: bytes) -> Sequence[Written]:
    """Return the texts in an artifact of kind `text`. Raises DamagedError."""
    found = parse_json(TextFile, data)
    prompt = clean(found.prompt, keep_newlines=True, limit=500)
    return [
        Written(
            f"temperature {sample.temperature:g}",
            prompt if prompt.strip() else "",
            clean(sample.text, keep_newlines=True, limit=LONGEST),
        )
        for sample in found.samples
    ]


def wrapped(text: str, width: int) -> list[tuple[int, int]]:
    """Return where each row of `text` begins and ends when no row is wider than `width` cells.

    Rows end at newlines, and at the last blank that fits; a word that is wider than a row is broken. Unlike a sentence
    of our own, what a model writes is shown with all of its blanks and empty lines.
    """
    rows: list[tuple[int, int]] = []
    start = used = 0
    blank = -1  # the last place at which this row may end
    for at, char in enumerate(text):
        used += cell_len(char)
        if char == "\n":
            rows.append((start, at))
            start, used, blank = at + 1, 0, -1
        elif used > width and at > start:
            end = at if char == " " or blank < 0 else blank
            rows.append((start, end))
            start = end + 1 if text[end] == " " else end
            used, blank = cell_len(text[start : at + 1]), -1
        elif char == " " and at > start:
            blank = at
    return [*rows, (start, len(text))]


class SamplesPanel(Scrubber):
    """What the model writes on from its prompt, side by side or one below the other."""

    TITLE = "samples"
    KIND = "text"
    EMPTY = "nothing has been written yet"
    ABOUT = (
        "What the model writes when it is asked to go on from the prompt, which is shown dim. It writes one character "
        "at a time, and each is drawn by lot from what it thinks likely. The temperature bends the lot: a low one "
        "takes what is most likely nearly always, 1 follows the model as it is, a high one dares the unlikely. All "
        "temperatures use the same random numbers, so that only the temperature differs.\n\n"
        "Left and right go through time, up and down scroll. First come letters in the right frequency, then spaces "
        "and short words, then words that exist, then quotes and brackets that close. Read the lowest temperature for "
        "what was learned, and the highest for what is still missing.\n\n"
        "Alarming are samples that repeat one phrase for ever even at temperature 1, samples that turn to noise again "
        "after they were readable (the learning rate is too high), and whole sentences of the training text word for "
        "word while the validation loss rises: the model learns by heart."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "scroll(-1)", "Up", id="samples.up", tooltip="Scroll the texts up."),
        Binding("down", "scroll(1)", "Down", id="samples.down", tooltip="Scroll the texts down."),
    ]

    def __init__(self, read_artifact: ReadArtifact, *, id: str) -> None:
        super().__init__(read_artifact, id=id)
        self.first = 0  # row of the texts that stands on top
        self._last = 0  # row that may stand there at most

    def draw(self, artifact: Artifact, width: int, height: int) -> Sequence[Strip]:
        """Return all texts, each with its temperature above."""
        self._last = 0
        found = self.content(artifact, lambda _, data: parse_text(data))
        if width >= SIDE_BY_SIDE and (width + 3) // len(found) - 3 >= NARROWEST:
            rows = self._side_by_side(found, width, height)
        elif height >= LEAST_ROWS * len(found):
            rows = self._stacked(found, width, height)
        else:
            rows = self._as_one(found, width, height)
        return [strip(spans, width, self.palette.text) for spans in rows]

    def caption(self, artifact: Artifact) -> Sequence[Sequence[str]]:
        """Return the place in time, and whether the texts go on below."""
        place = self.place(artifact)
        more = ["↓ more"] if self.first < self._last else []
        return [[*place, *more], [*place[:1], *more], place[:1]]

    def _side_by_side(self, found: Sequence[Written], width: int, height: int) -> list[list[Span]]:
        look = self.palette
        each = (width - 3 * (len(found) - 1)) // len(found)
        texts = [self._lines(written, each) for written in found]
        self._limit(max(map(len, texts)) - (height - 1))
        rows = zip_longest(*(text[self.first : self.first + height - 1] for text in texts), fillvalue=[])
        joined = []
        for parts in chain([[self._head(written, each) for written in found]], rows):
            spans: list[Span] = []
            for part in parts:
                used = sum(len(text) for text, _ in part)
                cells = strip(part, each, look.text)
                spans += [(text, style or look.text) for text, style, _ in cells] if used else [(" " * each, look.text)]
                spans.append((" │ ", look.axis))
            joined.append(spans[:-1])
        return joined

    def _stacked(self, found: Sequence[Written], width: int, height: int) -> list[list[Span]]:
        share, more = divmod(height, len(found))
        texts = [self._lines(written, width) for written in found]
        rooms = [share - 1 + (number < more) for number in range(len(found))]
        self._limit(max(len(text) - room for text, room in zip(texts, rooms, strict=True)))
        rows: list[list[Span]] = []
        for written, text, room in zip(found, texts, rooms, strict=True):
            part = text[self.first : self.first + room]
            rows += [self._head(written, width), *part, *([[]] * (room - len(part)))]
        return rows

    def _as_one(self, found: Sequence[Written], width: int, height: int) -> list[list[Span]]:
        rows = [row for written in found for row in (self._head(written, width), *self._lines(written, width))]
        self._limit(len(rows) - height)
        return rows[self.first : self.first + height]

    def _limit(self, last: int) -> None:
        """Take note of how far the texts can be scrolled."""
        self._last = max(0, last)
        self.first = min(self.first, self._last)

    def _head(self, written: Written, width: int) -> list[Span]:
        text = set_cell_size(f"{written.title} ", min(width, len(written.title) + 1))
        return [(text, self.palette.accent), ("─" * (width - len(text)), self.palette.axis)]

    def _lines(self, written: Written, width: int) -> list[list[Span]]:
        """Return a text in rows of `width` cells, the prompt dim."""
        text, prompt = written.prompt + written.text, len(written.prompt)
        rows: list[list[Span]] = []
        for start, end in wrapped(text, width):
            middle = min(max(start, prompt), end)
            rows.append([(text[start:middle], self.palette.muted), (text[middle:end], self.palette.text)])
        return rows

    def action_scroll(self, by: int) -> None:
        """Scroll by rows."""
        self.first = min(max(0, self.first + by), self._last)
        self.redraw()

    def on_mouse_scroll_down(self) -> None:
        """Scroll down."""
        self.action_scroll(1)

    def on_mouse_scroll_up(self) -> None:
        """Scroll up."""
        self.action_scroll(-1)
