"""Every panel by the name that the arrangement uses."""

from collections.abc import Callable, Mapping

from tuidl.tui.arrangement import LOG, PANELS
from tuidl.tui.panels.chart import CHARTS, ChartPanel
from tuidl.tui.panels.events import EventsPanel, LogPanel
from tuidl.tui.panels.images import DrawnPanel, WorstPanel
from tuidl.tui.panels.machine import MachinePanel
from tuidl.tui.panels.matrix import ConfusionPanel
from tuidl.tui.panels.panel import Panel, ReadArtifact
from tuidl.tui.panels.samples import SamplesPanel

Factory = Callable[[ReadArtifact], Panel]

OTHERS: Mapping[str, Factory] = {
    "matrix": lambda read: ConfusionPanel(read, id="matrix"),
    "worst": lambda read: WorstPanel(read, id="worst"),
    "drawn": lambda read: DrawnPanel(read, id="drawn"),
    "samples": lambda read: SamplesPanel(read, id="samples"),
    "machine": lambda read: MachinePanel(read, id="machine"),
    "events": lambda read: EventsPanel(read, id="events"),
    LOG: lambda read: LogPanel(read, id=LOG),
}


def panels_of(task: str, read: ReadArtifact) -> list[Panel]:
    """Return the panels of a task in the order of their keys, the log last."""
    return [_panel(task, name, read) for name in (*PANELS[task], LOG)]


def _panel(task: str, name: str, read: ReadArtifact) -> Panel:
    if name in OTHERS:
        return OTHERS[name](read)
    chart = CHARTS.get(f"{task}.{name}") or CHARTS[name]
    return ChartPanel(read, chart, id=name)
