"""What has happened to the run, and the trainer's log."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from textual.binding import Binding, BindingType
from textual.strip import Strip

from tuidl.text import clean
from tuidl.tui.draw.strips import Span, strip
from tuidl.tui.draw.wrap import wrap
from tuidl.tui.format import duration, metric
from tuidl.tui.panels.panel import Panel, ReadArtifact
from tuidl.tui.snapshot import Snapshot

Event = Mapping[str, Any]


def _evaluation(event: Event) -> str:
    told = ", ".join(f"{name} {metric(name, value)}" for name, value in list(event["metrics"].items())[:3])
    return ("test: " if event.get("final") else "evaluated: ") + told + (" · best so far" if event.get("best") else "")


# what each kind of event says and the sign it bears; kinds that are not here go without a line
TOLD: dict[str, tuple[str, Callable[[Event], str]]] = {
    "started": (
        "▶",
        lambda event: f"training begins: {event.get('parameters', '?'):,} parameters on {event['device']}",
    ),
    "resumed": ("▶", lambda event: f"goes on from step {event['step']}" + ("" if event["file"] else ", its beginning")),
    "evaluation": ("●", _evaluation),
    "change": ("┊", lambda event: f"{event['key']} {event['before']} → {event['after']}"),
    "warning": ("!", lambda event: str(event["text"])),
    "answer": ("›", lambda event: ("" if event.get("ok") else "refused: ") + str(event["text"])),
    "finished": ("■", lambda event: f"{event['status']}: {event['reason']}"),
    "failed": ("✗", lambda event: f"failed: {event['reason']}"),
}


def line_of(event: Event) -> tuple[str, str] | None:
    """Return the sign and the words of an event, None where it goes without a line; cleaned for showing."""
    known = TOLD.get(str(event.get("event")))
    if known is None or (event.get("verb") == "set" and event.get("ok") is True):  # the change has a line of its own
        return None
    try:
        return known[0], clean(known[1](event), limit=400)
    except (KeyError, TypeError, ValueError, AttributeError):
        return "?", clean(f"{event.get('event')}: not as expected", limit=100)


class _Lines(Panel):
    """Lines of text, the newest at the bottom; scrolls back with the arrow keys."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,pageup", "back", "Earlier", id="lines.back", tooltip="Scroll to earlier lines."),
        Binding("down,pagedown", "forth", "Later", id="lines.forth", tooltip="Scroll to later lines."),
        Binding("end", "newest", "Newest", id="lines.newest", show=False, tooltip="Follow the newest line."),
    ]

    def __init__(self, read_artifact: ReadArtifact, *, id: str) -> None:
        super().__init__(read_artifact, id=id)
        self.offset_rows = 0  # rows above the newest one
        self._seen: object = None

    def lines(self, snapshot: Snapshot, width: int) -> list[tuple[Span, ...]]:
        """Return every line, newest last, broken to `width` cells."""
        raise NotImplementedError

    def source(self, snapshot: Snapshot) -> object:
        """Return what the lines are made from; while it is the same object there is nothing to do."""
        raise NotImplementedError

    def show(self, snapshot: Snapshot) -> None:
        """Take what is new."""
        source = self.source(snapshot)
        if source is not self._seen:
            self._seen = source
            super().show(snapshot)

    def paint(self, width: int, height: int) -> list[Strip]:
        """Return the last rows that fit."""
        look = self.palette
        found = self.lines(self.snapshot, width) if self.snapshot else []
        self.offset_rows = min(self.offset_rows, max(0, len(found) - height))
        end = len(found) - self.offset_rows
        self.put_below(f"{self.offset_rows} below" if self.offset_rows else "")
        return [strip(spans, width, look.text) for spans in found[max(0, end - height) : end]]

    def action_back(self) -> None:
        """Scroll back by half a panel."""
        self.offset_rows += max(1, self.content_size.height // 2)
        self.redraw()

    def action_forth(self) -> None:
        """Scroll forth by half a panel."""
        self.offset_rows = max(0, self.offset_rows - max(1, self.content_size.height // 2))
        self.redraw()

    def action_newest(self) -> None:
        """Follow the newest line."""
        self.offset_rows = 0
        self.redraw()

    def on_mouse_scroll_up(self) -> None:
        """Scroll back."""
        self.action_back()

    def on_mouse_scroll_down(self) -> None:
        """Scroll forth."""
        self.action_forth()


class EventsPanel(_Lines):
    """The story of the run."""

    TITLE = "events"
    ABOUT = (
        "What has happened, with the time of training: evaluations, changes of settings and their answers, warnings, "
        "the end and its reason.\n\nThe sign before each line tells the kind: ● an evaluation, ┊ a changed setting, "
        "› the answer to a command, ! a warning, ✗ a failure. A warning deserves a look: it says for example that a "
        "stand-in was trained on because the real data could not be had."
    )

    def source(self, snapshot: Snapshot) -> object:
        """Return the events."""
        return snapshot.events

    def lines(self, snapshot: Snapshot, width: int) -> list[tuple[Span, ...]]:
        """Return the newest events, one or more lines each."""
        look = self.palette
        found: list[tuple[Span, ...]] = []
        tones = {"✗": look.bad, "!": look.warn, "┊": look.mark, "●": look.val}
        for event in snapshot.events[-400:]:
            line = line_of(event)
            if line is None:
                continue
            sign, text = line
            elapsed = event.get("elapsed")
            clock = f"{duration(elapsed if isinstance(elapsed, int | float) else 0.0):>6} "
            rest = wrap(text, max(8, width - len(clock) - 2)) or [""]
            found.append(((clock, look.muted), (f"{sign} ", tones.get(sign, look.text)), (rest[0], look.text)))
            found += [((" " * (len(clock) + 2) + more, look.text),) for more in rest[1:]]
        return found


class LogPanel(_Lines):
    """The end of the trainer's log."""

    TITLE = "log"
    ABOUT = (
        "The last lines that the trainer, torch and the driver have written. Empty is good: what matters is told among "
        "the events. When a run has failed, the traceback stands here."
    )

    def source(self, snapshot: Snapshot) -> object:
        """Return the lines of the log."""
        return snapshot.log

    def lines(self, snapshot: Snapshot, width: int) -> list[tuple[Span, ...]]:
        """Return the log, its lines broken to the width."""
        look = self.palette
        if not snapshot.log:
            return [(("the log is empty", look.muted),)]
        return [((part, look.text),) for line in snapshot.log for part in _broken(line, max(8, width))]


def _broken(line: str, width: int) -> list[str]:
    """Return a line of a log in parts of at most `width` cells, each as far from the left as the line was."""
    indent = " " * min(len(line) - len(line.lstrip()), width // 2)
    return [indent + part for part in wrap(line, width - len(indent))]
