"""Files that are whole or absent: written aside, made durable, then renamed into place."""

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

from tuidl.errors import StorageError
from tuidl.files import NOFOLLOW, SAFE_DIRECTORY
from tuidl.runs.files import storage_error
from tuidl.text import clean

_TEMP_NAME = re.compile(r"\..+\.[0-9]+\.[0-9a-f]{12}\.tmp", re.DOTALL)
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | NOFOLLOW | getattr(os, "O_CLOEXEC", 0)
_APPEND = os.O_RDWR | os.O_APPEND | os.O_CREAT | NOFOLLOW | getattr(os, "O_CLOEXEC", 0)
_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}


def write_atomic(
    path: Path,
    data: bytes,
    *,
    exclusive: bool = False,
    durable: bool = True,
    guard: Callable[[], None] = lambda: None,
) -> None:
    """Write `data` to `path` so that a reader, or a crash at any moment, sees the old file or the new one.

    Who may read it is decided as in `set_mode`. With `exclusive` an existing file is never replaced: FileExistsError.
    Without `durable` nothing is forced to the disk: right for a heartbeat, wrong for anything that a power cut must
    not lose. `guard` is called when all is written and before the file takes its place, which it prevents by raising.
    Every other OSError becomes a StorageError naming the path; the temporary file is gone.
    """
    temp = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(6)}.tmp")
    try:
        _write_new(temp, data, durable)
        guard()
        if exclusive:
            _place_new(temp, path)
        else:
            os.replace(temp, path)  # noqa: PTH105 -- one name for the call that tests make fail
        if durable:
            sync_directory(path.parent)
    except FileExistsError:
        _remove(temp)
        raise
    except OSError as error:
        _remove(temp)
        raise storage_error(path, error) from error
    except BaseException:  # Ctrl-C must not leave a temporary file either
        _remove(temp)
        raise


def open_append(path: Path) -> int:
    """Open the regular file at `path` to append to it and to read it, made as by `set_mode` where it is not there.

    A symbolic link is not followed and a FIFO not waited for. Raises StorageError.
    """
    try:
        fd = os.open(path, _APPEND, 0o600)
    except OSError as error:
        raise storage_error(path, error) from error
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise StorageError(f"{clean(str(path))}: not a regular file; remove it or start a new run")
        if info.st_size == 0:
            set_mode(fd, path.parent)
    except OSError as error:
        os.close(fd)
        raise storage_error(path, error) from error
    except BaseException:
        os.close(fd)
        raise
    return fd


def set_mode(fd: int, directory: Path) -> None:
    """Let the group read the new file at `fd` exactly where it may read `directory`; nobody else may do anything.

    So who reads a run is decided once, by its directories, whoever writes into it later and under whatever umask.
    Raises OSError.
    """
    wanted = 0o640 if directory.stat().st_mode & stat.S_IRGRP else 0o600
    if stat.S_IMODE(os.fstat(fd).st_mode) != wanted:
        with contextlib.suppress(PermissionError):  # a file system that knows no permissions
            os.fchmod(fd, wanted)


def write_all(fd: int, data: bytes) -> None:
    """Write all of `data` to `fd`: the system may take less at once than it is given. Raises OSError."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def sync_directory(directory: Path) -> None:
    """Make the names in `directory` durable. Raises OSError, save on file systems that cannot sync a directory."""
    fd = os.open(directory, SAFE_DIRECTORY & ~NOFOLLOW)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.EOPNOTSUPP):
            raise
    finally:
        os.close(fd)


def sweep_temps(directory: Path) -> int:
    """Remove what crashed writers of `write_atomic` left in `directory`, and return how many files that were.

    Only for the one owner of the directory: a file another process is writing right now would be removed too.
    """
    removed = 0
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            if _TEMP_NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                removed += _remove(Path(entry.path))
    return removed


def _write_new(path: Path, data: bytes, durable: bool) -> None:
    fd = os.open(path, _CREATE, 0o600)
    try:
        set_mode(fd, path.parent)
        write_all(fd, data)
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)


def _place_new(temp: Path, path: Path) -> None:
    """Give the file at `temp` the name `path`, which must be free: a hard link refuses where a rename would replace."""
    try:
        path.hardlink_to(temp)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        # A file system without hard links. Looking first leaves a moment for a rival, but a run has one writer.
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        os.replace(temp, path)  # noqa: PTH105
    else:
        temp.unlink()


def _remove(path: Path) -> bool:
    try:
        path.unlink()
    except OSError:
        return False
    return True
