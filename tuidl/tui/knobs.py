"""The live settings of a run: what may change while it trains, and how to undo it. A model without a widget."""

import json
from collections.abc import Sequence
from typing import Any

from tuidl.errors import UsageError
from tuidl.spec import RunSpec, with_live_change
from tuidl.spec.schema import Field, fields_of
from tuidl.tui.snapshot import Change


def live_fields(spec: RunSpec) -> list[Field]:
    """Return the settings of `spec` that may change while training, with their values; the optimizer's first."""
    found = [field for field in fields_of(spec) if field.live]
    return sorted(found, key=lambda field: not field.path.startswith("optimizer."))


def as_text(value: Any) -> str:
    """Return a value as it is typed into a field and sent to the trainer."""
    return value if isinstance(value, str) else json.dumps(value)


def check(spec: RunSpec, key: str, text: str) -> str:
    """Return what is wrong with this change, in one line; empty when the trainer will take it."""
    try:
        with_live_change(spec, key, text)
    except UsageError as error:
        return str(error).removeprefix("set with --set: ")
    return ""


def stepped(field: Field, up: bool) -> str:
    """Return the next round value of a number: half or double, from nothing a small one; within its bounds."""
    value = float(field.value)
    if value == 0:
        found = (0.01 if field.maximum is None or field.maximum > 0.1 else field.maximum / 10) if up else 0.0
    else:
        found = value * 2 if up else value / 2
    if field.below is not None and found >= field.below:
        found = value + (field.below - value) / 2  # halfway to a bound that is never reached: 0.9, 0.95, 0.975
    if field.maximum is not None:
        found = min(found, field.maximum)
    if field.minimum is not None:
        found = max(found, field.minimum)
    return f"{found:.6g}"


def undo_of(changes: Sequence[Change]) -> Change | None:
    """Return the newest change that has not been undone; undoing is itself a change back to the value before."""
    pending: list[Change] = []
    for change in changes:
        if pending and change.key == pending[-1].key and change.after == pending[-1].before:
            pending.pop()
        else:
            pending.append(change)
    return pending[-1] if pending else None
