"""A laboratory for runs that are to be broken: small presets, and trainers that start at once and end on time.

A trainer takes two seconds to load torch. So one process of its own, which this file is when it is called, loads it
once and is forked for each trainer: what runs in there is `tuidl _train`, as in any detached trainer. A trainer can be
told to send itself a signal at the n-th thing it does to a file or at the n-th event it records, which can be repeated;
after so many seconds it gets one from outside.

Everything random comes from FAULTS_SEED and the number of the trial: with both of them in the environment, the second
as FAULTS_TRIAL, a campaign repeats that one trial.
"""

import contextlib
import functools
import hashlib
import itertools
import json
import math
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tuidl.runs import RunPaths, RunReader, read_state, standing_blocks, standing_events
from tuidl.runs.launch import prepare_run
from tuidl.spec import RunSpec, load_preset

SEED = int(os.environ.get("FAULTS_SEED", "0"))  # of all that is chosen at random
ONLY = os.environ.get("FAULTS_TRIAL")  # the number of one trial that is to be repeated
KINDS = ("file", "save", "event", "time")
BEGINNING = {"file": 50, "save": 8, "event": 5}  # what there is of each until the first step, or the first checkpoint
FASTER = 40  # times as fast goes the clock of a run, so that a checkpoint a second is forty of them
PATIENCE = 120.0  # seconds until a process is given up
BOOK = "the cat sat on the mat. a dog ran over the hill and far away, and nobody has seen it since.\n"

# Everything that a checkpoint could forget is in use: dropout, augmentation, moments of the optimizer, batch norm,
# carried memory, schedules that look at the step or at the past, evaluations in the middle of an epoch.
_ALL = (
    "device=cpu", "precision=fp32", "training.threads=1", "checkpoints.interval=1", "evaluation.probes=16",
    "evaluation.worst=4", "data.stand_in=none",
)  # fmt: skip
PRESETS: dict[str, tuple[str, ...]] = {
    "mnist-mlp": (
        "data.name=drawn-digits", "data.train_limit=400", "model.widths=[32,16]", "regularization.dropout=0.3",
        "augmentation.shift=2", "augmentation.noise=0.1", "training.batch_size=25", "training.epochs=5",
        "evaluation.every_steps=6",
    ),
    "cifar-cnn": (
        "data.name=drawn-shapes", "data.train_limit=200", "model.channels=[4,8]", "regularization.dropout=0.2",
        "schedule.kind=plateau", "schedule.patience=1", "early_stopping.patience=500", "training.batch_size=20",
        "training.epochs=4", "evaluation.every_steps=7",
    ),
    "char-lstm": (
        "data.name=text", "data.path={book}", "model.width=16", "model.embedding=8", "model.unroll=8",
        "training.batch_size=8", "training.epochs=2", "evaluation.every_steps=8", "evaluation.sample_length=10",
    ),
    "mnist-gan": (
        "data.name=drawn-digits", "data.train_limit=160", "model.latent=4", "model.channels=4",
        "regularization.dropout=0.2", "augmentation.shift=1", "training.batch_size=20", "training.epochs=3",
        "evaluation.every_steps=6", "evaluation.score_images=100", "evaluation.sample_images=4",
    ),
}  # fmt: skip


class BrokenError(Exception):
    """A promise did not hold; the message says which."""


def hold(true: object, otherwise: str) -> None:
    """Raise BrokenError, saying `otherwise`, unless it is true."""
    if not true:
        raise BrokenError(otherwise)


@dataclass
class Trial:
    """One attempt: its own random numbers, and what was done so far, for whoever has to repeat it."""

    campaign: str
    number: int
    done: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(f"{self.campaign} {SEED} {self.number}")

    def note(self, text: str) -> None:
        """Remember what was done."""
        self.done.append(text)


def attempts(campaign: str, count: int, carry_out: Callable[[Trial], None]) -> Iterator[str]:
    """Carry out `count` trials; yield for each what was wrong, and how it came to that."""
    for number in range(count) if ONLY is None else [int(ONLY)]:
        trial = Trial(campaign, number)
        try:
            carry_out(trial)
            yield ""
        except BrokenError as wrong:
            yield f"{campaign}, seed {SEED}, trial {number}: {', '.join(trial.done)}: {wrong}"


@dataclass(frozen=True)
class Moment:
    """When a trainer gets a signal.

    That is at the `at`-th `file` operation, that of a checkpoint (`save`), or `event`, or after `at` seconds (`time`).
    """

    kind: str
    at: float
    number: int

    def __str__(self) -> str:
        name = signal.Signals(self.number).name
        return f"{name} after {self.at:.3f} s" if self.kind == "time" else f"{name} at {self.kind} {self.at:.0f}"


@dataclass(frozen=True)
class Whole:
    """An undisturbed run: all that it told, and how much there was to disturb."""

    paths: RunPaths
    story: dict[str, Any]
    file: int
    save: int
    event: int
    time: float

    def moment(self, random: random.Random, number: int, kinds: tuple[str, ...] = KINDS) -> Moment:
        """Choose a moment in such a run; one of five is at the very beginning, which is soon over and easily missed."""
        kind = random.choice(kinds)
        most = getattr(self, kind)
        if kind == "time":
            return Moment(kind, random.uniform(0, most), number)
        return Moment(kind, random.randint(1, BEGINNING[kind] if random.random() < 0.2 else int(most)), number)


def heed_signals() -> None:
    """Let a process that is about to start heed Ctrl-C, though the campaign runs in the background and does not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class Lab:
    """Starts trainers below `root`, as children of a process that has loaded torch. Use it in a `with`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.book = root / "book.txt"
        self.book.write_text(BOOK * 30)
        self._names = itertools.count(1)
        self._wholes: dict[tuple[str, int], Whole] = {}
        self._nursery = subprocess.Popen(
            [sys.executable, "-P", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=self.environ, start_new_session=True, preexec_fn=heed_signals,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._nursery.stdin and self._nursery.stdout
        self._nursery.stdin.close()  # upon which it ends what it has started, and itself
        self._nursery.wait(PATIENCE)
        self._nursery.stdout.close()

    @property
    def environ(self) -> dict[str, str]:
        """Return variables that keep a trainer away from the user's directories, and on one core of the CPU."""
        own = {f"XDG_{name}_HOME": str(self.root / name.lower()) for name in ("STATE", "DATA", "CACHE")}
        return {
            **os.environ, **own, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "TUIDL_PRESETS_DIR": os.devnull,
            "TUIDL_RUNS_DIR": str(self.root / "runs"), "TUIDL_DATA_DIR": str(self.root / "data"),
        }  # fmt: skip

    def settings(self, preset: str, seed: int) -> list[str]:
        """Return the overrides that make a preset small."""
        return [item.format(book=self.book) for item in (*_ALL, f"seed={seed}", *PRESETS[preset])]

    def spec(self, preset: str, seed: int) -> RunSpec:
        """Return a preset made small."""
        return load_preset(preset, self.settings(preset, seed))

    def new_run(self, preset: str, seed: int) -> RunPaths:
        """Make the directory of a run."""
        name = f"{preset}-{next(self._names)}"
        return prepare_run(self.spec(preset, seed), preset, name, self.root / "runs", None)

    def copy(self, paths: RunPaths) -> RunPaths:
        """Copy a run that nobody trains."""
        copied = RunPaths(paths.directory.with_name(f"copy-{next(self._names)}"))
        shutil.copytree(paths.directory, copied.directory)
        return copied

    def whole(self, preset: str, seed: int) -> Whole:
        """Return such a run as it is when nothing disturbs it; it is carried out once."""
        if (preset, seed) not in self._wholes:
            paths, counts = self.new_run(preset, seed), self.root / "counts.json"
            if preset == "mnist-gan":  # whose first run has a judge to train
                self.run(self.new_run(preset, seed))
            if code := self.run(paths, counts=counts):
                raise RuntimeError(f"{preset} ends with {code}: {paths.trainer_log.read_text()}")
            self._wholes[preset, seed] = Whole(paths, story_of(paths), **json.loads(counts.read_text()))
        return self._wholes[preset, seed]

    def start(self, paths: RunPaths, *words: str, moment: Moment | None = None, **more: Any) -> int:
        """Start the trainer of a run, with options of `tuidl _train`, and return its process id.

        `more` are `log` and `counts`, files for what it prints and for what there was to count, `cache`, and `at`, the
        monotonic time at which to begin.
        """
        own = [moment.kind, moment.at, moment.number] if moment and moment.kind != "time" else None
        told = {name: str(value) if isinstance(value, Path) else value for name, value in more.items()}
        words = ("_train", str(paths.directory), "--offline", *words)
        pid: int = self._ask(words=words, **{"log": str(paths.trainer_log), **told}, moment=own)["pid"]
        if moment and moment.kind == "time":
            time.sleep(moment.at)
            os.kill(pid, moment.number)  # nobody has asked for its exit code yet, so the number is still its own
        return pid

    def wait(self, pid: int) -> int:
        """Return the exit code of a trainer, as a shell tells it."""
        code = self._ask(wait=pid)["code"]
        hold(code is not None, f"the trainer was still there after {PATIENCE:.0f} s")
        return code if code >= 0 else 128 - code

    def run(self, paths: RunPaths, *words: str, moment: Moment | None = None, **more: Any) -> int:
        """Start a trainer, wait for its end, and return its exit code."""
        return self.wait(self.start(paths, *words, moment=moment, **more))

    def resume(self, paths: RunPaths) -> None:
        """Go on with a run to its end, which must be reached."""
        code = self.run(paths, "--resume")
        hold(code == 0, f"resume ends with {code}: {last_line(paths.trainer_log)}")
        check_completed(paths)

    def remove(self, paths: RunPaths) -> None:
        """Remove a run."""
        shutil.rmtree(paths.directory)

    def _ask(self, **order: Any) -> Any:
        assert self._nursery.stdin and self._nursery.stdout
        self._nursery.stdin.write(json.dumps(order) + "\n")
        self._nursery.stdin.flush()
        return json.loads(self._nursery.stdout.readline())


# ---------------------------------------------------------------- looking at runs


def last_line(path: Path) -> str:
    """Return the last line of a log."""
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    return lines[-1] if lines else "nothing was said"


def read_logs(paths: RunPaths, torn: int) -> tuple[list[dict[str, Any]], list[Any]]:
    """Return events and blocks of a run; of each log at most `torn` records may be damaged."""
    reader = RunReader(paths)
    events = reader.events()
    damaged = reader.damaged
    hold(damaged <= torn, f"{damaged} events are damaged")
    blocks = reader.metrics()
    hold(reader.damaged - damaged <= torn, f"{reader.damaged - damaged} blocks of metrics are damaged")
    return events, blocks


def check_sound(paths: RunPaths) -> None:
    """Hold that whatever has the name of a checkpoint can be read."""
    from tuidl.errors import UsageError
    from tuidl.train.checkpoint import read

    for path in sorted(paths.checkpoints.glob("step-*")):
        try:
            read(path)
        except UsageError as error:
            raise BrokenError(str(error)) from error


def check_completed(paths: RunPaths, torn: int = 9) -> None:
    """Hold that a run is completed, that its record tells of every step once, and that nothing is left lying about."""
    status, state = read_state(paths)
    hold(status and state == "completed" and status.exit_code == 0, f"the run is {state} when all is done")
    events, blocks = read_logs(paths, torn)
    position = 1
    for block in standing_blocks(blocks):
        hold(block.first_step == position, f"after step {position - 1} the record goes on with {block.first_step}")
        position += block.count
    assert status
    hold(position - 1 == status.total_steps, f"the record ends with step {position - 1} of {status.total_steps}")
    last = [event["event"] for event in events if event["event"] != "answer"][-1:]
    hold(last == ["finished"], f"the last event is {last}")
    left = [path.name for path in paths.directory.rglob("*") if path.name.endswith(".tmp") or path.name == "reserve"]
    hold(not left, f"left lying about: {', '.join(left)}")
    check_sound(paths)


def story_of(paths: RunPaths) -> dict[str, Any]:
    """Return all that a completed run tells and that must be equal to the bit, however often it was interrupted."""
    from tuidl.train.checkpoint import read

    events, blocks = read_logs(paths, 9)
    story: dict[str, Any] = {}
    for event in standing_events(events):
        at = f"{event['event']} at step {event['step']}{' (final)' if event.get('final') else ''}"
        files = {item["path"].split("-0")[0]: digest((paths.directory / item["path"]).read_bytes())
                 for item in event.get("artifacts", ())}  # fmt: skip
        if event["event"] in ("evaluation", "sample"):
            told = [event.get(name) for name in ("epoch", "metrics", "best", "final")]
            story[at] = json.dumps([told, files])
        if event["event"] == "finished":
            story["finished"] = json.dumps([event["step"], event["status"], event["reason"], event["metrics"]])
    columns: dict[str, array[float]] = {}
    for block in standing_blocks(blocks):
        for name, values in block.columns.items():
            columns.setdefault(f"column {name}", array("f")).extend(values)
    story |= {name: digest(values.tobytes(), values) for name, values in columns.items()}
    newest = max(paths.checkpoints.glob("step-*"))
    saved = read(newest)
    story["newest checkpoint"] = newest.name
    for part in ("weights", "best_weights"):
        story |= {f"{part} {name}": digest(value.numpy().tobytes()) for name, value in getattr(saved, part).items()}
    story |= {f"saved {name}": digest(value.numpy().tobytes()) for name, value in saved.rest.tensors.items()}
    values = saved.rest.values
    loop = {name: value for name, value in values["loop"].items() if name != "seconds"}  # another computer is as good
    return story | {"saved values": json.dumps([{**values, "loop": loop}], sort_keys=True)}


def check_same(found: dict[str, Any], wanted: dict[str, Any], lacking: str = "-") -> None:
    """Hold that two runs tell the same story; the one that was `found` may lack what begins with `lacking`."""
    differ = [
        key for key in {**wanted, **found}
        if found.get(key) != wanted.get(key) and not (key not in found and key.startswith(lacking))
    ]  # fmt: skip
    shown = ", ".join(f"{key} ({str(found.get(key))[:90]} for {str(wanted.get(key))[:90]})" for key in differ[:2])
    hold(not differ, f"{len(differ)} of {len(wanted)} things differ from the undisturbed run, first {shown}")


def digest(data: bytes, values: "array[float] | None" = None) -> str:
    """Return a short sum of `data`; of `values` instead where one is NaN, of which there are many kinds."""
    if values is not None and any(map(math.isnan, values)):
        data = repr(list(values)).encode()
    return hashlib.sha256(data).hexdigest()[:16]


def until(true: Callable[[], object], what: str) -> None:
    """Wait until something is true; hold that it becomes so."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        hold(time.monotonic() < deadline, f"waited in vain until {what}")
        time.sleep(0.005)


def process_state(pid: int) -> str:
    """Return the letter by which Linux tells what a process does, empty when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


# ---------------------------------------------------------------- the process that is forked for each trainer


def serve() -> None:
    """Start trainers and tell how they ended, one order a line, until nobody gives orders any more."""
    from tuidl.train import answers, session
    from tuidl.train.data import load

    answers.warm_up()
    session.fit = functools.partial(session.fit, clock=lambda: FASTER * time.monotonic())
    load.STAND_IN_SIZES = (1200, 200)
    draw, drawn = load._draw, {}

    def draw_once(dataset: Any) -> Any:
        if dataset.key not in drawn:
            drawn[dataset.key] = draw(dataset)
        return drawn[dataset.key]

    load._draw = draw_once
    for key in ("drawn-digits", "drawn-shapes"):
        draw_once(load.DATASETS[key])
    children: set[int] = set()
    parent = os.getppid()
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            answer = {"code": _end_of(order["wait"], parent)}
            children.discard(order["wait"])
        else:
            answer = {"pid": os.fork() or _be_trainer(order)}
            children.add(answer["pid"])
        print(json.dumps(answer), flush=True)
    for pid in children:
        os.kill(pid, signal.SIGKILL)


def _end_of(pid: int, parent: int) -> int | None:
    """Return the exit code of a child, below 0 for a signal; None when it had to be killed."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and os.getppid() == parent:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def _be_trainer(order: dict[str, Any]) -> int:
    """Be a trainer from here on; never returns."""
    from tuidl.cli import main

    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.setsid()
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for number, target in enumerate((os.open(os.devnull, os.O_RDONLY), log, log)):
            os.dup2(target, number)
        if "cache" in order:
            os.environ["XDG_CACHE_HOME"] = order["cache"]
        time.sleep(max(0.0, order.get("at", 0.0) - time.monotonic()))
        began, counts = time.monotonic(), _watch(order["moment"])
        code = main(order["words"])
        if "counts" in order:
            counts["time"] = time.monotonic() - began
            Path(order["counts"]).write_text(json.dumps(counts))
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _watch(moment: list[Any] | None) -> dict[str, float]:
    """Count what this process does to files and which events it records, and send it a signal at the moment."""
    from tuidl.train import checkpoint, recorder, session

    counts: dict[str, float] = {"file": 0, "save": 0, "event": 0}
    saving = False

    def due(kind: str) -> bool:
        kinds = (kind, "save") if kind == "file" and saving else (kind,)
        for found in kinds:
            counts[found] += 1
        return moment is not None and moment[0] in kinds and moment[1] == counts[moment[0]]

    save = checkpoint.Checkpoints.save

    def watched_save(*words: Any, **more: Any) -> Any:
        nonlocal saving
        saving = True
        try:
            return save(*words, **more)
        finally:
            saving = False

    def around(function: Callable[..., Any], kind: str = "file") -> Callable[..., Any]:
        def watched(*words: Any, **more: Any) -> Any:
            if due(kind):
                os.kill(os.getpid(), moment[2])  # type: ignore[index]
            return function(*words, **more)

        return watched

    write = os.write

    def write_half(fd: int, data: Any) -> int:
        if not due("file"):
            return write(fd, data)
        done = write(fd, data[: len(data) // 2])
        os.kill(os.getpid(), moment[2])  # type: ignore[index]
        return done

    os.write = write_half
    for name in ("open", "fsync", "fdatasync", "replace", "link", "unlink"):
        setattr(os, name, around(getattr(os, name)))
    checkpoint.Checkpoints.save = watched_save  # type: ignore[method-assign]
    session.load, session.build_task = around(session.load), around(session.build_task)
    recorder.Recorder.record = around(recorder.Recorder.record, "event")  # type: ignore[method-assign]
    return counts


HOST = platform.node()

if __name__ == "__main__":
    serve()
