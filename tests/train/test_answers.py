"""What only torch can tell the screen: the layers of a model, samples of the data, the devices."""

import base64
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tuidl.errors import DataError, UsageError
from tuidl.gpus import Gpu, GpuUser, Nvidia
from tuidl.spec import RunSpec, build_spec, load_preset, preset_names
from tuidl.spec.models import MODELS
from tuidl.spec.optimizers import OPTIMIZERS
from tuidl.spec.tasks import TASKS
from tuidl.train import answers
from tuidl.train.data import load as load_module
from tuidl.train.data.load import load
from tuidl.train.session import build_task

from .tiny import HARDWARE, data_of, plain, spec_of

REAL = Path(os.environ.get("TUIDL_DATA_DIR") or "/nowhere")
pytestmark = pytest.mark.usefixtures("no_data")


# --- the model --------------------------------------------------------------------------------------------------------


def parts_of(spec: RunSpec) -> dict[str, nn.Module]:
    """Return the networks that a task really builds."""
    task = build_task(spec, data_of(spec.task), HARDWARE)
    return task._parts() if spec.task == "gan" else {"": task.model}


def tiny(kind: str) -> RunSpec:
    """Return a spec with a model of that kind for the tiny data sets."""
    (task,) = MODELS[kind].tasks
    more = {"loss": {"kind": "wgan-gp"}} if kind == "dcgan" else {}
    return spec_of(task, model={"kind": kind}, **more)


@pytest.mark.parametrize("kind", [kind for kind in MODELS if kind not in ("lenet5", "dcgan")])
def test_the_layers_are_those_of_the_model(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = tiny(kind)
    data = data_of(spec.task)
    if spec.task == "language":
        monkeypatch.setattr(answers, "_stock", lambda spec, data_dir: data)
    else:
        tiny_set = SimpleNamespace(shape=tuple(data.train.images.shape[1:]), labels=data.labels)
        monkeypatch.setattr(answers, "DATASETS", {spec.data.name: tiny_set})
    told = answers.describe(plain(spec))
    parts = parts_of(spec)
    assert told["parameters"] == sum(weight.numel() for part in parts.values() for weight in part.parameters())
    assert sum(layer["parameters"] for layer in told["layers"]) == told["parameters"]
    modules = {f"{name}.{key}".lstrip("."): one for name, part in parts.items() for key, one in part.named_modules()}
    for layer in told["layers"]:
        assert type(modules[layer["name"]]).__name__ == layer["kind"]
    assert told["memory"] > 8 * told["parameters"] and told["activations"] > 0
    assert not any(layer["kind"] == "Dropout" for layer in told["layers"]), "dropout of 0 does nothing"


def test_every_task_can_be_described() -> None:
    assert set(answers._PARTS) == set(TASKS)
    assert set(answers._SCALES) == {key for key, task in TASKS.items() if task.data == "images"}


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_described(name: str) -> None:
    spec = load_preset(name)
    if spec.task == "language":
        spec = load_preset(name, ["data.stand_in=none"])
    told = answers.describe(plain(spec))
    last = told["layers"][-1]
    outputs = {"classification": [10], "language": [answers.GUESSED_VOCABULARY], "gan": [1]}
    assert last["shape"] == outputs[spec.task]
    assert json.dumps(told) and all(set(layer) == {"name", "kind", "shape", "parameters"} for layer in told["layers"])
    if spec.task == "gan":
        assert {layer["name"].partition(".")[0] for layer in told["layers"]} == {"generator", "discriminator"}


def test_a_model_that_cannot_be_built_says_why() -> None:
    spec = build_spec({"data": {"name": "mnist"}, "model": {"kind": "cnn", "channels": [4] * 12}})
    with pytest.raises(UsageError, match="shrinks a 28x28 image to nothing"):
        answers.describe(plain(spec))


def test_no_model_is_too_large_to_be_described() -> None:
    spec = build_spec({"model": {"kind": "mlp", "widths": [8192] * 16}})
    told = answers.describe(plain(spec))
    assert told["parameters"] > 10**9 and told["memory"] == 16 * told["parameters"]  # Adam: two numbers a weight


def test_fixed_filters_are_not_learned_and_an_average_is_held() -> None:
    plain_model = {"kind": "cnn", "channels": [20, 4]}
    told = {
        name: answers.describe(plain(build_spec({"model": {**plain_model, **more}, "training": training})))
        for name, more, training in (
            ("plain", {}, {}), ("whitened", {"first_filters": "whitening"}, {}), ("averaged", {}, {"average": 0.9}),
        )
    }  # fmt: skip
    filters = 20 * 9
    assert told["whitened"]["parameters"] == told["plain"]["parameters"] - filters
    assert told["whitened"]["layers"][0]["parameters"] == told["plain"]["layers"][0]["parameters"] - filters
    assert told["whitened"]["memory"] == told["plain"]["memory"] - 4 * 3 * filters, "no gradient, and nothing for Adam"
    assert told["averaged"]["memory"] == told["plain"]["memory"] + 4 * told["plain"]["parameters"]


def test_describing_changes_no_random_number() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    answers.describe(plain(build_spec({})))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", list(OPTIMIZERS))
def test_every_optimizer_is_weighed(kind: str) -> None:
    told = answers.describe(plain(build_spec({"optimizer": {"kind": kind}})))
    assert told["memory"] in [4 * told["parameters"] * (2 + kept) for kept in range(5)]


def test_the_vocabulary_is_that_of_the_text(tmp_path: Path) -> None:
    book = tmp_path / "book.txt"
    book.write_text("abcde" * 100)
    spec = plain(spec_of("language", data={"name": "text", "path": str(book)}))
    assert answers.describe(spec)["layers"][-1]["shape"] == [5]
    book.write_text("abcdefg" * 100)
    os.utime(book, ns=(1, 1))
    assert answers.describe(spec)["layers"][-1]["shape"] == [7], "the file has changed"
    book.unlink()
    assert answers.describe(spec)["layers"][-1]["shape"] == [answers.GUESSED_VOCABULARY]


# --- the data ---------------------------------------------------------------------------------------------------------


def pixels(told: dict[str, Any], key: str) -> Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(told[key])), dtype=torch.uint8).view(told["shape"])


@pytest.mark.parametrize(
    "settings",
    [{}, {"validation": 0.5}, {"validation": 0.02}, {"train_limit": 7}, {"validation": 0.33, "train_limit": 100}],
    ids=str,
)
def test_samples_are_those_of_the_run(settings: dict[str, Any]) -> None:
    spec = spec_of(data={"name": "drawn-digits", **settings})
    told = answers.show_samples(plain(spec), count=5)
    real = load(spec.data, directory=None, device=torch.device("cpu"))
    assert told["splits"] == {name: len(getattr(real, name).targets) for name in ("train", "val", "test")}
    counts = torch.bincount(real.train.targets, minlength=10).tolist()
    assert told["counts"] == dict(zip(real.labels, counts, strict=True))
    assert told["shape"] == [5, 1, 28, 28] and told["labels"] == list(real.labels)
    for image, target in zip(pixels(told, "raw"), told["targets"], strict=True):
        (at,) = (real.train.images == image).flatten(1).all(1).nonzero()[:1].tolist()
        assert real.train.targets[at[0]] == target


@pytest.mark.parametrize("settings", [{}, {"validation": 0.5}, {"validation": 0.02, "train_limit": 300}], ids=str)
def test_a_text_is_split_like_that_of_the_run(settings: dict[str, Any], tmp_path: Path) -> None:
    book = tmp_path / "book.txt"
    book.write_text("The cat sat on the mat. " * 80)
    spec = spec_of("language", data={"name": "text", "path": str(book), **settings})
    told = answers.show_samples(plain(spec))
    real = load(spec.data, directory=None, device=torch.device("cpu"))
    assert told["splits"] == {name: len(getattr(real, name)) for name in ("train", "val", "test")}
    assert told["kind"] == "text" and told["excerpt"] == book.read_text()[: answers.EXCERPT]
    assert told["characters"] == list(real.vocabulary) and told["vocabulary"] == len(real.vocabulary)
    assert told["stand_in"] is False


@pytest.mark.parametrize("task", ["classification", "gan"])
def test_augmentation_is_shown(task: str) -> None:
    def told(**strengths: float) -> dict[str, Any]:
        spec = spec_of(task, data={"name": "drawn-digits"}, augmentation=strengths)
        return answers.show_samples(plain(spec), count=8, seed=5)

    same = told()
    assert torch.equal(pixels(same, "raw"), pixels(same, "augmented"))
    mirrored = told(flip=1.0)
    assert torch.equal(pixels(mirrored, "raw").flip(-1), pixels(mirrored, "augmented"))
    moved = told(shift=8)
    assert moved["raw"] == same["raw"] and moved["augmented"] != same["raw"]
    assert moved == told(shift=8), "the same seed shows the same"
    assert int(pixels(moved, "augmented").float().mean()) < 128, "what comes in is black"
    noisy = pixels(told(noise=0.2), "augmented").float() - pixels(same, "raw").float()
    assert 3 < float(noisy.std()) < 60


def test_samples_of_another_seed_are_others() -> None:
    spec = plain(spec_of(data={"name": "drawn-digits"}))
    assert answers.show_samples(spec, seed=1)["raw"] != answers.show_samples(spec, seed=2)["raw"]
    assert answers.show_samples(spec, count=10**9)["shape"][0] == answers.MOST_SAMPLES


def test_nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_module, "fetch", lambda *_: pytest.fail("a preview fetches no data"))
    told = answers.show_samples(plain(spec_of(data={"name": "mnist", "stand_in": "drawn-digits"})))
    assert told["stand_in"] and told["data"] == "drawn-digits" and "mnist" in told["reason"]
    with pytest.raises(DataError, match="tuidl data get mnist"):
        answers.show_samples(plain(spec_of(data={"name": "mnist", "stand_in": "none"})))


def test_data_is_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []
    real = answers.load
    monkeypatch.setattr(answers, "load", lambda *args, **more: loads.append(1) or real(*args, **more))
    for settings in ({}, {"validation": 0.3}, {"train_limit": 9}):
        answers.show_samples(plain(spec_of(data={"name": "drawn-digits", **settings})))
    assert len(loads) == 1
    answers.show_samples(plain(spec_of(data={"name": "drawn-shapes"})))
    answers.show_samples(plain(spec_of(data={"name": "drawn-digits"})))
    assert len(loads) == 3, "one data set is kept"


@pytest.mark.skipif(not (REAL / "MNIST").is_dir(), reason="TUIDL_DATA_DIR has no MNIST")
def test_samples_of_real_digits() -> None:
    told = answers.show_samples(plain(load_preset("mnist-mlp")), data_dir=str(REAL))
    assert told["splits"] == {"train": 55_000, "val": 5_000, "test": 10_000} and not told["stand_in"]
    assert len(told["targets"]) == 8 and sum(told["counts"].values()) == 55_000


# --- devices ----------------------------------------------------------------------------------------------------------


def test_the_processor_is_a_device() -> None:
    found = answers.list_devices()
    cpu = found[-1]
    assert cpu["name"] == "cpu" and "threads" in cpu["title"] and 0 < cpu["free"] <= cpu["total"]
    assert [device["chosen"] for device in found].count(True) == 1
    assert [bool(device["reason"]) for device in found] == [device["chosen"] for device in found]
    assert json.dumps(found)


def test_gpus_are_told_apart_by_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver counts three GPUs; torch may use the last two, in the other order, and one it does not know."""
    user = GpuUser(12, "ada", "python", 5)
    cards = tuple(
        Gpu(index, "H200", 100 * index, 1000, index, (user,) if index == 2 else (), f"GPU-{index}")
        for index in range(3)
    )
    seen = {
        "cuda:0": SimpleNamespace(name="NVIDIA H200", uuid="2", total_memory=1000),
        "cuda:1": SimpleNamespace(name="NVIDIA H200", uuid="1", total_memory=1000),
        "cuda:2": SimpleNamespace(name="MIG 1g", total_memory=70),
    }
    monkeypatch.setattr(answers, "look_at_nvidia", lambda: Nvidia(gpus=cards))
    monkeypatch.setattr(answers, "available", lambda: [*seen, "cpu"])
    monkeypatch.setattr(answers, "choose_device", lambda wanted: (torch.device("cuda:0"), "most free memory"))
    monkeypatch.setattr(answers, "free_memory", lambda name: None)
    monkeypatch.setattr(torch.cuda, "get_device_properties", seen.__getitem__)
    first, second, third, cpu = answers.list_devices()
    assert first == {
        "name": "cuda:0", "title": "NVIDIA H200", "free": 200, "total": 1000, "busy": 2, "chosen": True,
        "users": [{"user": "ada", "name": "python", "memory": 5, "pid": 12}], "reason": "most free memory",
    }  # fmt: skip
    assert (second["free"], second["busy"], second["users"], second["chosen"]) == (100, 1, [], False)
    assert (third["title"], third["free"], third["total"], third["busy"]) == ("MIG 1g", None, 70, None)
    assert cpu["name"] == "cpu"
