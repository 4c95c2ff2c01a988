"""The two or three rows on top: which run this is, how it stands, how far it is."""

from rich.cells import cell_len
from textual.strip import Strip

from tuidl.runs import LIVE_STATES
from tuidl.text import clean
from tuidl.tui.draw.strips import Span, strip
from tuidl.tui.feed import rate, remaining
from tuidl.tui.format import count, duration, metric, state_sign
from tuidl.tui.rows import Rows
from tuidl.tui.snapshot import Snapshot

ENDS = {
    "lost": "the trainer is gone without a word: killed, out of memory, or a crash",
    "unreadable": "this run's status cannot be read",
}
BAD = (*ENDS, "failed", "diverged")


class StatusBar(Rows):
    """State, progress and what deserves a warning. Items that do not fit are left out, the least important first."""

    DEFAULT_CSS = "StatusBar { height: 2; background: $surface; padding: 0 1; }"
    can_focus = False
    snapshot: Snapshot | None = None
    link = ""  # the state of the line to the terminal
    reading = False  # whether there is more of the run to be read

    def show(self, snapshot: Snapshot, link: str, reading: bool) -> None:
        """Take what is new."""
        self.snapshot, self.link, self.reading = snapshot, link, reading
        if self.styles.height is None or self.styles.height.value != 2 + len(self.notices):
            self.styles.height = 2 + len(self.notices)
        self.redraw()

    @property
    def notices(self) -> list[str]:
        """What must not be missed: a sentence, and for a trainer that died the end of its log."""
        found = [self._notice(self.snapshot)] if self.snapshot else []
        if self.snapshot and self.snapshot.state in BAD and self.snapshot.log:
            found.append(f"its log ends: {self.snapshot.log[-1]}")
        return [text for text in found if text]

    def _notice(self, told: Snapshot) -> str:
        reason = told.status.reason if told.status else ""
        if told.state in ENDS:
            return told.problem or ENDS[told.state]
        if told.state in ("failed", "diverged"):
            return reason
        if told.problem:
            return told.problem
        if told.damaged:
            return f"{told.damaged} damaged records were left out"
        if told.facts.get("stand_in"):
            asked = told.spec.data.name if told.spec else "the real data"
            return f"{asked} could not be had: trained on the stand-in {told.facts.get('data')}, so results differ"
        return ""

    def paint(self, width: int, height: int) -> list[Strip]:
        """Return the rows."""
        look = self.palette
        if self.snapshot is None:
            return [strip([("reading the run …", look.muted)], width, look.text)]
        found = [self._first(self.snapshot, width), self._second(self.snapshot, width)]
        tone = look.bad if self.snapshot.state in BAD else look.warn
        told = [clean(text, limit=max(1, width - 3)) for text in self.notices]
        found += [strip([("! ", tone), (text, tone)], width, look.text) for text in told]
        return found[:height]

    def _first(self, told: Snapshot, width: int) -> Strip:
        look = self.palette
        sign, word = state_sign(told.state)
        tones = {"running": look.good, "completed": look.good, "paused": look.warn, "evaluating": look.good}
        tones |= dict.fromkeys(BAD, look.bad)
        spans: list[Span] = [
            (f"{sign} {word} ", tones.get(told.state, look.text)),
            (f" {clean(told.name, limit=48)} ", look.train),
        ]  # fmt: skip
        facts = told.facts
        more = [
            clean(told.preset, limit=40),
            f"data {clean(str(facts['data']), limit=30)}" if "data" in facts else "",
            clean(f"{facts['device']} {facts['precision']}", limit=48) if "device" in facts else "",
            f"{count(int(facts['parameters']))} parameters" if isinstance(facts.get("parameters"), int) else "",
        ]
        if self.link or self.reading:
            spans.insert(1, (f" {'reading …' if self.reading else self.link} ", look.warn))
        used = sum(cell_len(text) for text, _ in spans)
        for item in filter(None, more):
            if used + cell_len(item) + 3 > width:
                break
            spans.append((f" · {item}", look.muted))
            used += cell_len(item) + 3
        return strip(spans, width, look.text)

    def _second(self, told: Snapshot, width: int) -> Strip:
        look, status = self.palette, told.status
        length = told.history.length
        step = max(status.step if status else 0, int(told.history.steps[length - 1]) if length else 0)
        total = status.total_steps if status else None
        spans: list[Span] = []
        if total:
            share = min(1.0, step / total)
            bar = max(0, min(24, width - 72))
            spans += [("━" * round(share * bar), look.train), ("─" * (bar - round(share * bar)), look.axis)]
            spans.append((f" {share:4.0%}" if bar else f"{share:4.0%}", look.text))
        epoch = step / told.steps_per_epoch
        epochs = f"/{status.total_epochs}" if status and status.total_epochs else ""
        items = [
            f"step {step:,}" + (f"/{total:,}" if total else ""),
            *self._pace(told),
            f"best {clean(status.best.metric, limit=24)} {metric(status.best.metric, status.best.value)}"
            if status and status.best
            else "",
            f"epoch {epoch:.1f}{epochs}" if told.facts else "",
            f"trained {duration(float(told.history.elapsed[length - 1]))}" if length else "",
        ]
        used = sum(len(text) for text, _ in spans)
        for item in filter(None, items):
            if used + len(item) + 3 <= width:
                spans.append((f"  {item}" if spans else item, look.text))
                used += len(item) + 2
        return strip(spans, width, look.text)

    def _pace(self, told: Snapshot) -> list[str]:
        """Return throughput and the time that is left, while there is training."""
        if told.state not in LIVE_STATES or told.state == "paused":
            return []
        steps, left = rate(told), remaining(told)
        examples = told.facts.get("examples")
        train = examples.get("train") if isinstance(examples, dict) else None
        what = "characters" if told.spec and told.spec.task == "language" else "images"
        each = train / told.steps_per_epoch if isinstance(train, int) else 0  # examples a step
        pace = f"{_two(steps * each)} {what}/s" if each else f"{_two(steps)} steps/s"
        return [pace if steps else "", f"{duration(left)} left" if left is not None else ""]


def _two(value: float) -> str:
    """Return two significant digits, so that the number stands still where the pace does."""
    if value <= 0:
        return "0"
    size = 10 ** max(0, len(str(int(value))) - 2)
    return count(round(value / size) * size)
