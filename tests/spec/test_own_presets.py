"""Presets of one's own: what is saved is what is loaded, nothing is overwritten, and a broken one does no harm."""

import os
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tuidl.errors import StorageError, UsageError
from tuidl.spec import RunSpec, build_spec, load_preset, preset_names
from tuidl.spec.load import PRESET_LIMIT, own_preset_directory
from tuidl.spec.own import list_presets, save_preset
from tuidl.spec.run import CHOICES
from tuidl.spec.schema import fields_of
from tuidl.spec.tasks import TASKS

from .test_fuzz import sound_values

BUILT_IN = ["mnist-mlp", "fashion-mlp", "cifar-cnn", "char-lstm", "mnist-gan", "cifar-speed"]  # as they teach


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "config" / "presets"
    monkeypatch.setenv("TUIDL_PRESETS_DIR", str(directory))
    return directory


# what must fit together in each task, so that any other setting may be anything
BASES: dict[str, dict[str, Any]] = {
    "classification": {"data": {"name": "cifar10", "stand_in": "drawn-shapes"}, "model": {"kind": "cnn"}},
    "language": {"data": {"name": "text", "path": "/home/u/book é\u202e.txt"}, "model": {"kind": "gru"}},
    "gan": {"data": {"name": "mnist"}, "model": {"kind": "gan-mlp"}, "loss": {"kind": "wgan-gp"}},
}
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@st.composite
def specs(draw: st.DrawFn) -> RunSpec:
    task = draw(st.sampled_from(sorted(TASKS)))
    chosen: dict[str, Any] = {"task": task, **{group: dict(values) for group, values in BASES[task].items()}}
    for group, registry in CHOICES.items():
        chosen[group] = {"kind": draw(st.sampled_from(registry.for_task(task)))}
    kinds = {group: chosen[group]["kind"] for group in CHOICES}
    for field in draw(st.lists(st.sampled_from(fields_of(kinds)), max_size=12, unique_by=lambda field: field.path)):
        group, _, name = field.path.rpartition(".")
        if name in ("kind", "name", "stand_in", "metric", "path") or field.path == "task":
            continue
        value = (
            draw(texts)
            if field.path in ("about.title", "about.shows", "evaluation.prompt")
            else draw(sound_values(field))
        )
        if group:
            chosen.setdefault(group, {})[name] = value
        else:
            chosen[name] = value
    if draw(st.booleans()):
        chosen["about"] = {**chosen.get("about", {}), "things_to_try": draw(st.lists(texts, max_size=3))}
    return build_spec(chosen)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spec=specs(), title=st.text(st.characters(exclude_categories=["Cs"]), max_size=80))
def test_what_is_saved_is_what_is_loaded(own: Path, spec: RunSpec, title: str) -> None:
    path = save_preset("mine", spec, title)
    try:
        loaded = load_preset("mine")
        about = spec.about.model_copy(update={"title": title or spec.about.title})
        assert loaded == spec.model_copy(update={"about": about})
        assert load_preset(str(path)) == loaded
    finally:
        path.unlink()


@pytest.mark.parametrize("name", BUILT_IN)
def test_only_what_differs_is_written(own: Path, name: str) -> None:
    spec = load_preset(name, ["optimizer.kind=rmsprop", "optimizer.lr=0.5"])
    path = save_preset("mine", spec)
    written = tomllib.loads(path.read_text("utf-8"))
    assert load_preset("mine") == spec
    assert written["task"] == spec.task and written["optimizer"] == {"kind": "rmsprop", "lr": 0.5}
    assert all(written[group]["kind"] == getattr(spec, group).kind for group in CHOICES)
    paths = {f"{group}.{key}" for group, table in written.items() if isinstance(table, dict) for key in table}
    changed = {field.path for field in fields_of(spec) if field.value != _as_value(field.default)}
    assert {path for path in paths if not path.endswith(".kind")} == {
        path for path in changed if "." in path and not path.endswith(".kind")
    }


def _as_value(default: Any) -> Any:
    return tuple(default) if isinstance(default, list) else default


def test_defaults_make_the_smallest_preset(own: Path) -> None:
    path = save_preset("small", RunSpec())
    assert tomllib.loads(path.read_text()) == {
        "task": "classification",
        "model": {"kind": "mlp"}, "loss": {"kind": "cross-entropy"}, "optimizer": {"kind": "adam"},
        "schedule": {"kind": "constant"},
    }  # fmt: skip
    assert load_preset("small") == RunSpec()


def test_it_is_the_users_alone(own: Path) -> None:
    path = save_preset("mine", RunSpec(), "Mine")
    assert path == own / "mine.toml" == own_preset_directory() / "mine.toml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(own.stat().st_mode) == 0o700
    assert [name.name for name in own.iterdir()] == ["mine.toml"]  # and nothing is left beside it


def test_nothing_is_ever_overwritten(own: Path) -> None:
    path = save_preset("mine", RunSpec(), "first")
    before = path.read_bytes()
    with pytest.raises(UsageError, match=str(path)):
        save_preset("mine", RunSpec(), "second")
    assert path.read_bytes() == before
    (own / "broken.toml").write_text("=")
    with pytest.raises(UsageError, match=r"broken\.toml"):
        save_preset("broken", RunSpec())
    (own / "link.toml").symlink_to(own / "nowhere")
    with pytest.raises(UsageError, match=r"link\.toml"):
        save_preset("link", RunSpec())
    assert not (own / "nowhere").exists()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", ".hidden", "a b", "a\n", "x" * 65, "é", "-a"])
def test_a_name_is_like_that_of_a_run(own: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a preset"):
        save_preset(name, RunSpec())
    assert not own.exists()


def test_a_built_in_name_wins_and_cannot_be_taken(own: Path) -> None:
    with pytest.raises(UsageError, match="built-in"):
        save_preset("mnist-mlp", RunSpec())
    own.mkdir(parents=True)
    (own / "mnist-mlp.toml").write_text("[training]\nepochs = 77\n")
    assert load_preset("mnist-mlp").training.epochs != 77
    assert preset_names() == BUILT_IN


def test_names_are_the_built_in_ones_then_the_own_ones(own: Path) -> None:
    assert preset_names() == BUILT_IN
    for name in ("zebra", "ant"):
        save_preset(name, RunSpec())
    (own / "not a name.toml").write_text("")
    (own / "notes.txt").write_text("")
    (own / ".hidden.toml").write_text("")
    assert preset_names() == [*BUILT_IN, "ant", "zebra"]
    with pytest.raises(UsageError, match="did you mean 'zebra'"):
        load_preset("zebr")


def test_a_broken_preset_breaks_no_list(own: Path) -> None:
    own.mkdir(parents=True)
    broken = {
        "binary": b"\xff\x00", "huge": b"#" * (PRESET_LIMIT + 1), "no-toml": b"= 1", "typo": b"[optimizer]\nlrr = 1\n",
        "value": b"[training]\nepochs = -1\n", "\x1b[2J": b"",
    }  # fmt: skip
    for name, content in broken.items():
        (own / f"{name}.toml").write_bytes(content)
    (own / "directory.toml").mkdir()
    save_preset("sound", RunSpec(), "Sound")
    found = {preset.name: preset for preset in list_presets()}
    assert list(found) == [*BUILT_IN, "binary", "directory", "huge", "no-toml", "sound", "typo", "value"]
    for name, preset in found.items():
        sound = name in (*BUILT_IN, "sound")
        assert (preset.spec is not None, preset.error == "", preset.own) == (sound, sound, name not in BUILT_IN)
        assert len(preset.error.splitlines()) == (not sound) and "\x1b" not in preset.error
    assert "lrr" in found["typo"].error and "16 KB" in found["huge"].error


def test_what_cannot_be_a_preset_is_refused(own: Path) -> None:
    with pytest.raises(UsageError, match=r"about\.title"):
        save_preset("long", RunSpec(), "x" * 81)
    lines = [f"{number} " + "ü" * 390 for number in range(8)]
    texts = {"things_to_try": lines, "shows": "\x00" * 600, "title": "\x00" * 80, "expected": "\x00" * 200}
    whole = build_spec({"about": texts, "evaluation": {"prompt": "\x00" * 500}, "data": {"path": "/" + "\x01" * 999}})
    with pytest.raises(UsageError, match="16 KB"):
        save_preset("large", whole)
    assert not own.exists()


def test_a_relative_text_file_is_found_from_anywhere(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = build_spec({"task": "language", "model": {"kind": "rnn"}, "data": {"name": "text", "path": "book.txt"}})
    save_preset("book", spec)
    assert load_preset("book").data.path == str(tmp_path / "book.txt")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="TUIDL_PRESETS_DIR"):
        save_preset("mine", RunSpec())


def test_something_in_the_way_of_the_directory_is_told(own: Path) -> None:
    own.parent.mkdir()
    own.write_text("")
    assert preset_names() == BUILT_IN
    with pytest.raises(StorageError, match="TUIDL_PRESETS_DIR"):
        save_preset("mine", RunSpec())
