"""Home on runs that a fake trainer writes, with a fake companion."""

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from faketrainer import FakeTrainer, shown
from textual.app import App
from textual.events import MouseScrollDown, MouseScrollUp
from textual.pilot import Pilot

from tuidl.errors import DataError
from tuidl.runs import Best, RecordReader, RunPaths, RunWriter, create_run, write_spec
from tuidl.spec import preset_names
from tuidl.tui.details import Details, Paragraph, place_of_data, preset_details, time_needed
from tuidl.tui.lists import fit_columns
from tuidl.tui.overview import Library, PresetEntry, read_facts
from tuidl.tui.screens.home import HomeScreen

HOSTILE = "\x1b[31m\x1b]0;pwned\x07\x9b2J\u202e[bold]x[/bold]\u2066\0" + "n" * 10_000


class Companion:
    """Knows where data is, or fails."""

    def __init__(self, **states: str) -> None:
        self.states = states

    async def ask(self, name: str, **arguments: Any) -> Any:
        assert name == "data"
        if not self.states:
            raise DataError("no")
        return {key.replace("_", "-"): {"state": state, "note": HOSTILE} for key, state in self.states.items()}


class Program(App[None]):
    """A program that has only Home, and remembers what Home asked for."""

    BINDINGS: ClassVar = [("question_mark", "explain", "Help"), ("q", "quit", "Quit")]

    def __init__(self, screen: HomeScreen) -> None:
        super().__init__()
        self.home, self.asked = screen, []

    def on_mount(self) -> None:
        self.push_screen(self.home)

    def on_home_screen_preset_chosen(self, event: HomeScreen.PresetChosen) -> None:
        self.asked.append(("preset", event.name))

    def on_home_screen_run_chosen(self, event: HomeScreen.RunChosen) -> None:
        self.asked.append(("run", event.name, event.directory))

    def on_home_screen_repeat_chosen(self, event: HomeScreen.RepeatChosen) -> None:
        self.asked.append(("repeat", event.name))


@asynccontextmanager
async def home(
    root: Path, size: tuple[int, int] = (120, 40), companion: Companion | None = None
) -> AsyncIterator[tuple[Pilot, HomeScreen]]:
    app = Program(HomeScreen(root, companion or Companion()))
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        yield pilot, app.home


async def settle(pilot: Pilot) -> None:
    """Wait for what is read beside the screen: presets, then runs, then their curves and facts."""
    for _ in range(6):
        await pilot.pause()
        await pilot.app.workers.wait_for_complete(
            [worker for worker in pilot.app.workers if worker.node is pilot.app.screen]
        )
    await pilot.pause()


async def look_again(pilot: Pilot, screen: HomeScreen) -> None:
    screen.read_runs()
    await settle(pilot)


@pytest.fixture
def done(make_trainer):
    """Returns a function that makes a run that has come to its end."""

    def make(name: str, state: str = "completed", preset: str = "mnist-mlp", **changes: Any) -> FakeTrainer:
        trainer = make_trainer(preset, name, **{key: changes.pop(key) for key in ("title",) if key in changes})
        for step, accuracy in enumerate((0.5, 0.8, 0.9, 0.95), 1):
            trainer.step = 250 * step
            trainer.evaluate(val_loss=1 / step, val_accuracy=accuracy)
        best = Best(metric="val_accuracy", value=0.95, step=1000)
        trainer.state(state, best=best, reason=changes.pop("reason", "all steps done"))
        return trainer

    return make


def told(details: Details) -> str:
    """Return what is told, also where it has no room."""
    return "\n".join(item.text for item in details.paragraphs)


def line_of(pilot: Pilot, text: str) -> str:
    return next(line for line in shown(pilot.app).splitlines() if text in line)


# -------------------------------------------------------------------- what is shown


async def test_the_first_frame_needs_neither_presets_nor_runs(runs_root: Path) -> None:
    code = (
        "import sys, tuidl.tui.screens.home;"
        "slow = {'tuidl.spec', 'tuidl.runs', 'pydantic', 'numpy', 'torch'} & set(sys.modules); assert not slow, slow"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


async def test_nobody_has_trained_here_yet(runs_root: Path) -> None:
    async with home(runs_root, (80, 24)) as (pilot, _):
        text = shown(pilot.app)
        assert "Nothing has been trained here yet." in text
        assert "press Enter" in text and "? explains" in text
        assert all(name in text for name in preset_names())
        await pilot.press("tab", "enter", "r", "down")
        assert pilot.app.asked == []


async def test_a_preset_is_told_beside_its_list(runs_root: Path, done) -> None:
    done("first")
    async with home(runs_root, companion=Companion(mnist="present", cifar10="absent")) as (pilot, screen):
        screen.preset_list.highlight(preset_names().index("mnist-mlp"))
        await settle(pilot)
        assert "MLP on MNIST: read handwritten digits" in shown(pilot.app)
        text = told(screen.preset_details)
        assert "learns to tell ten digits" in text
        assert "98.5 % of the test digits" in text
        assert "0:10 here last time (first)" in text
        assert "mnist, here" in text
        assert "model.init=zeros" in text
        screen.preset_list.highlight(preset_names().index("cifar-cnn"))
        await settle(pilot)
        assert "cifar10, not here: will be downloaded" in told(screen.preset_details)


def test_where_data_is_and_how_long_it_takes() -> None:
    entry = PresetEntry("p", data="mnist", stand_in="Drawn digits", time_cpu="10 s", time_gpu="2 s")
    assert place_of_data(entry, None) == "mnist"
    assert place_of_data(entry, {}) == "mnist"
    assert place_of_data(entry, {"mnist": {"state": "built in"}}) == "mnist, made on the spot"
    assert "not all of it here" in place_of_data(entry, {"mnist": {"state": "incomplete"}})
    assert "(stand-in: Drawn digits)" in place_of_data(entry, {"mnist": {"state": "absent"}})
    assert time_needed(entry, ()) == "10 s on two CPU cores, 2 s on a big GPU"
    assert time_needed(PresetEntry("p"), ()) == ""


async def test_a_broken_preset_is_one_line_and_not_the_end(
    runs_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own-presets"
    own.mkdir()
    (own / "mine.toml").write_text('task = "clas[b]sification"\n')
    async with home(runs_root) as (pilot, screen):
        await pilot.press("end")
        await settle(pilot)
        assert "mine" in line_of(pilot, "!") and "task" in line_of(pilot, "!")
        assert [item.label for item in screen.preset_details.paragraphs] == ["", "wrong"]
        await pilot.press("enter")
        assert pilot.app.asked == []


async def test_states_are_told_by_sign_and_word(runs_root: Path, done) -> None:
    signs = {"completed": "✓", "stopped": "■", "diverged": "✗", "failed": "!", "paused": "⏸", "running": "▶"}
    for state in signs:
        done(f"run-{state}", state, reason="")
    async with home(runs_root) as (pilot, _):
        for state, sign in signs.items():
            line = line_of(pilot, f"run-{state}")
            assert f"{sign} {state}" in line and "100 %" in line and "95.0 %" in line and "accuracy" in line


async def test_a_run_is_told_with_its_end_and_its_changes(runs_root: Path, make_trainer) -> None:
    trainer = make_trainer("mnist-mlp", "one")
    stored = trainer.paths.spec.read_text().replace('"lr":0.002', '"lr":0.5').replace('"kind":"adam"', '"kind":"nadam"')
    trainer.paths.spec.write_text(stored)
    trainer.writer.complete_spec({"device": {"name": "cpu (3 threads)"}, "data": {"used": "mnist"}})
    trainer.state("diverged", reason="the loss is [red]not[/red] finite at step 7")
    async with home(runs_root) as (pilot, screen):
        assert "✗ one: diverged" in shown(pilot.app)
        text = told(screen.run_details)
        assert "the loss is [red]not[/red] finite at step 7" in text
        assert "optimizer.kind=nadam, optimizer.lr=0.5" in text
        assert "mnist-mlp · mnist · cpu (3 threads)" in text
        assert str(runs_root / "one") in text
        assert read_facts(screen.runs[0]).changes == ("optimizer.kind=nadam", "optimizer.lr=0.5")


async def test_the_small_curve_is_the_deciding_metric(runs_root: Path, done, make_trainer) -> None:
    done("with")
    without = make_trainer("mnist-mlp", "without")
    without.train(5)
    async with home(runs_root) as (pilot, screen):
        assert screen.run_list.curves["with"] == (0.5, 0.8, 0.9, 0.95)
        assert "▁▅▇▇" in line_of(pilot, "✓ completed")
        assert screen.run_list.curves["without"] == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4, 1 / 5])


# -------------------------------------------------------------------- keys


async def test_enter_opens_and_r_repeats(runs_root: Path, done) -> None:
    done("older")
    done("newer")
    async with home(runs_root) as (pilot, screen):
        await pilot.press("down", "enter")
        assert pilot.app.asked.pop() == ("preset", preset_names()[1])
        await pilot.press("r")
        assert pilot.app.asked == []
        await pilot.press("tab", "enter")
        assert pilot.app.asked.pop() == ("run", "newer", runs_root / "newer")
        await pilot.press("down", "r")
        assert pilot.app.asked.pop() == ("repeat", "older")
        await pilot.press("left", "enter")
        assert pilot.app.asked.pop()[0] == "preset"
        await pilot.press("right")
        assert screen.focused is screen.run_list
        await pilot.press("tab")
        assert screen.focused is screen.preset_list


async def test_the_filter_narrows_the_list_with_the_keys(runs_root: Path, done) -> None:
    done("alpha")
    done("beta")
    async with home(runs_root, (80, 24)) as (pilot, screen):
        await pilot.press("tab", "slash", "a", "l", "p")
        await settle(pilot)
        assert [run.name for run in screen.run_list.in_view] == ["alpha"]
        assert "1 of 2 have 'alp'" in shown(pilot.app)
        await pilot.press("enter")
        assert screen.focused is screen.run_list
        await pilot.press("enter")
        assert pilot.app.asked.pop() == ("run", "alpha", runs_root / "alpha")
        await pilot.press("escape")
        assert len(screen.run_list.in_view) == 2
        await pilot.press("slash", "z", "q")
        assert "nothing here is named 'zq'" in shown(pilot.app)
        await pilot.press("escape")
        assert len(screen.run_list.in_view) == 2 and screen.focused is screen.run_list
        await pilot.press("left", "slash", "g", "a", "n", "down", "enter")
        assert pilot.app.asked.pop() == ("preset", "mnist-gan")


async def test_zoom_gives_the_details_all_the_room(runs_root: Path, done) -> None:
    done("one")
    async with home(runs_root, (80, 24)) as (pilot, screen):
        before = screen.preset_details.size.height
        await pilot.press("z")
        await settle(pilot)
        assert screen.preset_details.size.height > before + 4
        await pilot.press("down")
        await settle(pilot)
        assert screen.preset_list.chosen.name in line_of(pilot, "›")
        await pilot.press("escape", "tab", "z")
        await settle(pilot)
        assert "one: completed" in shown(pilot.app) and "Presets" not in shown(pilot.app).replace("Presets/Runs", "")
        await pilot.press("z")
        await settle(pilot)
        assert screen.preset_details.size.height == before


async def test_the_mouse_highlights_scrolls_and_opens(runs_root: Path, done) -> None:
    for number in range(4):
        done(f"run-{number}")
    async with home(runs_root) as (pilot, screen):
        rows = screen.run_list
        await pilot.click(rows, offset=(10, 4))
        assert rows.chosen.name == "run-1" and screen.focused is rows
        await pilot.click(rows, offset=(10, 2), times=2)
        assert pilot.app.asked.pop() == ("run", "run-3", runs_root / "run-3")
        await pilot.click(rows, offset=(10, 20))
        assert rows.chosen.name == "run-3"


async def test_the_wheel_scrolls_and_leaves_the_highlight(runs_root: Path, done) -> None:
    for number in range(20):
        done(f"run-{number:02d}")
    async with home(runs_root, (80, 24)) as (pilot, screen):
        rows = screen.run_list
        wheel = {"x": 1, "y": 1, "delta_x": 0, "delta_y": 1, "button": 0, "shift": False, "meta": False, "ctrl": False}
        rows.post_message(MouseScrollDown(rows, **wheel))
        await settle(pilot)
        assert rows.in_view[0].name == "run-16" and rows.chosen.name == "run-19"
        assert set(screen.run_list.curves) >= {run.name for run in rows.in_view}
        for _ in range(9):
            rows.post_message(MouseScrollDown(rows, **wheel))
        rows.post_message(MouseScrollUp(rows, **wheel))
        await settle(pilot)
        assert rows.in_view[-1].name == "run-03"
        await pilot.press("tab", "down")
        assert rows.chosen.name == "run-18" and rows.chosen in rows.in_view


async def test_a_key_of_the_key_bar_can_be_clicked(runs_root: Path) -> None:
    async with home(runs_root, (80, 24)) as (pilot, screen):
        line = shown(pilot.app).splitlines()[-1]
        assert "Set up" in line and "Repeat" not in line
        await pilot.click(offset=(line.index("Presets/Runs"), 23))
        await pilot.pause()
        assert screen.focused is screen.run_list


# -------------------------------------------------------------------- runs that go on


async def test_live_runs_are_followed_and_the_highlight_stays_on_its_run(runs_root: Path, done, make_trainer) -> None:
    done("old")
    live = make_trainer("mnist-mlp", "live")
    live.train(100)
    async with home(runs_root) as (pilot, screen):
        await pilot.press("tab", "down")
        assert screen.run_list.chosen.name == "old"
        assert "10 %" in line_of(pilot, "▶ running")
        live.train(500)
        done("newest")
        await look_again(pilot, screen)
        assert "60 %" in line_of(pilot, "▶ running")
        assert [run.name for run in screen.run_list.in_view] == ["newest", "live", "old"]
        assert screen.run_list.chosen.name == "old"
        live.state("completed", reason="all steps done")
        await look_again(pilot, screen)
        assert "✓ completed" in line_of(pilot, "live ")


async def test_a_look_that_finds_nothing_new_sends_nothing(runs_root: Path, done) -> None:
    done("one")
    async with home(runs_root) as (pilot, screen):
        sent = [widget.repaints for widget in (screen.run_list, screen.run_details, screen.preset_details)]
        for _ in range(3):
            await look_again(pilot, screen)
        assert [widget.repaints for widget in (screen.run_list, screen.run_details, screen.preset_details)] == sent


async def test_only_what_is_in_view_is_opened(runs_root: Path, make_trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = make_trainer("mnist-mlp", "newest").paths.spec.read_text()
    for number in range(500):
        paths = RunPaths(runs_root / f"run-{number:03d}")
        paths.directory.mkdir(parents=True)
        paths.spec.write_text(stored.replace('"created":"2', '"created":"1'))
        paths.status.write_text('{"state":"completed","step":1000,"total_steps":1000}')
    opened = set()
    read = RecordReader.read

    def watched(self: RecordReader, most: int | None = None) -> list[dict[str, Any]]:
        opened.add(self._path.parent.name)
        return read(self, most)

    monkeypatch.setattr(RecordReader, "read", watched)
    async with home(runs_root, (80, 24)) as (pilot, screen):
        in_view = {run.name for run in screen.run_list.in_view}
        assert len(screen.runs) == 501 and 4 <= len(in_view) < 10
        assert opened == in_view
        assert f"↓ {501 - len(in_view)} more" in shown(pilot.app)
        opened.clear()
        await pilot.press("tab", "end")
        await settle(pilot)
        assert opened == {run.name for run in screen.run_list.in_view}
        assert f"↑ {501 - len(in_view)} more" in shown(pilot.app)
        await pilot.press("pageup", "home")
        await settle(pilot)
        opened.clear()
        await look_again(pilot, screen)
        assert opened <= {"newest"}  # finished runs are not read again


def test_a_long_log_is_read_in_slices(done, runs_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done("long")
    monkeypatch.setattr("tuidl.tui.overview.SLICE", 1)
    library = Library(runs_root)
    seen = []
    for _ in range(20):
        curves, more = library.curves(library.runs())
        seen.append(curves["long"])
        if not more:
            break
    assert seen[-1] == (0.5, 0.8, 0.9, 0.95) and seen[0] != seen[-1]


def test_a_replaced_log_is_read_anew(done, runs_root: Path) -> None:
    trainer = done("one")
    library = Library(runs_root)
    assert len(library.curves(library.runs())[0]["one"]) == 4
    trainer.writer.close()
    trainer.paths.events.unlink()
    with RunWriter(trainer.paths) as writer:
        writer.event("evaluation", 1, elapsed=0.0, metrics={"val_accuracy": 0.1, "bad": "x"})
        writer.status.update(state="stopped", step=1)
    assert library.curves(library.runs())[0]["one"] == (0.1,)


# -------------------------------------------------------------------- what must not break it


async def test_hostile_texts_are_shown_and_never_obeyed(runs_root: Path, done) -> None:
    trainer = done("evil", "failed", title=HOSTILE, reason=HOSTILE)
    stored = trainer.paths.spec.read_text().replace('"name":"mnist-mlp"', '"name":"[link=x]\\u001b[2J"')
    trainer.paths.spec.write_text(stored)
    (runs_root / "not a run\x1b").mkdir()
    with RunWriter(create_run(runs_root, "odd", "x")) as writer:
        write_spec(
            writer.paths, {"preset": {"name": HOSTILE[:300]}, "spec": {HOSTILE: {HOSTILE: [HOSTILE]}, "x": HOSTILE}}
        )
        writer.status.update(state="running", best=Best(metric=HOSTILE[:60], value=float("nan"), step=1), step=3)
        writer.event("evaluation", 1, elapsed=0.0, metrics={HOSTILE[:60]: float("inf")})
    for size in ((120, 40), (80, 24), (60, 20)):
        async with home(runs_root, size, Companion(mnist=HOSTILE)) as (pilot, _):
            for key in ("tab", "down", "z", "z", "slash", "[", "escape", "left", "down"):
                await pilot.press(key)
                await settle(pilot)
                text = shown(pilot.app)
                assert not any((ord(char) < 32 and char != "\n") or 0x7F <= ord(char) < 0xA0 for char in text)
                assert "\u202e" not in text and "\u2066" not in text


async def test_damaged_runs_and_a_closed_directory_are_told(runs_root: Path, done, tmp_path: Path) -> None:
    done("good")
    (runs_root / "empty").mkdir()
    (runs_root / "torn").mkdir()
    (runs_root / "torn" / "run.json").write_text("{")
    async with home(runs_root) as (pilot, _):
        assert "? unreadable" in line_of(pilot, "empty") and "? unreadable" in line_of(pilot, "torn")
    closed = tmp_path / "file"
    closed.write_text("")
    async with home(closed) as (pilot, _):
        assert "not a directory" in shown(pilot.app)


@pytest.mark.parametrize("start", [(1, 1), (300, 100)])
async def test_any_size_and_a_storm_of_resizes(runs_root: Path, done, start: tuple[int, int]) -> None:
    done("one")
    async with home(runs_root, start) as (pilot, _):
        for width, height in ((1, 1), (2, 50), (300, 2), (40, 10), (60, 20), (76, 29), (80, 24), (110, 30), (300, 100)):
            await pilot.resize_terminal(width, height)
            await pilot.press("tab", "down", "z")
        await settle(pilot)
        assert "one" in shown(pilot.app)


@pytest.mark.parametrize(
    ("width", "names"),
    [
        (24, ["state", "name"]),
        (58, ["state", "name", "done", "best"]),
        (62, ["state", "name", "done", "best", "curve"]),
        (76, ["state", "name", "done", "best", "metric", "curve"]),
        (80, ["state", "name", "done", "best", "metric", "curve", "started"]),
        (150, ["state", "name", "done", "best", "metric", "curve", "trained", "started"]),
    ],
)
def test_columns_go_by_worth(width: int, names: list[str]) -> None:
    sizes = fit_columns(width, longest_name=19)
    assert list(sizes) == names
    assert sum(sizes.values()) + 2 * (len(sizes) - 1) <= width


async def test_layout_at_three_sizes(runs_root: Path, done) -> None:
    done("one")
    for size, wanted in (
        ((60, 20), ["Presets", "About", "Runs"]),
        ((80, 24), ["Presets", "Runs"]),
        ((140, 40), ["Presets", "About"]),
    ):
        async with home(runs_root, size) as (pilot, screen):
            lines = shown(pilot.app).splitlines()
            assert len(lines) == size[1] and all(len(line) == size[0] for line in lines)
            at_left = [
                name
                for line in lines
                for name in ("Presets", "About", "Runs")
                if line[1:12].strip("─ ╮").startswith(name)
            ]
            assert at_left == wanted
            assert screen.run_details.display == (size[0] == 140)
            assert "Set up" in lines[-1] and "? Help  q Quit" in lines[-1]
            assert ("…" in lines[-1]) == (size[0] == 60)


def test_details_without_room_give_way_by_rank() -> None:
    entry = PresetEntry(
        "p", title="Title", shows="What it shows.", things_to_try=("a", "b"), expected="x", data="mnist"
    )
    told = preset_details(entry, (), None)
    assert [item.text for item in told] == ["Title", "What it shows.", "x", "", "mnist", "a", "b"]
    assert isinstance(told[0], Paragraph) and sorted(told, key=lambda item: item.rank)[0].label == "expect"


async def test_a_preset_saved_elsewhere_appears_on_return(runs_root: Path, tmp_path: Path) -> None:
    async with home(runs_root) as (pilot, _):
        await pilot.app.push_screen(HomeScreen(runs_root, None))
        await settle(pilot)
        own = tmp_path / "own-presets"
        own.mkdir()
        (own / "mine.toml").write_text('[about]\ntitle = "[b]My[/b] own\\u001b[2J"\n')
        pilot.app.pop_screen()
        await settle(pilot)
        assert "[b]My[/b] own␛[2J" in line_of(pilot, "mine")


async def test_nothing_is_looked_at_behind_another_screen(runs_root: Path, done) -> None:
    done("one")
    async with home(runs_root) as (pilot, screen):
        await pilot.app.push_screen(HomeScreen(runs_root, None))
        await settle(pilot)
        assert screen._timer is None
        done("two")
        pilot.app.pop_screen()
        await settle(pilot)
        assert [run.name for run in screen.run_list.in_view] == ["two", "one"]
