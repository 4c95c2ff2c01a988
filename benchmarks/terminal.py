"""A terminal to measure with: a pty that counts what a program sends, answers its questions, and may be slow."""

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Mapping, Sequence

_ASKED = re.compile(rb"\x1b\[6n|\x1b\[\?2026\$p")
_ANSWERS = {b"\x1b[6n": b"\x1b[1;1R", b"\x1b[?2026$p": b"\x1b[?2026;2$y"}


class Terminal:
    """Runs `command` in a pty of `size` (columns, rows).

    With `rate` the line behind it takes so many bytes a second, holds up to `buffer` bytes in between, as sshd and the
    network do, and adds `delay` seconds each way. `deaf` reads nothing at all, as a frozen terminal does.
    """

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str] | None = None, size: tuple[int, int] = (120, 40),
        rate: float | None = None, buffer: int = 2 << 20, delay: float = 0.0, deaf: bool = False,
    ) -> None:  # fmt: skip
        self.total = 0  # bytes the program has sent
        self.rate, self.buffer, self.delay = rate, buffer, delay
        self._arrived: list[tuple[float, bytes]] = []  # at the far end
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._changed = threading.Condition()
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        self.started = time.monotonic()
        environment = {"TERM": "xterm-256color", "COLORTERM": "truecolor", **os.environ, **(env or {})}
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment, close_fds=True,
            preexec_fn=_own_session,
        )  # fmt: skip
        os.close(slave)
        self._open = True
        if not deaf:
            threading.Thread(target=self._read, daemon=True).start()
            if rate:
                threading.Thread(target=self._carry, daemon=True).start()

    def press(self, keys: str) -> float:
        """Type `keys` and return when."""
        if self.delay:
            time.sleep(self.delay)
        os.write(self._master, keys.encode())
        return time.monotonic() - self.delay

    def wait_for(self, text: bytes, since: float, timeout: float) -> float | None:
        """Return when `text` has arrived at the far end after `since`, or None."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                tail = b""
                for at, data in self._arrived:
                    if at >= since:
                        tail = tail[-256:] + data
                        if text in tail:
                            return at
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self._changed.wait(left)

    def bytes_since(self, since: float) -> int:
        """Return how many bytes have arrived since then."""
        with self._changed:
            return sum(len(data) for at, data in self._arrived if at >= since)

    def forget(self) -> None:
        """Let go of what has arrived so far."""
        with self._changed:
            self._arrived.clear()

    def first_text(self) -> float | None:
        """Return the seconds from start to the first bytes that paint something."""
        with self._changed:
            for at, data in self._arrived:
                if re.search(rb"[A-Za-z]{4,}", re.sub(rb"\x1b[\[\]?P][^a-zA-Z\\]*[a-zA-Z\\]", b"", data)):
                    return at - self.started
        return None

    def close(self, timeout: float = 10.0) -> int | None:
        """Ask the program to end, and return its exit code."""
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.hang_up()
        return self.process.returncode

    def hang_up(self) -> None:
        """Close the terminal under the program."""
        if self._open:
            self._open = False
            os.close(self._master)

    def _read(self) -> None:
        while self._open:
            with self._changed:
                full = self.rate is not None and self._held_bytes >= self.buffer
            if full:
                time.sleep(0.005)
                continue
            try:
                data = os.read(self._master, 65536)
            except OSError:
                return
            if not data:
                return
            self.total += len(data)
            if self.rate is None:
                self._arrive(data)
            else:
                with self._changed:
                    self._held.append(data)
                    self._held_bytes += len(data)

    def _carry(self) -> None:
        """Bring what is held to the far end at the line's rate."""
        assert self.rate
        slice_seconds = 0.01
        while self._open:
            time.sleep(slice_seconds)
            allowance = int(self.rate * slice_seconds)
            with self._changed:
                waiting = b"".join(self._held)
                now, rest = waiting[:allowance], waiting[allowance:]
                self._held = [rest] if rest else []
                self._held_bytes = len(rest)
            if now:
                self._arrive(now)

    def _arrive(self, data: bytes) -> None:
        with self._changed:
            self._arrived.append((time.monotonic() + self.delay, data))
            before = self._arrived[-2][1][-8:] if len(self._arrived) > 1 else b""
            self._changed.notify_all()
        for found in _ASKED.finditer(before + data):
            if found.end() > len(before):
                self._answer(_ANSWERS[found.group()])

    def _answer(self, text: bytes) -> None:
        def send() -> None:
            with contextlib.suppress(OSError):
                os.write(self._master, text)

        if self.delay:
            threading.Timer(2 * self.delay, send).start()
        else:
            send()


def _own_session() -> None:
    """Make the pty the controlling terminal of a session of its own, as a login does."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
