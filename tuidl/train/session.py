"""One run from its directory: read the spec, choose the hardware, load the data, train, record, say how it ended."""

import contextlib
import dataclasses
import os
import platform
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch

import tuidl
from tuidl.errors import DeviceError, DivergedError, OwnershipError, StorageError, TuidlError
from tuidl.gpus import look_at_nvidia
from tuidl.runs import Inbox, RunPaths, read_spec
from tuidl.runs.control import Command, Refused
from tuidl.runs.launch import open_log
from tuidl.runs.ownership import Claim
from tuidl.runs.ownership import claim as claim_run
from tuidl.spec import RunSpec, validate
from tuidl.spec.tasks import TASKS
from tuidl.text import clean
from tuidl.train import events
from tuidl.train.costs import with_costs
from tuidl.train.data.load import load
from tuidl.train.device import Hardware, choose
from tuidl.train.events import Event
from tuidl.train.loop import fit
from tuidl.train.models.layers import resolve
from tuidl.train.recorder import Recorder
from tuidl.train.resume import Past, Wishes, look_back
from tuidl.train.tasks.base import Task
from tuidl.train.threads import fit_threads

Listener = Callable[[Event, Sequence[str]], None]  # an event, and the files that were written for it


class Door:
    """Where the loop gets its commands: the run's inbox, and the signals that this process has received."""

    def __init__(self, paths: RunPaths) -> None:
        self.signal: int | None = None  # set by a signal handler; the loop then stops with a checkpoint
        self.save = False  # set by a signal handler; the loop then writes a checkpoint and goes on
        self.open = False  # whether the loop is running and will look at `signal`
        self._inbox = Inbox(paths)
        self._told = False
        self._kept: list[Command] = []

    def wants_end(self) -> bool:
        """Return whether the run is to end, asked while nothing else can be done; all that came stays for `poll`."""
        self._kept += self._look()
        return self.signal is not None or any(command.verb == "stop" for command in self._kept)

    def poll(self) -> list[Command]:
        """Return the commands that have come, junk turned into something that the loop refuses."""
        kept, self._kept = self._kept, []
        return kept + self._look()

    def _look(self) -> list[Command]:
        found = [
            Command(item.id, f"refused: {item.reason}") if isinstance(item, Refused) else item
            for item in self._inbox.poll()
        ]
        if self.save:
            self.save = False
            found.append(Command("signal-save", "checkpoint"))
        if self.signal is not None and not self._told:
            self._told = True
            found.append(Command(f"signal-{self.signal}", "stop"))
        return found


def conduct(paths: RunPaths, listen: Listener, door: Door, wishes: Wishes = Wishes()) -> int:  # noqa: B008 - frozen
    """Carry out the run in `paths` and return its exit code; `listen` is told each event after it is recorded.

    Raises TuidlError, with its exit code, for everything a user can meet; the run directory then says `failed` and why.
    """
    asked = read_spec(paths)
    claim = claim_run(paths, wishes.take_over)
    try:
        return _conduct(paths, asked, listen, door, wishes, claim)
    finally:
        with contextlib.suppress(StorageError):
            claim.release()


def _conduct(paths: RunPaths, asked: dict[str, Any], listen: Listener, door: Door, wishes: Wishes, claim: Claim) -> int:
    past = look_back(paths, asked, wishes) if wishes.resume else None
    spec = past.spec if past else validate(asked["spec"], where=str(paths.spec))
    recorder = Recorder(paths, spec, claim, give_up=door.wants_end, tell=lambda event: listen(event, ()))
    try:
        recorder.begin()
        for event in _train(asked, spec, past, door, recorder, wishes):
            listen(event, recorder.record(event))
            if isinstance(event, events.Finished):
                finished = event
        code = _exit_code(finished.status, door)
        recorder.status(state=finished.status, reason=finished.reason, step=finished.step, exit_code=code)
        return code
    except OwnershipError:
        raise  # the run is another's, and so is its status
    except BaseException as error:
        claim.check()  # a trainer that has taken the run over sweeps the files of this one: that is why it failed then
        known = translate(error)
        if known is not error or not isinstance(error, TuidlError):  # one of tuidl's own says all there is to say
            _log(paths, error)
        with contextlib.suppress(StorageError, OSError):  # the disk that failed the run cannot take its epitaph either
            recorder.fail(reason_of(known), exit_code_of(known))
        if known is error:
            raise
        raise known from error
    finally:
        recorder.close()


def _train(
    asked: dict[str, Any], spec: RunSpec, past: Past | None, door: Door, recorder: Recorder, wishes: Wishes
) -> Iterator[Event]:
    hardware = choose(spec.device, spec.precision, spec.training.threads)
    directory = Path(asked["data_dir"]) if asked.get("data_dir") else None
    data = load(
        spec.data, directory=directory, device=hardware.device, progress=wishes.progress, download=wishes.download
    )
    plain = spec.model_copy(update={"training": spec.training.model_copy(update={"compile": False})})
    hardware = fit_threads(hardware, spec.training.threads, lambda trial: build_task(plain, data, trial))
    origin = data.origin
    if past:
        past.check_data(origin.files)
        yield from past.events(hardware)
    recorder.writer.complete_spec(
        {
            "device": {
                "name": hardware.name,
                "kind": str(hardware.device),
                "precision": hardware.precision,
                "threads": hardware.threads,
            },
            "reasons": list(hardware.reasons),
            "versions": versions(),
            "data": dataclasses.asdict(origin),
        }
    )
    saved = past.saved if past else None
    if origin.stand_in and not saved:
        yield events.Warned(0, origin.reason)
    task = build_task(spec, data, hardware)
    door.open = True
    stream = with_costs(fit(task, spec, door, saved=saved), hardware.device, wishes.asked_at)
    yield from (_with_hardware(event, hardware, data) for event in stream)


def build_task(spec: RunSpec, data: Any, hardware: Hardware) -> Task:
    """Return the task of `spec` with freshly initialised models; the seed decides every random number from here on."""
    torch.manual_seed(spec.seed)
    task: Task = resolve(TASKS[spec.task])(spec, data, hardware)
    if spec.training.compile:
        for network in task.networks():
            network.compile()  # in place, so that the weights keep their names
    return task


def _with_hardware(event: Event, hardware: Hardware, data: Any) -> Event:
    if not isinstance(event, events.Started):
        return event
    origin = data.origin
    facts = {
        **event.facts, "device": hardware.name, "device_kind": str(hardware.device),
        "precision": hardware.precision, "reasons": list(hardware.reasons),
        "data": origin.used, "stand_in": origin.stand_in,
    }  # fmt: skip
    return events.Started(event.step, facts)


def versions() -> dict[str, str]:
    """Return the versions that decide whether a run can be repeated to the bit."""
    return {
        "tuidl": tuidl.__version__, "python": platform.python_version(), "torch": torch.__version__,
        "numpy": numpy.__version__, "cuda": torch.version.cuda or "", "platform": platform.platform(),
    }  # fmt: skip


def translate(error: BaseException) -> BaseException:
    """Return a device's or disk's error in the user's words, any other as it is."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        sign in text for sign in ("out of memory", "can't allocate memory")
    ):
        on_gpu = isinstance(error, torch.cuda.OutOfMemoryError) and torch.cuda.is_available()
        return DeviceError(
            "the device is out of memory; lower training.batch_size or the model's width, or choose another --device"
            + (others_on_gpu() if on_gpu else "")
        )
    if isinstance(error, torch.AcceleratorError) or (
        isinstance(error, RuntimeError) and any(sign in text for sign in ("CUDA error", "cuDNN error", "CUBLAS_STATUS"))
    ):
        return DeviceError(f"the device failed: {clean(text, limit=200)}; tuidl doctor says more")
    if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        return DeviceError(
            f"torch cannot compile the model here ({clean(text, limit=200)}); set training.compile=false"
        )
    if isinstance(error, OSError) and not isinstance(error, TuidlError):
        return StorageError(f"{clean(str(error), limit=300)}")
    return error


def others_on_gpu() -> str:
    """Return who else holds most of the GPUs' memory, as the end of a sentence."""
    held = [
        (user.memory or 0, f"process {user.pid}{' of ' + user.user if user.user else ''} holds "
         f"{(user.memory or 0) / 2**30:.1f} GiB of GPU {gpu.index}")
        for gpu in look_at_nvidia().gpus for user in gpu.users if user.pid != os.getpid()
    ]  # fmt: skip
    return "".join(f"; {clean(text, limit=80)}" for _, text in sorted(held, reverse=True)[:2])


def reason_of(error: BaseException) -> str:
    """Return in one line why a run has failed."""
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return "ended at once by a signal"
    return clean(str(error) or type(error).__name__, limit=500)


def exit_code_of(error: BaseException) -> int:
    """Return what the process ends with after `error`."""
    if isinstance(error, TuidlError):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return 130
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return error.code
    return 1


def _exit_code(status: str, door: Door) -> int:
    if status == "diverged":
        return DivergedError.exit_code
    if status == "stopped" and door.signal is not None:
        return 128 + door.signal
    return 0


def _log(paths: RunPaths, error: BaseException) -> None:
    """Append the traceback to the run's log, for whoever has to mend tuidl."""
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return
    with contextlib.suppress(OSError, StorageError), os.fdopen(open_log(paths), "a", encoding="utf-8") as file:
        file.write("".join(traceback.format_exception(error)))
