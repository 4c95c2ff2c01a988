"""Loading a data set as tensors on the device: found, downloaded or replaced by its stand-in, then split.

The split into train, validation and test depends on the data set alone and not on the seed of the run, so that runs
with different seeds are compared on the same examples.
"""

import hashlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from tuidl.errors import DataError, StorageError, UsageError
from tuidl.files import expand, open_regular
from tuidl.spec.datasets import DATASETS, DataSet
from tuidl.text import clean, did_you_mean
from tuidl.train.data import standins
from tuidl.train.data.decode import Arrays, decode_images, decode_text, encode_text
from tuidl.train.data.fetch import Progress, fetch
from tuidl.train.data.files import DamagedError, MissingError, data_dir, read_dataset, search_path

SPLIT_SEED = 1_797  # of the generator that holds out the validation images; changing it changes every result
STAND_IN_SEEDS = (101, 102)  # of the drawn training and test images
STAND_IN_SIZES = (20_000, 4_000)  # drawn images for train with validation, and for test
MAX_TEXT_BYTES = 256 << 20  # of a text file; each character becomes 8 bytes on the device
MIN_TEXT_LENGTH = 100  # characters; less cannot be split into three parts that mean something


class DataSpec(Protocol):
    """What the loader has to know of a run: the `data` group of its spec."""

    @property
    def name(self) -> str:
        """Key of the data set."""

    @property
    def path(self) -> str:
        """The file when `name` is "text", relative to the current directory."""

    @property
    def stand_in(self) -> str:
        """Key of the built-in set that takes over when the real one cannot be had, or "none"."""

    @property
    def validation(self) -> float:
        """Share of the training data that is held out."""

    @property
    def train_limit(self) -> int:
        """How many training examples are kept; 0 is all."""


@dataclass(frozen=True)
class Origin:
    """Where the data really came from; `files` maps each path (or what was made) to the sha256 of its content."""

    asked: str
    used: str
    stand_in: bool
    reason: str
    files: dict[str, str]


@dataclass(frozen=True)
class ImageSplit:
    """Images and their classes: `images` uint8 [N, C, H, W], `targets` int64 [N]."""

    images: Tensor
    targets: Tensor


@dataclass(frozen=True)
class ImageData:
    """A data set of images; `mean` and `std` float32 [C] are those of the training pixels on the scale 0 ... 1."""

    name: str
    labels: tuple[str, ...]
    train: ImageSplit
    val: ImageSplit
    test: ImageSplit
    mean: Tensor
    std: Tensor
    origin: Origin


@dataclass(frozen=True)
class TextData:
    """A text as places in its vocabulary of characters: `train`, `val` and `test` int64 [N], in this order."""

    name: str
    vocabulary: tuple[str, ...]
    train: Tensor
    val: Tensor
    test: Tensor
    origin: Origin


def load(
    data: DataSpec,
    *,
    directory: Path | None,
    device: torch.device,
    progress: Progress | None = None,
    download: bool = True,
) -> ImageData | TextData:
    """Return the data set that `data` asks for, or its stand-in, on `device`.

    `directory` overrides the data directory; `progress` hears of downloads; without `download` the network is not used.

    Raises:
        UsageError: an unknown data set.
        DataError: the set is missing and has no stand-in, or it is damaged and cannot be repaired, or it is not text.
    """
    asked = used = _known(data.name)
    reason = ""
    try:
        content, sums = _read(asked, data.path, directory, progress, download)
    except MissingError as error:
        if data.stand_in == "none":
            raise
        used = _known(data.stand_in)
        reason = f"training on the stand-in {used.key} in place of {asked.key}: {error}"
        content, sums = _read(used, "", directory, progress, download)
    origin = Origin(asked.key, used.key, used is not asked, reason, sums)
    if isinstance(content, str):
        return _split_text(used, content, data, device, origin)
    return _split_images(used, content, data, device, origin)


def order(count: int, seed: int, epoch: int, device: torch.device) -> Tensor:
    """Return the order of the examples in one epoch: a permutation int64 [count] on `device`.

    It depends on (seed, epoch) only, not on the device and not on what was drawn before.
    """
    digest = hashlib.sha256(f"order of seed {seed}, epoch {epoch}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))  # the CPU generator uses 32 bits
    permutation = torch.randperm(count, generator=generator)
    if device.type == "cuda":  # from pinned memory the copy does not make the host wait for the device
        return permutation.pin_memory().to(device, non_blocking=True)
    return permutation.to(device)


def _known(key: str) -> DataSet:
    """Return the data set with this key."""
    if key not in DATASETS:
        raise UsageError(f"unknown data set {clean(key)!r}: {did_you_mean(key, DATASETS)}")
    return DATASETS[key]


def _read(
    dataset: DataSet, path: str, directory: Path | None, progress: Progress | None, download: bool
) -> tuple[Arrays | str, dict[str, str]]:
    """Read or make a data set; return its images or its text, and what that came from with the sha256 sums."""
    if dataset.built_in and dataset.kind == "images":
        arrays = _draw(dataset)
        return arrays, {f"drawn: {dataset.key}": _sum(*(array.tobytes() for array in arrays))}
    if dataset.built_in:
        text = standins.python_docs()
        return text, {f"collected: {dataset.key} of Python {sys.version.split()[0]}": _sum(text.encode())}
    if dataset.format == "own-text":
        content = _read_text(path)
        return decode_text(content, clean(path)), {path: _sum(content)}
    contents = obtain(dataset, directory, progress, download)
    sums = {file.path: file.sha256 for file in dataset.files}  # the content has just been compared with them
    if dataset.kind == "images":
        return decode_images(dataset, contents), sums
    return "".join(decode_text(content, name) for name, content in contents.items()), sums


def _sum(*contents: bytes) -> str:
    """Return the sha256 sum of `contents`, one after the other."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()


def obtain(
    dataset: DataSet, directory: Path | None = None, progress: Progress | None = None, download: bool = True
) -> dict[str, bytes]:
    """Return the verified contents of the files of `dataset` by path, downloaded where missing or damaged.

    Raises:
        MissingError: files are missing and cannot be downloaded.
        DamagedError: a file is damaged and cannot be downloaded again.
    """
    dirs = search_path(directory)
    try:
        return read_dataset(dataset, dirs)
    except (MissingError, DamagedError) as problem:
        if not download:
            raise
        try:
            fetch(dataset, data_dir(directory), progress)
        except (DataError, StorageError) as failure:
            if isinstance(problem, DamagedError):
                raise DamagedError(f"{problem}. Tried that: {failure}") from failure
            raise MissingError(str(failure)) from failure
    return read_dataset(dataset, dirs)


def _read_text(name: str) -> bytes:
    """Return the content of the user's text file."""
    try:
        with open_regular(expand(name), follow=True) as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_TEXT_BYTES:
                raise DataError(f"data.path: {clean(name)} has {size:,} bytes, more than {MAX_TEXT_BYTES:,}; cut it")
            return file.read()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"data.path: cannot read {clean(name)!r} ({reason}); name a UTF-8 text file") from error


_DRAW: dict[str, Callable[[int, int], tuple[standins.Bytes, standins.Ints]]] = {
    "drawn-digits": standins.drawn_digits,
    "drawn-shapes": standins.drawn_shapes,
}


def _draw(dataset: DataSet) -> Arrays:
    """Draw the images of a built-in set."""
    (train, test), (train_seed, test_seed) = STAND_IN_SIZES, STAND_IN_SEEDS
    return *_DRAW[dataset.key](train, train_seed), *_DRAW[dataset.key](test, test_seed)


def _split_images(dataset: DataSet, arrays: Arrays, data: DataSpec, device: torch.device, origin: Origin) -> ImageData:
    """Hold out the validation images, move everything to `device` and measure the training pixels."""
    images, targets, test_images, test_targets = arrays
    mixed = torch.randperm(len(targets), generator=torch.Generator().manual_seed(SPLIT_SEED)).numpy()
    held_out = max(1, round(len(targets) * data.validation))
    kept = mixed[held_out:]
    if data.train_limit > 0:
        kept = kept[: data.train_limit]

    def split(images: standins.Bytes, targets: standins.Ints) -> ImageSplit:
        # Indexing has copied the arrays out of the read-only bytes of the file; the test arrays still need it.
        return ImageSplit(torch.tensor(images, device=device), torch.tensor(targets, device=device))

    train_images = images[kept]
    mean, std = pixel_statistics(torch.from_numpy(train_images))
    return ImageData(
        name=dataset.key,
        labels=dataset.labels,
        train=split(train_images, targets[kept]),
        val=split(images[mixed[:held_out]], targets[mixed[:held_out]]),
        test=split(test_images, test_targets),
        mean=mean.to(device),
        std=std.to(device),
        origin=origin,
    )


def pixel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation float32 [C] of uint8 `images` [N, C, H, W] on the scale 0 ... 1.

    They come from how often each of the 256 levels occurs: exact, and without a floating-point copy of the images.
    """
    levels = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in range(images.shape[1]):
        share = torch.bincount(images[:, channel].flatten(), minlength=256).double()
        share /= share.sum()
        mean = (share * levels).sum()
        means.append(mean)
        # A channel that is the same everywhere must not lead to a division by zero.
        stds.append((share * (levels - mean) ** 2).sum().sqrt().clamp(min=1 / 255))
    return torch.stack(means).float(), torch.stack(stds).float()


def _split_text(dataset: DataSet, text: str, data: DataSpec, device: torch.device, origin: Origin) -> TextData:
    """Cut the text: the last part is for the test, as much before it for validation, the rest for training.

    Each of the two has the share `validation` of the text, but never more than a quarter.
    """
    name = clean(data.path) if dataset.format == "own-text" else f"data set {dataset.key!r}"
    if len(text) < MIN_TEXT_LENGTH:
        raise DataError(f"{name} has only {len(text)} characters; take a text of at least {MIN_TEXT_LENGTH}")
    vocabulary, places = encode_text(text, name)
    part = max(1, int(len(places) * min(data.validation, 0.25)))
    train = places[: -2 * part]
    if data.train_limit > 0:
        train = train[: data.train_limit]
    return TextData(
        name=dataset.key,
        vocabulary=vocabulary,
        train=torch.from_numpy(train.copy()).to(device),
        val=torch.from_numpy(places[-2 * part : -part].copy()).to(device),
        test=torch.from_numpy(places[-part:].copy()).to(device),
        origin=origin,
    )
