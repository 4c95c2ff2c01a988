"""Only what differs is sent, and the terminal shows the same as if all had been sent."""

# ruff: noqa: F811 - a fixture is imported, and asked for by its name

import random
import re
from collections.abc import Iterator

import pytest
from rich.cells import cell_len
from test_layout import KEYS, SIZES, STORM, MakeRun, frozen, make_run, program, resize  # noqa: F401 - fixtures
from textual import events
from textual._compositor import CompositorUpdate, LayoutUpdate
from textual.geometry import Region
from textual.strip import Segment, Strip

from tuidl.tui.frames import Difference, Frames

_TOKEN = re.compile(r"\x1b\[(\d+);(\d+)H|(\x1b\[[\d;]*m)|(\n)|([^\x1b\n]+)")


class Screen:
    """A terminal that knows no more than where to write, in what style."""

    def __init__(self) -> None:
        self.cells: dict[tuple[int, int], tuple[str, str]] = {}

    def write(self, text: str) -> None:
        x = y = 0
        style = ""
        at = 0
        for found in _TOKEN.finditer(text):
            assert found.start() == at, text[at : at + 40]
            at = found.end()
            row, column, colour, _, letters = found.groups()
            if row:
                x, y = int(column) - 1, int(row) - 1
            elif colour:
                style = "" if colour == "\x1b[0m" else colour
            for letter in letters or "":
                self.cells[x, y] = (letter, style)
                for more in range(1, cell_len(letter)):
                    self.cells[x + more, y] = ("", style)
                x += cell_len(letter)
        assert at == len(text)


@pytest.mark.parametrize("seed", range(2))
async def test_the_difference_shows_what_the_whole_would(
    seed: int,
    make_run: MakeRun,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chance, wanted, found, sizes = random.Random(seed), Screen(), Screen(), [0, 0]
    reduce, forget = Frames.reduce, Frames.forget

    def both(frames: Frames, update: CompositorUpdate) -> CompositorUpdate | None:
        console = pilot.app.console
        whole = update.render_segments(console)
        wanted.write(whole)
        sizes[0] += len(whole)
        if (less := reduce(frames, update)) is not None:
            part = less.render_segments(console)
            found.write(part)
            sizes[1] += len(part)
        assert found.cells == wanted.cells
        return less

    def new(frames: Frames) -> None:
        forget(frames)
        wanted.cells.clear()
        found.cells.clear()

    monkeypatch.setattr("tuidl.tui.screens.dashboard.kill", lambda paths: "killed")  # the trainer is this process
    async with program("classification", SIZES[1], make_run) as pilot:
        pilot.app.exit = lambda *_, **__: None  # type: ignore[method-assign]
        monkeypatch.setattr(Frames, "reduce", both)
        monkeypatch.setattr(Frames, "forget", new)
        pilot.app.frames.forget()
        for number in range(120):
            key = chance.choice(KEYS)
            pilot.app._driver.send_message(events.Key(key, key if len(key) == 1 else None))  # type: ignore[union-attr]
            if number % 30 == 29:
                await resize(pilot, chance.choice(STORM[4:6]))
            await pilot.pause()
    assert wanted.cells and sizes[1] < 0.7 * sizes[0]


def lines(*rows: str) -> LayoutUpdate:
    return LayoutUpdate([[Strip([Segment(row)])] for row in rows], Region(0, 0, len(rows[0]), len(rows)))


def test_what_is_there_already_is_not_sent() -> None:
    frames = Frames()
    assert sent(frames.reduce(lines("one", "two"))) == [(0, 0, "one"), (0, 1, "two")]
    assert frames.reduce(lines("one", "two")) is None
    assert sent(frames.reduce(lines("one", "TWO"))) == [(0, 1, "TWO")]
    frames.forget()
    assert sent(frames.reduce(lines("one", "TWO"))) == [(0, 0, "one"), (0, 1, "TWO")]


def sent(update: CompositorUpdate | None) -> list[tuple[int, int, str]]:
    assert isinstance(update, Difference)
    return [(x, y, cells.text) for x, y, cells in update.pieces]


async def test_a_key_draws_the_whole_screen_anew(make_run: MakeRun) -> None:
    async with program("home", SIZES[1], make_run) as pilot:
        drawn: list[int] = []

        def count() -> Iterator[int]:
            yield from (len(update.pieces) for update in updates if isinstance(update, Difference))

        updates: list[CompositorUpdate | None] = []
        reduce = pilot.app.frames.reduce
        pilot.app.frames.reduce = lambda update: updates.append(reduce(update)) or updates[-1]  # type: ignore[method-assign]
        await pilot.press("ctrl+l")
        await pilot.pause()
        drawn += count()
        assert max(drawn) >= SIZES[1][1]
