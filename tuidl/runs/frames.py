"""The append-only file of records: one line each, with a checksum; one writer, any number of polling readers.

A line is the CRC-32 of the payload as eight lower-case hex digits, a space, the payload as compact JSON, a newline.
The first line of a file is its header, `{"format":1,"file":"metrics"}`, which readers check and keep to themselves.
Floats that are not finite are written as strings (see `jsonio`). A newline ends a record and stands nowhere else, so
whatever happens to one line, the next one is found again.
"""

import os
import zlib
from io import BufferedReader
from pathlib import Path
from typing import Any

from tuidl.errors import StorageError, UsageError
from tuidl.files import open_regular
from tuidl.runs.atomic import open_append
from tuidl.runs.files import storage_error
from tuidl.runs.jsonio import dump_json, load_object
from tuidl.text import clean

FORMAT = 1
MAX_LINE = 8 * 1024 * 1024  # bytes; a longer line is not ours

_datasync = getattr(os, "fdatasync", os.fsync)  # macOS has only fsync


class RecordWriter:
    """Appends records to one file. A file has one writer at a time, used from one thread."""

    def __init__(self, path: Path) -> None:
        """Open `path`, made if it is not there, and close a line that a crash left open. Raises StorageError."""
        self._path = path
        self._torn = b""  # what has to be written before the next record, so that it starts on its own line
        self._fd = open_append(path)
        try:
            self._open_file()
        except OSError as error:
            self.close()
            raise storage_error(path, error) from error
        except BaseException:
            self.close()
            raise

    def append(self, record: dict[str, Any]) -> None:
        """Write `record` as one line, with one system call.

        Raises StorageError when the disk does not take it all: that record is lost, later ones are not. Raises
        ValueError for a record longer than `MAX_LINE`.
        """
        self._write(_line(record))

    def sync(self) -> None:
        """Wait until all that was appended is on the disk. Raises StorageError."""
        try:
            _datasync(self._fd)
        except OSError as error:
            raise storage_error(self._path, error) from error

    def close(self) -> None:
        """Close the file; a second call does nothing. Raises StorageError."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            try:
                os.close(fd)
            except OSError as error:  # a network drive may say only now what became of the last write
                raise storage_error(self._path, error) from error

    def _open_file(self) -> None:
        size = os.fstat(self._fd).st_size
        if size == 0:
            self._write(_line({"format": FORMAT, "file": self._path.stem}))
            return
        os.lseek(self._fd, size - 1, os.SEEK_SET)
        if os.read(self._fd, 1) != b"\n":
            self._write(b"\n")  # if only the newline was missing, this saves the last record as well

    def _write(self, line: bytes) -> None:
        data = self._torn + line
        done = 0
        try:
            while done < len(data):
                done += os.write(self._fd, data[done:] if done else data)
        except OSError as error:
            # The caller hears that this record is lost, so it must not turn up later: "!" makes its checksum wrong
            # even when all of it but the newline reached the file.
            if done:
                self._torn = b"" if data[done - 1 : done] == b"\n" else b"!\n"
            raise storage_error(self._path, error) from error
        self._torn = b""


class RecordReader:
    """Reads the records of one file as they are appended. Needs no write access and takes no lock.

    `damaged` counts the lines that were no sound record and were left out. `restarted` counts how often the file was
    found replaced or cut short and was read again from its start: what was read before no longer holds then. `more`
    says that the last read ended at its limit and not at the end of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0  # of the first line not yet judged
        self._in_long_line = False
        self._file_id: tuple[int, int] | None = None
        self.damaged = 0
        self.restarted = 0
        self.more = False

    def read(self, most: int | None = None) -> list[dict[str, Any]]:
        """Return the sound records that were not returned before, in order; none when the file is absent.

        With `most`, stop after the line in which so many bytes are full: a long file is then read in slices of bounded
        time and memory, and `more` says whether to go on. The file is opened anew each time: over NFS that is what
        makes new data visible. Raises UsageError for a file in a format of another version, StorageError when the file
        cannot be read.
        """
        self.more = False
        try:
            file = open_regular(self._path)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise storage_error(self._path, error) from error
        except ValueError as error:
            raise StorageError(f"{clean(str(self._path))}: {error}") from None
        with file:
            self._notice_restart(os.fstat(file.fileno()))
            before = (self._offset, self._in_long_line, self.damaged)
            try:
                file.seek(self._offset)
                return self._read_lines(file, most)
            except OSError as error:  # what was read in vain is read again next time
                self._offset, self._in_long_line, self.damaged = before
                raise storage_error(self._path, error) from error

    def _notice_restart(self, info: os.stat_result) -> None:
        file_id = (info.st_dev, info.st_ino)
        if self._file_id is not None and (file_id != self._file_id or info.st_size < self._offset):
            self.restarted += 1
            self._offset = self.damaged = 0
            self._in_long_line = False
        self._file_id = file_id

    def _read_lines(self, file: BufferedReader, most: int | None) -> list[dict[str, Any]]:
        records = []
        begin = position = self._offset
        held = 0  # lines in doubt since `_offset`
        while True:
            if most is not None and position - begin >= most and not held:  # what is held is judged by what follows it
                self.more = bool(file.peek(1))
                break
            line = file.readline(MAX_LINE)
            if not line.endswith(b"\n") and len(line) < MAX_LINE:
                break  # not complete yet
            start, position = position, position + len(line)
            if self._in_long_line or not line.endswith(b"\n"):
                self.damaged += held + (not self._in_long_line)
                held = 0
                self._in_long_line = not line.endswith(b"\n")
                self._offset = position
                continue
            record = _record(line)
            if record is None and (held or b"\0" in line):
                # Over NFS bytes that have not arrived yet read as NUL. As long as nothing sound follows, they may
                # still come, so the line is looked at again next time.
                held += 1
                continue
            self.damaged += held + (record is None)
            held = 0
            if record is not None and not (start == 0 and self._is_header(record)):
                records.append(record)
            self._offset = position
        return records

    def _is_header(self, record: dict[str, Any]) -> bool:
        if record.keys() != {"format", "file"}:
            return False
        if record["format"] != FORMAT:
            raise UsageError(
                f"{clean(str(self._path))} has format {str(record['format'])[:20]!r}, this tuidl reads {FORMAT}: "
                "use the version of tuidl that wrote it"
            )
        return True


def _line(record: dict[str, Any]) -> bytes:
    payload = dump_json(record)
    line = b"%08x %b\n" % (zlib.crc32(payload), payload)
    if len(line) >= MAX_LINE:
        raise ValueError(f"a record of {len(line)} bytes is longer than {MAX_LINE}")
    return line


def _record(line: bytes) -> dict[str, Any] | None:
    """Return the record in `line`, or None when it is not exactly what a writer writes."""
    payload = line[9:-1]
    if line[:9] != b"%08x " % zlib.crc32(payload):
        return None
    try:
        return load_object(payload)
    except ValueError:
        return None
