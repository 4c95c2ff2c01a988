"""The trainer's side of a run directory."""

import itertools
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tuidl.errors import StorageError
from tuidl.files import read_capped
from tuidl.runs.atomic import sweep_temps, write_atomic
from tuidl.runs.blocks import encode_block
from tuidl.runs.files import storage_error
from tuidl.runs.frames import RecordWriter
from tuidl.runs.jsonio import dump_json, load_object
from tuidl.runs.layout import RunPaths
from tuidl.runs.status import StatusWriter
from tuidl.text import clean

MAX_SPEC = 1024 * 1024  # bytes
MAX_ARTIFACT = 16 * 1024 * 1024  # bytes
ARTIFACT_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,119}")
_LONGEST_NAME = 100  # leaves room for a number
_RESERVED = {"event", "time"}


class RunWriter:
    """Writes everything of one run but its checkpoints. One process, the trainer, has one; used from one thread.

    Opening it on a run that was written before goes on where that stopped. Every method raises StorageError when the
    disk does not take what it should; the next call tries again, and what was written before stays sound.
    """

    def __init__(self, paths: RunPaths) -> None:
        """Open the logs. Raises StorageError."""
        self.paths = paths
        self.status = StatusWriter(paths)
        for directory in (paths.artifacts, paths.checkpoints, paths.control):
            _check_place(directory)
        for directory in (paths.directory, paths.artifacts):
            sweep_temps(directory)
        self._metrics = RecordWriter(paths.metrics)
        try:
            self._events = RecordWriter(paths.events)
        except BaseException:
            self._metrics.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def complete_spec(self, facts: Mapping[str, Any]) -> None:
        """Add to `run.json` what only the trainer knows: device, versions, the data really used."""
        complete_spec(self.paths, facts)

    def metrics(self, first_step: int, columns: Mapping[str, Sequence[float]], elapsed: tuple[float, float]) -> None:
        """Append a block: the values of consecutive steps from `first_step`, and the seconds at its two ends."""
        self._metrics.append(encode_block(first_step, columns, elapsed))

    def event(self, kind: str, step: int, *, elapsed: float | None = None, **fields: Any) -> None:
        """Append an event with its step, the wall time, the seconds of training if given, and any other fields."""
        if _RESERVED & fields.keys():
            raise ValueError("an event brings its own 'event' and 'time'")
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._events.append({"event": kind, "step": step, "time": time, "elapsed": elapsed, **fields})

    def answer(
        self, identifier: str, verb: str, step: int, *, ok: bool, text: str, elapsed: float | None = None
    ) -> None:
        """Append the answer to command `identifier`: whether it was done, and one line about it."""
        self.event("answer", step, elapsed=elapsed, id=identifier, verb=verb, ok=ok, text=text)

    def artifact(self, name: str, data: bytes) -> str:
        """Write an artifact and return its path inside the run directory, `artifacts/<name>`.

        An artifact never changes. When `name` exists with other content, as after a resume from an earlier step, the
        new one gets a number before its suffix: use the path returned. Raises ValueError for a name that does not match
        `ARTIFACT_NAME`, has `..` or is longer than 100, and for more than `MAX_ARTIFACT` bytes.
        """
        if not ARTIFACT_NAME.fullmatch(name) or ".." in name or len(name) > _LONGEST_NAME:
            raise ValueError(f"{name!r:.120} cannot be the name of an artifact")
        if len(data) > MAX_ARTIFACT:
            raise ValueError(f"an artifact of {len(data)} bytes is larger than {MAX_ARTIFACT}")
        stem, dot, suffix = name.partition(".")
        for number in itertools.count(1):
            path = self.paths.artifacts / (name if number == 1 else f"{stem}-{number}{dot}{suffix}")
            try:
                write_atomic(path, data, exclusive=True)
            except FileExistsError:
                if not _holds(path, data):
                    continue
            return f"{path.parent.name}/{path.name}"
        raise AssertionError("unreachable")

    def sync(self) -> None:
        """Wait until metrics and events are on the disk; to be called every few seconds and before a checkpoint."""
        self._metrics.sync()
        self._events.sync()

    def close(self) -> None:
        """Close the logs; a second call does nothing. Raises StorageError."""
        try:
            self._metrics.close()
        finally:
            self._events.close()


def write_spec(paths: RunPaths, spec: Mapping[str, Any]) -> None:
    """Write `run.json`, once: `spec` plus `created` (wall time), by whoever starts the run.

    Raises StorageError when it is there already or cannot be written, ValueError when it is larger than `MAX_SPEC`.
    """
    try:
        write_atomic(
            paths.spec,
            _packed({"created": datetime.now(UTC).isoformat(timespec="milliseconds"), **spec}),
            exclusive=True,
        )
    except FileExistsError:
        raise StorageError(f"{clean(str(paths.spec))} exists already and is never overwritten") from None


def complete_spec(paths: RunPaths, facts: Mapping[str, Any]) -> None:
    """Add `facts` to `run.json`, by the trainer once it knows them; what stands there already is never changed.

    Raises StorageError when the file is absent, damaged or cannot be written.
    """
    known = read_spec(paths)
    write_atomic(paths.spec, _packed({**facts, **known}))


def read_spec(paths: RunPaths) -> dict[str, Any]:
    """Return what `run.json` of a run holds. Raises StorageError when it is absent or damaged."""
    try:
        return load_object(read_capped(paths.spec, MAX_SPEC))
    except OSError as error:
        raise storage_error(paths.spec, error) from error
    except ValueError as error:
        raise StorageError(f"{clean(str(paths.spec))} is damaged: {clean(str(error), limit=120)}") from None


def _check_place(directory: Path) -> None:
    """Refuse a directory that leads out of the run, which somebody else may have made."""
    try:
        elsewhere = directory.is_symlink()
    except OSError as error:
        raise storage_error(directory, error) from error
    if elsewhere:
        raise StorageError(f"{clean(str(directory))}: leads out of the run; nothing is written")


def _packed(spec: Mapping[str, Any]) -> bytes:
    data = dump_json(spec)
    if len(data) > MAX_SPEC:
        raise ValueError(f"a spec of {len(data)} bytes is larger than {MAX_SPEC}")
    return data


def _holds(path: Path, data: bytes) -> bool:
    try:
        return read_capped(path, len(data)) == data
    except ValueError:  # longer, or no file at all
        return False
    except OSError as error:
        raise storage_error(path, error) from error
