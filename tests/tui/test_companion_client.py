"""The screen's side of the companion: answers, deaths, and the process that becomes a trainer."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tuidl.runs import RunPaths, launch, read_state
from tuidl.runs.launch import prepare_run
from tuidl.spec import build_spec
from tuidl.tui import companion as client
from tuidl.tui.companion import Companion, CompanionError, CompanionLostError, SupersededError

# A companion that needs no torch. `later` is answered only when `now` is asked.
FAKE = """
import json, os, sys, time
held = []
def say(**message):
    sys.stdout.write(json.dumps(message) + "\\n")
    sys.stdout.flush()
say(event="ready", torch="9.9")
for line in sys.stdin:
    question = json.loads(line)
    number = question["id"]
    match question["ask"]:
        case "echo": say(id=number, ok=True, value=question)
        case "refuse": say(id=number, ok=False, error="no\\x1b[2J data")
        case "supersede": say(id=number, ok=False, error="superseded")
        case "later": held.append(number)
        case "now":
            for each in [*held, number]: say(id=each, ok=True, value=each)
            held.clear()
        case "die":
            print("first line\\nlast \\x1b[31mwords\\n", file=sys.stderr, flush=True)
            os._exit(7)
        case "size": say(id=number, ok=True, value="x" * question["size"])
        case "junk":
            sys.stdout.write(question["text"] + "\\n"); sys.stdout.flush()
        case "strange":
            say(id=10**9, ok=True); say(something=1); say(id=None); say(id=number, ok=True, value=None)
        case "close":
            os.close(1); time.sleep(60)
        case "pid": say(id=number, ok=True, value=os.getpid())
        case "train":
            mode = os.environ.get("FAKE_TRAIN", "agree")
            if mode == "refuse": say(id=number, ok=False, error="no")
            if mode == "agree":
                say(id=number, ok=True, value=None)
                os.close(1)
                time.sleep(60)
            if mode == "hang": time.sleep(60)
            if mode == "die": os._exit(1)
"""
COMMAND = (sys.executable, "-c", FAKE)


@pytest.fixture
async def companion() -> AsyncIterator[Companion]:
    one = Companion(COMMAND)
    yield one
    await one.close()


@pytest.fixture(autouse=True)
def _nobody_is_left() -> Iterator[None]:
    """No test leaves a child behind, living or dead."""
    before = psutil.Process().children()
    yield
    for thread in threading.enumerate():
        if thread.name == "reaper":
            thread.join(30)
    left = [child for child in psutil.Process().children() if child not in before]
    for child in left:
        child.kill()
    assert not left


async def process_of(companion: Companion) -> psutil.Process:
    return psutil.Process(await companion.ask("pid"))


async def gone(process: psutil.Process) -> None:
    """Wait until a process has ended and its exit code was taken."""
    for _ in range(1000):
        if not process.is_running():
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"{process} is still there")


async def test_questions_are_answered(companion: Companion) -> None:
    assert companion.torch is None
    answer = await companion.ask("echo", spec={"a": [1, "é"]}, count=8)
    assert (answer["spec"], answer["count"]) == ({"a": [1, "é"]}, 8)
    assert companion.torch == "9.9"
    answers = await asyncio.gather(*(companion.ask("echo", n=number) for number in range(50)))
    assert [answer["n"] for answer in answers] == list(range(50))


async def test_a_refusal_is_one_clean_line(companion: Companion) -> None:
    with pytest.raises(CompanionError, match=r"no␛.2J data") as caught:
        await companion.ask("refuse")
    assert not isinstance(caught.value, CompanionLostError | SupersededError)
    with pytest.raises(SupersededError):
        await companion.ask("supersede")


async def test_who_asks_the_same_shares_the_answer(companion: Companion) -> None:
    first, second, other = (asyncio.ensure_future(companion.ask("later", x=x)) for x in (1, 1, 2))
    await asyncio.sleep(0)
    third = asyncio.ensure_future(companion.ask("later", x=1))  # the newest is another by now
    process = await process_of(companion)
    assert process.is_running()
    await companion.ask("now")
    numbers = [await one for one in (first, second, other, third)]
    assert numbers[0] == numbers[1] and len(set(numbers)) == 3
    again = asyncio.ensure_future(companion.ask("later", x=1))
    await asyncio.sleep(0)
    await companion.ask("now")
    assert await again not in numbers, "what has been answered is asked anew"


async def test_an_ask_may_be_cancelled(companion: Companion) -> None:
    early = asyncio.ensure_future(companion.ask("echo"))
    await asyncio.sleep(0)
    early.cancel()  # while the process is being started
    waiting = asyncio.ensure_future(companion.ask("later"))
    sharing = asyncio.ensure_future(companion.ask("later"))
    await companion.ask("pid")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await companion.ask("now")
    assert isinstance(await sharing, int)
    assert (await companion.ask("echo", n=1))["n"] == 1


async def test_there_is_one_process_for_all(companion: Companion) -> None:
    await asyncio.gather(companion.start(), companion.start())
    pids = await asyncio.gather(*(companion.ask("pid") for _ in range(5)), companion.ask("pid", x=1))
    assert len(set(pids)) == 1
    assert os.getsid(pids[0]) == pids[0], "in a session of its own"


async def test_a_death_is_told_with_its_last_words_and_the_next_question_starts_anew(companion: Companion) -> None:
    process = await process_of(companion)
    waiting = [asyncio.ensure_future(companion.ask("later", x=x)) for x in range(3)]
    with pytest.raises(CompanionLostError, match=r"code 7: last ␛.31mwords"):
        await companion.ask("die")
    for one in waiting:
        with pytest.raises(CompanionLostError):
            await one
    await gone(process)
    assert await companion.ask("pid") != process.pid


async def test_a_silent_death(companion: Companion) -> None:
    process = await process_of(companion)
    waiting = asyncio.ensure_future(companion.ask("later"))
    await asyncio.sleep(0)
    process.kill()
    with pytest.raises(CompanionLostError, match="it said nothing"):
        await waiting


async def test_what_cannot_be_started_is_told() -> None:
    with pytest.raises(CompanionLostError, match="cannot be started"):
        await Companion(("/nowhere/python",)).ask("echo")
    with pytest.raises(CompanionLostError):
        await Companion((sys.executable, "-c", "raise SystemExit('of no use')")).ask("echo")


async def test_large_answers_have_a_limit(companion: Companion, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(await companion.ask("size", size=2_000_000)) == 2_000_000
    await companion.close()
    monkeypatch.setattr(client, "LONGEST", 100_000)
    process = await process_of(companion)
    with pytest.raises(CompanionLostError, match="cannot be read"):
        await companion.ask("size", size=2_000_000)
    await gone(process)


@pytest.mark.parametrize("text", ["no json", "[]", "1", '"a"', "[" * 100_000, ""])
async def test_nonsense_ends_the_line(companion: Companion, text: str) -> None:
    process = await process_of(companion)
    with pytest.raises(CompanionLostError, match="cannot be read"):
        await companion.ask("junk", text=text)
    await gone(process)


async def test_answers_to_nothing_are_passed_over(companion: Companion) -> None:
    assert await companion.ask("strange") is None
    assert (await companion.ask("echo", n=1))["n"] == 1


async def test_one_that_hangs_up_but_lives_is_ended(companion: Companion) -> None:
    process = await process_of(companion)
    with pytest.raises(CompanionLostError):
        await companion.ask("close")
    await gone(process)


async def test_closing_ends_it_and_those_who_wait(companion: Companion) -> None:
    await companion.close()  # nothing there yet
    process = await process_of(companion)
    waiting = asyncio.ensure_future(companion.ask("later"))
    await asyncio.sleep(0)
    await companion.close()
    await companion.close()
    await gone(process)
    with pytest.raises(CompanionLostError, match="closed"):
        await waiting


# --- training ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    return prepare_run(build_spec({}), "mnist-mlp", "one", tmp_path / "runs", None)


@pytest.fixture
def spawned(monkeypatch: pytest.MonkeyPatch) -> list[tuple[RunPaths, bool]]:
    """No plain trainer is started; returns those that would have been."""
    found: list[tuple[RunPaths, bool]] = []

    def spawn(paths: RunPaths, offline: bool) -> "subprocess.Popen[bytes]":
        found.append((paths, offline))
        return subprocess.Popen([sys.executable, "-c", ""])

    monkeypatch.setattr(launch, "spawn_trainer", spawn)
    return found


async def test_it_becomes_the_trainer_and_lives_on(companion: Companion, paths: RunPaths, spawned: list[Any]) -> None:
    process = await process_of(companion)
    waiting = asyncio.ensure_future(companion.ask("later"))
    await asyncio.sleep(0)
    await companion.train(paths)
    with pytest.raises(CompanionLostError, match="trainer"):
        await waiting
    await companion.close()
    await asyncio.sleep(0.7)  # longer than a farewell
    assert process.is_running() and process.status() != psutil.STATUS_ZOMBIE and not spawned
    other = await companion.ask("pid")
    assert other != process.pid, "the next question goes to a new one"
    process.kill()
    await gone(process)  # so somebody has taken its exit code


async def test_without_a_companion_a_plain_trainer_starts(
    companion: Companion, paths: RunPaths, spawned: list[Any]
) -> None:
    await companion.train(paths, offline=True)
    assert spawned == [(paths, ["--offline"])]


@pytest.mark.parametrize("mode", ["refuse", "hang", "die"])
async def test_one_that_does_not_become_a_trainer_is_replaced_by_one(
    companion: Companion, paths: RunPaths, spawned: list[Any], mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_TRAIN", mode)
    monkeypatch.setattr(client, "PATIENCE", 0.5)
    process = await process_of(companion)
    await companion.train(paths)
    assert spawned == [(paths, [])]
    await gone(process)


async def test_a_dead_one_is_replaced_too(companion: Companion, paths: RunPaths, spawned: list[Any]) -> None:
    process = await process_of(companion)
    process.kill()
    await companion.train(paths)
    assert spawned == [(paths, [])]


@pytest.mark.parametrize("cancelled", [True, False])
async def test_who_leaves_while_it_becomes_a_trainer_neither_ends_it_nor_starts_another(
    companion: Companion, paths: RunPaths, spawned: list[Any], monkeypatch: pytest.MonkeyPatch, cancelled: bool
) -> None:
    monkeypatch.setenv("FAKE_TRAIN", "hang")
    process = await process_of(companion)
    starting = asyncio.ensure_future(companion.train(paths))
    await asyncio.sleep(0.05)
    if cancelled:
        starting.cancel()
    await companion.close()
    await asyncio.wait([starting])
    await asyncio.sleep(0.7)
    assert process.is_running() and process.status() != psutil.STATUS_ZOMBIE and not spawned
    process.kill()
    await gone(process)


async def test_one_that_was_left_waiting_for_the_order_is_let_go_when_it_agrees(
    companion: Companion, paths: RunPaths, spawned: list[Any]
) -> None:
    process = await process_of(companion)
    starting = asyncio.ensure_future(companion.train(paths))
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await asyncio.sleep(0.7)
    assert process.is_running() and process.status() != psutil.STATUS_ZOMBIE and not spawned
    process.kill()
    await gone(process)


# --- the real one -----------------------------------------------------------------------------------------------------


async def test_the_real_companion(tuidl: Any, until: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in tuidl.environ.items():
        monkeypatch.setenv(name, value)
    text = "the cat sat on the mat. a dog ran over the hill.\n"
    (tuidl.root / "book.txt").write_text(text * 60)
    spec = build_spec({
        "task": "language", "data": {"name": "text", "path": str(tuidl.root / "book.txt")},
        "model": {"kind": "rnn", "width": 8, "embedding": 4, "unroll": 8}, "loss": {"kind": "cross-entropy"},
        "training": {"max_steps": 20, "batch_size": 4, "threads": 1}, "precision": "fp32",
    })  # fmt: skip
    paths = prepare_run(spec, "char-lstm", "real", tuidl.runs, None)
    companion = Companion()
    data, described = await asyncio.gather(
        companion.ask("data"), companion.ask("describe", spec=spec.model_dump(mode="json"))
    )
    assert data["mnist"]["state"] == "absent" and described["layers"][-1]["shape"] == [len(set(text))]
    assert companion.torch
    with pytest.raises(CompanionError, match="epochs"):
        await companion.ask("describe", spec={"training": {"epochs": -1}})
    await companion.train(paths)
    await companion.close()
    await asyncio.to_thread(until, lambda: read_state(paths)[1] == "completed")
    assert paths.trainer_log.read_text() == ""


def test_the_client_loads_nothing_heavy() -> None:
    code = (
        "import sys, tuidl.tui.companion\n"
        "heavy = {'torch', 'numpy', 'pydantic', 'tuidl.runs', 'tuidl.train', 'tuidl.cli'} & sys.modules.keys()\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
