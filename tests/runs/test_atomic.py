import errno
import os
import stat
from pathlib import Path

import pytest

from tuidl.errors import StorageError
from tuidl.runs import sweep_temps, write_atomic


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_replaces_with_private_mode_and_leaves_no_temp(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_atomic(path, b"one")
    write_atomic(path, b"two", durable=False)
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert names_in(tmp_path) == ["f"]


@pytest.mark.parametrize("call", ["write", "fsync", "replace", "open"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.EMFILE])
def test_a_failing_call_leaves_the_old_file(
    call: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")

    def fail(*args: object, **options: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(StorageError, match="f: "):
            write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["f"]


def test_short_writes_are_carried_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: real(fd, bytes(data)[:3]))
        write_atomic(tmp_path / "f", b"0123456789")
    assert (tmp_path / "f").read_bytes() == b"0123456789"


def test_an_interrupt_leaves_no_temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_atomic(tmp_path / "f", b"new")
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("hard_links", [True, False])
def test_exclusive_never_replaces(hard_links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not hard_links:

        def refuse(*args: object, **options: object) -> None:
            raise OSError(errno.EPERM, "no hard links here")

        monkeypatch.setattr(Path, "hardlink_to", refuse)
    path = tmp_path / "f"
    write_atomic(path, b"one", exclusive=True)
    with pytest.raises(FileExistsError):
        write_atomic(path, b"two", exclusive=True)
    assert path.read_bytes() == b"one"
    assert names_in(tmp_path) == ["f"]
    assert path.stat().st_nlink == 1


def test_sweep_removes_temps_only(tmp_path: Path) -> None:
    kept = ["f", ".f", ".f.tmp", "f.12.0123456789ab.tmp", ".f.x.0123456789ab.tmp"]
    for name in [*kept, ".f.12.0123456789ab.tmp"]:
        (tmp_path / name).write_text("")
    (tmp_path / ".link.12.0123456789ab.tmp").symlink_to("f")
    assert sweep_temps(tmp_path) == 1
    assert names_in(tmp_path) == sorted([*kept, ".link.12.0123456789ab.tmp"])
    assert sweep_temps(tmp_path / "absent") == 0
