"""Shared by the tests of the screen: settings of their own, and runs with a fake trainer."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from faketrainer import FACTS, LABELS, FakeTrainer

from tuidl.runs import RunWriter, create_run, write_spec
from tuidl.spec import load_preset
from tuidl.spec.tasks import TASKS


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The settings and presets of whoever runs the tests stay out of them."""
    path = tmp_path / "settings" / "settings.json"
    monkeypatch.setenv("TUIDL_SETTINGS", str(path))
    monkeypatch.setenv("TUIDL_PRESETS_DIR", str(tmp_path / "own-presets"))
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    return path


@pytest.fixture
def runs_root(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def make_trainer(runs_root: Path) -> Iterator:
    """Returns a function that begins a run and gives its trainer."""
    open_writers = []

    def make(preset: str = "mnist-mlp", name: str = "one", title: str | None = None, **facts: object) -> FakeTrainer:
        paths = create_run(runs_root, name, preset)
        spec = load_preset(preset)
        about = {"name": preset, "title": spec.about.title if title is None else title}
        write_spec(paths, {"format": 1, "preset": about, "seed": 0, "spec": spec.model_dump(mode="json")})
        writer = RunWriter(paths)
        open_writers.append(writer)
        trainer = FakeTrainer(paths, writer, spec.task)
        labels = {"labels": LABELS} if TASKS[spec.task].data == "images" else {"vocabulary": list("abc")}
        writer.event("started", 0, elapsed=0.0, **{**FACTS, **labels, "data": spec.data.name, **facts})
        trainer.state("running")
        return trainer

    yield make
    for writer in open_writers:
        writer.close()
