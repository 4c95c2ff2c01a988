"""Who may read a run: its user, with --share the group too; nobody else writes, whatever the umask."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tuidl.cli import main
from tuidl.errors import StorageError, TuidlError
from tuidl.runs import RunPaths, RunWriter, create_run, read_state, send, write_atomic
from tuidl.runs.atomic import open_append
from tuidl.runs.launch import open_log, prepare_run
from tuidl.runs.layout import closed_to_group
from tuidl.spec import build_spec
from tuidl.train.resume import Wishes
from tuidl.train.session import Door, conduct

UMASKS = [0o000, 0o002, 0o022, 0o077]
MADE = {
    "run.json", "metrics.log", "events.log", "status.json", "trainer.log", "owner-1.json", "artifacts", "checkpoints",
    "control",
}  # fmt: skip


@pytest.fixture(params=UMASKS, ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def tiny(root: Path, share: bool, **training: object) -> RunPaths:
    """Prepare a run that is over at once."""
    book = root / "book.txt"
    book.write_text("the cat sat on the mat. a dog ran over the hill and far away.\n" * 40)
    spec = build_spec({
        "task": "language", "data": {"name": "text", "path": str(book)}, "evaluation": {"sample_length": 10},
        "model": {"kind": "gru", "width": 8, "embedding": 4, "unroll": 8}, "loss": {"kind": "cross-entropy"},
        "training": {"batch_size": 4, "max_steps": 4, "threads": 1, **training}, "precision": "fp32", "device": "cpu",
    })  # fmt: skip
    return prepare_run(spec, "tiny", "a", root / "deep" / "runs", None, share)


def modes(paths: RunPaths) -> dict[str, int]:
    """Return the permissions of the run's directory and of everything in it."""
    found = {"": stat.S_IMODE(paths.directory.stat().st_mode)}
    for path in paths.directory.rglob("*"):
        found[str(path.relative_to(paths.directory))] = stat.S_IMODE(path.lstat().st_mode)
    return found


def wrong(paths: RunPaths, share: bool) -> dict[str, str]:
    """Return what has other permissions than it should."""
    found = modes(paths)
    wanted = {}
    for name in found:
        group = share and name.split("/")[0] != "control"
        wanted[name] = (0o750 if group else 0o700) if (paths.directory / name).is_dir() else 0o640 if group else 0o600
    return {name: oct(mode) for name, mode in found.items() if mode != wanted[name]}


@pytest.mark.parametrize("share", [False, True], ids=["private", "shared"])
def test_all_that_a_run_makes_under_any_umask(umask: int, share: bool, tmp_path: Path) -> None:
    paths = tiny(tmp_path, share)
    os.close(open_log(paths))
    send(paths, "checkpoint")
    assert wrong(paths, share) == {}
    seen: dict[str, str] = {}
    assert conduct(paths, lambda event, stored: seen.update(wrong(paths, share)), Door(paths)) == 0
    assert seen == {}  # while it ran, temporary files and the reserve included
    assert wrong(paths, share) == {}
    made = {path.name for path in paths.directory.iterdir()}
    assert made >= MADE
    assert list(paths.checkpoints.iterdir()) and list(paths.artifacts.iterdir())
    for place in (paths.directory.parent, paths.directory.parent.parent):
        assert stat.S_IMODE(place.stat().st_mode) == (0o750 if share else 0o700)


@pytest.mark.parametrize("share", [False, True], ids=["private", "shared"])
def test_a_resume_keeps_to_it(umask: int, share: bool, tmp_path: Path) -> None:
    paths = tiny(tmp_path, share, max_steps=8)
    door = Door(paths)

    def stop(event: object, stored: object) -> None:
        door.signal = 2

    assert conduct(paths, stop, door) == 130
    os.umask(umask ^ 0o022)
    assert conduct(paths, lambda event, stored: None, Door(paths), Wishes(resume=True)) == 0
    assert read_state(paths)[1] == "completed"
    assert wrong(paths, share) == {}


def test_the_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """From the command line to the files, with the line that says where the way is closed."""
    trained: list[RunPaths] = []
    monkeypatch.setattr("tuidl.cli.run._train_here", lambda paths, spec, args: trained.append(paths) or 0)
    tmp_path.chmod(0o755)
    for name, options in {"mine": [], "ours": ["--share"]}.items():
        main(["run", "mnist-mlp", "--name", name, "--runs-dir", str(tmp_path / "runs"), *options])
    mine, ours = trained
    assert (wrong(mine, share=False), wrong(ours, share=True)) == ({}, {})
    closed = closed_to_group(ours)
    assert closed == tmp_path / "runs"  # made private with the first run, so the second says so
    assert f"chmod g+x {closed}" in capsys.readouterr().err
    closed.chmod(0o710)
    assert closed_to_group(ours) != closed


def test_a_group_that_a_directory_hands_on_stays(tmp_path: Path) -> None:
    """As in a lab whose runs are below a directory with the set-group-id bit."""
    root = tmp_path / "lab"
    root.mkdir()
    root.chmod(0o2750)
    if not root.stat().st_mode & stat.S_ISGID:
        pytest.skip("this system does not let a directory hand its group on")
    paths = create_run(root, "a", "p", share=True)
    assert stat.S_IMODE(paths.directory.stat().st_mode) == 0o2750
    assert stat.S_IMODE(paths.artifacts.stat().st_mode) == 0o2750
    assert stat.S_IMODE(paths.control.stat().st_mode) & 0o777 == 0o700


def test_a_file_follows_the_directory_it_is_made_in(umask: int, tmp_path: Path) -> None:
    for mode, wanted in {0o700: 0o600, 0o750: 0o640, 0o777: 0o640, 0o711: 0o600}.items():
        tmp_path.chmod(mode)
        write_atomic(tmp_path / "a", b"x")
        write_atomic(tmp_path / f"b{mode}", b"x", exclusive=True)
        for name in ("a", f"b{mode}"):
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == wanted


def test_logs_that_are_there_keep_what_their_owner_gave_them(tmp_path: Path) -> None:
    paths = create_run(tmp_path, "a", "p")
    with RunWriter(paths) as writer:
        writer.event("x", 0)
    paths.events.chmod(0o644)
    RunWriter(paths).close()
    assert stat.S_IMODE(paths.events.stat().st_mode) == 0o644


@pytest.mark.parametrize("what", ["fifo", "link", "directory"])
def test_a_log_that_is_no_file_is_not_opened(what: str, tmp_path: Path) -> None:
    paths = create_run(tmp_path, "a", "p")
    victim = tmp_path / "victim"
    victim.write_text("precious")
    if what == "fifo":
        os.mkfifo(paths.trainer_log)
    elif what == "link":
        paths.trainer_log.symlink_to(victim)
    else:
        paths.trainer_log.mkdir()
    with pytest.raises(StorageError):
        open_log(paths)
    assert victim.read_text() == "precious"


def test_a_file_system_without_permissions_is_no_hindrance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchmod", refuse)
    create_run(tmp_path / "runs", "a", "p", share=True)
    tmp_path.chmod(0o750)
    os.close(open_append(tmp_path / "a.log"))
    write_atomic(tmp_path / "x", b"")
    monkeypatch.setattr(os, "fchmod", lambda *args: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    with pytest.raises(TuidlError):
        create_run(tmp_path / "others", "b", "p", share=True)
