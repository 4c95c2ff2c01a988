"""Shared by the tests of the data: where real data is, and small made-up data sets with pins of their own."""

import gzip
import hashlib
import io
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest

from tuidl.spec.datasets import DATASETS, DataFile, DataSet, Download
from tuidl.train.data import fetch

NAMED = os.environ.get("TUIDL_DATA_DIR")
OPEN_URL = fetch.open_url


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The directory with the real data sets."""
    place = Path(NAMED) if NAMED else Path(__file__).parents[3] / "shared" / "data"
    if not place.is_dir():
        pytest.skip(f"no real data in {place}; set TUIDL_DATA_DIR")
    return place.resolve()


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    """No test reads ./data, sees the user's directory, or reaches the network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TUIDL_DATA_DIR", raising=False)
    monkeypatch.setattr(fetch, "open_url", _offline)


def _offline(request, timeout):
    raise URLError(fetch.socket.gaierror(-2, "Name or service not known"))


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape) + array.tobytes()


def pin(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class Made:
    """A made-up data set, the content of its files by path, and what its servers send by URL."""

    dataset: DataSet
    contents: dict[str, bytes]
    served: dict[str, bytes]


@pytest.fixture
def tiny(monkeypatch) -> Made:
    """A data set of 4 gzipped idx files like MNIST, with 40 + 20 images of 6x5 pixels in 2 classes, and two servers."""
    rng = np.random.default_rng(0)
    arrays = {
        "tiny/train-images": rng.integers(0, 256, (40, 6, 5), np.uint8),
        "tiny/train-labels": np.arange(40, dtype=np.uint8) % 2,
        "tiny/test-images": rng.integers(0, 256, (20, 6, 5), np.uint8),
        "tiny/test-labels": np.arange(20, dtype=np.uint8) % 2,
    }
    contents, served, files = {}, {}, []
    for path, array in arrays.items():
        contents[path] = idx(array)
        packed = gzip.compress(contents[path], mtime=0)
        urls = (f"https://one.example/{path}.gz", f"https://two.example/{path}.gz")
        served |= dict.fromkeys(urls, packed)
        split = "train" if "train" in path else "test"
        download = Download(f"{path}.gz", pin(packed), len(packed), urls)
        files.append(DataFile(path, pin(contents[path]), len(contents[path]), split, download))
    dataset = DataSet(
        "tiny", "Tiny", "", "", "images", "idx", shape=(1, 6, 5), labels=("even", "odd"), files=tuple(files)
    )
    monkeypatch.setitem(DATASETS, "tiny", dataset)
    return Made(dataset, contents, served)


def tar_of(members: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def in_tar(contents: dict[str, bytes], packed: bytes) -> Made:
    """A data set of `contents` that is downloaded as one tar archive."""
    url = "https://one.example/both.tar.gz"
    download = Download("both.tar.gz", pin(packed), len(packed), (url,))
    files = tuple(DataFile(path, pin(content), len(content), "all", download) for path, content in contents.items())
    return Made(DataSet("both", "Both", "", "", "text", "text", files=files), contents, {url: packed})


@pytest.fixture
def tarred(monkeypatch) -> Made:
    """A text data set of two files in one tar archive, which holds a third file that nobody asked for."""
    contents = {"both/a": b"A" * 5000, "both/b": b"B" * 3000}
    made = in_tar(contents, tar_of({"both/readme": b"hello", **contents}))
    monkeypatch.setitem(DATASETS, "both", made.dataset)
    return made


@pytest.fixture
def make():
    """Helpers as a namespace, since test modules cannot import this file."""
    return SimpleNamespace(idx=idx, pin=pin, tar_of=tar_of, in_tar=in_tar, put=put, open_url=OPEN_URL)


def put(directory: Path, contents: dict[str, bytes], pack=lambda content: content, suffix: str = "") -> None:
    for path, content in contents.items():
        target = directory / (path + suffix)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(pack(content))


@pytest.fixture
def serve(monkeypatch):
    """Returns a function that makes the network answer from a dict of URL to bytes, and a list of what was asked."""

    def start(served: dict[str, bytes]) -> list[str]:
        asked: list[str] = []

        def open_url(request, timeout):
            asked.append(request.full_url)
            if request.full_url not in served:
                raise URLError(ConnectionRefusedError(111, "Connection refused"))
            return io.BytesIO(served[request.full_url])

        monkeypatch.setattr(fetch, "open_url", open_url)
        return asked

    return start


@pytest.fixture
def wish():
    """Returns a function that builds what a run asks of its data."""

    def build(name: str, **changes):
        return SimpleNamespace(
            **{"name": name, "path": "", "stand_in": "none", "validation": 0.1, "train_limit": 0} | changes
        )

    return build
