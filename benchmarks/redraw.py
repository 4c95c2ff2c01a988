"""One repaint of the loss chart from a thousand and from a million steps, and what plotext takes for the same."""

import statistics
import time
from array import array
from collections.abc import Callable

import numpy
import plotext

from tuidl.runs import MetricsBlock
from tuidl.tui.draw.axis import Limits
from tuidl.tui.draw.chart import Axes, Curve, draw_chart
from tuidl.tui.draw.palette import palette_of
from tuidl.tui.history import History
from tuidl.tui.themes import DARK

WIDTH, HEIGHT = 120, 30


def history_of(steps: int) -> History:
    """Return a noisy falling loss."""
    history, noise = History(), numpy.random.default_rng(0)
    for first in range(0, steps, 500):
        values = numpy.exp(-numpy.arange(first, first + 500) / steps) + noise.normal(0, 0.1, 500)
        columns = {"loss": array("f", values.tolist())}
        history.append(MetricsBlock(first + 1, 500, (first / 1000, first / 1000 + 0.5), columns))
    return history


def median_ms(work: Callable[[], object], times: int) -> float:
    """Return the median CPU time of `work` in ms."""
    taken = []
    for _ in range(times):
        began = time.thread_time()
        work()
        taken.append((time.thread_time() - began) * 1000)
    return statistics.median(taken)


def with_tuidl(history: History) -> Callable[[], object]:
    """Return the drawing of tuidl: the raw values behind their smoothed line."""
    palette, count = palette_of(DARK.to_color_system().generate()), history.length
    axes = Axes(Limits(0, count), Limits(-0.5, 1.5))

    def thin(smoothing: float) -> Callable[..., object]:
        return lambda edges: history.extremes("loss", numpy.clip(edges, 0, count).astype(numpy.int64), smoothing)

    curve = Curve("train", "train", thin(0.9), thin(0.0))  # type: ignore[arg-type]
    return lambda: draw_chart([curve], axes, WIDTH, HEIGHT, palette)


def with_plotext(history: History) -> Callable[[], object]:
    """Return the same two curves drawn by plotext, thinned first by minimum and maximum."""
    plotext.terminal.limit(False, False)
    edges = numpy.linspace(0, history.length, WIDTH + 1).astype(numpy.int64)

    def draw() -> object:
        figure = plotext.figure
        figure.clear()
        figure.theme("colorless")
        figure.plot_size(WIDTH, HEIGHT)
        for smoothing in (0.0, 0.9):
            low, high = history.extremes("loss", edges, smoothing)
            x = numpy.repeat(edges[:-1], 2).tolist()
            y = numpy.column_stack([low, high]).ravel().tolist()
            figure.draw(figure.signal(x, y, marker="braille").lines(True))
        return str(figure.build())

    return draw


def redraw_times(times: int) -> dict[str, object]:
    """Return the medians in ms, and their ratios."""
    small, large = history_of(1000), history_of(1_000_000)
    work = {
        "tuidl, 1 k": with_tuidl(small), "tuidl, 1 M": with_tuidl(large), "plotext, 1 M thinned": with_plotext(large),
    }  # fmt: skip
    for draw in work.values():
        draw()
    found = {name: median_ms(draw, times) for name, draw in work.items()}
    return {
        **{f"{name}, ms": value for name, value in found.items()},
        "1 M against 1 k": found["tuidl, 1 M"] / found["tuidl, 1 k"],
        "plotext against tuidl": found["plotext, 1 M thinned"] / found["tuidl, 1 M"],
    }
