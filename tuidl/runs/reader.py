"""A viewer's side of a run directory: polls, never writes, never locks."""

import os
from typing import Any

from tuidl.errors import StorageError, UsageError
from tuidl.files import SAFE_DIRECTORY, read_capped
from tuidl.runs.blocks import MetricsBlock, decode_block
from tuidl.runs.files import storage_error
from tuidl.runs.frames import RecordReader
from tuidl.runs.layout import RunPaths
from tuidl.runs.status import Status, read_status
from tuidl.runs.writer import ARTIFACT_NAME, MAX_ARTIFACT, read_spec
from tuidl.text import clean


class RunReader:
    """Reads one run as it grows. Everything it returns may come from a stranger's files: checked, but not cleaned."""

    def __init__(self, paths: RunPaths) -> None:
        self.paths = paths
        self._metrics = RecordReader(paths.metrics)
        self._events = RecordReader(paths.events)
        self._foreign = 0  # records that are whole but not what such a file holds

    @property
    def damaged(self) -> int:
        """How many records of both logs could not be used and were left out."""
        return self._metrics.damaged + self._events.damaged + self._foreign

    @property
    def restarted(self) -> int:
        """How often a log was found replaced and read anew; what was read of it before no longer holds then."""
        return self._metrics.restarted + self._events.restarted

    def spec(self) -> dict[str, Any]:
        """Return what `run.json` holds. Raises StorageError when it is absent or damaged."""
        return read_spec(self.paths)

    def status(self) -> Status | None:
        """Return the status, or None when it is absent or damaged."""
        return read_status(self.paths)

    def events(self) -> list[dict[str, Any]]:
        """Return the events not returned before. Each has `event` (text), `step`, `time` and `elapsed`.

        Raises StorageError or UsageError, as `RecordReader.read` does.
        """
        records = self._events.read()
        sound = [record for record in records if isinstance(record.get("event"), str) and _is_step(record.get("step"))]
        self._foreign += len(records) - len(sound)
        return sound

    @property
    def more(self) -> bool:
        """Whether the last call of `metrics` ended at its limit, and the next has more to read at once."""
        return self._metrics.more

    def metrics(self, most: int | None = None) -> list[MetricsBlock]:
        """Return the blocks not returned before, of about the next `most` bytes of the file where that is given.

        Raises StorageError or UsageError, as `RecordReader.read` does.
        """
        blocks = []
        for record in self._metrics.read(most):
            try:
                blocks.append(decode_block(record))
            except ValueError:
                self._foreign += 1
        return blocks

    def artifact(self, relative: str) -> bytes:
        """Return the bytes of the artifact that an event names as `artifacts/<name>`.

        Links are not followed, so nothing outside the run directory is ever read. Raises UsageError for any other
        kind of path, StorageError when it is absent, not a regular file, or larger than `MAX_ARTIFACT`.
        """
        folder, _, name = relative.partition("/")
        if folder != self.paths.artifacts.name or not ARTIFACT_NAME.fullmatch(name) or ".." in name:
            raise UsageError(f"{clean(relative, limit=120)!r} is not the path of an artifact")
        try:
            directory = os.open(self.paths.artifacts, SAFE_DIRECTORY)
            try:
                return read_capped(name, MAX_ARTIFACT, dir_fd=directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise storage_error(self.paths.artifacts / name, error) from error
        except ValueError as error:
            raise StorageError(f"{clean(str(self.paths.artifacts / name))}: {error}") from None


def _is_step(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
