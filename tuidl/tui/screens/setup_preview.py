"""What a run would be, before it starts: its data and what augmentation makes of it, its model, schedule and device.

Each view is a function of what is known (`Known`) that returns rows of cells; the widget shows one of them.
"""

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip

from tuidl.spec import RunSpec
from tuidl.spec.datasets import DATASETS
from tuidl.spec.models import Recurrent
from tuidl.spec.schedules import Position
from tuidl.text import clean
from tuidl.tui.draw.axis import Limits, short
from tuidl.tui.draw.bars import bars
from tuidl.tui.draw.chart import Axes, Curve, draw_chart, thinned
from tuidl.tui.draw.images import Pixels, caption_row, draw, tile
from tuidl.tui.draw.palette import Palette
from tuidl.tui.draw.strips import Span, strip
from tuidl.tui.draw.wrap import wrap
from tuidl.tui.format import byte_count, fit
from tuidl.tui.rows import Rows

POSITIONS = 200  # of the schedule's curve
IMAGES = 8  # samples asked for
PREPARING = "the model preview is being prepared (torch loads)"
DATA_STATES = {  # the answer's word: a sign, and what it means for a run
    "present": ("✓", "is here"),
    "built in": ("✓", "is made on the spot"),
    "yours": ("✓", "is a file of your own"),
    "absent": ("↓", "is not here: it would be downloaded"),
    "incomplete": ("↓", "is not all here: the rest would be downloaded"),
    "damaged": ("!", "is damaged here: it would be downloaded again"),
}
_GUESSED_STEPS = 100  # steps an epoch, while nobody knows how many examples there are
_CURVE = (7, 14)  # least and most rows of the schedule's curve
_BARS = 4  # least rows of the class counts, with their title
_ROOMY = 18  # rows from which on there is a blank one below the tabs
_GAP = 2  # pixels between an image and what augmentation makes of it


@dataclass(frozen=True)
class Known:
    """What is known of the run that would start: None what has not been answered yet, a problem for what failed."""

    spec: RunSpec
    model: Mapping[str, Any] | None = None
    samples: Mapping[str, Any] | None = None
    devices: Sequence[Mapping[str, Any]] | None = None
    data: Mapping[str, Mapping[str, Any]] | None = None
    problems: Mapping[str, str] = field(default_factory=dict)  # by what was asked for

    def problem(self, name: str) -> str:
        """Return why `name` could not be answered, in one line."""
        return clean(self.problems.get(name, ""), limit=300)

    @property
    def steps_per_epoch(self) -> int | None:
        """How many steps an epoch has, None while the size of the data is not known."""
        examples = (self.samples or {}).get("splits", {}).get("train")
        return steps_per_epoch(self.spec, examples) if examples and examples > 0 else None


def steps_per_epoch(spec: RunSpec, examples: int) -> int:
    """Return the steps of an epoch over `examples` images or characters, as the trainer counts them."""
    if spec.optimizer.full_batch:
        return 1
    batch = spec.training.batch_size
    if isinstance(spec.model, Recurrent):
        unroll, carry = spec.model.unroll, spec.model.carry_state
        streams = min(batch, max(1, (examples - 1) // (unroll * (2 if carry else 1))))
        return max(1, (examples - 1) // streams // unroll - (1 if carry else 0))
    moves = int(getattr(spec.loss, "d_steps", 1))
    return max(1, examples // (min(batch, max(1, examples // moves)) * moves))


def total_steps(spec: RunSpec, per_epoch: int) -> int:
    """Return how many steps the run has at most."""
    steps = spec.training.epochs * per_epoch
    return min(steps, spec.training.max_steps or steps)


def learning_rates(spec: RunSpec, per_epoch: int) -> tuple[list[int], list[float]]:
    """Return the learning rate at positions from the first step to the last, and these steps."""
    total = total_steps(spec, per_epoch)
    steps = sorted({index * (total - 1) // (POSITIONS - 1) for index in range(POSITIONS)})
    return steps, [spec.optimizer.lr * spec.schedule.factor(Position(step, total, per_epoch)) for step in steps]


def data_line(known: Known, name: str) -> tuple[str, str]:
    """Return a sign and a sentence that say whether a data set is here."""
    title = DATASETS[name].title if name in DATASETS else clean(name, limit=40)
    found = (known.data or {}).get(name)
    if found is None:
        return "", f"{title}: looking whether it is here"
    sign, words = DATA_STATES.get(str(found.get("state")), ("?", clean(str(found.get("state")), limit=60)))
    size = sum(download.size for download in DATASETS[name].downloads) if name in DATASETS else 0
    if sign == "✓" or not size:
        return sign, f"{title} {words}"
    instead = known.spec.data.stand_in
    other = f", else {DATASETS[instead].title}" if instead != "none" else ""
    return sign, f"{title} {words} ({byte_count(size)}){other}"


# --- the views --------------------------------------------------------------------------------------------------------


def data_view(known: Known, width: int, height: int, look: Palette, coloured: bool) -> list[Strip]:
    """Return where the data is, and eight examples, each above what augmentation makes of it."""
    sign, sentence = data_line(known, known.spec.data.name)
    rows = _text(f"{sign} {sentence}".strip(), width, look)
    samples = known.samples
    if samples is None:
        return [*rows, *_waiting(known, "samples", "the samples are being fetched", width, look)]
    if samples.get("stand_in"):
        rows += _text(f"! {clean(str(samples.get('reason', '')), limit=300)}", width, look)
    splits = samples.get("splits", {})
    parts = [f"{splits[key]:,} {name}" for key, name in _SPLITS.items() if isinstance(splits.get(key), int)]
    rows += _text(" · ".join(parts), width, look, muted=True)
    view = _text_samples if samples.get("kind") == "text" else _image_samples
    return [*rows, *view(samples, width, height - len(rows), look, coloured)]


_SPLITS = {"train": "train", "val": "validation", "test": "test"}


def _text_samples(samples: Mapping[str, Any], width: int, height: int, look: Palette, coloured: bool) -> list[Strip]:
    rows = _text(f"{samples.get('vocabulary', 0):,} different characters; it begins:", width, look, muted=True)
    excerpt = clean(str(samples.get("excerpt", "")), keep_newlines=True)
    lines = [part for line in excerpt.splitlines() for part in (wrap(line, width - 2) or [""])]
    rows += [strip([("  " + line, look.text)], width, look.text) for line in ["", *lines]]
    return rows[:height]


def _image_samples(samples: Mapping[str, Any], width: int, height: int, look: Palette, coloured: bool) -> list[Strip]:
    labels = [clean(str(label), limit=40) for label in samples.get("labels", ())]
    counts = [int(samples.get("counts", {}).get(label, 0)) for label in samples.get("labels", ())]
    room = height - 1 - (_BARS if height >= 20 and counts else 0)
    pairs = _pairs(samples, look)
    tiling = tile((pairs.shape[1], pairs.shape[2]), (room, width), len(pairs), caption=True)
    rows = [strip([("raw above, below as training sees it", look.muted)], width, look.text)] * bool(tiling.shown)
    below = tiling.pitch // 2  # rows from one image to the next
    used = min(tiling.rows, math.ceil(len(pairs) / max(1, tiling.columns))) * below
    pictures = draw(pairs, tiling, (used, width), look, coloured=coloured) if tiling.shown else []
    names = [labels[at] if at < len(labels) else str(at) for at in samples.get("targets", ())]
    for row in range(used // max(1, below)):
        here = names[row * tiling.columns : (row + 1) * tiling.columns]
        spans = caption_row([(fit(name, min(len(name), tiling.width)), look.text) for name in here], tiling, look.text)
        pictures[(row + 1) * below - 1] = strip(spans, width, look.text)
    rows += pictures
    if counts and height - len(rows) >= _BARS:
        title = strip([("examples of each class", look.muted)], width, look.text)
        rows += [title, *bars(labels, counts, width, min(8, height - len(rows) - 1), look)]
    return rows


def _pairs(samples: Mapping[str, Any], look: Palette) -> Pixels:
    """Return [N, height, width, channels]: each image above its augmented self."""
    shape = tuple(samples["shape"])
    raw, changed = (
        np.frombuffer(base64.b64decode(samples[key]), np.uint8).reshape(shape).transpose(0, 2, 3, 1)
        for key in ("raw", "augmented")
    )
    ground = look.text.bgcolor.get_truecolor(foreground=False) if look.text.bgcolor else (0, 0, 0)
    gap = np.empty((raw.shape[0], _GAP, *raw.shape[2:]), np.uint8)
    gap[:] = ground if raw.shape[3] == 3 else sum(ground) // 3
    return np.concatenate([raw, gap, changed], 1)


def learning_view(known: Known, width: int, height: int, look: Palette, coloured: bool) -> list[Strip]:
    """Return the schedule's curve, and below it the layers of the model with their parameters."""
    table = len((known.model or {}).get("layers", ())) + 5  # rows, with what stands above it
    rows = _schedule(known, width, min(_CURVE[1], max(_CURVE[0], height - table)), look)
    rows.append(strip([], width, look.text))
    if known.problem("describe"):
        rows += _text(f"✗ {known.problem('describe')}", width, look, style=look.bad)
    if known.model is None:
        return rows if known.problem("describe") else [*rows, *_text(PREPARING, width, look, muted=True)]
    layers = known.model.get("layers", ())
    kind, total = type(known.spec.model).entry.title, f"{known.model.get('parameters', 0):,} parameters"
    rows.append(strip([(total, look.cursor), (f"  {kind}", look.text)], width, look.text))
    memory, batch = known.model.get("memory"), known.model.get("activations")
    if memory and batch:
        told = f"about {byte_count(memory)} while training, and {byte_count(batch)} for each batch"
        rows += _text(told, width, look, muted=True)
    return [*rows, *_layers(layers, width, look)]


def _schedule(known: Known, width: int, height: int, look: Palette) -> list[Strip]:
    spec, per_epoch = known.spec, known.steps_per_epoch
    steps, rates = learning_rates(spec, per_epoch or _GUESSED_STEPS)
    x = np.array(steps, np.float64) / (1 if per_epoch else _GUESSED_STEPS)
    title = type(spec.schedule).entry.title
    top = max(rates) or 1.0
    peak = spec.optimizer.lr if max(rates) > 0.98 * spec.optimizer.lr else max(rates)  # no position may lie on it
    way = " → ".join(dict.fromkeys(short(rate, 3) for rate in (rates[0], peak, rates[-1])))
    note = ", until a plateau" if spec.schedule.kind == "plateau" else ""
    readings = (f"{way} ({title.lower()}{note})", way)
    curve = Curve("learning rate", "train", thinned(x, np.array(rates)), readings=readings)
    axes = Axes(Limits(0.0, max(float(x[-1]), 1e-9)), Limits(0.0, 1.1 * top), "step" if per_epoch else "epoch")
    rows = draw_chart([curve], axes, width, height, look)
    epochs = f"{spec.training.epochs:,} epochs"
    told = f"{epochs} × {per_epoch:,} = {total_steps(spec, per_epoch):,} steps" if per_epoch else epochs
    if spec.training.max_steps and per_epoch and total_steps(spec, per_epoch) == spec.training.max_steps:
        told = f"ends after {spec.training.max_steps:,} steps, {spec.training.max_steps / per_epoch:.3g} epochs"
    return [*rows, strip([(told, look.muted)], width, look.text)]


def _layers(layers: Sequence[Mapping[str, Any]], width: int, look: Palette) -> list[Strip]:
    texts = [
        (clean(str(layer.get("name", "")), limit=60), clean(str(layer.get("kind", "")), limit=60),
         _shape(layer.get("shape", "")), f"{layer.get('parameters', 0):,}")
        for layer in layers
    ]  # fmt: skip
    heads = ("layer", "kind", "output", "parameters")
    sizes = [max(len(row[column]) for row in [heads, *texts]) for column in range(4)]
    spare = width - sum(sizes) - 6
    for column in (0, 1, 2):  # what is too wide for the room is cut, names first
        cut = min(max(0, -spare), max(0, sizes[column] - 6))
        sizes[column], spare = sizes[column] - cut, spare + cut

    def row(parts: tuple[str, ...], style: Any) -> Strip:
        left = "  ".join(fit(part, size) for part, size in zip(parts[:3], sizes, strict=False))
        return strip([(f"{left}  {parts[3].rjust(sizes[3])}", style)], width, look.text)

    return [row(heads, look.muted), *(row(parts, look.text) for parts in texts)]


def _shape(shape: Any) -> str:
    return "×".join(map(str, shape)) if isinstance(shape, list | tuple) else clean(str(shape), limit=40)


def device_view(known: Known, width: int, height: int, look: Palette, coloured: bool) -> list[Strip]:
    """Return each device with its memory and who uses it, and which one a run would take."""
    if known.devices is None:
        return _waiting(known, "devices", "looking for GPUs", width, look)
    rows: list[Strip] = []
    wanted = known.spec.device
    for device in known.devices:
        name = clean(str(device.get("name", "")), limit=20)
        taken = device.get("chosen") if wanted == "auto" else name == ("cuda:0" if wanted == "cuda" else wanted)
        title = clean(str(device.get("title", "")), limit=60)
        style = look.cursor if taken else look.text
        rows.append(strip([("▸ " if taken else "  ", look.accent), (f"{name}  {title}", style)], width, look.text))
        for line in _facts_of(device):
            rows += _text(line, width, look, indent=4, muted=True)
        if taken:
            reason = clean(str(device.get("reason", "")), limit=200) if wanted == "auto" else "asked for"
            rows += _text(f"chosen: {reason}", width, look, indent=4)
    need = sum((known.model or {}).get(key) or 0 for key in ("memory", "activations"))
    if need:
        rows += _text(f"The model with one batch takes about {byte_count(need)}.", width, look, muted=True)
    return rows


def _facts_of(device: Mapping[str, Any]) -> list[str]:
    free, total, busy = (device.get(key) for key in ("free", "total", "busy"))
    facts = []
    if isinstance(free, int | float) and isinstance(total, int | float) and total:
        facts.append(f"{byte_count(free)} of {byte_count(total)} free")
    if isinstance(busy, int | float):
        facts.append(f"{busy:.0f} % busy")
    users = [
        f"{clean(str(user.get('user', '?')), limit=32)}: {clean(str(user.get('name', '')), limit=40)} "
        f"{byte_count(user.get('memory') or 0)} (pid {user.get('pid')})"
        for user in device.get("users") or ()
    ]
    return [" · ".join(facts), *users] if facts else users


def _waiting(known: Known, name: str, words: str, width: int, look: Palette) -> list[Strip]:
    """Return why there is nothing to see: it failed, or it has not come yet."""
    problem = known.problem(name)
    return _text(f"✗ {problem}" if problem else words, width, look, muted=not problem, style=look.bad)


def _text(
    text: str, width: int, look: Palette, *, indent: int = 0, muted: bool = False, style: Any = None
) -> list[Strip]:
    style = look.muted if muted else style or look.text
    return [strip([(" " * indent + line, style)], width, look.text) for line in wrap(text, width - indent)]


View = Callable[[Known, int, int, Palette, bool], list[Strip]]
VIEWS: dict[str, View] = {"Data": data_view, "Learning": learning_view, "Device": device_view}
VIEW_OF = {  # which view tells most about a section of the form
    "Data": "Data", "Model": "Learning", "Optimizer": "Learning", "Regularization": "Learning",
    "Schedule": "Learning", "Training": "Device",
}  # fmt: skip


class Preview(Rows, can_focus=True):
    """One view at a time; it follows the section of the form that the user is in."""

    TITLE = "Preview"
    ABOUT = (
        "What the run would be with what stands in the form now.\n\nData: whether the data set is on this machine, "
        "some real examples, and below each what augmentation makes of it in training.\n\nLearning: the learning rate "
        "from the first step to the last, and the model layer by layer with the shape of its output and how many "
        "numbers it learns. A layer with far more parameters than all others is where a model overfits first.\n\n"
        "Device: each GPU with its free memory and who uses it, and which one the run would take."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,tab", "turn(1)", "Next view", id="preview.next", tooltip="The next view."),
        Binding("left,shift+tab", "turn(-1)", "View before", id="preview.previous", show=False),
        Binding("down", "scroll(1)", "Down", id="preview.down", show=False),
        Binding("up", "scroll(-1)", "Up", id="preview.up", show=False),
        Binding("pagedown", "scroll(10)", "Page down", id="preview.page_down", show=False),
        Binding("pageup", "scroll(-10)", "Page up", id="preview.page_up", show=False),
    ]

    class Turned(Message):
        """The user has turned to another view."""

        def __init__(self, view: str) -> None:
            super().__init__()
            self.view = view

    def __init__(self, spec: RunSpec, *, id: str) -> None:
        super().__init__(id=id)
        self.known = Known(spec)
        self.view = next(iter(VIEWS))
        self._top = 0  # first row of the view that is in sight

    def show(self, **changes: Any) -> None:
        """Take what is new of `Known`."""
        self.known = replace(self.known, **changes)
        self.redraw()

    def turn_to(self, view: str) -> None:
        """Show another view from its beginning."""
        if view != self.view:
            self.view, self._top = view, 0
            self.redraw()

    def paint(self, width: int, height: int) -> Sequence[Strip]:
        """Return the tabs and the view."""
        look = self.palette
        head = [strip(self._tabs(), width, look.text), strip([], width, look.text)][: 2 if height >= _ROOMY else 1]
        room = height - len(head)
        rows = VIEWS[self.view](self.known, width, room, look, not self.app.no_color)
        self._top = max(0, min(self._top, len(rows) - room))
        shown = rows[self._top : self._top + room]
        if shown and self._top + room < len(rows):
            more = f"↓ {len(rows) - self._top - room + 1} more rows{'' if self.has_focus else ': F9, then ↓'}"
            shown[-1] = strip([(more, look.muted)], width, look.text)
        return [*head, *shown]

    def _tabs(self) -> list[Span]:
        look = self.palette
        return [(f"[{name}] " if name == self.view else f" {name}  ", look.accent if name == self.view else look.muted)
                for name in VIEWS]  # fmt: skip

    def action_turn(self, by: int) -> None:
        """Turn to a neighbouring view."""
        names = list(VIEWS)
        self.turn_to(names[(names.index(self.view) + by) % len(names)])
        self.post_message(self.Turned(self.view))

    def action_scroll(self, by: int) -> None:
        """Scroll a long view."""
        self._top = max(0, self._top + by)
        self.redraw()

    def on_focus(self) -> None:
        """Say which keys scroll."""
        self.redraw()

    on_blur = on_focus

    def on_click(self, event: events.Click) -> None:
        """Turn to the view whose name was clicked."""
        if event.y == 0:
            end = 0
            for name in VIEWS:
                end += len(name) + 3
                if event.x < end:
                    self.turn_to(name)
                    self.post_message(self.Turned(name))
                    return

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Scroll."""
        event.stop()
        self.action_scroll(3)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Scroll back."""
        event.stop()
        self.action_scroll(-3)
