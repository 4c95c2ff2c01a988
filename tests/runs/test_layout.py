import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuidl.errors import StorageError, UsageError
from tuidl.runs import automatic_name, check_name, create_run, find_run, run_names, runs_dir

BAD_NAMES = [
    "",
    ".",
    "..",
    "../x",
    "a/b",
    "a..b",
    "-a",
    ".a",
    "_a",
    "a b",
    "a\n",
    "a\0",
    "é",
    "a" * 65,
    "/etc",
    "a\x1b[2J",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_names_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        check_name(name)
    with pytest.raises(UsageError):
        create_run(tmp_path / "runs", name, "p")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["a", "0", "A.b_c-d", "a" * 64, "mnist-mlp-1121-0853"])
def test_good_names_are_kept(name: str) -> None:
    assert check_name(name) == name


@given(st.text())
def test_a_name_never_leaves_the_directory(text: str) -> None:
    try:
        check_name(text)
    except UsageError as error:
        assert "\x1b" not in str(error)
        return
    root = Path("/some/root")
    assert os.path.normpath(root / text) == str(root / text)
    assert (root / text).parent == root


@given(st.text())
def test_an_automatic_name_is_a_name(preset: str) -> None:
    check_name(automatic_name(preset))


def test_runs_dir_prefers_override_then_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TUIDL_RUNS_DIR", str(tmp_path / "env"))
    assert runs_dir(tmp_path / "x") == tmp_path / "x"
    assert runs_dir(None) == tmp_path / "env"
    monkeypatch.setenv("TUIDL_RUNS_DIR", "")
    assert runs_dir().name == "runs" and runs_dir().is_absolute()
    assert runs_dir(Path("here")).is_absolute()


def test_create_makes_private_directories_under_any_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        run = create_run(tmp_path / "deep" / "runs", None, "mnist-mlp")
    finally:
        os.umask(before)
    for directory in (run.directory, run.artifacts, run.checkpoints, run.control):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert run.name.startswith("mnist-mlp-")


def test_automatic_names_count_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tuidl.runs.layout.automatic_name", lambda preset: f"{preset}-1121-0853")
    names = [create_run(tmp_path, None, "p").name for _ in range(3)]
    assert names == ["p-1121-0853", "p-1121-0853-2", "p-1121-0853-3"]


def test_an_explicit_name_is_never_reused(tmp_path: Path) -> None:
    run = create_run(tmp_path, "mine", "p")
    run.spec.write_text("{}")
    with pytest.raises(UsageError, match="exists already"):
        create_run(tmp_path, "mine", "p")
    assert run.spec.read_text() == "{}"


@pytest.mark.parametrize("inside", ["", "runs"])
def test_a_root_that_cannot_be_made_says_what_to_do(inside: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file.*TUIDL_RUNS_DIR or --runs-dir"):
        create_run(tmp_path / "file" / inside, None, "p")


def test_a_run_that_cannot_be_furnished_is_not_left_half_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(directory: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tuidl.runs.layout.sync_directory", fail)
    with pytest.raises(StorageError, match="disk is full"):
        create_run(tmp_path, "x", "p")
    assert list(tmp_path.iterdir()) == []


def test_find_by_name_beginning_and_directory(tmp_path: Path) -> None:
    for name in ("mnist-a", "mnist-ab", "cifar-x"):
        create_run(tmp_path, name, "p")
    assert find_run(tmp_path, "mnist-a").name == "mnist-a"  # exact wins over being a beginning of two
    assert find_run(tmp_path, "c").name == "cifar-x"
    with pytest.raises(UsageError, match="mnist-a, mnist-ab"):
        find_run(tmp_path, "mn")
    with pytest.raises(UsageError, match="cifar-x"):
        find_run(tmp_path, "cifar-y")
    with pytest.raises(UsageError, match=r"run\.json"):
        find_run(Path("/nowhere"), str(tmp_path / "cifar-x"))
    (tmp_path / "cifar-x" / "run.json").write_text("{}")
    assert find_run(Path("/nowhere"), str(tmp_path / "cifar-x")).directory == (tmp_path / "cifar-x").resolve()


@pytest.mark.parametrize(
    "text", ["", "..", "../x", "/../etc", "a/../b", "/no/such/run", "/a\0b", "/" + "x" * 5000, "~no/x"]
)
def test_what_is_no_run_is_refused(text: str, tmp_path: Path) -> None:
    create_run(tmp_path, "x", "p")
    with pytest.raises(UsageError):
        find_run(tmp_path, text)


def test_no_runs_yet_and_links_are_not_runs(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no runs in"):
        find_run(tmp_path / "absent", "x")
    (tmp_path / "target").mkdir()
    root = tmp_path / "runs"
    create_run(root, "real", "p")
    (root / "link").symlink_to(tmp_path / "target")
    (root / "file").write_text("")
    assert run_names(root) == ["real"]
    with pytest.raises(UsageError):
        find_run(root, "link")
