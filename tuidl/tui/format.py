"""Numbers, times and states as every screen writes them."""

import math
from datetime import datetime

from rich.cells import cell_len, set_cell_size

_UNKNOWN = "–"
_LARGE = ((1e12, " T"), (1e9, " G"), (1e6, " M"))
_BYTES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))

STATES = {
    "starting": ("…", "starting"),
    "running": ("▶", "running"),
    "evaluating": ("…", "evaluating"),
    "paused": ("⏸", "paused"),
    "completed": ("✓", "completed"),
    "stopped": ("■", "stopped"),
    "diverged": ("✗", "diverged"),
    "failed": ("!", "failed"),
    "lost": ("?", "lost"),
    "unreadable": ("?", "unreadable"),
}


def state_sign(state: str) -> tuple[str, str]:
    """Return the sign and the word of a run's state; the sign tells it where there is no room and no colour."""
    return STATES.get(state, STATES["unreadable"])


def duration(seconds: float) -> str:
    """Return seconds as 0:12, 3:05 or 1:02:03."""
    if not math.isfinite(seconds) or seconds < 0:
        return _UNKNOWN
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def moment(when: datetime, now: datetime) -> str:
    """Return a past moment in local time: 14:03 of today, 21 Nov of this year, 2025-11-21 of an earlier one.

    Never "5 minutes ago": a text that ages would have to be sent again and again.
    """
    local, today = when.astimezone(), now.astimezone()
    if local.date() == today.date():
        return f"{local:%H:%M}"
    return f"{local.day} {local:%b}" if local.year == today.year else f"{local:%Y-%m-%d}"


def count(number: float) -> str:
    """Return a count as 12,345 or 1.2 M."""
    if not math.isfinite(number):
        return str(number)
    for size, unit in _LARGE:
        if abs(number) >= size:
            return f"{number / size:.1f}{unit}"
    return f"{number:,.0f}"


def byte_count(number: float) -> str:
    """Return bytes as 512 B, 11.5 MB or 139.8 GB (powers of ten)."""
    for size, unit in _BYTES:
        if abs(number) >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number:.0f} B"


def metric(name: str, value: float) -> str:
    """Return a metric as a student reads it: an accuracy as per cent, anything else with four digits."""
    if name.endswith("accuracy") and math.isfinite(value):
        return f"{100 * value:.1f} %"
    return f"{value:.4g}"


def share(done: float, total: float | None) -> str:
    """Return progress in whole per cent, rounded down so that 100 % means all of it; nothing without a total."""
    if not total or total < 0 or not math.isfinite(done):
        return ""
    return f"{math.floor(100 * min(1.0, max(0.0, done / total)))} %"


def fit(text: str, width: int) -> str:
    """Return `text` in exactly `width` cells: filled up with blanks, or cut with `…` at its end."""
    if width < 1:
        return ""
    if cell_len(text) <= width:
        return set_cell_size(text, width)
    return set_cell_size(text, width - 1) + "…"
