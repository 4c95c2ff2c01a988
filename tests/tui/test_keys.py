"""Keys that arrive together, as over a slow line, act in the order in which they were pressed."""

import asyncio
from typing import ClassVar

import pytest
from textual import events
from textual.app import App, ComposeResult
from textual.containers import Vertical
from textual.keys import _character_to_key as key_of
from textual.widgets import Input, Static

from tuidl.tui.keys import PATIENCE, KeysInOrder


class Stubborn(Static, can_focus=True):
    """Keeps one key for itself and says nothing of it."""

    def on_key(self, event: events.Key) -> None:
        if event.key == "x":
            event.stop()


class Fields(App[int]):
    BINDINGS: ClassVar = [("down", "next", "Next"), ("slash", "first", "First"), ("n", "note", "Note")]
    notes = 0

    def compose(self) -> ComposeResult:
        with Vertical(), Vertical():
            yield Input("10", id="one", select_on_focus=False)
            yield Input("20", id="two", select_on_focus=False)
            yield Stubborn(id="stubborn")

    def action_next(self) -> None:
        self.screen.focus_next()

    def action_first(self) -> None:
        self.query_one("#one").focus()

    def action_note(self) -> None:
        self.notes += 1

    def values(self) -> list[str]:
        return [field.value for field in self.query(Input)]

    async def burst(self, *keys: str) -> None:
        for key in keys:
            self.post_message(events.Key(key_of(key) if len(key) == 1 else key, key if len(key) == 1 else None))


class Ordered(KeysInOrder, Fields):
    pass


async def until(app: Fields, values: list[str]) -> None:
    for _ in range(100):
        if app.values() == values:
            return
        await asyncio.sleep(0.02)
    assert app.values() == values


@pytest.mark.parametrize(
    ("keys", "values"),
    [
        (["ctrl+u", *"2000"], ["2000", "20"]),
        (["ctrl+u", *"2000", "backspace", *"55", "home", *"1"], ["120055", "20"]),
        ([*"5", "down", "ctrl+u", *"7", "down", "down", *"1", "home", *"9"], ["91051", "7"]),
        (["down", "down", "/", *"34"], ["1034", "20"]),
    ],
    ids=["empty and type", "correct", "field to field", "focus by key"],
)
async def test_a_burst_of_keys_does_what_the_same_keys_do_one_by_one(keys: list[str], values: list[str]) -> None:
    app = Ordered()
    async with app.run_test() as pilot:
        app.query_one("#one", Input).focus()
        await pilot.pause()
        app.query_one("#one", Input).cursor_position = 2
        app.query_one("#two", Input).cursor_position = 2
        await app.burst(*keys)
        await until(app, values)


async def test_a_key_that_a_widget_keeps_holds_the_next_ones_up_only_for_a_moment() -> None:
    app = Ordered()
    async with app.run_test() as pilot:
        app.query_one("#stubborn").focus()
        await pilot.pause()
        await app.burst("x", "n", "x", "n")
        await asyncio.sleep(PATIENCE * 5)
        assert app.notes == 2


async def test_textual_alone_lets_them_overtake() -> None:
    app = Fields()
    async with app.run_test() as pilot:
        app.query_one("#one", Input).focus()
        await pilot.pause()
        await app.burst("ctrl+u", *"2000")
        await pilot.pause()
        await asyncio.sleep(0.2)
        assert app.values()[0] == "", "Textual keeps the order by now: tuidl.tui.keys can go"
