"""Campaigns against what lies on the disk: calls that fail, logs that are torn, checkpoints that are damaged."""

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from faults import failures, fuzz  # noqa: F401 - they register their campaigns
from faults.broken_disk import (
    HUNG,
    KILLED,
    Calls,
    Child,
    Tell,
    apart,
    command,
    faults_of,
    load_torch,
    obey_permissions,
    run_words,
    surely,
)
from faults.campaign import campaign
from faults.lab import Trial, attempts, check_completed, check_same, hold, story_of
from tuidl.errors import StorageError
from tuidl.runs import RecordWriter, RunPaths, RunReader, RunWriter, create_run, encode_block, write_spec

# ---------------------------------------------------------------- syscalls


class Saving:
    """One checkpoint is saved beside two sound ones, or over the newer of them."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.name = f"saving a checkpoint {'over another' if step == 2 else 'beside others'}"

    def prepare(self, directory: Path) -> None:
        """Make the two that are there."""
        from tuidl.train.checkpoint import Checkpoints

        for step in (1, 2):
            Checkpoints(directory).save(_checkpoint(step, "old"), {})

    def act(self, directory: Path, tell: Tell) -> None:
        """Save, and tell what came of it."""
        from tuidl.train.checkpoint import Checkpoints

        _tell_end(tell, "save", lambda: Checkpoints(directory).save(_checkpoint(self.step, "new"), {}))

    def check(self, directory: Path, told: list[Any]) -> None:
        """Hold that the newest one is the old or the new one, and the new one where that was acknowledged."""
        from tuidl.train.checkpoint import Checkpoints, read

        found, skipped = Checkpoints(directory).newest_sound()
        hold(found and not skipped, f"no checkpoint can be read, or not the newest: {skipped}")
        assert found
        new, old = (self.step, "new"), (2, "old")
        now = next((key for key in (new, old) if _is(found, *key)), None)
        hold(now, f"the newest checkpoint, of step {found.step}, holds other numbers than were saved")
        hold(now == new or ["save", "done"] not in told, "the checkpoint was acknowledged and is not there")
        sound = [read(path) for path in directory.glob("step-*")]
        hold(len(sound) >= 2, f"only {len(sound)} checkpoints are left")
        Checkpoints(directory).save(_checkpoint(9, "next"), {})
        hold(_is(read(max(directory.glob("step-*"))), 9, "next"), "the next one is not saved")


class Recording:
    """All that a recorder does with a run that was written before; each thing that fails is not tried again."""

    name = "recording"

    def prepare(self, directory: Path) -> None:
        """Make a run with some records."""
        paths = create_run(directory, "run", "tiny")
        write_spec(paths, {"spec": {"a": 1}})
        with RunWriter(paths) as writer:
            for number in (0, 1):
                writer.event("mark", number, number=number)
                writer.metrics(1 + number, {"loss": [number + 0.5]}, (0.0, 1.0))
            writer.artifact("seen.json", b"old")
            writer.status.update(state="running", step=1)

    def act(self, directory: Path, tell: Tell) -> None:
        """Do everything a recorder does, and tell what came of each."""
        paths = RunPaths(directory / "run")
        made: list[RunWriter] = []
        for _ in range(2):
            if not made:
                _tell_end(tell, "open", lambda: made.append(RunWriter(paths)))
        (writer,) = made
        for number in (2, 3, 4):
            _tell_end(tell, f"event {number}", partial(writer.event, "mark", number, number=number))
            block = {"loss": [number + 0.5]}
            _tell_end(tell, f"metrics {number}", partial(writer.metrics, 1 + number, block, (0.0, 1.0)))
            _tell_end(tell, f"status {number}", partial(writer.status.update, state="running", step=number))
        _tell_end(tell, "sync", writer.sync)
        _tell_end(tell, "artifact new", lambda: writer.artifact("other.json", b"new"))
        _tell_end(tell, "artifact same", lambda: writer.artifact("seen.json", b"old"))
        _tell_end(tell, "artifact numbered", lambda: writer.artifact("seen.json", b"new"))
        _tell_end(tell, "facts", lambda: writer.complete_spec({"device": "cpu"}))
        _tell_end(tell, "status 5", lambda: writer.status.update(state="completed", step=5))
        _tell_end(tell, "close", writer.close)

    def check(self, directory: Path, told: list[Any]) -> None:
        """Hold that all is there that was acknowledged, that nothing is there that was refused, all of it sound."""
        paths = RunPaths(directory / "run")
        reader, ends = RunReader(paths), dict(told)
        killed = ends.get("close") is None
        events = [event.get("number") for event in reader.events()]
        blocks = [(block.first_step - 1, list(block.columns["loss"])) for block in reader.metrics()]
        for kind, found in (("event", events), ("metrics", [number for number, _ in blocks])):
            lost = [number for number in range(2, 5) if ends.get(f"{kind} {number}") == "done" and number not in found]
            hold(not lost and found[:2] == [0, 1], f"{kind} {lost or '0 and 1'} were acknowledged; found {found}")
            back = [number for number in range(2, 5) if ends.get(f"{kind} {number}") == "refused" and number in found]
            hold(not back, f"{kind} {back} were refused and are there all the same")
            hold(found == sorted(set(found)), f"{kind}: found {found}")
        hold(all(loss == [number + 0.5] for number, loss in blocks), "a block holds other numbers")
        status, tried = reader.status(), [1, *range(2, 6)]
        done = [number for number in tried if ends.get(f"status {number}") == "done"]
        hold(status, "the status cannot be read")
        assert status
        hold(status.step >= max(done, default=1), f"status {max(done, default=1)} is lost: it says {status.step}")
        facts = reader.spec()
        hold(facts.get("spec") == {"a": 1}, f"run.json says {facts}")
        hold("device" in facts or ends.get("facts") != "done", "the facts were acknowledged and are not there")
        wanted = {"other.json": b"new", "seen.json": b"old", "seen-2.json": b"new"}
        files = {path.name: path.read_bytes() for path in paths.artifacts.iterdir() if path.name[0] != "."}
        hold(all(wanted.get(name) == data for name, data in files.items()), f"the artifacts are {files}")
        acknowledged = {"other.json"} if ends.get("artifact new") == "done" else set()
        acknowledged |= {"seen-2.json"} if ends.get("artifact numbered") == "done" else set()
        hold(files.keys() >= acknowledged, "an acknowledged artifact is not there")
        if killed:
            with RunWriter(paths) as writer:  # the next trainer
                writer.event("mark", 6, number=6)
            hold([event.get("number") for event in reader.events()][-1:] == [6], "the next event is not read")


def _tell_end(tell: Tell, what: str, work: Callable[[], object]) -> None:
    try:
        work()
        tell([what, "done"])
    except StorageError:
        tell([what, "refused"])
    except Exception as error:
        tell([what, f"{type(error).__name__}: {error}"])


def _checkpoint(step: int, what: str) -> Any:
    import torch

    from tuidl.train.events import Checkpoint, Continuation

    random = torch.Generator().manual_seed(step + 100 * len(what))
    weights = {name: torch.randn(40, generator=random) for name in "ab"}
    rest = Continuation({"moments": torch.randn(9, generator=random)}, {"what": what})
    return Checkpoint(step, weights, {}, rest, {}, False)


def _is(saved: Any, step: int, what: str) -> bool:
    wanted = _checkpoint(step, what)
    pairs = [*((saved.weights.get(key), value) for key, value in wanted.weights.items()),
             *((saved.rest.tensors.get(key), value) for key, value in wanted.rest.tensors.items())]  # fmt: skip
    same = all(mine is not None and mine.equal(value) for mine, value in pairs)
    return same and saved.step == step and saved.rest.values == {"what": what}


@campaign(
    "syscalls",
    "a call to the file system fails, is cut short or is the trainer's last: all that was acknowledged is there, "
    "old or new and whole, and the error is a StorageError",
    small=500,
    full=500,
)
@apart
def syscalls(root: Path, count: int) -> Iterator[str]:
    tried = root / "tried"
    for scenario in (Recording(), Saving(3), Saving(2)):
        if scenario.name != "recording":  # which needs no torch, and so has children that are born quickly
            load_torch()
        made = root / scenario.name
        made.mkdir()
        scenario.prepare(made)

        shutil.copytree(made, tried)
        undisturbed = Child(root / "log", partial(_act, scenario, tried, Calls()))
        if undisturbed.end():
            raise RuntimeError(undisturbed.text)
        calls = [
            (at, name, fault) for at, name in enumerate(dict(undisturbed.told)["calls"]) for fault in faults_of(name)
        ]

        def carry_out(trial: Trial, scenario: Any = scenario, made: Path = made, calls: list[Any] = calls) -> None:
            at, name, fault = calls[trial.number % len(calls)]
            trial.note(f"{scenario.name}, call {at} ({name}) {fault}")
            shutil.rmtree(tried)
            shutil.copytree(made, tried)
            child = Child(root / "log", partial(_act, scenario, tried, Calls(at, fault)))
            _check_child(child, scenario, tried, name, fault)

        yield from attempts("syscalls", len(calls), surely(carry_out))
        shutil.rmtree(tried)


def _act(scenario: Any, directory: Path, calls: Calls, tell: Tell) -> None:
    calls.install()
    scenario.act(directory, tell)
    tell(["calls", list(calls.names)])


def _check_child(child: Child, scenario: Any, tried: Path, name: str, fault: str) -> None:
    code = child.end()
    hold(code == (KILLED if fault.startswith("killed") else 0), f"ends with {code}: {child.last_line}")
    told = [item for item in child.told if item[0] != "calls"]
    strange = [f"{what} raised {end}" for what, end in told if end not in ("done", "refused")]
    hold(not strange, ", ".join(strange))
    if fault == "short":
        refused = [what for what, end in told if end == "refused"]
        hold(not refused, f"a write that takes two turns is refused: {refused}")
    if code == 0 and name != "unlink":
        left = [path.name for path in tried.rglob("*.tmp")]
        hold(not left, f"left lying about: {left}")
    scenario.check(tried, told)


# ---------------------------------------------------------------- torn


class Log:
    """A log of a run: how it is written and what is read of it."""

    def __init__(self, root: Path, kind: str) -> None:
        self.paths, self.kind = create_run(root, kind, "tiny"), kind
        self.file = self.paths.metrics if kind == "metrics" else self.paths.events

    def append(self, step: int, count: int = 1) -> None:
        """Open the log anew and append records, from that step on."""
        writer = RecordWriter(self.file)
        for number in range(step, step + count):
            numbers = random.Random(number)
            value, text = numbers.uniform(-9, 9), "é\x1b" * numbers.randrange(9)
            if self.kind == "events":
                writer.append({"event": "note", "step": number, "text": text, "value": value})
            else:
                values = [value, float("nan"), numbers.uniform(-9, 9)]
                writer.append(encode_block(number, {"loss": values, "lr": values[::-1]}, (value, 1e300)))
        writer.close()

    def read(self) -> list[Any]:
        """Return what a reader makes of it, in a form that can be compared."""
        reader = RunReader(self.paths)
        if self.kind == "events":
            return reader.events()
        return [(block.first_step, block.count, block.elapsed, {k: v.tobytes() for k, v in block.columns.items()})
                for block in reader.metrics()]  # fmt: skip


@campaign(
    "torn",
    "a log is cut at any byte, or a bit of it flipped: every other record is read, none with another value, and "
    "nothing that is appended later is lost",
    small=30,
    full=100,
)
def torn(root: Path, count: int) -> Iterator[str]:
    for kind in ("metrics", "events"):
        log = Log(root, kind)
        log.append(0, count)
        whole, records = log.file.read_bytes(), log.read()
        ends = [at + 1 for at, byte in enumerate(whole) if byte == 0x0A][1:]  # of each record; the first is the header
        if len(records) != count or len(ends) != count:
            raise RuntimeError("the log is not whole before it is cut")
        for cut in range(len(whole) + 1):
            log.file.write_bytes(whole[:cut])
            sound = [record for record, end in zip(records, ends, strict=True) if end <= cut]
            found = log.read()
            log.append(count, 2)
            more = log.read()
            nearly = [record for record, end in zip(records, ends, strict=True) if end - 1 <= cut]  # but the newline
            wrong = "" if found == sound else f"{len(found)} records are read"
            if more[:-2] not in (sound, nearly) or [_step(record) for record in more[-2:]] != [count, count + 1]:
                wrong += f" after two were appended, steps {[_step(record) for record in more]} are read"
            yield wrong and f"{kind} cut after byte {cut}, which leaves {len(sound)} whole records: {wrong}"
        flips = random.Random(f"torn {kind}")
        for _ in range(500 if count < 100 else 5000):
            at, bit = flips.randrange(len(whole)), flips.randrange(8)
            log.file.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
            log.append(count)
            found = log.read()
            lost = count + 1 - len(found)
            wrong = "" if 0 <= lost <= 2 else f"{lost} records are lost"
            wrong += "" if all(record in records for record in found[:-1]) else " a record has another value"
            wrong += "" if found and _step(found[-1]) == count else " what was appended is not read"
            yield wrong and f"{kind}, bit {bit} of byte {at} flipped: {wrong}"


def _step(record: Any) -> int:
    step: int = record["step"] if isinstance(record, dict) else record[0]
    return step


# ---------------------------------------------------------------- damage

TOTAL, DIES_AT = 60, 52  # steps; a checkpoint every 6


@campaign(
    "damage",
    "the newest checkpoints of a run are damaged: resume says so and goes on from one that is sound, to the same end "
    "to the bit; one that is sound but of another model is refused in one line",
    small=60,
    full=500,
)
@apart
def damage(root: Path, count: int) -> Iterator[str]:
    load_torch()
    runs = root / "runs"
    settings = (f"training.max_steps={TOTAL}", "checkpoints.keep=3", "checkpoints.interval=0")
    words = run_words("mnist-mlp", root, *settings)
    for name, last in (("whole", 0), ("died", DIES_AT)):
        child = Child(root / "log", partial(_train, [*words, "--name", name], last))
        if child.end() != (KILLED if last else 0):
            raise RuntimeError(child.text)
    wanted = story_of(RunPaths(runs / "whole"))

    def carry_out(trial: Trial) -> None:
        shutil.rmtree(runs / "tried", ignore_errors=True)
        paths = RunPaths(shutil.copytree(runs / "died", runs / "tried"))
        files = sorted(paths.checkpoints.glob("step-*"))
        chance = trial.random
        hit = 1 if chance.random() < 0.8 else chance.randint(2, len(files))
        kinds = [_damage(path, files[0], hit == 1, trial) for path in files[: -hit - 1 : -1]]
        before = len(RunReader(paths).events())
        child = Child(root / "log", partial(_train, ["resume", "tried", "--offline"], 0))
        code = child.end()
        hold(code != HUNG, "resume hangs")
        hold(code in (0, 2) and "Traceback" not in child.text, f"resume ends with {code}: {child.last_line}")
        fits = all(kind == "damaged" for kind in kinds)
        if code == 2:
            hold(not fits or hit == len(files), f"resume refuses: {child.last_line}")
            lines = [line for line in child.text.splitlines() if line.startswith("tuidl: ")]
            hold(len(lines) == 1 and len(lines[0]) < 1000, f"refused in {len(lines)} lines")
            return
        check_completed(paths)
        check_same(story_of(paths), wanted)
        resumed = next(event for event in RunReader(paths).events()[before:] if event["event"] == "resumed")
        if fits:
            hold(hit < len(files), f"resumed from {resumed['file']}, and no checkpoint is sound")
            hold(resumed["file"] == f"checkpoints/{files[-hit - 1].name}", f"resumed from {resumed['file']}")
            told = " ".join(resumed["skipped"])
            silent = [path.name for path in files[-hit:] if path.name not in told or path.name not in child.text]
            hold(not silent, f"nobody is told of {silent}: {told}")

    yield from attempts("damage", count, surely(carry_out))


def _train(words: list[Any], last: int, tell: Tell) -> None:
    """Be the command, and die at step `last` where that is not 0."""
    from tuidl.train import session

    build = session.build_task

    def build_task(*arguments: Any) -> Any:
        task = build(*arguments)
        step, steps = task.step, iter(range(1, TOTAL + 1))
        task.step = lambda *more: os._exit(KILLED) if next(steps) == last else step(*more)
        return task

    session.build_task = build_task
    obey_permissions()
    command(*words)


def _damage(path: Path, older: Path, alone: bool, trial: Trial) -> str:
    """Damage a checkpoint; return "damaged" where it cannot be read any more, "changed" where it may be."""
    data, chance = path.read_bytes(), trial.random
    kind = chance.choice([*_BYTES, *_PLACES, *_HEADERS, *_TENSORS, "flip", "flip", "flip"])
    signed = kind in (*_HEADERS, *_TENSORS) and alone and chance.random() < 0.5
    trial.note(f"{path.name}: {kind}{', with the right checksum' if signed else ''}")
    if kind in _BYTES:
        path.write_bytes(_BYTES[kind](data, chance))
    elif kind == "flip":
        changed = bytearray(data)
        for _ in range(chance.choice([1, 1, 1, 8])):
            at, bit = chance.randrange(len(data)), chance.randrange(8)
            trial.note(f"bit {bit} of byte {at}")
            changed[at] ^= 1 << bit
        path.write_bytes(changed)
    elif kind in _PLACES:
        path.unlink()
        _PLACES[kind](path, older)
    else:
        path.write_bytes(_rewritten(data, kind, chance, signed, trial))
    return "changed" if signed and kind in _TENSORS else "damaged"


_BYTES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "empty": lambda data, chance: b"",
    "cut short": lambda data, chance: data[: chance.randrange(len(data))],
    "noise": lambda data, chance: chance.randbytes(len(data)),
    "zeros": lambda data, chance: bytes(len(data)),
    "zeros from somewhere on": lambda data, chance: data[: (at := chance.randrange(len(data)))] + bytes(len(data) - at),
    "longer": lambda data, chance: data + chance.randbytes(chance.choice([1, 4096])),
    "huge header": lambda data, chance: chance.choice([2**62, 2**64 - 1, 2**31]).to_bytes(8, "little") + data[8:],
}
_PLACES: dict[str, Callable[[Path, Path], object]] = {
    "directory": lambda path, older: path.mkdir(),
    "directory with a file": lambda path, older: (path.mkdir(), (path / "x").touch()),
    "FIFO": lambda path, older: os.mkfifo(path),
    "link to an older one": lambda path, older: path.symlink_to(older),
    "link to nowhere": lambda path, older: path.symlink_to("nowhere"),
    "link to itself": lambda path, older: path.symlink_to(path),
    "unreadable": lambda path, older: (path.touch(), path.chmod(0)),
}
_HEADERS = ("overlapping offsets", "terabytes", "offsets backwards", "strange dtype", "header of another kind")
_TENSORS = ("another shape", "another dtype", "missing", "additional", "missing value")


def _rewritten(data: bytes, kind: str, chance: random.Random, signed: bool, trial: Trial) -> bytes:
    """Return the file with one tensor, or its place in the header, changed; `signed` with a checksum that is right."""
    from safetensors.torch import load, save

    from tuidl.train.checkpoint import _signed

    end = 8 + int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8:end]), data[end:]
    meta = header["__metadata__"]
    name = chance.choice(sorted(header.keys() - {"__metadata__"}))
    trial.note(name)
    if kind in _HEADERS:
        begin, stop = header[name]["data_offsets"]
        match kind:
            case "overlapping offsets":
                header[name]["data_offsets"] = [begin - 4, stop] if begin else [begin, stop + 4]
            case "terabytes":
                header[name]["shape"] = [2**40] + header[name]["shape"]
            case "offsets backwards":
                header[name]["data_offsets"] = [stop, begin]
            case "strange dtype":
                header[name]["dtype"] = chance.choice(["F4", "C64", "F8_E8M0", "PICKLE", 7, None])
            case _:
                header["__metadata__"] = chance.choice([7, [], {**meta, "tuidl": chance.choice(["7", "[]", "{}"])}])
        text = json.dumps(header, separators=(",", ":")).encode()
        changed = len(text).to_bytes(8, "little") + text + body
    else:
        tensors = load(data)
        match kind:
            case "another shape":
                tensors[name] = tensors[name].new_ones(tensors[name].numel() + 1)
            case "another dtype":
                tensors[name] = tensors[name].half() if tensors[name].is_floating_point() else tensors[name].float()
            case "missing":
                del tensors[name]
            case "additional":
                tensors[name + chance.choice(["2", ".x", " "])] = tensors[name].clone()
            case _:
                told = json.loads(meta["tuidl"])
                place = chance.choice([told, told["values"], told["values"]["loop"]])
                gone = chance.choice(sorted(place))
                trial.note(f"without {gone}")
                del place[gone]
                meta = {**meta, "tuidl": json.dumps(told)}
        changed = save(tensors, meta)
    return _signed(changed) if signed and b'"sha256":"' in changed else changed
