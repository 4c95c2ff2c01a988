"""Checkpoints: what is saved is read again, enough of them stay, and nothing that lies there can run or be believed."""

import json
import math
import pickle
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from tuidl.errors import StorageError, TuidlError, UsageError
from tuidl.runs import write_atomic
from tuidl.train import checkpoint
from tuidl.train.checkpoint import Checkpoints, read
from tuidl.train.events import Checkpoint, Continuation

from .tiny import same, spec_of, task_of, weights

TENSORS = {
    "weight": torch.arange(12, dtype=torch.float32).view(3, 4),
    "filters": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "turned": torch.arange(6.0).view(2, 3).T,
    "count": torch.tensor(7),
    "half": torch.ones(3, dtype=torch.bfloat16),
    "odd": torch.tensor([float("nan"), float("inf"), -0.0]),
}


def at(step: int, weights: Mapping[str, Tensor], *, best: bool = False, **more: Any) -> Checkpoint:
    """Return a checkpoint of these weights."""
    rest = Continuation({"random": torch.arange(5, dtype=torch.uint8)}, {"loop": {}})
    return Checkpoint(step, dict(weights), **{"best_weights": {}, "rest": rest, "metrics": {}, "best": best} | more)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path)
    best = {key: value + 1 for key, value in TENSORS.items()}
    rest = Continuation({"weight": torch.zeros(2), "best:x": torch.ones(1)}, {"steps": 3, "far": math.inf})
    event = at(1200, TENSORS, best_weights=best, rest=rest, metrics={"val_loss": 0.5})
    name = store.save(event, {"spec": {"task": "x"}})
    assert name == "step-000001200.safetensors"
    found = read(tmp_path / name)
    assert found.step == 1200
    values = {"steps": 3, "far": "inf"}
    told = {"format": 2, "step": 1200, "metrics": {"val_loss": 0.5}, "spec": {"task": "x"}, "values": values}
    assert found.header == told and found.rest.values == values
    for part, wanted in ((found.weights, TENSORS), (found.best_weights, best), (found.rest.tensors, rest.tensors)):
        assert part.keys() == wanted.keys()
        for key, value in wanted.items():
            assert part[key].dtype == value.dtype
            torch.testing.assert_close(part[key], value, rtol=0, atol=0, equal_nan=True)
    assert (tmp_path / name).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("task", ["classification", "language", "gan"])
def test_weights_of_each_task_survive(task: str, tmp_path: Path) -> None:
    spec = spec_of(task, model={"batch_norm": True}) if task == "classification" else spec_of(task)
    first, second = task_of(spec), task_of(spec_of(task, seed=3, model=spec.model.model_dump()))
    assert not same(first.state(), second.state())
    store = Checkpoints(tmp_path)
    second.load(read(tmp_path / store.save(at(1, first.state()), {})).weights)
    assert same(first.state(), second.state())


def test_saving_leaves_the_weights_as_they_are(tmp_path: Path) -> None:
    task = task_of(spec_of(model={"kind": "cnn", "channels": [3]}))
    before = weights(task)
    Checkpoints(tmp_path).save(at(1, task.state(), best=True), {})
    assert same(before, task.state())
    assert all(parameter.requires_grad for parameter in task.model.parameters())


def test_the_newest_two_and_the_best_are_kept(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path)
    for step in range(100, 700, 100):
        store.save(at(step, {"x": torch.tensor(float(step))}, best=step == 200), {})
        kept = {f"step-{kept:09d}.safetensors" for kept in (step - 100, step) if kept >= 100}
        if step >= 200:
            kept.add("step-000000200.safetensors")
        assert set(names(tmp_path)) == kept
    store.save(at(700, {"x": torch.tensor(0.0)}, best=True), {})  # a new best one lets the old go
    store.save(at(800, {"x": torch.tensor(0.0)}, best=False), {})
    store.save(at(900, {"x": torch.tensor(0.0)}, best=False), {})
    assert names(tmp_path) == [f"step-000000{step}.safetensors" for step in (700, 800, 900)]


def test_a_checkpoint_that_does_not_hold_pushes_out_none_that_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Checkpoints(tmp_path)
    for step in (1, 2):
        store.save(at(step, TENSORS, best=False), {})
    monkeypatch.setattr(checkpoint, "write_atomic", lambda path, data, **_: write_atomic(path, data[:-1] + b"!"))
    with pytest.raises(StorageError, match="disk"):
        store.save(at(3, TENSORS, best=True), {})
    assert names(tmp_path) == ["step-000000001.safetensors", "step-000000002.safetensors"]
    assert store.best is None
    monkeypatch.undo()

    def full(path: Path, data: bytes, **_: Any) -> None:
        raise StorageError("disk full")

    monkeypatch.setattr(checkpoint, "write_atomic", full)
    with pytest.raises(StorageError, match="full"):
        store.save(at(4, TENSORS, best=True), {})
    assert names(tmp_path) == ["step-000000001.safetensors", "step-000000002.safetensors"]


def test_what_a_crash_has_left_is_swept(tmp_path: Path) -> None:
    left = tmp_path / ".step-000000001.safetensors.123.0123456789ab.tmp"
    left.write_bytes(b"half")
    strange = tmp_path / "notes.txt"
    strange.write_text("mine")
    store = Checkpoints(tmp_path)
    for step in range(5):
        store.save(at(step, {"x": torch.zeros(1)}, best=False), {})
    assert not left.exists() and strange.read_text() == "mine"


# --- what is refused -------------------------------------------------------------------------------------------------


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('an unpickler has run')",))


def sound(tmp_path: Path) -> Path:
    store = Checkpoints(tmp_path)
    return tmp_path / store.save(at(1, TENSORS), {})


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 9, 50, 200, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, keep: int) -> None:
    path = sound(tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UsageError, match="cannot be read"):
        read(path)


def test_a_file_damaged_anywhere_is_refused_or_read_but_never_crashes(tmp_path: Path) -> None:
    path = sound(tmp_path)
    whole = path.read_bytes()
    refused = 0
    for position in [*range(0, 600, 3), len(whole) - 1]:
        for value in (0x00, 0xFF, 0x7B):
            path.write_bytes(whole[:position] + bytes([value]) + whole[position + 1 :])
            try:
                assert isinstance(read(path).header, dict)
            except TuidlError:
                refused += 1
    assert refused > 100


CONTENTS: dict[str, bytes] = {
    "pickle": pickle.dumps(Evil()),
    "noise": bytes(range(256)) * 8,
    "huge header": (2**62).to_bytes(8, "little") + b"{}",
    "negative header": b"\xff" * 8 + b"{}",
    "no json": (4).to_bytes(8, "little") + b"nope",
    "no header of tuidl": save({"x": torch.zeros(1)}),
    "other metadata": save({"x": torch.zeros(1)}, {"by": "another"}),
    "header is no json": save({"x": torch.zeros(1)}, {"tuidl": "{"}),
    "header is a list": save({"x": torch.zeros(1)}, {"tuidl": "[1]"}),
    "header is a number": save({"x": torch.zeros(1)}, {"tuidl": "7"}),
    "header nested without end": save({"x": torch.zeros(1)}, {"tuidl": "[" * 100_000}),
}


@pytest.mark.parametrize("what", CONTENTS)
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "step-000000001.safetensors"
    path.write_bytes(CONTENTS[what])
    with pytest.raises(UsageError, match=r"step-000000001\.safetensors"):
        read(path)


def test_a_pickle_of_torch_is_refused_and_does_not_run(tmp_path: Path) -> None:
    path = tmp_path / "step-000000001.safetensors"
    torch.save({"weight": Evil()}, path)
    with pytest.raises(UsageError):
        read(path)


@pytest.mark.parametrize("what", ["absent", "directory", "dangling link"])
def test_what_is_no_file_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "step-000000001.safetensors"
    if what == "directory":
        path.mkdir()
    if what == "dangling link":
        path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError):
        read(path)


def test_names_in_messages_are_clean(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path / "\x1b[31mred")
    assert "\x1b" not in str(caught.value)


def test_no_unpickler_is_used_on_the_way_in_or_out(tmp_path: Path) -> None:
    """In a process of its own, in which every unpickler raises."""
    code = f"""
import pickle, _pickle
from pathlib import Path
import torch
def forbidden(*_, **__): raise SystemExit("an unpickler was asked")
pickle.load = pickle.loads = pickle.Unpickler = _pickle.load = _pickle.loads = _pickle.Unpickler = forbidden
torch.load = torch.save = forbidden
from tuidl.train.checkpoint import Checkpoints, read
from tuidl.train.events import Checkpoint, Continuation
store = Checkpoints(Path({str(tmp_path)!r}))
event = Checkpoint(3, {{"x": torch.arange(3.0)}}, {{}}, Continuation({{}}, {{}}), {{}}, True)
found = read(Path({str(tmp_path)!r}) / store.save(event, {{"a": 1}}))
assert found.weights["x"].tolist() == [0, 1, 2] and found.header["a"] == 1 and found.step == 3
print("sound")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "sound", done.stderr


def test_the_header_is_json_that_any_reader_of_safetensors_sees(tmp_path: Path) -> None:
    raw = sound(tmp_path).read_bytes()
    length = int.from_bytes(raw[:8], "little")
    metadata = json.loads(raw[8 : 8 + length])["__metadata__"]
    assert json.loads(metadata["tuidl"]) == {"format": 2, "step": 1, "metrics": {}, "values": {"loop": {}}}
