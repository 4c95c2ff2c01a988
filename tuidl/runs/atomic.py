"""Files that are whole or absent: written aside, made durable, then renamed into place."""

import contextlib
import errno
import os
import re
import secrets
from pathlib import Path

from tuidl.runs.files import NOFOLLOW, SAFE_DIRECTORY, storage_error

_TEMP_NAME = re.compile(r"\..+\.[0-9]+\.[0-9a-f]{12}\.tmp", re.DOTALL)
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | NOFOLLOW | getattr(os, "O_CLOEXEC", 0)
_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}


def write_atomic(path: Path, data: bytes, *, mode: int = 0o600, exclusive: bool = False, durable: bool = True) -> None:
    """Write `data` to `path` so that a reader, or a crash at any moment, sees the old file or the new one.

    `mode` is the permission of the new file (before the umask). With `exclusive` an existing file is never replaced:
    FileExistsError. Without `durable` nothing is forced to the disk: right for a heartbeat, wrong for anything that a
    power cut must not lose. Every other OSError becomes a StorageError naming the path; the temporary file is gone.
    """
    temp = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(6)}.tmp")
    try:
        _write_new(temp, data, mode, durable)
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


def _write_new(path: Path, data: bytes, mode: int, durable: bool) -> None:
    fd = os.open(path, _CREATE, mode)
    try:
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
