"""The dashboard at work on runs that a fake trainer writes."""

import asyncio
import os
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from faketrainer import FakeTrainer, shown
from textual.pilot import Pilot

from tuidl.tui.app import TuidlApp
from tuidl.tui.arrangement import PANELS
from tuidl.tui.budget import Budget
from tuidl.tui.screens.dashboard import DashboardScreen
from tuidl.tui.screens.dialogs import AskNumber, Confirm, Help


@asynccontextmanager
async def dashboard(trainer: FakeTrainer, size: tuple[int, int] = (120, 40)):
    app = TuidlApp(trainer.paths.directory.parent, run=trainer.paths)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        yield pilot


async def settle(pilot: Pilot) -> DashboardScreen:
    """Let the dashboard see what the trainer has written."""
    await pilot.pause()
    screen = next(screen for screen in reversed(pilot.app.screen_stack) if isinstance(screen, DashboardScreen))
    screen.budget = Budget(1e12)  # all panels at once
    await screen.look()
    await pilot.pause()
    return screen


async def until(pilot: Pilot, true) -> None:
    for _ in range(200):
        if true():
            return
        await pilot.pause()
        await asyncio.sleep(0.01)
    pytest.fail("waited in vain")


async def sent(pilot: Pilot, trainer: FakeTrainer):
    """Return the one command that the screen has sent."""
    found = []
    await until(pilot, lambda: found.extend(trainer.commands()) or found)
    (command,) = found
    return command


@pytest.mark.parametrize("preset", ["mnist-mlp", "char-lstm", "mnist-gan"])
@pytest.mark.parametrize("size", [(60, 20), (80, 24), (120, 40), (160, 50)])
async def test_every_task_has_its_panels_at_every_size(make_trainer, preset: str, size: tuple[int, int]) -> None:
    trainer = make_trainer(preset)
    trainer.train()
    async with dashboard(trainer, size) as pilot:
        for number in range(1, len(PANELS[trainer.task]) + 1):
            await pilot.press(str(number))
            await pilot.pause()
            focused = pilot.app.focused
            assert focused is not None and focused.id == PANELS[trainer.task][number - 1]
            assert focused.region.area > 0 and str(number) in str(focused.border_title)
        await pilot.press("o")
        assert pilot.app.focused is not None and pilot.app.focused.id == "log"


async def test_tab_walks_through_all_panels_and_back(make_trainer) -> None:
    trainer = make_trainer()
    async with dashboard(trainer, (80, 24)) as pilot:
        seen = []
        for _ in PANELS["classification"]:
            seen.append(pilot.app.focused.id)
            await pilot.press("tab")
        assert tuple(seen) == PANELS["classification"]
        assert pilot.app.focused.id == seen[0]
        await pilot.press("shift+tab")
        assert pilot.app.focused.id == seen[-1]


async def test_what_the_trainer_writes_is_seen(make_trainer) -> None:
    trainer = make_trainer()
    async with dashboard(trainer) as pilot:
        assert "running" in shown(pilot.app) and "step 0/1,000" in shown(pilot.app)
        trainer.train(250)
        trainer.evaluate()
        await settle(pilot)
        text = shown(pilot.app)
        assert "step 250/1,000" in text and "epoch 2.5/10" in text and "images/s" in text
        assert "cat as dog" in text or "cat" in text
        assert "evaluated: val_loss 0.5" in text


async def test_a_frame_without_news_repaints_nothing(make_trainer) -> None:
    trainer = make_trainer()
    trainer.train()
    trainer.state("completed", exit_code=0)
    async with dashboard(trainer) as pilot:
        screen = await settle(pilot)
        before = screen._repaints()
        await settle(pilot)
        assert screen._repaints() == before


async def test_space_pauses_and_goes_on(make_trainer) -> None:
    trainer = make_trainer()
    async with dashboard(trainer) as pilot:
        await pilot.press("space")
        command = await sent(pilot, trainer)
        assert command.verb == "pause"
        trainer.answer(command, "paused after step 0")
        trainer.state("paused")
        await settle(pilot)
        assert "paused after step 0" in shown(pilot.app)
        await pilot.press("space")
        assert (await sent(pilot, trainer)).verb == "continue"


@pytest.mark.parametrize("key, verb", [("e", "evaluate-now"), ("g", "sample-now")])
async def test_keys_send_their_commands(make_trainer, key: str, verb: str) -> None:
    trainer = make_trainer("char-lstm")
    async with dashboard(trainer) as pilot:
        await pilot.press(key)
        assert (await sent(pilot, trainer)).verb == verb


async def test_a_classifier_offers_no_samples(make_trainer) -> None:
    trainer = make_trainer("mnist-mlp")
    async with dashboard(trainer) as pilot:
        await pilot.press("g")
        await pilot.pause()
        assert trainer.commands() == [] and "Sample" not in shown(pilot.app)


async def test_steps_asks_how_many(make_trainer) -> None:
    trainer = make_trainer()
    async with dashboard(trainer) as pilot:
        await pilot.press("full_stop")
        await until(pilot, lambda: isinstance(pilot.app.screen, AskNumber))
        await pilot.press("backspace", "2", "5", "enter")
        command = await sent(pilot, trainer)
        assert (command.verb, command.arguments) == ("steps", {"count": "25"})


async def test_stop_says_what_it_does_and_asks(make_trainer) -> None:
    trainer = make_trainer()
    async with dashboard(trainer) as pilot:
        await pilot.press("t")
        await until(pilot, lambda: isinstance(pilot.app.screen, Confirm))
        await pilot.pause()
        assert "checkpoint" in shown(pilot.app)
        await pilot.press("escape")
        await pilot.pause()
        assert trainer.commands() == []
        await pilot.press("t")
        await until(pilot, lambda: isinstance(pilot.app.screen, Confirm))
        await pilot.press("enter")
        assert (await sent(pilot, trainer)).verb == "stop"


async def test_kill_asks_and_refuses_what_is_not_a_trainer(make_trainer, monkeypatch) -> None:
    trainer = make_trainer()
    killed = []
    monkeypatch.setattr("tuidl.tui.screens.dashboard.kill", lambda paths: killed.append(paths) or "killed")
    async with dashboard(trainer) as pilot:
        await pilot.press("T")
        await until(pilot, lambda: isinstance(pilot.app.screen, Confirm))
        await pilot.pause()
        assert "No checkpoint is written" in shown(pilot.app)
        await pilot.press("enter")
        await until(pilot, lambda: killed)
        assert killed == [trainer.paths]


async def test_knobs_change_and_undo(make_trainer) -> None:
    trainer = make_trainer()
    async with dashboard(trainer) as pilot:
        await pilot.press("k")
        await settle(pilot)
        assert "optimizer.lr" in shown(pilot.app)
        drawer = pilot.app.screen.drawer
        keys = [field.path for field in drawer.list.fields]
        while drawer.list.field.path != "optimizer.lr":
            await pilot.press("down")
        await pilot.press(*"0.5", "enter")
        command = await sent(pilot, trainer)
        assert (command.verb, command.arguments) == ("set", {"key": "optimizer.lr", "value": "0.5"})
        assert len(keys) > 5
        trainer.writer.event("change", 0, elapsed=0.0, key="optimizer.lr", before=0.001, after=0.5)
        await settle(pilot)
        assert "0.5 *" in shown(pilot.app)
        await pilot.press("u")
        command = await sent(pilot, trainer)
        assert command.arguments == {"key": "optimizer.lr", "value": "0.001"}


async def test_a_knob_with_a_wrong_value_is_told_and_not_sent(make_trainer) -> None:
    trainer = make_trainer()
    async with dashboard(trainer) as pilot:
        await pilot.press("k")
        await settle(pilot)
        await pilot.press(*"-3", "enter")
        await pilot.pause()
        assert "out of range" in shown(pilot.app)
        assert trainer.commands() == []


async def test_a_refusal_is_shown(make_trainer) -> None:
    trainer = make_trainer()
    async with dashboard(trainer) as pilot:
        await pilot.press("e")
        trainer.answer(await sent(pilot, trainer), "the run is ending", ok=False)
        await settle(pilot)
        assert "the run is ending" in shown(pilot.app)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_zoom_shows_the_panel_in_focus_alone_and_all_again(make_trainer, size: tuple[int, int]) -> None:
    trainer = make_trainer()
    async with dashboard(trainer, size) as pilot:
        await pilot.press("3", "z")
        await pilot.pause()
        visible = [panel.id for panel in pilot.app.screen.panels if panel.display]
        assert visible == ["matrix"]
        await pilot.press("z")
        await pilot.pause()
        assert len([panel for panel in pilot.app.screen.panels if panel.display]) > 1


async def test_a_trainer_that_died_is_told_with_the_end_of_its_log(make_trainer, monkeypatch) -> None:
    trainer = make_trainer()
    trainer.paths.trainer_log.write_text("one\nKilled by the out-of-memory killer\n")
    monkeypatch.setattr("tuidl.runs.status.alive", lambda identity: False)
    async with dashboard(trainer) as pilot:
        text = shown(pilot.app)
        assert "lost" in text and "out-of-memory killer" in text
        await pilot.press("space", "t")
        await pilot.pause()
        assert trainer.commands() == [], "a dead run takes no commands"


async def test_a_failure_shows_its_reason(make_trainer) -> None:
    trainer = make_trainer()
    trainer.state("failed", reason="the device is out of memory; lower training.batch_size", exit_code=5)
    async with dashboard(trainer) as pilot:
        assert "lower training.batch_size" in shown(pilot.app)


async def test_a_stand_in_is_told_on_the_screen(make_trainer) -> None:
    trainer = make_trainer(data="drawn-digits", stand_in=True)
    async with dashboard(trainer, (80, 24)) as pilot:
        assert "stand-in drawn-digits" in shown(pilot.app)


async def test_leaving_says_that_the_run_goes_on(make_trainer) -> None:
    trainer = make_trainer()
    async with dashboard(trainer) as pilot:
        await pilot.press("q")
        await until(pilot, lambda: isinstance(pilot.app.screen, Confirm))
        await pilot.pause()
        assert "goes on training" in shown(pilot.app)
        await pilot.press("q")
        await until(pilot, lambda: pilot.app.left_running == "one")
    assert trainer.commands() == []


async def test_help_explains_the_panel_in_focus(make_trainer) -> None:
    trainer = make_trainer()
    async with dashboard(trainer, (80, 24)) as pilot:
        await pilot.press("3", "question_mark")
        await until(pilot, lambda: isinstance(pilot.app.screen, Help))
        await pilot.pause()
        assert "confus" in shown(pilot.app).lower()
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(pilot.app.screen, DashboardScreen)


@pytest.mark.parametrize("preset", ["mnist-mlp", "char-lstm", "mnist-gan"])
async def test_every_panel_has_something_to_say_to_a_student(make_trainer, preset: str) -> None:
    trainer = make_trainer(preset)
    async with dashboard(trainer) as pilot:
        for panel in pilot.app.screen.panels:
            assert len(panel.ABOUT) > 150, panel.id


async def test_a_run_from_nowhere_is_told(tmp_path: Path) -> None:
    from tuidl.runs import RunPaths

    app = TuidlApp(tmp_path, run=RunPaths(tmp_path / "gone"))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        assert "unreadable" in shown(app)


async def test_sizes_and_storms_of_resizing_break_nothing(make_trainer) -> None:
    trainer = make_trainer()
    trainer.train()
    trainer.evaluate()
    async with dashboard(trainer) as pilot:
        for size in [(1, 1), (300, 100), (60, 20), (59, 20), (2, 50), (300, 1), (80, 24), (7, 7), (120, 40)] * 2:
            await pilot.resize_terminal(*size)
        await pilot.pause()
        await settle(pilot)
        assert "loss" in shown(pilot.app)


async def test_too_small_is_told_in_one_sentence(make_trainer) -> None:
    trainer = make_trainer()
    async with dashboard(trainer) as pilot:
        await pilot.resize_terminal(50, 10)
        await pilot.pause()
        assert "60x20" in shown(pilot.app)
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert "60x20" not in shown(pilot.app)


async def test_the_palette_offers_every_key(make_trainer) -> None:
    trainer = make_trainer()
    async with dashboard(trainer) as pilot:
        titles = {command.title for command in pilot.app.get_system_commands(pilot.app.screen)}
        assert {"run: Pause", "run: Knobs", "run: Stop", "run: Kill", "panel: Full"} <= titles


async def test_keys_can_be_changed(make_trainer, own_settings: Path) -> None:
    own_settings.parent.mkdir(parents=True)
    own_settings.write_text('{"keymap": {"run.pause": "f6"}}')
    trainer = make_trainer()
    async with dashboard(trainer) as pilot:
        await pilot.press("space")
        await pilot.pause()
        assert trainer.commands() == []
        await pilot.press("f6")
        assert (await sent(pilot, trainer)).verb == "pause"


async def test_the_theme_is_remembered(make_trainer, own_settings: Path) -> None:
    trainer = make_trainer()
    async with dashboard(trainer) as pilot:
        pilot.app.theme = "textual-light"
        await pilot.pause()
    assert '"textual-light"' in own_settings.read_text()
    async with dashboard(trainer) as pilot:
        assert pilot.app.theme == "textual-light"


async def test_no_torch_is_loaded(make_trainer) -> None:
    import subprocess
    import sys

    screens = "tuidl.tui.app, tuidl.tui.screens.dashboard, tuidl.tui.screens.setup"
    code = f"import sys, {screens}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=dict(os.environ), check=False).returncode == 0


@pytest.mark.parametrize("state", ["stopped", "failed", "diverged"])
async def test_a_run_that_has_ended_goes_on_by_a_key(make_trainer, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    async def start(paths, options):
        started.append((paths.name, list(options)))

    monkeypatch.setattr("tuidl.tui.screens.dashboard.start_trainer", start)
    trainer = make_trainer()
    trainer.train()
    async with dashboard(trainer) as pilot:
        await settle(pilot)
        await pilot.press("R")
        await pilot.pause()
        assert not isinstance(pilot.app.screen, Confirm), "it trains"
        trainer.state(state, reason="because")
        await settle(pilot)
        await pilot.press("R")
        await pilot.pause()
        assert isinstance(pilot.app.screen, Confirm)
        if state == "diverged":
            assert "becomes 0.0002" in " ".join(shown(pilot.app).replace("│", " ").split())
        await pilot.press("enter")
        await settle(pilot)
    calmer = ["--set=optimizer.lr=0.0002"] if state == "diverged" else []
    assert started == [(trainer.paths.name, ["--resume", *calmer])]


async def test_a_completed_run_offers_no_going_on(make_trainer) -> None:
    trainer = make_trainer()
    trainer.state("completed", exit_code=0)
    async with dashboard(trainer) as pilot:
        await settle(pilot)
        await pilot.press("R")
        await pilot.pause()
        assert not isinstance(pilot.app.screen, Confirm)
