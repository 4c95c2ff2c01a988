"""A campaign of inputs that nobody would write: whatever lies where tuidl reads, it is read or refused, and quickly."""

import contextlib
import copy
import json
import os
import random
import resource
import shutil
import signal
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from faults.broken_disk import Child, apart, command, load_torch, run_words
from faults.campaign import campaign
from faults.lab import BrokenError, Trial, attempts, hold
from tuidl.errors import TuidlError, UsageError
from tuidl.runs import (
    Command,
    Inbox,
    Refused,
    RunPaths,
    RunReader,
    observed_state,
    read_spec,
    read_status,
    standing_blocks,
    standing_events,
    summarise,
)
from tuidl.runs.ownership import claim
from tuidl.runs.past import repeat_of
from tuidl.spec.load import build_spec, preset_directory, read_toml
from tuidl.text import clean

TARGETS: "dict[str, Target]" = {}
SLOW = 5.0  # seconds of computing that one input may take; nearly all take less than a hundredth
LARGE = 1 << 30  # bytes by which memory may grow meanwhile
FULL_SECONDS = 600  # for each target
Target = Callable[["Place", random.Random], str]


class Place:
    """A run directory into which the inputs are put, one after the other, and what was sound in it."""

    def __init__(self, root: Path, sound: RunPaths) -> None:
        self.sound = sound
        self.paths = RunPaths(root / "tried" / "run")
        self.paths.directory.mkdir(parents=True)
        for directory in (self.paths.control, self.paths.artifacts, self.paths.checkpoints):
            directory.mkdir(mode=0o700)
        for path in (sound.spec, sound.status):
            shutil.copy(path, self.paths.directory)
        self.data = b""  # the input that is being tried

    def put(self, path: Path, data: bytes) -> None:
        """Let `path` hold an input."""
        self.data = data
        path.write_bytes(data)


def target(function: Target) -> Target:
    """Register a reader; it returns what it made of an input, and raises TuidlError where it refuses it."""
    TARGETS[function.__name__] = function
    return function


@campaign(
    "fuzz",
    "presets, logs, commands, checkpoints and the files of a run, changed at random: each is read or refused with one "
    "of tuidl's own errors, in a moment",
    small=10_000,
    full=1_000_000,
)
@apart
def fuzz(root: Path, count: int) -> Iterator[str]:
    load_torch()
    os.fsync = os.fdatasync = lambda fd: None
    words = run_words("mnist-mlp", root, "training.max_steps=30")
    child = Child(root / "log", lambda tell: command(*words, "--name=run"))
    if child.end():
        raise RuntimeError(child.text)
    place = Place(root, RunPaths(root / "runs" / "run"))
    signal.signal(signal.SIGPROF, _too_slow)
    warnings.simplefilter("error")  # nobody shall be shown one
    functions, began = list(TARGETS.values()), time.monotonic()

    def carry_out(trial: Trial) -> None:
        function = functions[trial.number % len(functions)]
        clock, memory = time.process_time(), _memory()
        signal.setitimer(signal.ITIMER_PROF, 4 * SLOW)
        try:
            function(place, trial.random)
        except (TuidlError, BrokenError) as error:
            known, text = not isinstance(error, BrokenError), str(error)
        except Exception as error:
            known, text = False, f"{type(error).__name__}: {error}"
        else:
            known, text = True, ""
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        trial.note(f"{function.__name__}: {place.data[:200]!r}")
        hold(known, text[:300])
        hold(len(text) < 2500 and text == clean(text), f"what it says cannot be shown: {text[:300]!r}")
        hold((seconds := time.process_time() - clock) < SLOW, f"it took {seconds:.1f} s")
        hold(_memory() - memory < LARGE, "it took more than a gigabyte")

    for line in attempts("fuzz", count * len(functions), carry_out):
        yield line
        if time.monotonic() - began > FULL_SECONDS * len(functions):
            return


def _too_slow(*_: object) -> None:
    raise BrokenError(f"it took more than {4 * SLOW:.0f} s")


def _memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# ---------------------------------------------------------------- what is read


@target
def preset(place: Place, chance: random.Random) -> str:
    """A preset of one's own."""
    path = place.paths.directory / "own.toml"
    sources = sorted(preset_directory().glob("*.toml"))
    data = chance.choice(sources).read_bytes()
    for _ in range(chance.choice([1, 1, 2, 5])):
        data = _mutated(data, chance, chance.choice(sources).read_bytes())
    place.put(path, data)
    return repr(build_spec(read_toml(path)))


@target
def metrics(place: Place, chance: random.Random) -> str:
    """The log of metrics, in slices as a screen reads it."""
    place.put(place.paths.metrics, _mutated_log(place.sound.metrics.read_bytes(), chance))
    reader, blocks, most = RunReader(place.paths), [], chance.choice([None, 1, 1000])
    for _ in range(10_000):
        blocks += reader.metrics(most)
        if not reader.more:
            return repr(standing_blocks(blocks))
    raise BrokenError("there is always more to read")


@target
def events(place: Place, chance: random.Random) -> str:
    """The log of events."""
    place.put(place.paths.events, _mutated_log(place.sound.events.read_bytes(), chance))
    return repr(standing_events(RunReader(place.paths).events()))


@target
def order(place: Place, chance: random.Random) -> str:
    """A file in the inbox; the trainer takes or refuses it, and never stumbles."""
    verb = chance.choice(_VERBS)
    name = chance.choice(["1-2-3.json", "00000.json", "é.json", " ", "a" * 200, "x.json.json", "-"])
    place.put(place.paths.control / name, _mutated_json(json.dumps(verb).encode(), chance))
    try:
        found = Inbox(place.paths).poll()
    except Exception as error:
        raise BrokenError(f"the inbox raises {type(error).__name__}: {error}") from error
    hold(len(found) == 1 and isinstance(found[0], Command | Refused), f"one file becomes {found}")
    hold(not list(place.paths.control.iterdir()), "the file stays in the inbox")
    text = found[0].reason if isinstance(found[0], Refused) else found[0].verb
    hold(text == clean(text), f"what it says cannot be shown: {text!r}")
    return text


_VERBS = (
    {"verb": "set", "arguments": {"key": "optimizer.lr", "value": "0.1"}},
    {"verb": "steps", "arguments": {"count": "3"}},
    {"verb": "stop", "arguments": {}},
)


@target
def checkpoint(place: Place, chance: random.Random) -> str:
    """A checkpoint, half of them with a checksum that is right."""
    from tuidl.train.checkpoint import _signed, read
    from tuidl.train.state import state_of

    data = max(place.sound.checkpoints.glob("step-*")).read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    match chance.randrange(5):
        case 0:
            text = _mutated_json(data[8:end], chance)
        case 1:
            part = {"__metadata__": header["__metadata__"]}
            text = _mutated_json(json.dumps(part, separators=(",", ":")).encode(), chance)
            with contextlib.suppress(ValueError, RecursionError, TypeError):  # the tensors as they are
                text = json.dumps(header | json.loads(text), separators=(",", ":")).encode()
        case 2:
            told = _mutated_json(header["__metadata__"]["tuidl"].encode(), chance).decode(errors="replace")
            header["__metadata__"]["tuidl"] = told
            text = json.dumps(header, separators=(",", ":")).encode()
        case 3:
            text = _mutated(data[8:end], chance, data[8:end])
        case _:
            text = data[8:end]
    changed = len(text).to_bytes(8, "little") + text + data[end:]
    if text == data[8:end] or chance.random() < 0.2:
        changed = _mutated(changed, chance, data)
    with contextlib.suppress(ValueError):
        changed = _signed(changed) if chance.random() < 0.7 else changed
    path = place.paths.checkpoints / "step-000000030.safetensors"
    place.put(path, changed)
    try:
        return repr(state_of(read(path)))
    finally:
        path.unlink()


@target
def facts(place: Place, chance: random.Random) -> str:
    """`run.json`, as the lists, `tuidl run RUN` and `tuidl resume RUN` read it."""
    from tuidl.train.resume import Wishes, look_back

    paths = place.paths
    place.put(paths.spec, _mutated_json(place.sound.spec.read_bytes(), chance))
    status = paths.status.read_bytes()
    try:
        paths.status.unlink()  # a completed run would not be looked back at
        _never_raises(lambda: summarise(paths))
        stored = read_spec(paths)
        with contextlib.suppress(UsageError):
            repeat_of(stored, paths.name, ["seed=3"])
        past = look_back(paths, stored, Wishes(resume=True, changes=("optimizer.lr=0.1",)))
        with contextlib.suppress(TuidlError):
            past.check_data({})
        return repr(past)
    finally:
        paths.status.write_bytes(status)
        shutil.copy(place.sound.spec, paths.directory)


@target
def status(place: Place, chance: random.Random) -> str:
    """`status.json`, which every viewer reads several times a second."""
    place.put(place.paths.status, _mutated_json(place.sound.status.read_bytes(), chance))

    def look() -> str:
        found = read_status(place.paths)
        return repr(found and observed_state(found)) + repr(summarise(place.paths))

    return _never_raises(look)


@target
def owner(place: Place, chance: random.Random) -> str:
    """`owner-N.json`, and names like it."""
    found = read_status(place.sound)
    assert found and found.identity
    name = chance.choice(["1", "7", "999999999", "1000000000", "0", "01", "-1", "²", "9" * 100, ""])
    path = place.paths.directory / f"owner-{name}.json"
    sound = found.identity.model_dump_json().encode()
    place.put(path, b"{}" if chance.random() < 0.1 else _mutated_json(sound, chance))
    try:
        return str(claim(place.paths, take_over=chance.random() < 0.5).number)
    finally:
        for path in place.paths.directory.glob("owner-*"):
            path.unlink()


def _never_raises(look: Callable[[], object]) -> str:
    try:
        return repr(look())
    except Exception as error:
        raise BrokenError(f"it raises {type(error).__name__}: {error}") from error


# ---------------------------------------------------------------- how it is changed

WEIRD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 10**30, 0.5, -0.0, 1e308, 5e-324, "nan", "inf", "-inf", "",
    " ", "x" * 5000, "\x1b[31m\x00", "\u202e", "é", "../../etc/passwd", "/dev/zero", "1" * 400, [], [[]], {},
    {"kind": "adam"}, [1, 2, 3], {"": None}, "cpu", "cuda:99", "mnist-mlp",
)  # fmt: skip
RAW = (
    b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"[" * 5000, b"[" * 100_000, b'{"a":' * 3000, b"\xff\xfe", b"\\ud800",
    b"\\u0000", b"\0", b"null", b"1" + b"0" * 400, b"''", b'"""', b"inf", b"2026-01-01", b"[[x]]", b"# ", b"=", b"\n",
)  # fmt: skip


def _mutated(data: bytes, chance: random.Random, other: bytes) -> bytes:
    """Return `data` changed somewhere, as bytes; a part of `other` may come in."""
    at, end = sorted((chance.randint(0, len(data)), chance.randint(0, len(data))))
    near = min(end, at + chance.choice([1, 2, 10, 100]))
    match chance.randrange(8):
        case 0:
            return data[:at]
        case 1:
            return data[:at] + data[near:]
        case 2:
            return data[:near] + data[at:near] * chance.choice([1, 3, 200]) + data[near:]
        case 3:
            return data[:at] + chance.choice(RAW) + data[near:]
        case 4:
            return data[:at] + other[chance.randint(0, len(other)) :][: chance.choice([5, 50, 500])] + data[near:]
        case 5:
            return data[:at] + chance.randbytes(near - at) + data[near:]
        case 6:
            lines = data.splitlines(keepends=True) or [b""]
            return b"".join(chance.sample(lines, len(lines)))
        case _:
            changed = bytearray(data or b"\0")
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
            return bytes(changed)


def _mutated_json(data: bytes, chance: random.Random) -> bytes:
    """Return the JSON in `data` with another value, key or length somewhere, or with other bytes."""
    if chance.random() < 0.3:
        return _mutated(data, chance, data)
    value = json.loads(data)
    for _ in range(chance.choice([1, 1, 1, 3])):
        value = _changed(value, chance)
    text = json.dumps(value, separators=(",", ":")).encode()
    return text.replace(b'"@@"', chance.choice(RAW))


def _changed(value: Any, chance: random.Random) -> Any:
    """Return `value` with one thing in it changed."""
    if not isinstance(value, dict | list) or not value or chance.random() < 0.1:
        return copy.deepcopy(chance.choice([*WEIRD, "@@", "@@"]))
    key: Any = chance.choice(list(value)) if isinstance(value, dict) else chance.randrange(len(value))
    match chance.randrange(10):
        case 0:
            del value[key]
        case 1 if isinstance(value, dict):
            value[str(chance.choice(WEIRD))] = value[key]
        case 2 if isinstance(value, dict):
            value[key] = copy.deepcopy(value[chance.choice(list(value))])
        case 3 if isinstance(value, list):
            value.extend([copy.deepcopy(value[key]) for _ in range(1000)])
        case _:
            value[key] = _changed(value[key], chance)
    return value


def _mutated_log(data: bytes, chance: random.Random) -> bytes:
    """Return a log of which some records, or some bytes, are others; most of those records have a right checksum."""
    if chance.random() < 0.3:
        return _mutated(data, chance, data)
    sound = data.splitlines(keepends=True)
    lines = list(sound)
    for _ in range(chance.choice([1, 1, 5])):
        payload = _mutated_json(chance.choice(sound)[9:-1], chance)
        if chance.random() < 0.8:
            payload = payload.replace(b"\n", b"")
        checksum = zlib.crc32(payload) if chance.random() < 0.9 else chance.randrange(2**32)
        at = chance.randrange(len(lines))
        lines[at : at + chance.choice([0, 1])] = [b"%08x %b\n" % (checksum, payload)]
    return b"".join(lines)
