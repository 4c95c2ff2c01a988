"""Finding and reading the pinned files of a data set: unpacked, `.gz`, `.xz` or inside the official tar archive.

Everything is unpacked in memory and its sha256 compared with the pin before a byte of it is used, so it does not
matter who may write to the directory, and damaged data is never trained on. Standard library only.
"""

import gzip
import hashlib
import lzma
import os
import tarfile
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import platformdirs

from tuidl.errors import DataError
from tuidl.files import expand
from tuidl.spec.datasets import DataFile, DataSet
from tuidl.text import clean

Form = Literal["plain", "gz", "xz", "tar"]
CHUNK = 1 << 20  # bytes read at a time
XZ_MEMORY_LIMIT = 256 << 20  # bytes an .xz file may ask for its dictionary; the strongest setting of xz needs 65 MiB


class MissingError(DataError):
    """Files of a data set are nowhere on the search path."""


class DamagedError(DataError):
    """A file of a data set is there but is empty, cut off, or not what it should be."""


@dataclass(frozen=True)
class Copy:
    """One copy of a data file on the disk and the form it is kept in."""

    path: Path
    form: Form


@dataclass(frozen=True)
class Located:
    """What a look at names and sizes tells about a data set; `size` is in bytes on the disk, `note` one line."""

    state: Literal["built in", "yours", "present", "incomplete", "damaged", "absent"]
    where: Path | None
    size: int
    note: str


def data_dir(override: Path | str | None = None) -> Path:
    """Return the data directory: `override`, else $TUIDL_DATA_DIR, else the user's data directory."""
    chosen = override or os.environ.get("TUIDL_DATA_DIR")
    return expand(chosen) if chosen else platformdirs.user_data_path("tuidl") / "data"


def search_path(override: Path | str | None = None) -> list[Path]:
    """Return the directories that are searched: the data directory, then `./data`, which is only ever read."""
    return list(dict.fromkeys([data_dir(override), Path("data")]))


def copies(file: DataFile, dirs: Iterable[Path]) -> list[Copy]:
    """Return the copies of `file` that lie in `dirs`, in the order in which they are tried."""
    found = []
    for directory in dirs:
        plain = directory / file.path
        candidates = [
            Copy(plain, "plain"),
            Copy(plain.with_name(plain.name + ".gz"), "gz"),
            Copy(plain.with_name(plain.name + ".xz"), "xz"),
        ]
        if file.download.path.endswith(".tar.gz"):
            candidates.append(Copy(directory / file.download.path, "tar"))
        # Only regular files: opening a named pipe would wait for ever. An unreadable directory holds nothing for us.
        found += [copy for copy in candidates if os.path.isfile(copy.path)]  # noqa: PTH113 (Path.is_file may raise)
    return found


def locate(dataset: DataSet, dirs: Sequence[Path]) -> Located:
    """Look for the files of `dataset` by name and size, without reading them (fast; `read_dataset` makes sure)."""
    if dataset.built_in:
        return Located("built in", None, 0, "made on the spot, nothing to fetch")
    if not dataset.files:
        return Located("yours", None, 0, "name a UTF-8 file with --set data.path=FILE")
    best = [copies(file, dirs) for file in dataset.files]
    used = list(dict.fromkeys(found[0].path for found in best if found))
    size = sum(path.stat().st_size for path in used)
    where = used[0].parent if used else None
    fix = f"run: tuidl data get {dataset.key}"
    if not used:
        return Located("absent", None, 0, fix)
    for file, found in zip(dataset.files, best, strict=True):
        if found and not any(_size_fits(copy, file) for copy in found):
            return Located("damaged", where, size, f"{found[0].path.name} has a wrong size; {fix}")
    if not all(best):
        return Located("incomplete", where, size, f"{len(best) - sum(map(bool, best))} files are missing; {fix}")
    return Located("present", where, size, f"to check the content, run: tuidl data verify {dataset.key}")


def _size_fits(copy: Copy, file: DataFile) -> bool:
    """Say whether the size of `copy` may be right, from its length or the length that its form tells cheaply."""
    size = copy.path.stat().st_size
    if copy.form == "tar":
        return size == file.download.size
    if copy.form == "gz" and size > 4:
        with copy.path.open("rb") as stream:  # gzip ends with the unpacked length in 4 bytes (RFC 1952)
            stream.seek(-4, os.SEEK_END)
            return int.from_bytes(stream.read(), "little") == file.size % 2**32
    return size > 0 if copy.form == "xz" else size == file.size


def read_dataset(dataset: DataSet, dirs: Sequence[Path]) -> dict[str, bytes]:
    """Return the unpacked and verified content of every file of `dataset`, by its path.

    Of several copies of a file the first sound one is taken. Unpacking runs in threads, one per processor core.

    Raises:
        DamagedError: a file is there, but no copy of it is sound.
        MissingError: a file is nowhere in `dirs`.
    """
    with ThreadPoolExecutor(max_workers=min(len(dataset.files), len(_cores())) or 1) as pool:
        tried = list(pool.map(lambda file: _first_sound(dataset.key, file, dirs), dataset.files))
    sound = {file.path: content for file, content in zip(dataset.files, tried, strict=True) if content is not None}
    wanted = [file for file in dataset.files if file.path not in sound]
    problem: DamagedError | None = None
    for archive in dict.fromkeys(copy.path for file in wanted for copy in copies(file, dirs) if copy.form == "tar"):
        # One pass over a tar archive delivers all of its members; by name it would be unpacked once per member.
        try:
            sound |= read_tar(dataset.key, archive, wanted)
            break
        except DamagedError as error:
            problem = problem or error
    else:
        if problem is not None:
            raise problem
    missing = [file.path for file in dataset.files if file.path not in sound]
    if missing:
        places = " or ".join(clean(str(directory)) for directory in dirs)
        what = missing[0] + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
        raise MissingError(
            f"data set {dataset.key!r}: {what} not found in {places}; "
            f"run `tuidl data get {dataset.key}` or name the directory with --data-dir"
        )
    return sound


def _cores() -> Sequence[int]:
    """Return the processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return range(os.cpu_count() or 1)


def _first_sound(key: str, file: DataFile, dirs: Sequence[Path]) -> bytes | None:
    """Return the content of the first sound copy outside of tar archives, None if there is no copy at all.

    Raises DamagedError if there are copies and every one is damaged, unless a tar archive may still hold the file.
    """
    found = copies(file, dirs)
    problem: DamagedError | None = None
    for copy in found:
        try:
            if copy.form != "tar":
                return read_copy(key, file, copy)
        except DamagedError as error:
            problem = problem or error
    if problem is not None and not any(copy.form == "tar" for copy in found):
        raise problem
    return None


def read_copy(key: str, file: DataFile, copy: Copy) -> bytes:
    """Return the unpacked content of one plain, gzip or xz copy of `file`; `key` names the data set in errors.

    Memory is bounded by the pinned size, whatever the archive claims.

    Raises:
        DamagedError: the file is empty, cut off, cannot be read or unpacked, or its sum differs.
    """
    try:
        if copy.path.stat().st_size == 0:
            raise _damaged(key, copy.path, "is empty")
        if copy.form == "xz":
            content = _unpack_xz(copy.path, file.size)
        else:
            with gzip.open(copy.path) if copy.form == "gz" else copy.path.open("rb") as stream:
                content = _read_capped(stream, file.size)
    except (OSError, zlib.error, lzma.LZMAError) as error:
        raise _damaged(key, copy.path, f"cannot be read ({clean(str(error))})") from error
    return _checked(key, file, copy.path, content)


def _read_capped(stream: IO[bytes] | gzip.GzipFile, size: int) -> bytes:
    """Read at most `size` + 1 bytes: enough to see that there are too many. A cut-off archive gives what it has."""
    content = bytearray()
    try:
        while len(content) <= size and (chunk := stream.read(min(CHUNK, size + 1 - len(content)))):
            content += chunk
    except EOFError:
        pass  # the archive ends early; the length says so below
    return bytes(content)


def _unpack_xz(path: Path, size: int) -> bytes:
    """Unpack at most `size` + 1 bytes of an .xz file, with a limit on the memory that its header may ask for."""
    if path.stat().st_size > size + size // 8 + CHUNK:
        raise lzma.LZMAError("larger than its content could be")
    unpacker = lzma.LZMADecompressor(memlimit=XZ_MEMORY_LIMIT)
    return unpacker.decompress(path.read_bytes(), max_length=size + 1)


def _checked(key: str, file: DataFile, path: Path, content: bytes) -> bytes:
    """Return `content` if it is exactly the pinned one."""
    if len(content) < file.size:
        raise _damaged(key, path, f"is truncated: it has {len(content):,} of {file.size:,} bytes")
    if len(content) > file.size:
        raise _damaged(key, path, f"is too long: it should hold {file.size:,} bytes")
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise _damaged(key, path, "has changed: its sha256 sum differs from the published one")
    return content


def _damaged(key: str, path: Path, what: str) -> DamagedError:
    """Return the error for a damaged file, with what to do about it."""
    return DamagedError(f"{clean(str(path))} {what}; run `tuidl data get {key}` to fetch it again")


def read_tar(key: str, archive: Path, files: Sequence[DataFile]) -> dict[str, bytes]:
    """Return the verified content of `files`, which are members of the official tar `archive`, by their path.

    The sum of the archive itself is checked first: headers of a crafted tar file can ask for any amount of memory.

    Raises:
        DamagedError: the archive or a member of it is not the official one.
    """
    download = files[0].download
    size = archive.stat().st_size
    if size != download.size:
        what = f"is truncated: it has {size:,} of {download.size:,} bytes" if size < download.size else "is too long"
        raise _damaged(key, archive, what if size else "is empty")
    wanted = {file.path: file for file in files}
    found = {}
    try:
        with archive.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != download.sha256:
                raise _damaged(key, archive, "has changed: its sha256 sum differs from the published one")
            stream.seek(0)
            with tarfile.open(fileobj=stream, mode="r|gz") as members:
                for member in members:
                    file = wanted.get(member.name)
                    content = members.extractfile(member) if file is not None and member.isreg() else None
                    if file is not None and content is not None:
                        found[file.path] = _checked(key, file, archive, _read_capped(content, file.size))
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise _damaged(key, archive, f"cannot be read ({clean(str(error))})") from error
    return found
