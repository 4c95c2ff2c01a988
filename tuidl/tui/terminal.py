"""The end of the terminal: however it goes, no viewer stays behind."""

import os
import select
import signal
import sys
import threading
from collections.abc import Callable

HUNG_UP = 129
LAST_RESORT = 1.5  # seconds that an orderly exit may take before the process is ended


def watch(on_terminate: Callable[[], None]) -> None:
    """End this process when its terminal is gone, and call `on_terminate` on SIGTERM so that it can restore it.

    A hang-up need not come as a signal: it may be ignored (nohup), or there is no controlling terminal. Reading from a
    terminal that is gone then returns at once, for ever, and an event loop spins on it; so a thread sleeps in the
    kernel until the terminal is gone.
    """

    def terminate(number: int, frame: object) -> None:
        end_at_last()
        on_terminate()

    signal.signal(signal.SIGTERM, terminate)
    threading.Thread(target=_wait_for_hang_up, args=(sys.__stdin__.fileno(),), daemon=True).start()  # type: ignore[union-attr]


def end_at_last() -> None:
    """End the process in a while even if an orderly exit is stuck, as on a terminal that nobody reads."""
    timer = threading.Timer(LAST_RESORT, os._exit, args=(128 + signal.SIGTERM,))
    timer.daemon = True
    timer.start()


def _wait_for_hang_up(descriptor: int) -> None:
    poll = select.poll()
    poll.register(descriptor, 0)  # no readiness is asked for: only the hang-up and errors wake this up
    while True:
        try:
            found = poll.poll()
        except InterruptedError:
            continue
        except OSError:
            return
        if any(flags & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, flags in found):
            os._exit(HUNG_UP)


def is_remote() -> bool:
    """Return whether the terminal is at the other end of an SSH connection."""
    return bool(os.environ.get("SSH_CONNECTION") or os.environ.get("SSH_TTY"))
