"""The screen's side of the companion: asks it what only torch knows, and makes a trainer of it."""

import asyncio
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any

from tuidl.errors import TuidlError
from tuidl.text import clean

if TYPE_CHECKING:
    from tuidl.runs import RunPaths

COMMAND = (sys.executable, "-P", "-m", "tuidl", "_companion")
LONGEST = 32 << 20  # bytes of an answer; a longer one is none
PATIENCE = 20.0  # seconds that the companion may take to become a trainer: it may just be loading torch, or data
SUPERSEDED = "superseded"  # how the companion says it
_FAREWELL = 0.5  # seconds that it may take to end by itself
_LAST_WORDS = 4096  # bytes of what it has printed that are looked at when it has died


Pipes = tuple[asyncio.ReadTransport, asyncio.WriteTransport]


class CompanionError(TuidlError):
    """The companion has no answer."""


class SupersededError(CompanionError):
    """A newer question of the same kind has taken the place of this one."""


class CompanionLostError(CompanionError):
    """The companion has died. The next question starts another."""


class Companion:
    """A companion process, started by `start` or by the first question. To be used from one event loop."""

    def __init__(self, command: tuple[str, ...] = COMMAND) -> None:
        self._command = command
        self._line: Line | None = None
        self._starting = asyncio.Lock()

    @property
    def torch(self) -> str | None:
        """The version of torch once it is loaded, None before and without a process."""
        return self._line.torch if self._line else None

    async def start(self) -> None:
        """Start the process where there is none. Raises CompanionLostError when that fails."""
        await self._reach()

    async def _reach(self) -> "Line":
        async with self._starting:
            if self._line is None or self._line.over:
                self._line = await Line.open(self._command)
            return self._line

    async def ask(self, name: str, **arguments: Any) -> Any:
        """Return the answer to question `name`. May be cancelled at any time.

        Raises:
            SupersededError: another question of this kind was asked while this one waited.
            CompanionLostError: the companion has died.
            CompanionError: it has no answer; the message is one line for the user.
        """
        line = await self._reach()
        return await asyncio.shield(line.ask(name, arguments))

    async def train(self, paths: "RunPaths", offline: bool = False) -> None:
        """Start the training of a prepared run: this process becomes the trainer, or else a new one does.

        The trainer lives on without this program. Raises StorageError when its log cannot be written.
        """
        line = self._line
        if line is not None and not line.over:
            try:
                await asyncio.wait_for(line.order(str(paths.directory), offline), PATIENCE)
                return
            except (TimeoutError, CompanionError):
                await line.end("it did not become a trainer")  # before another comes: a run has one
        await start_trainer(paths, ["--offline"] if offline else [])

    async def close(self) -> None:
        """End the process, unless it has been told to train."""
        if self._line is not None and not self._line.over:
            if self._line.ordered:
                self._line.let_go()
            else:
                await self._line.end("the screen was closed")


class Line:
    """The line to one companion process, from its start until it dies or trains."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", errors: IO[bytes], pipes: Pipes, answers: asyncio.StreamReader
    ) -> None:
        self.torch: str | None = None
        self.over = False
        self._process, self._errors = process, errors
        self._source, self._sink = pipes
        self._number = 0
        self._order: int | None = None  # the question that tells the process to train
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._newest: dict[str, tuple[dict[str, Any], asyncio.Future[Any]]] = {}  # question of each kind
        self._listener = asyncio.create_task(self._listen(answers))

    @classmethod
    async def open(cls, command: tuple[str, ...]) -> "Line":
        """Start a process. Raises CompanionLostError when that fails."""
        errors = tempfile.TemporaryFile()  # noqa: SIM115 -- closed with the line; a pipe would fill up and hold all up
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
            )
        except OSError as error:
            errors.close()
            raise CompanionLostError(f"the companion cannot be started: {error.strerror}") from error
        answers = asyncio.StreamReader(limit=LONGEST)
        try:
            return cls(process, errors, await _connect(process, answers), answers)
        except BaseException:  # whoever asked has changed his mind
            process.kill()
            process.wait()
            errors.close()
            raise

    @property
    def ordered(self) -> bool:
        """Whether the process has been told to train; then it must not be ended any more."""
        return self._order is not None

    def ask(self, name: str, arguments: dict[str, Any]) -> "asyncio.Future[Any]":
        """Send a question and return its future answer; who asks the same again shares it."""
        asked, answer = self._newest.get(name, (None, None))
        if answer is None or answer.done() or asked != arguments:
            answer = self._send(name, arguments)
            self._newest[name] = arguments, answer
        return answer

    def order(self, directory: str, offline: bool) -> "asyncio.Future[Any]":
        """Tell the process to train. Once it agrees it is let go."""
        answer = self._send("train", {"directory": directory, "offline": offline})
        self._order = self._number
        return answer

    def _send(self, name: str, arguments: dict[str, Any]) -> "asyncio.Future[Any]":
        self._number += 1
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be waiting any more
        self._waiting[self._number] = answer
        self._sink.write(json.dumps({"id": self._number, "ask": name, **arguments}).encode() + b"\n")
        return answer

    async def _listen(self, answers: asyncio.StreamReader) -> None:
        """Hand out the answers as they come, until the line is over."""
        why = ""
        try:
            while text := await answers.readline():
                self._take(json.loads(text))
                if self.over:
                    return
        except (ValueError, RecursionError, AttributeError) as error:
            why = f"its answer cannot be read: {error}"
        await self.end(why)

    def _take(self, message: Any) -> None:
        if message.get("event") == "ready":
            self.torch = message.get("torch")
        ok, why = message.get("ok"), clean(str(message.get("error")), limit=500)
        if ok and self.ordered and message.get("id") == self._order:
            self.let_go()
            return
        answer = self._waiting.pop(message.get("id"), None)
        if answer is None or answer.done():
            return
        if ok:
            answer.set_result(message.get("value"))
        else:
            answer.set_exception(SupersededError(why) if why == SUPERSEDED else CompanionError(why))

    async def end(self, why: str = "") -> None:
        """End the process if it still lives, take its exit code, and tell those who wait for an answer."""
        if self.over:
            return
        self._hang_up()
        try:
            await asyncio.to_thread(self._process.wait, _FAREWELL)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
        self._fail_all(why or f"it ended with code {self._process.returncode}: {self._last_words()}")
        self._errors.close()

    def let_go(self) -> None:
        """Leave the process to itself: it trains, or will, so that whoever waits for that must start no other."""
        self._hang_up()
        self._errors.close()
        order = self._waiting.pop(self._order or 0, None)
        if order is not None and not order.done():
            order.set_result(None)
        self._fail_all("it has become a trainer")
        _reap(self._process)

    def _hang_up(self) -> None:
        """Close the pipes; an idle companion ends by that."""
        self.over = True
        self._source.close()
        self._sink.close()
        if self._listener is not asyncio.current_task():
            self._listener.cancel()

    def _fail_all(self, why: str) -> None:
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(CompanionLostError(f"the companion is gone: {why}"))
        self._waiting.clear()

    def _last_words(self) -> str:
        """Return the last line that the process has printed."""
        self._errors.seek(max(0, self._errors.seek(0, 2) - _LAST_WORDS))
        lines = self._errors.read(_LAST_WORDS).decode("utf-8", "replace").split("\n")
        return next((clean(line, limit=300) for line in reversed(lines) if line.strip()), "it said nothing")


async def _connect(process: "subprocess.Popen[bytes]", answers: asyncio.StreamReader) -> Pipes:
    """Let the loop read and write the pipes of a process."""
    assert process.stdin is not None
    loop = asyncio.get_running_loop()
    source, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(answers), process.stdout)
    sink, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, process.stdin)
    return source, sink


async def start_trainer(paths: "RunPaths", options: Sequence[str]) -> None:
    """Start a trainer that has nothing prepared, with the options of `_train`. Raises StorageError."""
    from tuidl.runs.launch import spawn_trainer  # takes a moment to load

    _reap(await asyncio.to_thread(spawn_trainer, paths, options))


def _reap(process: "subprocess.Popen[bytes]") -> None:
    """Take the exit code of a trainer once it ends, so that it is no zombie as long as this program lives."""
    threading.Thread(target=process.wait, name="reaper", daemon=True).start()
