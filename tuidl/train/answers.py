"""What the companion answers with torch: devices, a model's layers, samples of a data set."""

import base64
import importlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tuidl.errors import DataError, TuidlError
from tuidl.files import expand
from tuidl.gpus import Gpu, look_at_nvidia
from tuidl.processor import look_at_processor
from tuidl.spec import RunSpec, validate
from tuidl.spec.datasets import DATASETS
from tuidl.spec.run import Data
from tuidl.spec.tasks import TASKS
from tuidl.train.companion import answers
from tuidl.train.data.augment import augment
from tuidl.train.data.files import locate, search_path
from tuidl.train.data.load import ImageData, ImageSplit, TextData, load
from tuidl.train.device import available, choose_device, free_memory
from tuidl.train.models.layers import first_filters, resolve

GUESSED_VOCABULARY = 65  # characters of a text that cannot be read (yet)
EXCERPT = 600  # characters
MOST_SAMPLES = 64
_FLOAT = 4  # bytes
# how data is loaded to be looked at, whatever part of it a run takes
_WHOLE = {"validation": 1 / 12, "train_limit": 0}

JSON = dict[str, Any]


def warm_up() -> None:
    """Import what a training needs besides torch."""
    importlib.import_module("tuidl.train.session")
    for task in TASKS.values():
        resolve(task)


def forget() -> None:
    """Let go of the data that was loaded to be looked at."""
    _load.cache_clear()


# ---------------------------------------------------------------- devices


@answers("devices", cost=1)
def list_devices() -> list[JSON]:
    """Return the devices, best first: bytes of memory, per cent busy, who uses them, and which one auto would take."""
    auto, reason = choose_device("auto")
    gpus = look_at_nvidia().gpus
    found = []
    for name in available():
        about = _about_gpu(name, gpus) if name.startswith("cuda") else _PLAIN[name]()
        chosen = torch.device(name) == auto
        found.append({"name": name, **about, "chosen": chosen, "reason": reason if chosen else ""})
    return found


def _about_gpu(name: str, gpus: Sequence[Gpu]) -> JSON:
    """Return what the driver tells of a GPU; torch may number them in another order, or see some of them only."""
    seen = torch.cuda.get_device_properties(name)
    uuid = str(getattr(seen, "uuid", ""))
    gpu = next((gpu for gpu in gpus if uuid and gpu.uuid.endswith(uuid)), None)
    if gpu is None:
        return _about(seen.name, free_memory(name), int(seen.total_memory))
    users = [{"user": one.user, "name": one.name, "memory": one.memory, "pid": one.pid} for one in gpu.users]
    return _about(seen.name, gpu.free, gpu.total, gpu.busy, users)


def _about_processor() -> JSON:
    processor = look_at_processor()
    return _about(f"{processor.name}, {torch.get_num_threads()} threads", processor.free, processor.total)


def _about(
    title: str, free: int | None = None, total: int | None = None, busy: int | None = None, users: Sequence[JSON] = ()
) -> JSON:
    return {"title": title, "free": free, "total": total, "busy": busy, "users": list(users)}


_PLAIN: dict[str, Callable[[], JSON]] = {"cpu": _about_processor, "mps": lambda: _about("Apple GPU")}


# ---------------------------------------------------------------- the model


@dataclass(frozen=True)
class Part:
    """A network of a task and something to send through it; `leading` sizes of what comes out are not told."""

    name: str
    network: nn.Module
    inputs: tuple[Any, ...]
    leading: int = 1


@answers("describe", cost=2)
def describe(spec: JSON, data_dir: str | None = None) -> JSON:
    """Return the layers of a model: what comes out for one image or one character, and how many numbers are learned.

    `memory` is what weights, gradients and the optimizer take, `activations` what a batch takes on top, both about, in
    bytes. Nothing is computed: the networks are built without memory for their weights, so that none is too large.
    """
    wanted = validate(spec, where="preset")
    with torch.device("meta"), torch.no_grad():
        parts = _PARTS[wanted.task](wanted, data_dir)
        layers = [layer for part in parts for layer in _layers(part)]
    weights = [weight for part in parts for weight in part.network.parameters()]
    parameters = _learned(weights)
    kept = sum(weight.numel() for weight in weights) * (2 if wanted.training.average else 1)
    batch = wanted.training.batch_size * getattr(wanted.model, "unroll", 1)
    return {
        "layers": [{key: layer[key] for key in ("name", "kind", "shape", "parameters")} for layer in layers],
        "parameters": parameters,
        "memory": round(_FLOAT * (kept + parameters * (1 + _remembered(wanted)))),
        "activations": _FLOAT * batch * sum(layer["outputs"] for layer in layers),
    }


def _classifier(spec: RunSpec, data_dir: str | None) -> list[Part]:
    dataset = DATASETS[spec.data.name]
    build, dropout = resolve(spec.model.entry), spec.regularization.dropout
    network = build(spec.model, dataset.shape, len(dataset.labels), dropout)
    if getattr(spec.model, "first_filters", "random") == "whitening":
        first_filters(network).requires_grad_(False)  # which the trainer makes from the data
    return [Part("", network, (torch.zeros(1, *dataset.shape),))]


def _adversaries(spec: RunSpec, data_dir: str | None) -> list[Part]:
    shape = DATASETS[spec.data.name].shape
    build, loss = resolve(spec.model.entry), resolve(spec.loss.entry)(spec.loss)
    generator, discriminator = build(spec.model, shape, spec.regularization.dropout, critic_norm=not loss.penalty)
    return [
        Part("generator.", generator, (torch.zeros(1, generator.latent),)),
        Part("discriminator.", discriminator, (torch.zeros(1, *shape),)),
    ]


def _language_model(spec: RunSpec, data_dir: str | None) -> list[Part]:
    try:
        with torch.device("cpu"):
            text = _stock(spec, data_dir)
        assert isinstance(text, TextData)
        characters = len(text.vocabulary)
    except DataError:  # the model can be described before there is a text for it
        characters = GUESSED_VOCABULARY
    network = resolve(spec.model.entry)(spec.model, characters, spec.regularization.dropout)
    return [Part("", network, (torch.zeros(1, 1, dtype=torch.long), network.start(1)), leading=2)]


_PARTS: dict[str, Callable[[RunSpec, str | None], list[Part]]] = {
    "classification": _classifier,
    "gan": _adversaries,
    "language": _language_model,
}


def _layers(part: Part) -> list[JSON]:
    """Return the layers of a network in the order in which they are passed; those that do nothing are left out."""
    found: list[JSON] = []

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(layer: nn.Module, inputs: Any, output: Any) -> None:
            tensor: Tensor = output[0] if isinstance(output, tuple) else output
            found.append({
                "name": part.name + name, "kind": type(layer).__name__, "shape": list(tensor.shape[part.leading :]),
                "parameters": _learned(layer.parameters()), "outputs": tensor.numel(),
            })  # fmt: skip

        return hook

    for name, layer in part.network.named_modules():
        idle = isinstance(layer, nn.Identity) or (isinstance(layer, nn.Dropout) and not layer.p)
        if not idle and next(layer.children(), None) is None:
            layer.register_forward_hook(note(name))
    part.network.eval()(*part.inputs)
    return found


def _learned(weights: Iterable[Tensor]) -> int:
    """Return how many numbers are learned; fixed filters are not."""
    return sum(weight.numel() for weight in weights if weight.requires_grad)


def _remembered(spec: RunSpec) -> float:
    """Return how many numbers the optimizer keeps for each weight, found by letting it take one step."""
    with torch.device("cpu"), torch.enable_grad():
        weight = nn.Parameter(torch.ones(4, 4))
        weight.grad = torch.ones(4, 4)
        optimizer = resolve(spec.optimizer.entry)([weight], lr=spec.optimizer.lr, **spec.optimizer.group())
        optimizer.step()
    kept = (value for value in optimizer.state[weight].values() if isinstance(value, Tensor) and value.ndim)
    return sum(value.numel() for value in kept) / weight.numel()


# ---------------------------------------------------------------- the data


@answers("samples", cost=3)
def show_samples(spec: JSON, data_dir: str | None = None, count: int = 8, seed: int = 0) -> JSON:
    """Return what a data set looks like: `count` training images as they are and as augmented, or how a text begins.

    Images come as base64 of bytes in the layout `shape` [N, C, H, W]. `splits` has the sizes that the run would have,
    `counts` the training examples of each class. Nothing is downloaded: where the data is not here, its stand-in is
    shown, `stand_in` is true and `reason` says why.
    """
    wanted = validate(spec, where="preset")
    data = _stock(wanted, data_dir)
    common = {"data": data.origin.used, "stand_in": data.origin.stand_in, "reason": data.origin.reason}
    if isinstance(data, TextData):
        return {**common, "kind": "text", **_text_sample(wanted, data)}
    return {**common, "kind": "images", **_image_samples(wanted, data, min(count, MOST_SAMPLES), seed)}


def _image_samples(spec: RunSpec, data: ImageData, count: int, seed: int) -> JSON:
    whole, tests = data.train, len(data.test.targets)
    held_out = max(1, round(len(whole.targets) * spec.data.validation))
    end = held_out + spec.data.train_limit if spec.data.train_limit else None
    images, targets = whole.images[held_out:end], whole.targets[held_out:end]
    random = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(targets), generator=random)[:count]
    counts = torch.bincount(targets, minlength=len(data.labels)).tolist()
    return {
        "shape": list(images[chosen].shape),
        "raw": _packed(images[chosen]),
        "augmented": _packed(_augmented(spec, data, images[chosen], random)),
        "targets": targets[chosen].tolist(),
        "labels": list(data.labels),
        "counts": dict(zip(data.labels, counts, strict=True)),
        "splits": {"train": len(targets), "val": held_out, "test": tests},
    }


def _augmented(spec: RunSpec, data: ImageData, images: Tensor, random: torch.Generator) -> Tensor:
    """Return images as a step of training sees them, but back on the scale 0..255."""
    spread, black = _SCALES[spec.task](data)
    strengths = {key: strength for key, strength in spec.augmentation.model_dump().items() if strength}
    changed = augment(images.float() / spread + black, strengths, random, black)
    return ((changed - black) * spread).round().clamp(0, 255).to(torch.uint8)


def _packed(images: Tensor) -> str:
    return base64.b64encode(images.contiguous().numpy().tobytes()).decode("ascii")


def _text_sample(spec: RunSpec, data: TextData) -> JSON:
    held_out = max(1, int(len(data.train) * min(spec.data.validation, 0.25)))
    rest = len(data.train) - 2 * held_out
    return {
        "excerpt": "".join(data.vocabulary[place] for place in data.train[:EXCERPT].tolist()),
        "vocabulary": len(data.vocabulary),
        "characters": list(data.vocabulary),
        "splits": {"train": min(rest, spec.data.train_limit or rest), "val": held_out, "test": held_out},
    }


# how each task scales bytes before it changes them: what they are divided by, and what black becomes [C, 1, 1]
_SCALES: dict[str, Callable[[ImageData], tuple[Tensor, Tensor]]] = {
    "classification": lambda data: ((255 * data.std).view(-1, 1, 1), (-data.mean / data.std).view(-1, 1, 1)),
    "gan": lambda data: (torch.full((1, 1, 1), 127.5), torch.full((1, 1, 1), -1.0)),
}


def _stock(spec: RunSpec, data_dir: str | None) -> ImageData | TextData:
    """Return the data of `spec`, before it is split: all of it in `train`, in the order in which it is dealt out.

    It is kept, so that only the first look at a data set takes long.
    """
    version = locate(DATASETS[spec.data.name], search_path(data_dir)), _changed(spec.data.path)
    return _load(spec.data.model_copy(update=_WHOLE), data_dir, version)


def _changed(path: str) -> int:
    """Return when the user's text file was last changed, 0 where there is none."""
    try:
        return expand(path).stat().st_mtime_ns if path else 0
    except (OSError, ValueError, TuidlError):
        return 0


@lru_cache(maxsize=1)
def _load(asked: Data, data_dir: str | None, version: Any) -> ImageData | TextData:
    found = load(asked, directory=Path(data_dir) if data_dir else None, device=torch.device("cpu"), download=False)
    if isinstance(found, TextData):
        return replace(found, train=torch.cat([found.train, found.val, found.test]))
    images = torch.cat([found.val.images, found.train.images])
    targets = torch.cat([found.val.targets, found.train.targets])
    return replace(found, train=ImageSplit(images, targets), val=ImageSplit(images[:0], targets[:0]))
