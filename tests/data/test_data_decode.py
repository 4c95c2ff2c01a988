"""Decoding: headers are not trusted, nothing in a file is executed."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuidl.errors import DataError
from tuidl.train.data.decode import MAX_VOCABULARY, decode_text, encode_text, read_cifar_batch, read_idx


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 200), st.integers(0, 7))
def test_idx_round_trip_and_no_other_length(shape, cut, bit):
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    content = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes() + array.tobytes()
    assert np.array_equal(read_idx(content), array)
    with pytest.raises(DataError):
        read_idx(content[: min(cut, len(content) - 1)])
    header = bytearray(content)
    header[cut % (4 + 4 * len(shape))] ^= 1 << bit
    try:
        changed = read_idx(bytes(header))
    except DataError:
        return
    assert changed.size == array.size  # the same bytes in another shape: nothing invented


def test_idx_header_that_promises_terabytes_allocates_nothing():
    with pytest.raises(DataError, match="promises"):
        read_idx(b"\0\0\x08\x04" + b"\xff" * 16 + b"x")


def batch(pixels: bytes, labels: list[int]) -> bytes:
    """Build a batch as Python 2 pickled it: byte strings with BINSTRING, the array through numpy's reconstruct."""

    def short(text: bytes) -> bytes:
        return b"U" + bytes([len(text)]) + text

    numbers = b"".join(b"K" + bytes([label]) for label in labels)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(K\x05K\x07" + b"T" + len(pixels).to_bytes(4, "little") + pixels + b"tb"
    )
    names = b"](" + b"".join(short(b"a.png") for _ in labels) + b"e"
    return b"".join(
        [
            b"\x80\x02}(",
            short(b"labels"),
            b"](",
            numbers,
            b"e",
            short(b"data"),
            array,
            short(b"filenames"),
            names,
            b"u.",
        ]
    )


def test_cifar_batch_is_read_without_an_unpickler(monkeypatch):
    monkeypatch.setattr(pickle, "loads", None)
    monkeypatch.setattr(pickle, "Unpickler", None)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), np.uint8)
    images, labels = read_cifar_batch(batch(pixels.tobytes(), [3, 8, 0, 9, 1]))
    assert np.array_equal(images, pixels) and labels.tolist() == [3, 8, 0, 9, 1] and labels.dtype == np.int64


class Evil:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_evil_pickle_is_refused_and_not_executed(tmp_path, protocol):
    evil = pickle.dumps({"labels": [1], "data": Evil(tmp_path / "owned")}, protocol)
    pickle.loads(evil)
    (tmp_path / "owned").rmdir()  # it would have worked
    with pytest.raises(DataError):
        read_cifar_batch(evil)
    assert not (tmp_path / "owned").exists()


def test_evil_code_beside_good_pixels_is_not_executed(tmp_path):
    good = batch(b"\1" * 3072, [7])
    evil = good[:-1] + b"cos\nmkdir\n(U\x05ownedtR."
    images, labels = read_cifar_batch(evil)
    assert labels.tolist() == [7] and images.shape == (1, 3, 32, 32)
    assert not Path("owned").exists()


@given(st.binary(max_size=300))
def test_cifar_reader_raises_nothing_but_data_errors(content):
    with pytest.raises(DataError):
        read_cifar_batch(content)


def test_text_that_is_not_utf8_names_the_byte():
    with pytest.raises(DataError, match=r"book\.txt is not UTF-8 text: byte 3 \(0xe9\)"):
        decode_text(b"caf\xe9", "book.txt")
    assert decode_text(b"\xef\xbb\xbfcaf\xc3\xa9", "book.txt") == "café"


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_text_round_trip(text):
    vocabulary, places = encode_text(text, "text")
    assert list(vocabulary) == sorted(set(text))
    assert "".join(vocabulary[place] for place in places) == text


def test_too_many_distinct_characters():
    with pytest.raises(DataError, match=f"more than {MAX_VOCABULARY:,}"):
        encode_text("".join(map(chr, range(0x4E00, 0x4E00 + MAX_VOCABULARY + 1))), "book.txt")
