"""What stands beside a list about its highlighted row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from rich.cells import cell_len
from textual.strip import Strip

from tuidl.text import clean
from tuidl.tui.draw.strips import strip
from tuidl.tui.draw.wrap import wrap
from tuidl.tui.format import count, duration, fit, metric, share, state_sign
from tuidl.tui.rows import Rows

if TYPE_CHECKING:
    from tuidl.runs import RunSummary
    from tuidl.tui.overview import PresetEntry, RunFacts

WRONG = ("diverged", "failed", "lost")
DATA_HERE = {"present": "here", "built in": "made on the spot", "yours": "a file of your own"}
DATA_ABSENT = {"absent": "not here", "incomplete": "not all of it here", "damaged": "damaged here"}
LABEL = 8  # cells of the labels, where there is one


@dataclass(frozen=True)
class Paragraph:
    """A piece of text, cleaned when it is shown. Its label stands once, before its first line.

    Where there is not room for all, those of a lower `rank` come first.
    """

    text: str
    label: str = ""
    rank: int = 0
    tone: Literal["text", "title", "muted", "warn", "bad"] = "text"


class Details(Rows):
    """Paragraphs; `…` at the end of a row says that something had no room."""

    TITLE = "About"
    DEFAULT_CSS = "Details { height: 1fr; }"

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.border_title = self.TITLE
        self.paragraphs: Sequence[Paragraph] = ()

    def show(self, paragraphs: Sequence[Paragraph]) -> None:
        """Show these paragraphs from now on; those without text are left out."""
        self.paragraphs = tuple(
            replace(item, text=clean(item.text)) for item in paragraphs if item.text and not item.text.isspace()
        )
        self.redraw()

    def paint(self, width: int, height: int) -> list[Strip]:
        """Return the paragraphs as rows."""
        look = self.palette
        tones = {"text": look.text, "title": look.cursor, "muted": look.muted, "warn": look.warn, "bad": look.bad}
        lines = [(item, _lines(item, width)) for item in self.paragraphs]
        rows: list[Strip] = []
        for (item, texts), room in zip(lines, _share_out(lines, height), strict=True):
            for number, (label, text) in enumerate(texts[:room]):
                if number == room - 1 and room < len(texts):
                    text = fit(f"{text} …", min(width - len(label), cell_len(text) + 2))
                rows.append(strip([(label, look.muted), (text, tones[item.tone])], width, look.text))
        return rows


def _lines(item: Paragraph, width: int) -> list[tuple[str, str]]:
    """Return the lines of a paragraph, each with what stands in the column of the labels."""
    indent = LABEL if item.label and width > 3 * LABEL else 0
    text = item.text if indent or not item.label else f"{item.label} {item.text}"
    label = item.label[: LABEL - 1].ljust(LABEL)
    return [(label if not number else " " * LABEL, line) if indent else ("", line)
            for number, line in enumerate(wrap(text, width - indent))]  # fmt: skip


def _share_out(lines: Sequence[tuple[Paragraph, Sequence[object]]], height: int) -> list[int]:
    """Return how many rows each paragraph gets of `height`."""
    rooms = [0] * len(lines)
    for place in sorted(range(len(lines)), key=lambda place: lines[place][0].rank):
        rooms[place] = min(len(lines[place][1]), height)
        height -= rooms[place]
    return rooms


def preset_details(
    entry: "PresetEntry", runs: "Sequence[RunSummary]", data: Mapping[str, Mapping[str, Any]] | None
) -> list[Paragraph]:
    """Return what there is to know of a preset before it is opened."""
    if entry.problem:
        return [Paragraph(entry.name, tone="title"), Paragraph(entry.problem, "wrong", tone="warn")]
    return [
        Paragraph(entry.title, rank=1, tone="title"),
        Paragraph(entry.shows, rank=2),
        Paragraph(entry.expected, "expect"),
        Paragraph(time_needed(entry, runs), "time"),
        Paragraph(place_of_data(entry, data), "data"),
        *(Paragraph(idea, " " if place else "try", rank=3) for place, idea in enumerate(entry.things_to_try)),
    ]


def time_needed(entry: "PresetEntry", runs: "Sequence[RunSummary]") -> str:
    """Return how long the preset took here, else what its author says."""
    last = next((run for run in runs if run.preset == entry.name and run.state == "completed"), None)
    if last is not None:
        return f"{duration(last.seconds)} here last time ({last.name})"
    places = ((entry.time_cpu, "on two CPU cores"), (entry.time_gpu, "on a big GPU"))
    return ", ".join(f"{time} {place}" for time, place in places if time)


def place_of_data(entry: "PresetEntry", data: Mapping[str, Mapping[str, Any]] | None) -> str:
    """Return whether the preset's data is on this machine, and what will happen where it is not."""
    found = data.get(entry.data) if data else None
    if found is None:
        return entry.data
    state = found.get("state")
    if state in DATA_HERE:
        return f"{entry.data}, {DATA_HERE[state]}"
    instead = f" (stand-in: {entry.stand_in})" if entry.stand_in else ""
    return f"{entry.data}, {DATA_ABSENT.get(str(state), str(state))}: will be downloaded{instead}"


def run_details(run: "RunSummary", facts: "RunFacts | None") -> list[Paragraph]:
    """Return what there is to know of a run before it is opened."""
    sign, word = state_sign(run.state)
    reason = f", {run.reason}" if run.reason else ""
    steps = f"step {count(run.step)}" + (f" of {count(run.total_steps)}" if run.total_steps else "")
    progress = [share(run.step, run.total_steps), steps, f"trained {duration(run.seconds)}"]
    best = (
        f"{run.best.metric} {metric(run.best.metric, run.best.value)} at step {count(run.best.step)}"
        if run.best
        else ""
    )
    made = [run.preset, facts.data if facts else "", facts.device if facts else ""]
    changes = ", ".join(facts.changes) if facts and facts.changes else ""
    return [
        Paragraph(f"{sign} {run.name}: {word}{reason}", tone="bad" if run.state in WRONG else "title"),
        Paragraph(" · ".join(filter(None, progress)), "done"),
        Paragraph(best, "best"),
        Paragraph(changes, "changed", rank=1),
        Paragraph(" · ".join(filter(None, made)), "of", rank=2),
        Paragraph(str(run.paths.directory), "in", rank=3, tone="muted"),
    ]
