"""What an error of the disk says."""

import errno
from pathlib import Path

from tuidl.errors import StorageError
from tuidl.text import clean

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
