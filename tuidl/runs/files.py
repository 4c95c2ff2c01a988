"""Small helpers all files of a run share: what an error of the disk says, and a read that cannot be tricked."""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

from tuidl.errors import StorageError
from tuidl.text import clean

# Flags that one system or the other lacks. Without O_NOFOLLOW a link planted in a shared directory would be followed;
# without O_NONBLOCK opening a FIFO would wait for ever.
NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
SAFE_READ = os.O_RDONLY | NOFOLLOW | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
SAFE_DIRECTORY = os.O_RDONLY | NOFOLLOW | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)

_ELSEWHERE = "choose another place with TUIDL_RUNS_DIR or --runs-dir"
_REASONS = {
    errno.ENOSPC: f"the disk is full; free some space or {_ELSEWHERE}",
    errno.EDQUOT: f"your disk quota is used up; free some space or {_ELSEWHERE}",
    errno.EROFS: f"the file system is read-only; {_ELSEWHERE}",
    errno.EACCES: f"permission denied; {_ELSEWHERE}",
    errno.EPERM: f"not permitted; {_ELSEWHERE}",
    errno.EIO: f"the disk reports an input/output error; {_ELSEWHERE}",
    errno.EEXIST: f"something that is not a directory is in the way; {_ELSEWHERE}",
    errno.ENOTDIR: f"a part of the path is not a directory; {_ELSEWHERE}",
}


def storage_error(path: Path, error: OSError) -> StorageError:
    """Return the StorageError that tells the user about `error` at `path`, and what to do."""
    reason = _REASONS.get(error.errno or 0) or (error.strerror or str(error))
    return StorageError(f"{clean(str(path))}: {reason}", full=error.errno in (errno.ENOSPC, errno.EDQUOT))


def open_regular(path: str | Path, *, dir_fd: int | None = None) -> BufferedReader:
    """Open the regular file at `path` for reading, below the directory `dir_fd` if given.

    A symbolic link in the last place is not followed, and nothing that is not a regular file is read or waited for.
    Raises OSError when it cannot be opened, ValueError when it is not a regular file.
    """
    fd = os.open(path, SAFE_READ, dir_fd=dir_fd)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return os.fdopen(fd, "rb")
    os.close(fd)
    raise ValueError("not a regular file")


def read_capped(path: str | Path, limit: int, *, dir_fd: int | None = None) -> bytes:
    """Return the bytes of the regular file at `path`, opened as by `open_regular`.

    Raises OSError, and ValueError when it is not a regular file or larger than `limit` bytes.
    """
    with open_regular(path, dir_fd=dir_fd) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"larger than {limit} bytes")
    return data
