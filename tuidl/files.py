"""Opening files whose names, or whose kinds, come from somewhere else."""

import os
import stat
from io import BufferedReader
from pathlib import Path

from tuidl.errors import UsageError
from tuidl.text import clean

# Flags that one system or the other lacks. Without O_NOFOLLOW a link planted in a shared directory would be followed;
# without O_NONBLOCK opening a FIFO would wait for ever.
NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
SAFE_READ = os.O_RDONLY | NOFOLLOW | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
SAFE_DIRECTORY = os.O_RDONLY | NOFOLLOW | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)


def expand(text: str | Path) -> Path:
    """Return the path with the home directory for `~` and `~user`; UsageError where nobody knows it."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{clean(str(text), limit=200)!r}: {clean(str(error), limit=200)}") from None


def open_regular(path: str | Path, *, dir_fd: int | None = None, follow: bool = False) -> BufferedReader:
    """Open the regular file at `path` for reading, below the directory `dir_fd` if given.

    A symbolic link in the last place is not followed unless `follow`, for files that the user has named, and nothing
    that is not a regular file is read or waited for. Raises OSError when it cannot be opened, ValueError when it is
    not a regular file.
    """
    fd = os.open(path, SAFE_READ & ~NOFOLLOW if follow else SAFE_READ, dir_fd=dir_fd)
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
