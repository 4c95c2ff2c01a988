"""The screen's companion: a process that answers what only torch knows, and in the end becomes the trainer.

The screen starts `tuidl _companion` in the background with its first frame, so that nobody waits for torch later. The
two talk in JSON Lines through standard input and output:

    {"id": 7, "ask": "describe", "spec": {…}}       {"id": 7, "ok": true, "value": {…}}
                                                    {"id": 7, "ok": false, "error": "why, in one line"}

`{"event": "ready", "torch": "2.11.0"}` says once that torch is loaded. What waits is answered in the order of its cost;
a newer question of a kind takes the place of an older one, which is answered with the error "superseded". `train`, with
the `directory` of a prepared run, is the last question. Without a screen, at the end of its input, the process ends.

The questions are in `ASKS`. This module holds those that need no torch, `tuidl.train.answers` the others.
"""

import importlib
import os
import select
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuidl.errors import TuidlError, UsageError
from tuidl.runs.atomic import write_all
from tuidl.runs.jsonio import dump_json, load_object
from tuidl.runs.launch import open_log
from tuidl.runs.layout import RunPaths
from tuidl.runs.writer import read_spec
from tuidl.spec.datasets import DATASETS
from tuidl.text import clean, did_you_mean
from tuidl.train.data.files import locate, search_path

FIRST_LOOK = 0.05  # seconds in which the first questions are waited for, before torch holds everything up
LONGEST = 4 << 20  # bytes of a question
SUPERSEDED = "superseded"

Answer = Callable[..., Any]


@dataclass(frozen=True)
class Ask:
    """A kind of question; `cost` orders what waits, the cheaper first."""

    answer: Answer
    cost: int


ASKS: dict[str, Ask] = {}


def answers(name: str, *, cost: int) -> Callable[[Answer], Answer]:
    """Register the decorated function as what answers `name`: it takes the question's fields, and returns JSON data."""

    def register(function: Answer) -> Answer:
        ASKS[name] = Ask(function, cost)
        return function

    return register


@answers("data", cost=0)
def find_data(data_dir: str | None = None) -> dict[str, dict[str, Any]]:
    """Return of each data set its state (see `Located`), where it is, how many bytes it has there, and a note."""
    places = search_path(data_dir)
    found = {key: locate(dataset, places) for key, dataset in DATASETS.items()}
    return {
        key: {"state": at.state, "where": str(at.where) if at.where else None, "note": at.note, "bytes": at.size}
        for key, at in found.items()
    }


@dataclass(frozen=True)
class Question:
    """A question that waits for its answer."""

    id: Any
    ask: str
    fields: dict[str, Any]


@dataclass(frozen=True)
class Order:
    """The order to train in the directory of a prepared run; `offline` forbids downloads."""

    paths: RunPaths
    offline: bool


def serve() -> Order | None:
    """Answer the screen until it orders a training or is gone; return the order, or None.

    After an order this process has an empty input, and its output goes to the log of the run.
    """
    line = Line.of_this_process()
    try:
        return Companion(line).run()
    finally:
        line.close()


class Line:
    """The two pipes to the screen."""

    def __init__(self, source: int, sink: int) -> None:
        self._source, self._sink = source, sink
        self._rest = b""  # the beginning of a line
        self.open = True

    @classmethod
    def of_this_process(cls) -> "Line":
        """Take over standard input and output; what anything prints from now on goes to standard error."""
        line = cls(os.dup(0), os.dup(1))
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        return line

    def read(self, seconds: float | None) -> list[bytes]:
        """Return the lines that have come, after waiting for at most `seconds`, or for as long as it takes."""
        while self.open and select.select([self._source], [], [], seconds)[0]:
            data = os.read(self._source, 1 << 16)
            *lines, self._rest = (self._rest + data).split(b"\n")
            self.open = bool(data) and len(self._rest) <= LONGEST
            if lines:
                return lines
        return []

    def say(self, **message: Any) -> None:
        """Send a message, into the void when the screen is gone."""
        try:
            write_all(self._sink, dump_json(message) + b"\n")
        except OSError:
            self.open = False

    def close(self) -> None:
        """Close both pipes."""
        os.close(self._source)
        os.close(self._sink)


class Companion:
    """The answering end of the line. Read `run` first."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._waiting: dict[str, Question] = {}  # the newest of each kind
        self._order: Order | None = None
        self._loaded = False  # whether torch has been tried
        self._trouble = ""  # why it cannot be loaded
        self._answers: Any = None  # the module that answers with torch

    def run(self) -> Order | None:
        """Answer what needs no torch, load it, answer everything; return the order to train, None when all is over."""
        self._listen(FIRST_LOOK)
        self._answer_all()
        for prepare in (self._load_torch, self._load_rest):
            if self._goes_on:
                prepare()
                self._listen(0)
                self._answer_all()
        while self._goes_on:
            self._listen(None)
            self._answer_all()
        return self._order

    @property
    def _goes_on(self) -> bool:
        return self._line.open and self._order is None

    def _listen(self, seconds: float | None) -> None:
        """Note the questions that have come, after waiting for them at most `seconds`."""
        for text in self._line.read(seconds):
            try:
                fields = load_object(text)
                question = Question(fields.pop("id"), str(fields.pop("ask")), fields)
            except (ValueError, KeyError):
                print(f"not a question: {text[:200]!r}", file=sys.stderr)
                continue
            if question.ask == "train":
                self._take_order(question)
                return
            if older := self._waiting.pop(question.ask, None):
                self._refuse(older, SUPERSEDED)
            self._waiting[question.ask] = question

    def _answer_all(self) -> None:
        """Answer what can be answered now, the cheapest first; look for newer questions after each."""
        while self._goes_on:
            able = [question for question in self._waiting.values() if self._loaded or question.ask in ASKS]
            if not able:
                return
            question = min(able, key=lambda one: ASKS[one.ask].cost if one.ask in ASKS else 0)
            self._answer(self._waiting.pop(question.ask))
            self._listen(0)

    def _answer(self, question: Question) -> None:
        try:
            if question.ask not in ASKS:
                raise UsageError(self._trouble or f"unknown question; {did_you_mean(question.ask, ASKS)}")
            self._line.say(id=question.id, ok=True, value=ASKS[question.ask].answer(**question.fields))
        except TuidlError as error:
            self._refuse(question, str(error))
        except Exception as error:  # whatever it is, the other questions can still be answered
            traceback.print_exc()
            self._refuse(question, f"internal error: {error} ({type(error).__name__})")

    def _refuse(self, question: Question, why: str) -> None:
        self._line.say(id=question.id, ok=False, error=clean(" ".join(why.split()), limit=500))

    def _load_torch(self) -> None:
        """Load torch and what answers with it, and say so."""
        version = None
        try:
            self._answers = importlib.import_module("tuidl.train.answers")
            version = self._answers.torch.__version__
        except Exception as error:  # a broken binary package raises nearly anything
            traceback.print_exc()
            self._trouble = f"torch cannot be loaded: {error}; tuidl doctor says more"
        self._loaded = True
        self._line.say(event="ready", torch=version)

    def _load_rest(self) -> None:
        """Load what the trainer will need besides, so that Start is followed by the first step at once."""
        if self._answers:
            try:
                self._answers.warm_up()
            except Exception:  # the trainer will tell, to whoever needs it
                traceback.print_exc()

    def _take_order(self, question: Question) -> None:
        """Become the detached trainer of a run, or say why not."""
        paths = RunPaths(Path(str(question.fields.get("directory", ""))))
        try:
            read_spec(paths)
            log = open_log(paths)
        except TuidlError as error:
            self._refuse(question, str(error))
            return
        self._line.say(id=question.id, ok=True, value=None)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for number in (1, 2):
            os.dup2(log, number)
        os.close(log)
        if self._answers:
            self._answers.forget()
        self._order = Order(paths, bool(question.fields.get("offline")))
