"""Lines of text broken to a width in cells, not characters: a Chinese character takes two."""

from rich.cells import cell_len, chop_cells


def wrap(text: str, width: int) -> list[str]:
    """Return `text` as lines of at most `width` cells, broken between words and inside those that are too long."""
    if width < 2:
        return []
    lines: list[str] = []
    for word in text.split():
        if lines and cell_len(lines[-1]) + 1 + cell_len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines += chop_cells(word, width)
    return lines
