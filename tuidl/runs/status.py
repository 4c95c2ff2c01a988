"""How a run stands right now: one small file, replaced as a whole by the trainer and polled by the viewers."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from tuidl.files import read_capped
from tuidl.runs.atomic import write_atomic
from tuidl.runs.identity import Identity, alive
from tuidl.runs.jsonio import as_float, dump_json
from tuidl.runs.layout import RunPaths

LiveState = Literal["starting", "running", "paused", "evaluating"]
FinalState = Literal["completed", "stopped", "diverged", "failed"]
LIVE_STATES: frozenset[str] = frozenset(get_args(LiveState))
FINAL_STATES: frozenset[str] = frozenset(get_args(FinalState))

MAX_BYTES = 64 * 1024
_LONGEST_REASON = 2000
_Number = Annotated[float, BeforeValidator(as_float)]
_Count = Annotated[int, Field(ge=0)]


class Best(BaseModel):
    """The best evaluation so far: which metric, its value, at which step, and the checkpoint file that holds it."""

    model_config = ConfigDict(frozen=True, strict=True)

    metric: str
    value: _Number
    step: _Count
    checkpoint: str | None = None


class Status(BaseModel):
    """How a run stands. `elapsed` is in seconds of training; totals are None when the run has no planned end.

    `heartbeat` grows by one with every update: a viewer tells with its own clock how long it has stood still.
    `updated` is wall time, to be shown and never compared between machines. `exit_code` is None while the run lives.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    state: LiveState | FinalState = "starting"
    reason: str = ""
    step: _Count = 0
    total_steps: _Count | None = None
    epoch: _Count = 0
    total_epochs: _Count | None = None
    heartbeat: _Count = 0
    identity: Identity | None = None
    exit_code: int | None = None
    latest: dict[str, _Number] = {}
    best: Best | None = None
    elapsed: _Number = 0.0
    updated: str = ""


class StatusWriter:
    """Writes the status of one run; made by its trainer, whose identity it records."""

    def __init__(self, paths: RunPaths) -> None:
        """Begin with state `starting` of this process; nothing is written before the first `update`."""
        self._path = paths.status
        self.guard: Callable[[], None] = lambda: None  # looks whether the run is still this process's, or raises
        self.current = Status(identity=Identity.current())

    def update(self, **changes: Any) -> Status:
        """Change the named fields, count the heartbeat up, replace the file, and return the new status.

        Only a final state is forced to the disk: a heartbeat need not survive a power cut. How often to call is the
        caller's choice. Raises TypeError for an unknown field, ValueError for a bad value, StorageError.
        """
        unknown = changes.keys() - Status.model_fields.keys()
        if unknown:
            raise TypeError(f"a status has no field {', '.join(sorted(unknown))}")
        fields = self.current.model_dump() | {
            "heartbeat": self.current.heartbeat + 1,
            "updated": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }
        for name, value in changes.items():
            fields[name] = value.model_dump() if isinstance(value, BaseModel) else value
        fields["reason"] = str(fields["reason"])[:_LONGEST_REASON]
        data = dump_json(fields)
        if len(data) > MAX_BYTES:
            raise ValueError(f"a status of {len(data)} bytes is larger than {MAX_BYTES}")
        status = Status.model_validate_json(data)  # what is written is what a reader accepts
        write_atomic(self._path, data, durable=status.state in FINAL_STATES, guard=self.guard)
        self.current = status
        return status


def write_end(paths: RunPaths, last: Status, state: FinalState, reason: str, exit_code: int) -> None:
    """Write how a run has ended whose trainer can no longer do so; `last` is what that wrote last."""
    ended = last.model_copy(update={
        "state": state, "reason": reason, "exit_code": exit_code, "heartbeat": last.heartbeat + 1,
        "updated": datetime.now(UTC).isoformat(timespec="milliseconds"),
    })  # fmt: skip
    write_atomic(paths.status, dump_json(ended.model_dump()))


def read_status(paths: RunPaths) -> Status | None:
    """Return the status in the file, or None when it is absent, damaged or too large to be one."""
    try:
        return Status.model_validate_json(read_capped(paths.status, MAX_BYTES))
    except (OSError, ValidationError, ValueError):
        return None


def observed_state(status: Status) -> str:
    """Return the state the file tells, or `lost` when it tells of a live run whose trainer is surely dead."""
    if status.state in LIVE_STATES and status.identity is not None and alive(status.identity) is False:
        return "lost"
    return status.state


def read_state(paths: RunPaths) -> tuple[Status | None, str]:
    """Return the status and the observed state (`unreadable` without a status).

    Looks twice before it calls a run lost: the trainer may have written its end and left between the two looks.
    """
    status = read_status(paths)
    if status is not None and observed_state(status) == "lost":
        status = read_status(paths)
    return status, "unreadable" if status is None else observed_state(status)
