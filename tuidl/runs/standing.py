"""What of a run's records still holds: all that came after the step from which it was resumed does not."""

from collections.abc import Iterable
from typing import Any

from tuidl.runs.blocks import MetricsBlock


def standing_events(events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the events that hold, in order; each has `event` and `step`, as from `RunReader.events`."""
    found: list[dict[str, Any]] = []
    for event in events:
        if event["event"] == "resumed":
            found = [before for before in found if before["step"] <= event["step"] and before["event"] not in _ENDS]
        found.append(event)
    return found


def standing_blocks(blocks: Iterable[MetricsBlock]) -> list[MetricsBlock]:
    """Return the blocks that hold, in order of their steps; one that is superseded in part is cut."""
    found: list[MetricsBlock] = []
    for block in blocks:
        while found and found[-1].first_step >= block.first_step:
            found.pop()
        if found and (kept := block.first_step - found[-1].first_step) < found[-1].count:
            found[-1] = _cut(found[-1], kept)
        found.append(block)
    return found


_ENDS = ("finished", "failed")


def _cut(block: MetricsBlock, count: int) -> MetricsBlock:
    first, last = block.elapsed
    reached = first + (last - first) * (count - 1) / max(1, block.count - 1)
    columns = {name: values[:count] for name, values in block.columns.items()}
    return MetricsBlock(block.first_step, count, (first, reached), columns)
