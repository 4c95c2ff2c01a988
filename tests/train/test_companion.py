"""The companion: what it answers first, when it ends, and that the trainer it becomes is like any other."""

import json
import math
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tuidl.errors import UsageError
from tuidl.runs import RunPaths, RunReader, read_state
from tuidl.runs.launch import TUIDL, prepare_run, spawn_trainer
from tuidl.spec.datasets import DATASETS
from tuidl.train import companion
from tuidl.train.companion import ASKS, Ask, Companion, Line

from .tiny import spec_of

pytestmark = pytest.mark.usefixtures("no_data")


# --- the line --------------------------------------------------------------------------------------------------------


@dataclass
class Talk:
    """A companion in a thread of this process, and the screen's end of the line."""

    to: int
    source: Any
    thread: threading.Thread
    ended: list[Any] = field(default_factory=list)

    def say(self, *messages: Any) -> None:
        os.write(self.to, b"".join(_packed(message) + b"\n" for message in messages))

    def hear(self) -> dict[str, Any]:
        heard: dict[str, Any] = json.loads(self.source.readline())
        return heard

    def end(self) -> Any:
        if self.to >= 0:
            os.close(self.to)
            self.to = -1
        self.thread.join(60)
        assert not self.thread.is_alive()
        return self.ended[0]


def _packed(message: Any) -> bytes:
    return message if isinstance(message, bytes) else json.dumps(message).encode()


@pytest.fixture
def talk() -> Iterator[Callable[..., Talk]]:
    """Returns a function that starts a companion to which some messages have been sent already."""
    talks: list[Talk] = []

    def start(*messages: Any) -> Talk:
        (its_end, our_end), (our_source, its_sink) = os.pipe(), os.pipe()
        line = Line(its_end, its_sink)

        def run() -> None:
            one.ended.append(Companion(line).run())
            line.close()

        one = Talk(our_end, os.fdopen(our_source, "rb"), threading.Thread(target=run, daemon=True))
        talks.append(one)
        one.say(*messages)
        one.thread.start()
        return one

    yield start
    for one in talks:
        one.end()
        one.source.close()


@pytest.fixture
def asks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Questions whose answers are noted: `cheap`, `dear`, `bug`, `nan`, `usage`."""
    asked: list[str] = []

    def noted(name: str, cost: int, answer: Callable[..., Any]) -> None:
        def act(**fields: Any) -> Any:
            asked.append(name)
            return answer(**fields)

        monkeypatch.setitem(ASKS, name, Ask(act, cost))

    def fail(error: Exception) -> Any:
        raise error

    noted("cheap", 0, lambda x=0: x)
    noted("dear", 9, lambda x=0: x)
    noted("bug", 0, lambda: fail(ZeroDivisionError("\x1b[2J\nof mine")))
    noted("usage", 0, lambda: fail(UsageError("not like\nthis")))
    noted("nan", 0, lambda: {"a": [math.nan, -math.inf]})
    return asked


READY = {"event": "ready", "torch": torch.__version__}


def test_what_needs_no_torch_is_answered_before_it_is_loaded(talk: Any) -> None:
    one = talk({"id": 7, "ask": "data"}, {"id": 8, "ask": "absent"})
    first = one.hear()
    assert (first["id"], first["ok"]) == (7, True) and set(first["value"]) == set(DATASETS)
    assert one.hear() == READY
    assert one.hear()["id"] == 8
    assert one.end() is None


def test_the_cheaper_first_and_the_newest_only(talk: Any, asks: list[str]) -> None:
    one = talk(
        {"id": 1, "ask": "dear", "x": 1}, {"id": 2, "ask": "cheap", "x": 2}, {"id": 3, "ask": "dear", "x": 3},
        {"id": 4, "ask": "cheap", "x": 4},
    )  # fmt: skip
    heard = [one.hear() for _ in range(5)]
    superseded = {"ok": False, "error": "superseded"}
    assert heard == [
        {"id": 1, **superseded}, {"id": 2, **superseded}, {"id": 4, "ok": True, "value": 4},
        {"id": 3, "ok": True, "value": 3}, READY,
    ]  # fmt: skip
    assert asks == ["cheap", "dear"]


def test_no_question_ends_it(talk: Any, asks: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    one = talk({"id": 1, "ask": "bug"})
    heard = one.hear()
    assert (heard["id"], heard["ok"]) == (1, False)
    assert (
        "of mine (ZeroDivisionError)" in heard["error"] and "\x1b" not in heard["error"] and "\n" not in heard["error"]
    )
    assert one.hear() == READY
    for message in (b"", b"\xff", b"[]", b"{", b'{"id":1}', b'{"ask":"cheap"}', b"null", b"[" * 3000):
        one.say(message)
    one.say({"id": [2], "ask": "usage"})
    assert one.hear() == {"id": [2], "ok": False, "error": "not like this"}
    one.say({"id": 3, "ask": "nan"})
    assert one.hear() == {"id": 3, "ok": True, "value": {"a": ["nan", "-inf"]}}
    one.say({"id": 4, "ask": "chep"})
    assert "did you mean 'cheap'" in one.hear()["error"]
    one.say({"id": 5, "ask": "cheap", "y": 1})
    assert "internal error" in one.hear()["error"]
    one.say({"id": 6, "ask": "describe", "spec": {"training": {"epochs": -1}}})
    assert "training.epochs = -1 is out of range" in one.hear()["error"]
    one.end()
    assert capsys.readouterr().err.count("not a question") == 8


def test_questions_come_in_pieces(talk: Any, asks: list[str]) -> None:
    one = talk()
    assert one.hear() == READY
    for byte in b'{"id":1,"ask":"cheap","x":5}\n{"id":2,"ask":"dear"}\n{"id":3':
        os.write(one.to, bytes([byte]))
    assert [one.hear()["id"] for _ in range(2)] == [1, 2]
    os.write(one.to, b',"ask":"cheap"}\n')
    assert one.hear()["id"] == 3


def test_a_line_that_never_ends_is_hung_up(talk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(companion, "LONGEST", 1000)
    one = talk()
    assert one.hear() == READY
    os.write(one.to, b"x" * 5000)
    one.thread.join(60)
    assert not one.thread.is_alive()


def test_without_a_screen_it_ends_and_loads_nothing(talk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Companion, "_load_torch", lambda self: pytest.fail("nobody wants it any more"))
    (its_end, our_end), (our_source, its_sink) = os.pipe(), os.pipe()
    os.write(our_end, b'{"id":1,"ask":"data"}\n')
    os.close(our_end)
    assert Companion(Line(its_end, its_sink)).run() is None
    for number in (its_end, its_sink, our_source):
        os.close(number)


def test_a_screen_that_does_not_listen_any_more(talk: Any, asks: list[str]) -> None:
    one = talk()
    one.hear()
    one.source.close()
    one.say({"id": 1, "ask": "cheap"})
    one.thread.join(60)
    assert not one.thread.is_alive()


def test_torch_that_cannot_be_loaded_is_told(talk: Any, asks: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> Any:
        raise OSError("libcudart.so.13: cannot open shared object file")

    monkeypatch.setattr(companion, "importlib", SimpleNamespace(import_module=refuse))
    for name in ("describe", "devices", "samples"):
        monkeypatch.delitem(ASKS, name)
    one = talk({"id": 1, "ask": "describe", "spec": {}})
    assert one.hear() == {"event": "ready", "torch": None}
    assert "torch cannot be loaded: libcudart" in one.hear()["error"]
    one.say({"id": 2, "ask": "data"})
    assert one.hear()["ok"]


def test_the_state_of_the_data(tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "text/tinyshakespeare.txt").write_bytes(b"x" * 1_115_394)
    found = companion.find_data(str(tmp_path))
    assert found["tinyshakespeare"]["state"] == "present"
    assert (found["tinyshakespeare"]["where"], found["tinyshakespeare"]["bytes"]) == (str(tmp_path / "text"), 1_115_394)
    assert (found["mnist"]["state"], found["mnist"]["where"]) == ("absent", None)
    assert "tuidl data get mnist" in found["mnist"]["note"]
    assert found["drawn-digits"]["state"] == "built in"
    assert json.dumps(found)


# --- the trainer ------------------------------------------------------------------------------------------------------


@pytest.fixture
def process(tuidl: Any) -> Iterator["subprocess.Popen[bytes]"]:
    """A companion in a process of its own, as a screen starts it."""
    with subprocess.Popen(
        [*TUIDL, "_companion"], env=tuidl.environ, cwd=tuidl.root, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, start_new_session=True,
    ) as one:  # fmt: skip
        yield one
        one.kill()


def say(process: "subprocess.Popen[bytes]", **message: Any) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(message).encode() + b"\n")
    process.stdin.flush()


def hear(process: "subprocess.Popen[bytes]") -> dict[str, Any]:
    assert process.stdout is not None
    heard: dict[str, Any] = json.loads(process.stdout.readline())
    return heard


def small(tuidl: Any, name: str, **training: Any) -> RunPaths:
    """Prepare a short run on a small text."""
    book = tuidl.root / "book.txt"
    book.write_text("the cat sat on the mat. a dog ran over the hill and far away.\n" * 60)
    training = {"max_steps": 20, "batch_size": 4, "threads": 1, **training}
    spec = spec_of("language", data={"name": "text", "path": str(book)}, training=training, precision="fp32")
    return prepare_run(spec, "char-lstm", name, tuidl.runs, None)


def curves(paths: RunPaths) -> dict[str, list[float]]:
    columns: dict[str, list[float]] = {}
    for block in RunReader(paths).metrics():
        for name, values in block.columns.items():
            columns.setdefault(name, []).extend(values)
    return columns


def test_it_becomes_the_trainer_of_a_run(process: Any, tuidl: Any) -> None:
    paths = small(tuidl, "mine")
    spec = json.loads(paths.spec.read_text())["spec"]
    assert hear(process)["event"] == "ready"
    for number, name in enumerate(("describe", "samples"), start=1):  # what it has answered leaves no trace in the run
        say(process, id=number, ask=name, spec=spec)
        assert hear(process)["ok"]
    say(process, id=8, ask="train", directory=str(tuidl.root / "nowhere"))
    assert hear(process)["ok"] is False
    say(process, id=9, ask="train", directory=str(paths.directory), offline=True)
    assert hear(process) == {"id": 9, "ok": True, "value": None}
    assert process.stdout.read() == b"", "it has let go of the screen"
    assert process.wait(60) == 0
    status, state = read_state(paths)
    assert status is not None and status.identity is not None
    assert (state, status.step, status.exit_code, status.identity.pid) == ("completed", 20, 0, process.pid)
    assert stat.S_IMODE(paths.trainer_log.stat().st_mode) == 0o600
    assert process.stderr.read() == b"", "what it prints goes to the log"

    plain_one = small(tuidl, "plain")
    assert spawn_trainer_in(tuidl, plain_one) == 0
    assert curves(paths) == curves(plain_one), "the same run, however its trainer began"
    told = [RunReader(one).status() for one in (paths, plain_one)]
    assert told[0].latest == told[1].latest  # type: ignore[union-attr]


def spawn_trainer_in(tuidl: Any, paths: RunPaths) -> int:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in tuidl.environ.items():
            patch.setenv(name, value)
        return spawn_trainer(paths, ["--offline"]).wait(60)


def test_the_order_outlives_the_screen_and_a_hang_up(process: Any, tuidl: Any, until: Any) -> None:
    paths = small(tuidl, "long", max_steps=0, epochs=100_000)
    say(process, id=1, ask="train", directory=str(paths.directory))  # while torch is still being loaded
    process.stdin.close()
    process.stdout.close()
    tuidl.wait("long", "running", "evaluating")
    assert os.getsid(process.pid) == process.pid
    for number, target in ((0, os.devnull), (1, paths.trainer_log), (2, paths.trainer_log)):
        assert Path(f"/proc/{process.pid}/fd/{number}").readlink() == Path(target)
    process.send_signal(signal.SIGHUP)
    step = RunReader(paths).status().step  # type: ignore[union-attr]
    until(lambda: RunReader(paths).status().step > step)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    assert read_state(paths)[1] == "stopped"


def test_a_run_that_fails_has_its_exit_code(process: Any, tuidl: Any) -> None:
    paths = small(tuidl, "x")
    Path(tuidl.root / "book.txt").unlink()
    say(process, id=1, ask="train", directory=str(paths.directory))
    assert process.wait(60) == 3
    status, state = read_state(paths)
    assert state == "failed" and status is not None and "book.txt" in status.reason
    assert "book.txt" in paths.trainer_log.read_text()


def test_a_log_that_leads_elsewhere_is_refused(process: Any, tuidl: Any) -> None:
    paths = small(tuidl, "x")
    (tuidl.root / "precious").write_text("precious")
    paths.trainer_log.symlink_to(tuidl.root / "precious")
    hear(process)
    say(process, id=1, ask="train", directory=str(paths.directory))
    assert hear(process)["ok"] is False
    assert (tuidl.root / "precious").read_text() == "precious"
    process.stdin.close()
    assert process.wait(60) == 0


@pytest.mark.parametrize("loaded", [True, False])
def test_it_ends_with_the_screen(process: Any, loaded: bool) -> None:
    if loaded:
        hear(process)
    process.stdin.close()
    assert process.wait(60) == 0
    assert process.stderr.read() == b""


NOISE = """
import os
from tuidl.train import companion
@companion.answers("noise", cost=0)
def noise():
    print("printed")
    os.write(1, b"written\\n")
    os.system("echo echoed; cat")  # a child that would eat the next question
    return 1
companion.Companion._load_torch = lambda self: None
companion.serve()
"""


def test_what_is_printed_does_not_garble_the_line(tuidl: Any) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", NOISE], env=tuidl.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as one:  # fmt: skip
        assert one.stdin is not None and one.stdout is not None and one.stderr is not None
        for number in (1, 2):
            say(one, id=number, ask="noise")
            assert hear(one) == {"id": number, "ok": True, "value": 1}
        one.stdin.close()
        assert one.stdout.read() == b""
        assert sorted(one.stderr.read().split()) == [b"echoed"] * 2 + [b"printed"] * 2 + [b"written"] * 2


def test_the_first_answers_need_no_torch(tuidl: Any) -> None:
    code = "import sys, tuidl.train.companion; assert not {'torch', 'numpy', 'textual', 'rich'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], env=tuidl.environ, check=True)


def test_nothing_is_left_to_import_when_the_training_begins() -> None:
    code = (
        "import sys, importlib\nfrom tuidl.train import answers\nanswers.warm_up()\nbefore = set(sys.modules)\n"
        "from tuidl.train.session import Door, conduct\n"
        "from tuidl.spec.tasks import TASKS\nfrom tuidl.train.models.layers import resolve\n"
        "[resolve(task) for task in TASKS.values()]\n"
        "late = {name for name in set(sys.modules) - before}\nassert not late, late"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
