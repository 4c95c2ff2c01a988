"""What all commands share: JSON Lines and plain tables on stdout."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tuidl.text import clean


def emit(event: str, **fields: Any) -> None:
    """Print one JSON line that says what it is; a number that is not finite becomes a word, as JSON has none for it."""
    print(json.dumps({"event": event, **_plain(fields)}, allow_nan=False), flush=True)


def emit_row(**fields: Any) -> None:
    """Print one JSON line of a list."""
    print(json.dumps(_plain(fields), allow_nan=False), flush=True)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    """Return rows as aligned columns; every cell is cleaned, as names may come from anywhere."""
    cells = [[clean(cell, limit=120) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def number(name: str, value: float) -> str:
    """Return a metric as a student reads it: shares as per cent, the rest with four digits."""
    if name.endswith("accuracy"):
        return f"{100 * value:.2f} %"
    return f"{value:.4g}"


def duration(seconds: float) -> str:
    """Return seconds as 8.4 s, 3:05 or 1:02:03."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def told_costs(costs: Mapping[str, Any]) -> list[str]:
    """Return what a run has cost (see `tuidl.train.costs`) in words; what is no number is left out."""
    words: dict[str, Callable[[float], str]] = {
        "first_step_seconds": lambda value: f"first step after {duration(value)}",
        "peak_memory": lambda value: f"{_gigabytes(value)} GB of memory",
        "peak_gpu_memory": lambda value: f"{_gigabytes(value)} GB of the GPU's",
    }
    found = [(told, costs.get(name)) for name, told in words.items()]
    return [told(value) for told, value in found if isinstance(value, int | float) and 0 <= value < 1e15]


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.2g}" if size < 1e10 else f"{size / 1e9:.0f}"
