"""One thread, and a cache of its own, for every test of the training room."""

from collections.abc import Iterator
from pathlib import Path

import platformdirs
import pytest
import torch

from tuidl.train import answers, orders
from tuidl.train.data import load


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(1)  # whoever chose hardware has changed it


@pytest.fixture(scope="session", autouse=True)
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def cache(shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees the judges of the user; the tests share theirs."""
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_, **__: shared_cache)
    return shared_cache


@pytest.fixture(autouse=True)
def _no_naps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders, "PAUSE_NAP", 0.0)


@pytest.fixture
def no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No data set is here, and the stand-ins are small."""
    monkeypatch.setenv("TUIDL_DATA_DIR", str(tmp_path / "no-data"))
    monkeypatch.setattr(load, "STAND_IN_SIZES", (600, 100))
    answers.forget()
    yield
    answers.forget()
