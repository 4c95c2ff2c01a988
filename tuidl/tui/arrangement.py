"""Which panels stand where: a pure function of the task and the size of the terminal."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Union

from textual.geometry import Region


@dataclass(frozen=True)
class Stack:
    """Parts one below the other, each with its share of the height."""

    parts: "tuple[tuple[Node, float], ...]"


@dataclass(frozen=True)
class Columns:
    """Parts side by side, each with its share of the width."""

    parts: "tuple[tuple[Node, float], ...]"


Node = Union[str, Stack, Columns]  # noqa: UP007  (a forward reference needs the old form)


def rows(*parts: "tuple[Node, float]") -> Stack:
    """Return parts one below the other."""
    return Stack(parts)


def columns(*parts: "tuple[Node, float]") -> Columns:
    """Return parts side by side."""
    return Columns(parts)


_VITALS = columns(("lr", 1), ("grad_norm", 1), ("update_ratio", 1))

WIDE: Mapping[str, Node] = {
    "classification": columns(
        (rows(("loss", 13), ("accuracy", 13), (_VITALS, 9)), 0.58),
        (rows(("matrix", 16), ("worst", 10), ("machine", 6), ("events", 6)), 0.42),
    ),
    "language": columns(
        (rows(("loss", 14), ("samples", 14), (_VITALS, 8)), 0.6),
        (rows(("accuracy", 13), ("machine", 7), ("events", 11)), 0.4),
    ),
    "gan": columns(
        (rows(("loss", 12), ("outputs", 11), (_VITALS, 8)), 0.5),
        (rows(("drawn", 21), ("score", 9), ("machine", 6)), 0.5),
    ),
}

# every panel of a task in the order of its keys 1, 2, ...; the first one always stands where there is room for two
PANELS: Mapping[str, tuple[str, ...]] = {
    "classification": ("loss", "accuracy", "matrix", "worst", "lr", "grad_norm", "update_ratio", "machine", "events"),
    "language": ("loss", "samples", "accuracy", "lr", "grad_norm", "update_ratio", "machine", "events"),
    "gan": ("loss", "drawn", "outputs", "score", "lr", "grad_norm", "update_ratio", "machine", "events"),
}
LOG = "log"  # stands only on its own key, in all tasks

WIDE_FROM = (100, 28)  # columns and rows of the body from which all panels stand at once
TWO_FROM = (60, 15)  # ... from which two panels stand; below it, one


def arrange(task: str, width: int, height: int, chosen: str, maximised: bool = False) -> dict[str, Region]:
    """Return where each visible panel stands in a body of `width` x `height` cells.

    `chosen` is the panel that must be seen: it has the focus.
    """
    whole = Region(0, 0, width, height)
    first, second = PANELS[task][:2]
    if maximised or chosen == LOG or width < TWO_FROM[0] or height < TWO_FROM[1]:
        return {chosen: whole}
    if width >= WIDE_FROM[0] and height >= WIDE_FROM[1]:
        found = _place(WIDE[task], whole)
        if chosen in found:
            return found
    return _place(rows((first, 1.0), (second if chosen == first else chosen, 1.0)), whole)


def _place(node: Node, region: Region) -> dict[str, Region]:
    if isinstance(node, str):
        return {node: region}
    upright = isinstance(node, Stack)
    total = sum(share for _, share in node.parts)
    length = region.height if upright else region.width
    found: dict[str, Region] = {}
    start, done = 0, 0.0
    for part, share in node.parts:
        done += share
        end = round(length * done / total)
        x, y, width, height = region
        cut = Region(x, y + start, width, end - start) if upright else Region(x + start, y, end - start, height)
        found |= _place(part, cut)
        start = end
    return found
