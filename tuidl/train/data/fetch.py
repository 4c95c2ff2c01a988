"""Downloading data sets: https only, checked against the pinned sums, written aside and renamed into place.

Two processes may fetch into one directory at once: a lock file makes the second wait and then find the work done, and
where locks do not work each still writes to a file of its own. Standard library only.
"""

import contextlib
import hashlib
import http.client
import os
import queue
import secrets
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast

from tuidl.errors import DataError, StorageError
from tuidl.spec.datasets import DataFile, DataSet, Download
from tuidl.text import clean
from tuidl.train.data.files import CHUNK, DamagedError, copies, read_copy, read_tar

try:
    import fcntl
except ImportError:  # Windows has no fcntl; there every process simply downloads for itself
    fcntl = None  # type: ignore[assignment]

Progress = Callable[[str, int, int], None]  # what is going on, bytes done, bytes in all

TIMEOUT = 5.0  # seconds for each connection attempt and for each silence of the server
OPEN_LIMIT = 10.0  # seconds for an answer, name resolution included, which no socket timeout covers
LOCK_LIMIT = 900.0  # seconds to wait for another process that fetches into the same directory
LOCK_NAME = ".tuidl-fetch.lock"
STALE = 3600.0  # seconds after which an unfinished download of a process that was killed is swept


class NetworkError(Exception):
    """A download failed. `offline`: the network itself seems to be missing, so that other servers fail as well."""

    def __init__(self, reason: str, *, offline: bool = False) -> None:
        super().__init__(reason)
        self.offline = offline


class HttpsOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https addresses and refuses every other."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Return the request to follow, or raise URLError when it would leave https."""
        if not newurl.lower().startswith("https://"):
            raise urllib.error.URLError(f"refused a redirect away from https, to {clean(newurl, limit=200)}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch(dataset: DataSet, directory: Path, progress: Progress | None = None) -> list[Path]:
    """Bring every file of `dataset` into `directory` and return the paths that were downloaded.

    What is sound there already is kept; a damaged file is downloaded again and replaced.

    Raises:
        DataError: no network, no answer, or not the published content.
        StorageError: the directory cannot be written or the disk is full.
    """
    report = progress or (lambda what, done, total: None)
    with _storage(directory):
        directory.mkdir(parents=True, exist_ok=True)
    fetched = []
    with _lock(directory, report):
        # Looked at only now, with the lock held: another process may just have done the work.
        for download in dataset.downloads:
            wanted = [file for file in dataset.files if file.download == download]
            damaged = _damaged_copies(dataset.key, wanted, directory)
            if damaged is None:
                continue
            path = directory / download.path
            _download(dataset.key, download, directory, report)
            fetched.append(path)
            with _storage(directory):
                for copy in damaged:
                    if copy != path:  # a broken copy in another form would be met again at each load
                        copy.unlink(missing_ok=True)
    return fetched


def _damaged_copies(key: str, wanted: list[DataFile], directory: Path) -> list[Path] | None:
    """Return None if every wanted file has a sound copy in `directory`, else the copies that are damaged."""
    damaged, all_sound, archives = [], True, {}
    for file in wanted:
        sound = False
        for copy in copies(file, [directory]):
            if copy.form == "tar":
                archives[copy.path] = True
                continue
            try:
                read_copy(key, file, copy)
                sound = True
                break
            except DamagedError:
                damaged.append(copy.path)
        all_sound = all_sound and sound
    if all_sound and wanted:
        return None
    for archive in archives:
        try:
            if len(read_tar(key, archive, wanted)) == len(wanted):
                return None
        except DamagedError:
            damaged.append(archive)
    return damaged


def _download(key: str, download: Download, directory: Path, report: Progress) -> None:
    """Download one file from the first of its servers that has it."""
    reasons = []
    for url in download.urls:
        try:
            _download_from(url, download, directory, report)
            return
        except NetworkError as error:
            reasons.append(str(error))
            if error.offline:
                break
    raise DataError(
        f"cannot download data set {key!r} to {clean(str(directory))}: {'; '.join(dict.fromkeys(reasons))}. "
        f"Copy {download.path} there yourself, or name a directory that has it with --data-dir"
    )


def _download_from(url: str, download: Download, directory: Path, report: Progress) -> None:
    """Download one file from `url` beside its place, check it, make it durable and rename it into place."""
    target = directory / download.path
    with _storage(target.parent):  # what goes wrong with the network is a NetworkError, so any OSError is the disk's
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        aside = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
        # O_EXCL never follows a link that somebody has planted under this name; 0o666 leaves the mode to the umask.
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        try:
            with os.fdopen(descriptor, "wb") as file:
                _receive(url, download, file, report)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(target)
            _sync_directory(target.parent)
        finally:
            aside.unlink(missing_ok=True)


def _receive(url: str, download: Download, file: IO[bytes], report: Progress) -> None:
    """Write what `url` sends to `file` and raise NetworkError unless it is exactly the pinned content."""
    done, digest = 0, hashlib.sha256()
    for chunk in _chunks(url):
        done += len(chunk)
        if done > download.size:
            raise NetworkError(f"{_host(url)} sent more than the {download.size:,} bytes expected")
        digest.update(chunk)
        file.write(chunk)
        report(Path(download.path).name, done, download.size)
    if done < download.size:
        raise NetworkError(f"{_host(url)} sent only {done:,} of {download.size:,} bytes")
    if digest.hexdigest() != download.sha256:
        raise NetworkError(f"what {_host(url)} sent is not the published file (its sha256 sum differs)")


def _chunks(url: str) -> Iterator[bytes]:
    """Yield what the server sends, and turn whatever can go wrong on the way into a NetworkError."""
    if not url.startswith("https://"):
        raise NetworkError(f"refused {clean(url, limit=200)}: not an https address")
    try:
        with _open(url) as response:
            while chunk := response.read(CHUNK):
                yield chunk
    except urllib.error.HTTPError as error:
        raise NetworkError(f"{_host(url)} answered {error.code} {clean(str(error.reason), limit=100)}") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        offline = isinstance(reason, socket.gaierror | NoAnswerError)
        raise NetworkError(
            f"{_host(url)}: {clean(str(reason) or type(reason).__name__, limit=200)}", offline=offline
        ) from error


class NoAnswerError(TimeoutError):
    """Not even the name of the server was resolved, or no connection made, in time."""


def _open(url: str) -> IO[bytes]:
    """Return the response of the server at `url`, or raise OSError within `OPEN_LIMIT` seconds.

    It is opened in a thread because name resolution knows no time limit and can take half a minute without a network.
    """
    answer: queue.SimpleQueue[IO[bytes] | BaseException] = queue.SimpleQueue()

    def work() -> None:
        try:
            answer.put(open_url(urllib.request.Request(url, headers={"User-Agent": "tuidl"}), TIMEOUT))
        except BaseException as error:  # handed to the thread that waits
            answer.put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        result = answer.get(timeout=OPEN_LIMIT)
    except queue.Empty:
        raise NoAnswerError(f"no answer within {OPEN_LIMIT:.0f} s") from None
    if isinstance(result, BaseException):
        raise result
    return result


def open_url(request: urllib.request.Request, timeout: float) -> IO[bytes]:
    """Open `request` and follow redirects within https; certificates are verified."""
    return cast(IO[bytes], urllib.request.build_opener(HttpsOnly()).open(request, timeout=timeout))


def _host(url: str) -> str:
    """Return the server's name, for messages."""
    return url.split("/")[2] if url.count("/") > 2 else url


@contextlib.contextmanager
def _storage(directory: Path) -> Iterator[None]:
    """Turn an OSError of the disk into a StorageError that names the directory."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(
            f"cannot write the data directory {clean(str(directory))}: {reason}. Name another one with --data-dir"
        ) from error


@contextlib.contextmanager
def _lock(directory: Path, report: Progress) -> Iterator[None]:
    """Hold the lock of `directory`, as far as the file system has locks.

    The kernel frees it when its owner dies, so it cannot go stale. Where it cannot be had (another user's directory,
    a file system without locks, an owner that hangs) the work goes on without: at worst it is done twice.
    """
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        descriptor = os.open(directory / LOCK_NAME, flags, 0o666)  # never truncated: it may be a link to someone's file
    except OSError:
        yield
        return
    try:
        if fcntl is not None:
            _wait_for(descriptor, fcntl, report)
        yield
    finally:
        os.close(descriptor)  # frees the lock; the file stays, for removing it would let two owners in


def _wait_for(descriptor: int, module: Any, report: Progress) -> None:
    """Take the lock on `descriptor`, or give up after `LOCK_LIMIT` seconds or where there are no locks."""
    end = time.monotonic() + LOCK_LIMIT
    while time.monotonic() < end:
        try:
            module.lockf(descriptor, module.LOCK_EX | module.LOCK_NB)
            return
        except (BlockingIOError, PermissionError):  # POSIX allows EAGAIN and EACCES for "held by another process"
            report("waiting for another process that fetches data", 0, 0)
            time.sleep(0.2)
        except OSError:
            return


def _sweep(target: Path) -> None:
    """Remove unfinished downloads of `target` whose process was killed long ago."""
    for left in target.parent.glob(f".{target.name}.*.part"):
        with contextlib.suppress(OSError):
            if time.time() - left.lstat().st_mtime > STALE:
                left.unlink()


def _sync_directory(directory: Path) -> None:
    """Make a rename in `directory` durable, where the system can."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
