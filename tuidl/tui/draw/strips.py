"""Strips, the rows that Textual paints, made of cells with as few changes of style as can be.

On a terminal three quarters of a drawing's bytes are changes of style, so blanks take over the style of the text before
them wherever nothing of it shows on a blank.
"""

from collections.abc import Iterable, Sequence

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

Span = tuple[str, Style]


def strip(spans: Iterable[Span], width: int, fill: Style) -> Strip:
    """Return one row of exactly `width` cells: the spans, cut off or filled up with blanks.

    The text must be clean (`tuidl.text.clean`).
    """
    segments: list[Segment] = []
    used = 0
    for text, style in spans:
        size = cell_len(text)
        if used + size > width:
            text, size = set_cell_size(text, width - used), width - used
        if not text:
            continue
        used += size
        _append(segments, text, style)
    if used < width:
        _append(segments, " " * (width - used), fill)
    return Strip(segments, width)


def cells(characters: Sequence[str], styles: Sequence[Style]) -> Strip:
    """Return one row of single-width characters, each with its style."""
    segments: list[Segment] = []
    start = 0
    for end in range(1, len(characters) + 1):
        if end == len(characters) or styles[end] is not styles[start]:
            _append(segments, "".join(characters[start:end]), styles[start])
            start = end
    return Strip(segments, len(characters))


def _append(segments: list[Segment], text: str, style: Style) -> None:
    """Add text, joined to the segment before it where both look alike."""
    if segments:
        before, other, _ = segments[-1]
        if other is not None and (other == style or (text.isspace() and _same_blank(other, style))):
            segments[-1] = Segment(before + text, other)
            return
        if other is not None and before.isspace() and _same_blank(style, other):
            segments[-1] = Segment(before + text, style)
            return
    segments.append(Segment(text, style))


def _same_blank(first: Style, second: Style) -> bool:
    """Return whether a blank looks the same in both styles."""
    return first.bgcolor == second.bgcolor and not (
        first.underline or first.reverse or first.strike or second.underline or second.reverse or second.strike
    )
