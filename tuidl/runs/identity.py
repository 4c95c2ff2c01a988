"""Who trains a run, told so exactly that no other process can be taken for it.

A process id alone lies: it is reused after a while, after a reboot, and in every container. Together with the boot, the
process id namespace and the moment the process started (in ticks since boot, which no change of the clock moves) it is
unique. A process is only ever signalled by `end`, which makes sure of all that first.
"""

import os
import platform
import select
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

_PROC = Path("/proc")
_GONE = {b"Z", b"X"}  # ended: a zombie keeps its number until its parent has asked for the exit code
_ENDING = 2.0  # seconds that a killed process may take to end, as one that waits for a disk does


class Identity(BaseModel):
    """One process on one machine.

    `boot_id` is empty and `pid_namespace` 0 on systems that have none. `start_ticks` is the time the process
    started: clock ticks since boot on Linux, elsewhere hundredths of a second since 1970.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    host: str
    boot_id: str
    pid: Annotated[int, Field(gt=0, lt=2**31)]
    pid_namespace: int
    start_ticks: int
    uid: int

    @classmethod
    def current(cls) -> "Identity":
        """Return the identity of this process."""
        pid = os.getpid()
        return cls(
            host=platform.node(),
            boot_id=_boot_id(),
            pid=pid,
            pid_namespace=_pid_namespace(),
            start_ticks=_start_ticks(pid) or 0,
            uid=os.getuid(),
        )


def alive(identity: Identity) -> bool | None:
    """Say whether the process of `identity` still runs: True, False, or None when that cannot be told from here."""
    boot_id = _boot_id()
    if identity.boot_id != boot_id:
        # Another boot of this machine: it ended with that boot. Another machine: who knows.
        return False if identity.host == platform.node() else None
    if not boot_id and identity.host != platform.node():
        return None
    if identity.pid_namespace != _pid_namespace():
        return None  # the same number is another process in there
    try:
        ticks = _start_ticks(identity.pid)
    except OSError:
        return None
    if ticks is None and _may_be_hidden(identity):
        return None
    return ticks == identity.start_ticks


def end(identity: Identity, log: Path) -> bool:
    """Kill the process of `identity`, that one and no other; False when there is no such process (any more).

    Returns once it has ended, or after two seconds. Raises PermissionError when it is another user's or does not have
    `log` open for writing, as a trainer has, OSError when the system refuses otherwise.
    """
    try:
        process = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return False
    except (AttributeError, OSError):  # not Linux, or an old one: a moment lies between look and signal, unavoidably
        return _kill(identity, log, lambda: os.kill(identity.pid, signal.SIGKILL))
    try:
        # Looked at once it is open: from here on the descriptor stands for this process, whoever gets its number next.
        sent = _kill(identity, log, lambda: signal.pidfd_send_signal(process, signal.SIGKILL))
        if sent:
            select.select([process], [], [], _ENDING)
        return sent
    finally:
        os.close(process)


def _writes(pid: int, path: Path) -> bool:
    """Return whether process `pid` has the file at `path` open for writing, as far as this user may know."""
    import psutil  # takes longer to load than all else here, and is hardly ever needed

    try:
        return any(
            getattr(file, "mode", "a") != "r" and Path(file.path).samefile(path)
            for file in psutil.Process(pid).open_files()
        )
    except (psutil.Error, OSError):
        return False


def _kill(identity: Identity, log: Path, send: Callable[[], None]) -> bool:
    if alive(identity) is not True:
        return False
    if identity.uid != os.geteuid() or _owner(identity.pid) not in (identity.uid, None):
        raise PermissionError("it belongs to another user")
    if not _writes(identity.pid, log):
        raise PermissionError(f"process {identity.pid} does not train this run, whatever its status says")
    try:
        send()
    except ProcessLookupError:
        return False
    return True


def _owner(pid: int) -> int | None:
    """Return the user who runs process `pid`, None where /proc does not tell."""
    try:
        return (_PROC / str(pid)).stat().st_uid
    except OSError:
        return None


def _boot_id() -> str:
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text("ascii").strip()
    except (OSError, ValueError):
        return ""


def _pid_namespace() -> int:
    try:
        return (_PROC / "self/ns/pid").stat().st_ino
    except OSError:
        return 0


def _start_ticks(pid: int) -> int | None:
    """Return when process `pid` started, or None when there is no such running process. Raises OSError."""
    if not (_PROC / "self/stat").exists():
        return _start_elsewhere(pid)
    try:
        text = (_PROC / str(pid) / "stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the program's name in brackets and may itself hold blanks and brackets.
    fields = text.rpartition(b")")[2].split()
    return None if fields[0] in _GONE else int(fields[19])


def _start_elsewhere(pid: int) -> int | None:
    import psutil  # slow to load, and Linux does not need it

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else round(process.create_time() * 100)
    except psutil.NoSuchProcess:
        return None
    except psutil.Error as error:
        raise OSError(str(error)) from error


def _may_be_hidden(identity: Identity) -> bool:
    """Say whether /proc may hide the process, as it does from other users when mounted with `hidepid`."""
    if not _boot_id() or identity.uid == os.geteuid() or os.geteuid() == 0:
        return False
    return not (_PROC / "1/stat").exists()
