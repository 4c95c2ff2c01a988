"""`tuidl run`: train here, or in the background with --detach."""

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from tuidl.cli.output import emit
from tuidl.errors import UsageError
from tuidl.files import expand, open_regular
from tuidl.runs import LIVE_STATES, RunPaths, Status, find_run, read_spec, read_state, runs_dir
from tuidl.runs.launch import prepare_run, spawn_trainer
from tuidl.runs.layout import closed_to_group
from tuidl.runs.past import repeat_of
from tuidl.spec import RunSpec, load_preset, preset_names
from tuidl.text import clean, did_you_mean

STARTING = 60.0  # seconds that a detached trainer may take until its first sign of life


def run(args: argparse.Namespace) -> int:
    """Resolve what to train, claim a run directory, and train in it; return the exit code."""
    spec, preset, data_dir = resolve(args)
    paths = prepare_run(spec, preset, args.name, runs_dir(args.runs_dir), data_dir, args.share)
    if args.share and (closed := closed_to_group(paths)):
        print(f"tuidl: your group does not get to the run: chmod g+x {clean(str(closed))} lets it", file=sys.stderr)
    if args.detach:
        return _detach(paths, args)
    return _train_here(paths, spec, args)


def resume(args: argparse.Namespace) -> int:
    """Go on with a run from its newest sound checkpoint; return the exit code."""
    paths = find_run(runs_dir(args.runs_dir), args.run)
    spec, _, _ = repeat_of(read_spec(paths), paths.name)
    if args.detach:
        return _detach(paths, args)
    return _train_here(paths, spec, args)


def resolve(args: argparse.Namespace) -> tuple[RunSpec, str, str | None]:
    """Return the spec that the command line asks for, the preset's name, and the data directory as a full path."""
    shorthand = {
        "training.epochs": args.epochs,
        "training.max_steps": args.max_steps,
        "device": args.device,
        "seed": args.seed,
    }
    overrides = [*args.overrides, *(f"{key}={value}" for key, value in shorthand.items() if value is not None)]
    data_dir = str(expand(args.data_dir).absolute()) if args.data_dir else None
    target = args.target
    if target in preset_names() or target.endswith(".toml"):
        return load_preset(target, overrides), Path(target).stem, data_dir
    try:
        stored = read_spec(find_run(runs_dir(args.runs_dir), target))
    except UsageError as error:
        if "/" in target:
            raise
        hint = did_you_mean(target, preset_names())
        raise UsageError(f"there is no preset or run {clean(target, limit=80)!r}; {hint}") from error
    spec, preset, past_data_dir = repeat_of(stored, target, overrides)
    return spec, preset, data_dir or past_data_dir


def _detach(paths: RunPaths, args: argparse.Namespace) -> int:
    """Start the trainer in the background and wait for its first sign of life."""
    before = read_state(paths)[0]  # of a run that is resumed
    trainer = spawn_trainer(paths, _words(args))
    deadline, state = time.monotonic() + STARTING, "starting"
    while time.monotonic() < deadline:
        status, state = read_state(paths)
        if status and state in LIVE_STATES and state != "starting" and _its(trainer.pid, before, status):
            break
        code = trainer.poll()
        if code is not None:
            if code == 0:
                break
            reason = (
                status.reason if status and status.reason and _its(trainer.pid, before, status) else _last_line(paths)
            )
            print(f"tuidl: run {paths.name} ended at once: {clean(reason, limit=400)}", file=sys.stderr)
            return code
        time.sleep(0.05)
    if args.json:
        emit("detached", run=paths.name, directory=str(paths.directory), pid=trainer.pid)
    else:
        print(paths.name)
        doing = "training" if state != "starting" else "still fetching its data"
        print(
            f"{doing} in the background; tuidl show {paths.name} shows it, tuidl stop {paths.name} ends it",
            file=sys.stderr,
        )
    return 0


def _its(pid: int, before: Status | None, after: Status) -> bool:
    """Return whether the trainer with this process id has written the status, and not one before it or a rival."""
    written = before is None or after.identity != before.identity
    return written and after.identity is not None and after.identity.pid == pid


def _last_line(paths: RunPaths) -> str:
    """Return what the trainer said last, such as why it did not even begin."""
    try:
        with open_regular(paths.trainer_log) as file:
            lines = file.read().decode("utf-8", "replace").splitlines()
    except (OSError, ValueError):
        lines = []
    return lines[-1].removeprefix("tuidl: ") if lines else f"see {paths.trainer_log}"


def _words(args: argparse.Namespace) -> list[str]:
    """Return the options with which a trainer in the background does what was asked for here."""
    words = ["--offline"] if args.offline else []
    if getattr(args, "resume", False):
        words += ["--resume", *(["--take-over"] if args.take_over else [])]
        words += [f"--device={args.device}"] if args.device else []
        words += [f"--set={change}" for change in args.overrides]
    return words


def _wishes(args: argparse.Namespace, progress: Any = None) -> Any:
    from tuidl.train.resume import Wishes

    if not getattr(args, "resume", False):
        asked_at = getattr(args, "asked_at", None)
        return Wishes(download=not args.offline, progress=progress, asked_at=asked_at)
    return Wishes(
        download=not args.offline, progress=progress, resume=True,
        take_over=args.take_over, device=args.device, changes=tuple(args.overrides),
    )  # fmt: skip


def _train_here(paths: RunPaths, spec: RunSpec, args: argparse.Namespace) -> int:
    from tuidl.cli.printer import choose_printer

    printer = choose_printer(paths, spec, as_json=args.json, quiet=args.quiet)
    printer.say(f"run {paths.name}: {spec.about.title or spec.task}")
    from tuidl.train.session import Door, conduct  # torch is loaded here and takes a second or two

    door = Door(paths)
    _catch_signals(door, hang_up=True)
    try:
        code = conduct(paths, printer.show, door, _wishes(args, printer.progress))
        _ignore_signals()
    except BaseException as error:
        printer.failed(error)
        raise
    finally:
        printer.close()
    return code


def train_detached(args: argparse.Namespace) -> int:
    """Train in a run directory that a launcher has made; what it prints goes to the run's log."""
    from tuidl.train.session import Door, conduct

    paths = RunPaths(args.directory)
    door = Door(paths)
    _catch_signals(door, hang_up=False)
    code = conduct(paths, lambda event, stored: None, door, _wishes(args))
    _ignore_signals()
    return code


def companion(args: argparse.Namespace) -> int:
    """Answer the screen that has started this process, and train once it says so."""
    from tuidl.train.companion import serve

    order = serve()
    if order is None:
        os._exit(0)  # nothing is open any more, and torch would take a second to leave
    here = order.paths.directory
    return train_detached(argparse.Namespace(directory=here, offline=order.offline, asked_at=time.time()))


_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _ignore_signals() -> None:
    """Let no signal change the exit code of a run that is over: torch takes a second to leave, without our handlers."""
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)


def _catch_signals(door: Any, hang_up: bool) -> None:
    """Let the first signal end the run after its step, with a checkpoint, and the second one at once.

    Before the loop begins there is nothing to save, and the first signal ends the process. SIGUSR1 asks for a
    checkpoint and lets the run go on. A hang-up ends a run in the
    foreground like any other signal; in the background it is nobody's.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        if door.signal is not None or not door.open:
            raise SystemExit(128 + number)
        door.signal = number

    def save(number: int, frame: FrameType | None) -> None:
        door.save = True

    signal.signal(signal.SIGUSR1, save)  # what SLURM and its kind send before the time is up
    for number in _ENDING:
        # what is ignored already stays so: nohup and a script's background jobs have asked to be spared
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handle if hang_up or number != signal.SIGHUP else signal.SIG_IGN)
