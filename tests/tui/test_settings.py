import json
from pathlib import Path

import pytest

from tuidl.errors import StorageError
from tuidl.tui.settings import Settings, load_settings, save_settings


def test_settings_survive_a_round(tmp_path: Path) -> None:
    path = tmp_path / "new" / "settings.json"
    wanted = Settings(theme="nord", rate=3.0, keymap={"run.pause": "p"})
    save_settings(wanted, path)
    assert load_settings(path) == (wanted, "")


def test_absent_settings_are_the_defaults(tmp_path: Path) -> None:
    assert load_settings(tmp_path / "none.json") == (Settings(), "")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"theme": 3, "keymap": {"a": 1}}']
)
def test_bad_settings_are_told_and_the_defaults_hold(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "settings.json"
    path.write_bytes(content)
    settings, problem = load_settings(path)
    assert settings == Settings()
    assert "settings" in problem


def test_what_is_right_among_bad_settings_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"theme": 3, "rate": 2, "x_axis": "epoch", "unknown": 1}))
    settings, problem = load_settings(path)
    assert (settings.rate, settings.x_axis, settings.theme) == (2.0, "epoch", Settings().theme)
    assert "theme" in problem


def test_a_rate_that_no_line_could_bear_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text('{"rate": 1000.0}')
    assert load_settings(path)[0].rate == 10


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        save_settings(Settings(), tmp_path / "file" / "settings.json")
