"""Turning the verified bytes of data files into arrays. Nothing here executes anything that stands in a file."""

import math
import pickletools
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from tuidl.errors import DataError
from tuidl.spec.datasets import DataSet

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Arrays = tuple[Bytes, Ints, Bytes, Ints]  # training images [N, C, H, W] and classes [N], then those of the test

MAX_VOCABULARY = 4096  # distinct characters; more would be a text in another unit than characters, or no text


def read_idx(content: bytes) -> Bytes:
    """Return the array in an idx file of unsigned bytes, as it is described on the MNIST page of Yann LeCun.

    The header is: two zero bytes, the type (8 = unsigned byte), the number of dimensions, each size as a big-endian
    32-bit number. It is believed only if it describes exactly as many bytes as there are.

    Raises:
        DataError: not an idx file of unsigned bytes, or another length than the header says.
    """
    if len(content) < 4 or content[:3] != b"\0\0\x08" or not 1 <= content[3] <= 4:
        raise DataError("not an idx file of unsigned bytes; expected the header 00 00 08 and 1 to 4 dimensions")
    start = 4 + 4 * content[3]
    if len(content) < start:
        raise DataError(f"an idx file that ends within its header, after {len(content)} bytes")
    shape = [int(size) for size in np.frombuffer(content, ">u4", count=content[3], offset=4)]
    if math.prod(shape) != len(content) - start:
        raise DataError(
            f"an idx file whose header promises {math.prod(shape):,} bytes but that holds {len(content) - start:,}"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def read_cifar_batch(content: bytes) -> tuple[Bytes, Ints]:
    """Return images [N, 3, 32, 32] and classes [N] of one batch of the Python version of CIFAR-10.

    The file is a pickle of a dictionary. It is not unpickled: its instructions are only listed, and the one long
    string (the pixels) and the small numbers between the key 'labels' and the end of that list are taken out.

    Raises:
        DataError: the file is not laid out like that.
    """
    pixels, labels, in_labels = b"", [], False
    try:
        for instruction, argument, _ in pickletools.genops(content):
            if isinstance(argument, str) and instruction.name in ("SHORT_BINSTRING", "BINSTRING"):
                in_labels = argument == "labels"
                if len(argument) >= 3072:  # the pixels: a string of Python 2, which is listed as Latin-1
                    pixels = argument.encode("latin-1")
            elif instruction.name == "BININT1" and in_labels:
                labels.append(argument)
            elif instruction.name == "SETITEMS":
                in_labels = False
    except (ValueError, UnicodeError, OverflowError) as error:
        raise DataError(f"a CIFAR-10 batch that cannot be read: {error}") from error
    if not labels or len(pixels) != 3072 * len(labels):
        raise DataError(f"not a CIFAR-10 batch: {len(labels):,} classes, {len(pixels):,} bytes of pixels")
    return np.frombuffer(pixels, np.uint8).reshape(-1, 3, 32, 32), np.array(labels, np.int64)


def _idx(dataset: DataSet, contents: Mapping[str, bytes]) -> Arrays:
    """Decode a set of four idx files."""
    train_images, train_labels, test_images, test_labels = (
        read_idx(contents[file.path]) for file in sorted(dataset.files, key=lambda file: file.split == "test")
    )

    def images(array: Bytes) -> Bytes:
        return array[:, None] if array.ndim == 3 else array

    return images(train_images), train_labels.astype(np.int64), images(test_images), test_labels.astype(np.int64)


def _cifar(dataset: DataSet, contents: Mapping[str, bytes]) -> Arrays:
    """Decode a set of CIFAR-10 batches."""

    def joined(split: str) -> tuple[Bytes, Ints]:
        batches = [read_cifar_batch(contents[file.path]) for file in dataset.files if file.split == split]
        return np.concatenate([images for images, _ in batches]), np.concatenate([labels for _, labels in batches])

    return *joined("train"), *joined("test")


DECODERS: dict[str, Callable[[DataSet, Mapping[str, bytes]], Arrays]] = {"idx": _idx, "cifar": _cifar}


def decode_images(dataset: DataSet, contents: Mapping[str, bytes]) -> Arrays:
    """Return the arrays in the verified `contents` (by path) of an image data set.

    Raises:
        DataError: they do not hold what the registry says.
    """
    arrays = DECODERS[dataset.format](dataset, contents)
    for images, labels in (arrays[:2], arrays[2:]):
        if images.shape != (len(labels), *dataset.shape) or not 0 <= labels.min() <= labels.max() < len(dataset.labels):
            raise DataError(
                f"data set {dataset.key!r}: images {images.shape} and {len(labels):,} labels do not fit "
                f"{dataset.shape} and {len(dataset.labels)} classes"
            )
    return arrays


def decode_text(content: bytes, name: str) -> str:
    """Return `content` as text, without a byte order mark; `name` says in errors which file it is.

    Raises:
        DataError: it is not UTF-8.
    """
    try:
        return content.decode("utf-8").removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name} is not UTF-8 text: byte {error.start:,} (0x{content[error.start]:02x}) does not fit. "
            "Save the file as UTF-8"
        ) from None


def encode_text(text: str, name: str) -> tuple[tuple[str, ...], Ints]:
    """Return the sorted distinct characters of `text` and the text [N] as places in that vocabulary.

    Raises:
        DataError: more than `MAX_VOCABULARY` distinct characters.
    """
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    # A table over all code points takes one pass; sorting a text of 100 million characters would take minutes.
    seen = np.zeros(0x110000, bool)
    seen[codes] = True
    vocabulary = np.flatnonzero(seen)
    if len(vocabulary) > MAX_VOCABULARY:
        raise DataError(
            f"{name} has {len(vocabulary):,} distinct characters, more than {MAX_VOCABULARY:,}: "
            "a model of characters cannot learn that many. Choose a text in an alphabet"
        )
    place = np.zeros(0x110000, np.int64)
    place[vocabulary] = np.arange(len(vocabulary))
    return tuple(map(chr, vocabulary)), place[codes]
