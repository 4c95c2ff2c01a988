"""Campaigns against the training: the disk fills, numbers cease to be finite, the device gives up."""

import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from faults.broken_disk import (
    PATIENCE,
    Child,
    Quota,
    Tell,
    apart,
    command,
    load_torch,
    obey_permissions,
    own_disk,
    resize,
    run_words,
    surely,
)
from faults.campaign import campaign
from faults.lab import (
    Trial,
    attempts,
    check_completed,
    check_same,
    check_sound,
    hold,
    read_logs,
    story_of,
    until,
)
from tuidl.runs import RunPaths, Status, read_status
from tuidl.spec import RunSpec

Change = Callable[[Any, RunSpec, Tell], None]  # changes a task before it is trained
FOUR = ("mnist-mlp", "cifar-cnn", "char-lstm", "mnist-gan")
SIX = (*FOUR, "fashion-mlp", "cifar-speed")


class Bench:
    """Runs of presets made small, in children; each undisturbed one is carried out once."""

    def __init__(self, root: Path) -> None:
        load_torch()
        self.root, self.runs = root, root / "runs"
        self._wholes: dict[str, dict[str, Any]] = {}
        self._newest: Child | None = None

    def words(self, preset: str, name: str, *settings: str) -> list[str]:
        """Return the arguments that train a preset."""
        return [*run_words(preset, self.root, "checkpoints.interval=0", *settings), "--name", name]

    def fresh(self, name: str) -> RunPaths:
        """Return the place of a run, with nothing in it; whoever is left of a broken trial ends."""
        if self._newest:
            self._newest.kill()
        shutil.rmtree(self.runs / name, ignore_errors=True)
        return RunPaths(self.runs / name)

    def start(self, words: list[str], change: Change | None = None, before: Callable[[], None] | None = None) -> Child:
        """Start the command in a child, with changes to its task, after `before`."""
        self._newest = Child(self.root / "log", partial(_command, words, change, before))
        return self._newest

    def story(self, preset: str) -> dict[str, Any]:
        """Return what the undisturbed run of a preset tells."""
        if preset not in self._wholes:
            child = self.start(self.words(preset, f"whole-{preset}"))
            if child.end():
                raise RuntimeError(child.text)
            self._wholes[preset] = story_of(RunPaths(self.runs / f"whole-{preset}"))
        return self._wholes[preset]

    def steps(self, preset: str) -> int:
        """Return how many steps a preset takes."""
        self.story(preset)
        status = read_status(RunPaths(self.runs / f"whole-{preset}"))
        assert status
        return status.step


def _command(words: list[str], change: Change | None, before: Callable[[], None] | None, tell: Tell) -> None:
    from tuidl.train import recorder, session

    build = session.build_task

    def build_task(spec: RunSpec, *more: Any) -> Any:
        task = build(spec, *more)
        if change:
            change(task, spec, tell)
        return task

    session.build_task = build_task  # type: ignore[assignment]
    recorder.FULL_NAP = recorder.STATUS_EVERY = 0.05
    if before:
        before()
    command(*words)


def at_step(task: Any, number: int, act: Callable[[], object]) -> None:
    """Let `task` call `act` as it is about to take that step."""
    genuine, left = task.step, [number]

    def step(*words: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            act()
        return genuine(*words)

    task.step = step


def no_traceback(paths: RunPaths, child: Child) -> None:
    """Hold that nobody is shown the insides of tuidl."""
    log = paths.trainer_log.read_text() if paths.trainer_log.exists() else ""
    for what, text in (("it prints", child.text), ("trainer.log has", log)):
        found = [line for line in text.splitlines() if "Traceback" in line or "internal error" in line]
        hold(not found, f"{what} a traceback: {text.splitlines()[-1] if found else ''}")


# ---------------------------------------------------------------- full-disk


@campaign(
    "full-disk",
    "the disk fills while a run trains: it waits or goes on as it was told, says why, keeps what it had, and completes "
    "once there is space; where there is none to begin with it is refused with exit code 6 and the path",
    small=14,
    full=56,
)
@apart
def full_disk(root: Path, count: int) -> Iterator[str]:
    bench = Bench(root)

    def carry_out(trial: Trial) -> None:
        kind = trial.number % 14
        if kind < 8:
            _filled(bench, trial, FOUR[kind % 4], "pause" if kind < 4 else "go-on")
        else:
            _REFUSALS[kind - 8](bench, trial)

    yield from attempts("full-disk", count, surely(carry_out))


def _filled(bench: Bench, trial: Trial, preset: str, policy: str) -> None:
    """The disk fills at an event after some step, up to a room that is less than what is held back."""
    paths, chance = bench.fresh("filled"), trial.random
    wanted, total = bench.story(preset), bench.steps(preset)
    step, later, room = chance.randint(1, total), chance.choice([0, 0, 1, 2, 3, 5]), chance.choice([0, 0, 5000, 40_000])
    names_too, drips = chance.random() < 0.3, chance.choice([0, 0, 70_000, 9_000])
    trial.note(f"{preset}, {policy}, {later} events after step {step} {room} bytes of room")
    trial.note(("also for names, " if names_too else "") + (f"then {drips} at a time" if drips else "then a lot"))
    quota = Quota(bench.runs)
    words = bench.words(preset, "filled", f"checkpoints.disk_full={policy}")
    change = partial(_fill, number=step, later=later, full=lambda: setattr(quota, "limit", quota.used() + room))
    child = bench.start(words, change, lambda: quota.install(names_too))
    full = _wait_until_full(paths, child)
    check_sound(paths)
    read_logs(paths, 1)
    if not names_too:
        until(lambda: not child.running or _heartbeat(paths) > full.heartbeat + 2, "the status moves on meanwhile")
    hold(policy == "go-on" or child.running, f"ends before there is space again: {child.last_line}")
    while drips and child.running and quota.limit < 1 << 24:
        quota.limit += drips
        time.sleep(0.1)
    quota.limit = 1 << 40
    code = child.end()
    hold(code == 0, f"ends with {code}: {child.last_line}")
    hold(not child.told, f"{child.told}")
    no_traceback(paths, child)
    events, _ = read_logs(paths, 9)
    check_sound(paths)
    status = read_status(paths)
    assert status
    hold(status.state == "completed" and "full" not in status.reason, f"it is {status.state}: {status.reason}")
    if policy == "pause":
        hold(any("disk was full" in str(event.get("text")) for event in events), "no event tells of it")
        check_completed(paths)
        check_same(story_of(paths), wanted)


def _fill(task: Any, spec: RunSpec, tell: Tell, number: int, later: int, full: Callable[[], None]) -> None:
    """Let the disk be full from the event on that comes `later` events after a step, or from the last one on.

    Tell where the state in the status is another than that of the last event.
    """
    from tuidl.train.events import Finished, StateChanged
    from tuidl.train.recorder import Recorder

    genuine, left = Recorder.record, [-1]

    def record(self: Recorder, event: Any) -> list[str]:
        if left[0] >= 0:
            left[0] -= 1
            if left[0] < 0 or isinstance(event, Finished):
                left[0] = -1
                full()
        stored = genuine(self, event)
        shown = self.writer.status.current.state
        if isinstance(event, StateChanged) and shown != event.state:
            tell(f"the status shows {shown} when the run is {event.state}")
        return stored

    Recorder.record = record  # type: ignore[method-assign]
    at_step(task, number, lambda: left.__setitem__(0, later + 1))


def _heartbeat(paths: RunPaths) -> int:
    status = read_status(paths)
    return status.heartbeat if status else 0


def _wait_until_full(paths: RunPaths, child: Child) -> Status:
    deadline = time.monotonic() + PATIENCE
    while True:
        status = read_status(paths)
        if status and "full" in status.reason:
            return status
        hold(child.running, f"ends with {child.end() if not child.running else 0}: {child.last_line}")
        hold(time.monotonic() < deadline, f"the status never tells that the disk is full: {status}")
        time.sleep(0.01)


def _refused(bench: Bench, child: Child, place: Path) -> None:
    code = child.end()
    hold(code == 6, f"ends with {code}: {child.last_line}")
    hold(str(place) in child.last_line, f"does not tell the path: {child.last_line}")
    hold("Traceback" not in child.text and "internal error" not in child.text, "prints a traceback")


def _no_space(bench: Bench, trial: Trial) -> None:
    """The disk is full from the beginning, or after the first so many bytes."""
    paths, quota = bench.fresh("none"), Quota(bench.runs)
    bench.runs.mkdir(exist_ok=True)
    room = trial.random.choice([0, 4096, 8192, 12_000, 16_384, 30_000, 60_000])
    quota.limit = quota.used() + room
    trial.note(f"{room} bytes of room to begin with")
    names_too = trial.random.random() < 0.5
    child = bench.start(bench.words("mnist-mlp", "none"), None, lambda: quota.install(names_too))
    _refused(bench, child, bench.runs)
    no_traceback(paths, child)
    status = read_status(paths)
    hold(not status or status.state == "failed", f"the status says {status and status.state}")


def _no_permission(bench: Bench, trial: Trial) -> None:
    """The directory of runs is read-only."""
    trial.note("runs may not be written")
    place = bench.root / "closed"
    place.mkdir(exist_ok=True)
    place.chmod(0o500)
    words = [*bench.words("mnist-mlp", "x"), "--runs-dir", str(place)]
    _refused(bench, bench.start(words, None, obey_permissions), place)


def _closed_home(bench: Bench, change: Callable[[Path], None]) -> Callable[[], None]:
    home = bench.root / "home"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    home.chmod(0o500)

    def before() -> None:
        for name in [name for name in os.environ if name.startswith("XDG_") or name == "TUIDL_RUNS_DIR"]:
            del os.environ[name]
        os.environ["HOME"] = str(home)
        change(home)
        obey_permissions()

    return before


def _no_home(bench: Bench, trial: Trial) -> None:
    """The home directory is read-only, and runs would go there."""
    trial.note("the home directory may not be written")
    child = bench.start(bench.words("mnist-mlp", "x"), None, _closed_home(bench, lambda home: None))
    _refused(bench, child, bench.root / "home")


def _home_spared(bench: Bench, trial: Trial) -> None:
    """The home directory is read-only, but runs go elsewhere: nothing else needs it, not even a GAN's judge."""
    trial.note("the home directory may not be written, the one of the runs may")
    paths = bench.fresh("elsewhere")
    words = [*bench.words("mnist-gan", "elsewhere"), "--runs-dir", str(bench.runs)]
    child = bench.start(words, None, _closed_home(bench, lambda home: None))
    hold(child.end() == 0, f"ends with {child.end()}: {child.last_line}")
    no_traceback(paths, child)
    check_completed(paths)


def _no_space_to_resume(bench: Bench, trial: Trial) -> None:
    """A run is to go on where the disk is full: refused, and as it was; later it goes on."""
    paths = bench.fresh("stopped")
    trial.note("no space to resume")
    wanted, step = bench.story("mnist-mlp"), trial.random.randint(10, bench.steps("mnist-mlp") - 1)
    bench.start(bench.words("mnist-mlp", "stopped"), lambda task, *_: at_step(task, step, lambda: os._exit(1))).end()
    before = {path.name: path.read_bytes() for path in paths.checkpoints.glob("step-*")}
    (paths.directory / "reserve").unlink(missing_ok=True)  # else there is space: what was held back
    quota = Quota(bench.runs)
    quota.limit = quota.used() + trial.random.choice([0, 4096, 16_384])
    child = bench.start(["resume", "stopped", "--offline"], None, lambda: quota.install(False))
    _refused(bench, child, paths.directory)
    no_traceback(paths, child)
    after = {path.name: path.read_bytes() for path in paths.checkpoints.glob("step-*")}
    hold(before == after, "the checkpoints are not as they were")
    child = bench.start(["resume", "stopped", "--offline"])
    hold(child.end() == 0, f"later it ends with {child.end()}: {child.last_line}")
    check_completed(paths)
    check_same(story_of(paths), wanted)


_REFUSALS = (_no_space, _no_space, _no_permission, _no_home, _home_spared, _no_space_to_resume)


HEAVY = {  # what makes one checkpoint of each preset fit into 4 MB, and not two
    "mnist-mlp": ("model.widths=[160,100]",),
    "cifar-cnn": ("model.channels=[8,16]", "model.head=flatten", "model.widths=[250]", "training.epochs=20"),
    "char-lstm": ("model.width=200", "model.embedding=16", "training.epochs=12"),
    "mnist-gan": ("model.channels=16", "training.epochs=12"),
}


@campaign(
    "small-disk",
    "a real disk of 4 MB fills with a second checkpoint and is then made larger: the first one stays sound meanwhile, "
    "and the run completes",
    small=4,
    full=16,
)
@apart
def small_disk(root: Path, count: int) -> Iterator[str]:
    bench = Bench(root)
    bench.runs.mkdir()
    own_disk(bench.runs, 4)

    def carry_out(trial: Trial) -> None:
        preset, policy = FOUR[trial.number % 4], ("pause", "go-on")[(trial.number // 4 + trial.number) % 2]
        trial.note(f"{preset}, {policy}")
        paths = bench.fresh("filled")
        resize(bench.runs, 4)
        more = (*HEAVY[preset], "checkpoints.keep=3", f"checkpoints.disk_full={policy}")
        child = bench.start(bench.words(preset, "filled", *more))
        _wait_until_full(paths, child)
        check_sound(paths)
        hold(list(paths.checkpoints.glob("step-*")), "there is no checkpoint")
        time.sleep(0.5)
        hold(child.running, f"ends before there is space again: {child.last_line}")
        resize(bench.runs, 64)
        hold(child.end() == 0, f"ends with {child.end()}: {child.last_line}")
        no_traceback(paths, child)
        check_completed(paths) if policy == "pause" else check_sound(paths)

    yield from attempts("small-disk", count, surely(carry_out))


# ---------------------------------------------------------------- non-finite

PLACES = ("mnist-mlp", "cifar-cnn", "char-lstm", "generator", "discriminator", "fashion-mlp", "cifar-speed")
WAYS = ("loss", "gradient", "loss", "gradient", "metric")


@campaign(
    "non-finite",
    "a loss or a gradient ceases to be finite: the run ends as diverged and tells the step and what to do, no "
    "checkpoint is touched by it, and with a lower rate it goes on to the end; such a metric is never the best",
    small=8,
    full=40,
)
@apart
def non_finite(root: Path, count: int) -> Iterator[str]:
    bench = Bench(root)

    def carry_out(trial: Trial) -> None:
        place, chance = PLACES[trial.number % len(PLACES)], trial.random
        net = place if place in ("generator", "discriminator") else ""
        preset = "mnist-gan" if net else place
        way = WAYS[(trial.number + trial.number // len(PLACES)) % len(WAYS)]
        value = chance.choice([math.nan, math.inf, -math.inf])
        paths, total = bench.fresh("broken"), bench.steps(preset)
        if way == "metric":
            number = chance.randint(1, 3)
            trial.note(f"{place}: the metric of evaluation {number} is {value}")
            child = bench.start(bench.words(preset, "broken"), partial(_spoil_metric, number=number, value=value))
            hold(child.end() == 0, f"ends with {child.end()}: {child.last_line}")
            check_completed(paths)
            _check_best(paths)
            return
        step = chance.randint(2, total)
        trial.note(f"{place}: the {way} of step {step} is {value}")
        spoil = partial(_spoil_step, net=net, number=step, way=way, value=value)
        child = bench.start(bench.words(preset, "broken"), spoil)
        code = child.end()
        hold(code == 4, f"ends with {code}: {child.last_line}")
        _check_failed(paths, child, "diverged", step, ("lower optimizer.lr", f"step {step}"))
        _go_on(bench, paths, "--set=optimizer.lr=0.0001")

    yield from attempts("non-finite", count, surely(carry_out))


def _spoil_step(task: Any, spec: RunSpec, tell: Tell, net: str, number: int, way: str, value: float) -> None:
    """Let the loss of one step, or one number of its gradient, be `value`."""
    active = [False]
    genuine = task.step

    def step(*words: Any) -> Any:
        nonlocal number
        number -= 1
        active[0] = number == 0
        return genuine(*words)

    task.step = step
    if way == "gradient":
        parameter = max(getattr(task, net or "model").parameters(), key=lambda one: one.numel())

        def spoil(gradient: Any) -> Any:
            if active[0]:
                gradient = gradient.clone()
                gradient[tuple(size // 2 for size in gradient.shape)] = value
            return gradient

        parameter.register_hook(spoil)
        return

    def spoiled(loss: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *words: loss(*words) * value if active[0] else loss(*words)

    if net:
        setattr(task.loss, net, spoiled(getattr(task.loss, net)))
    else:
        task.loss = spoiled(task.loss)


def _spoil_metric(task: Any, spec: RunSpec, tell: Tell, number: int, value: float) -> None:
    """Let the metrics of one evaluation be `value`, and best by comparison where that is infinite."""
    genuine, left = task.evaluate, [number]

    def evaluate() -> Any:
        report = yield from genuine()
        left[0] -= 1
        if left[0] == 0:
            best = value if not spec.larger_is_better else -value
            report.metrics.update(dict.fromkeys(report.metrics, best))
        return report

    task.evaluate = evaluate


def _check_best(paths: RunPaths) -> None:
    events, _ = read_logs(paths, 0)
    for event in events:
        if event["event"] == "evaluation" and event["best"]:
            numbers = event["metrics"].values()
            hold(all(isinstance(number, float) for number in numbers), f"best at step {event['step']}: {list(numbers)}")
    status = read_status(paths)
    best = status.best if status else None
    hold(best is None or math.isfinite(best.value), f"the status says that the best is {best}")


def _check_failed(paths: RunPaths, child: Child, state: str, step: int, words: tuple[str, ...]) -> None:
    """Hold that a run that has failed at `step` says so, and that what is left of it can be gone on with."""
    from tuidl.train.checkpoint import all_finite, read

    status = read_status(paths)
    assert status
    hold(status.state == state, f"the status says {status.state}")
    missing = [word for word in words if word not in status.reason]
    hold(not missing, f"the reason does not tell {' and '.join(missing)}: {status.reason}")
    hold("Traceback" not in child.text and "internal error" not in child.text, "prints a traceback")
    _check_best(paths)
    events, _ = read_logs(paths, 0)
    steps = [event["step"] for event in events if event["event"] == "checkpoint"]
    hold(all(made < step for made in steps), f"a checkpoint is written after step {step}: {steps}")
    files = sorted(paths.checkpoints.glob("step-*"))
    hold(bool(steps) == bool(files), f"{len(files)} files for checkpoints of steps {steps}")
    for path in files:
        saved = read(path)
        tensors = [*saved.weights.values(), *saved.best_weights.values(), *saved.rest.tensors.values()]
        hold(all_finite(tensors), f"{path.name} holds a number that is not finite")
    if files:
        hold(files[-1].name == f"step-{steps[-1]:09d}.safetensors", f"the newest one is {files[-1].name}")


def _go_on(bench: Bench, paths: RunPaths, *words: str) -> None:
    newest = max((int(path.stem.removeprefix("step-")) for path in paths.checkpoints.glob("step-*")), default=0)
    child = bench.start(["resume", paths.name, "--offline", *words])
    hold(child.end() == 0, f"resume ends with {child.end()}: {child.last_line}")
    check_completed(paths)
    events, _ = read_logs(paths, 0)
    resumed = [event["step"] for event in events if event["event"] == "resumed"]
    hold(resumed == [newest], f"resumed from {resumed}, the newest checkpoint is of step {newest}")


# ---------------------------------------------------------------- out-of-memory


def _errors() -> dict[str, tuple[BaseException, str]]:
    import torch

    room = "lower training.batch_size"
    return {
        "out of memory": (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), room),
        "out of memory, on the CPU": (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried…"), room),
        "out of memory, in Python": (MemoryError(), room),
        "failing device": (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), "doctor"),
    }


@campaign(
    "out-of-memory",
    "the device is out of memory, or fails, in a step, an evaluation or a sample: the run tells the step and what to "
    "do, and goes on later from its newest checkpoint, to the same end to the bit",
    small=4,
    full=40,
)
@apart
def out_of_memory(root: Path, count: int) -> Iterator[str]:
    bench, errors = Bench(root), _errors()

    def carry_out(trial: Trial) -> None:
        chance, preset = trial.random, SIX[trial.number % len(SIX)]
        what = list(errors)[trial.number % len(errors)]
        where = chance.choice(["step", "step", "evaluate", "sample"])
        paths, wanted, total = bench.fresh("broken"), bench.story(preset), bench.steps(preset)
        number = chance.randint(2, total) if where == "step" else chance.randint(1, 3)
        trial.note(f"{preset}: {what} in {where} {number}")
        error, hint = errors[what]
        change = partial(_raise_at, where=where, number=number, error=error)
        child = bench.start(bench.words(preset, "broken"), change)
        code = child.end()
        hold(code == 5, f"ends with {code}: {child.last_line}")
        evaluations = [at for at in range(1, total + 1) if f"evaluation at step {at}" in wanted]
        taken = number - 1 if where == "step" else evaluations[number - 1]
        _check_failed(paths, child, "failed", taken + (where == "step"), (hint,))
        status = read_status(paths)
        assert status
        hold(status.step == taken, f"the status says step {status.step}, the failure came after {taken}")
        _go_on(bench, paths)
        check_same(story_of(paths), wanted)

    yield from attempts("out-of-memory", count, surely(carry_out))


def _raise_at(task: Any, spec: RunSpec, tell: Tell, where: str, number: int, error: BaseException) -> None:
    genuine, left = getattr(task, where), [number]

    def called(*words: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise error
        return genuine(*words)

    setattr(task, where, called)
