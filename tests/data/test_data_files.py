"""Finding and reading pinned files: every form they may have, and everything that may be wrong with them."""

import gzip
import lzma
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import platformdirs
import pytest

from tuidl.spec.datasets import DATASETS
from tuidl.train.data import files
from tuidl.train.data.files import Copy, DamagedError, MissingError, data_dir, locate, read_copy, read_dataset


def test_data_directory_follows_option_then_environment_then_system(monkeypatch, tmp_path):
    assert data_dir() == platformdirs.user_data_path("tuidl") / "data"
    monkeypatch.setenv("TUIDL_DATA_DIR", str(tmp_path))
    assert data_dir() == tmp_path
    assert data_dir("here") == Path("here")
    assert files.search_path() == [tmp_path, Path("data")]


def test_registry_is_well_formed():
    for key, dataset in DATASETS.items():
        assert key == dataset.key
        assert dataset.built_in or dataset.files or key == "text"
        if dataset.kind == "images":
            assert len(dataset.shape) == 3 and len(dataset.labels) == 10
        for file in dataset.files:
            assert len(file.sha256) == len(file.download.sha256) == 64
            assert all(url.startswith("https://") for url in file.download.urls)


@pytest.mark.parametrize(
    ("pack", "suffix"),
    [(bytes, ""), (gzip.compress, ".gz"), (lzma.compress, ".xz")],
    ids=["plain", "gz", "xz"],
)
def test_reads_every_form(tiny, make, tmp_path, pack, suffix):
    make.put(tmp_path, tiny.contents, pack, suffix)
    assert locate(tiny.dataset, [tmp_path]).state == "present"
    assert read_dataset(tiny.dataset, [tmp_path]) == tiny.contents


def test_reads_a_tar_archive_once(tarred, make, tmp_path, monkeypatch):
    make.put(tmp_path, {"both.tar.gz": tarred.served["https://one.example/both.tar.gz"]})
    opened = []
    original = tarfile.open
    monkeypatch.setattr(tarfile, "open", lambda *args, **named: opened.append(1) or original(*args, **named))
    assert read_dataset(tarred.dataset, [tmp_path]) == tarred.contents
    assert len(opened) == 1
    assert locate(tarred.dataset, [tmp_path]).state == "present"


def test_mixed_forms_and_second_directory(tiny, tarred, make, tmp_path):
    one, two = list(tarred.contents.items())
    make.put(tmp_path / "a", dict([one]), lzma.compress, ".xz")
    make.put(tmp_path / "b", dict([two]))
    assert read_dataset(tarred.dataset, [tmp_path / "a", tmp_path / "b"]) == tarred.contents


def test_a_sound_copy_beats_a_damaged_one(tiny, make, tmp_path):
    make.put(tmp_path, dict.fromkeys(tiny.contents, b"broken"))
    make.put(tmp_path, tiny.contents, lzma.compress, ".xz")
    assert read_dataset(tiny.dataset, [tmp_path]) == tiny.contents


def test_sound_tar_beats_damaged_file(tarred, make, tmp_path):
    make.put(tmp_path, {"both/a": b"broken", "both.tar.gz": tarred.served["https://one.example/both.tar.gz"]})
    assert read_dataset(tarred.dataset, [tmp_path]) == tarred.contents


def test_missing_files_are_named_with_what_to_do(tiny, tmp_path):
    with pytest.raises(
        MissingError, match=r"'tiny': tiny/train-images and 3 more not found .*tuidl data get tiny"
    ) as caught:
        read_dataset(tiny.dataset, [tmp_path])
    assert "--data-dir" in str(caught.value) and caught.value.exit_code == 3
    assert locate(tiny.dataset, [tmp_path]).state == "absent"


def damage(how: str, content: bytes) -> bytes:
    middle = len(content) // 2
    return {
        "empty": b"",
        "truncated": content[:middle],
        "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
    }[how]


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz"])
@pytest.mark.parametrize("how", ["empty", "truncated", "flipped"])
def test_damaged_file_is_refused_with_its_name_and_the_cure(tiny, make, tmp_path, how, suffix):
    pack = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}[suffix]
    make.put(tmp_path, tiny.contents, pack, suffix)
    victim = tmp_path / ("tiny/test-images" + suffix)
    victim.write_bytes(damage(how, victim.read_bytes()))
    with pytest.raises(DamagedError) as caught:
        read_dataset(tiny.dataset, [tmp_path])
    message = str(caught.value)
    assert str(victim) in message and "tuidl data get tiny" in message and "\n" not in message
    expected = {"empty": "is empty", "truncated": "is truncated: it has", "flipped": ""}[how]
    assert expected in message
    if how == "truncated":
        assert f"of {len(tiny.contents['tiny/test-images']):,} bytes" in message


@pytest.mark.parametrize("how", ["empty", "truncated", "flipped"])
def test_damaged_tar_is_refused(tarred, make, tmp_path, how):
    make.put(tmp_path, {"both.tar.gz": damage(how, tarred.served["https://one.example/both.tar.gz"])})
    expected = {
        "empty": "is empty",
        "truncated": "is truncated: it has",
        "flipped": "has changed: its sha256 sum differs",
    }[how]
    with pytest.raises(DamagedError, match=rf"both\.tar\.gz {expected}.*tuidl data get both"):
        read_dataset(tarred.dataset, [tmp_path])


def test_locate_sees_wrong_sizes_without_reading(tiny, make, tmp_path):
    make.put(tmp_path, tiny.contents)
    (tmp_path / "tiny/test-labels").write_bytes(b"")
    found = locate(tiny.dataset, [tmp_path])
    assert found.state == "damaged" and "test-labels" in found.note
    make.put(tmp_path, {"tiny/test-labels": gzip.compress(tiny.contents["tiny/test-labels"])[:-3]}, suffix=".gz")
    (tmp_path / "tiny/test-labels").unlink()
    assert locate(tiny.dataset, [tmp_path]).state == "damaged"
    (tmp_path / "tiny/test-labels.gz").unlink()
    assert locate(tiny.dataset, [tmp_path]).state == "incomplete"


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
def test_a_decompression_bomb_is_stopped_at_the_pinned_size(tiny, make, tmp_path, monkeypatch, suffix):
    pack = {".gz": gzip.compress, ".xz": lzma.compress}[suffix]
    file = tiny.dataset.files[0]
    make.put(tmp_path, {file.path: b"\0" * 50_000_000}, pack, suffix)
    lengths = []
    original = files._checked
    monkeypatch.setattr(files, "_checked", lambda *args: lengths.append(len(args[3])) or original(*args))
    with pytest.raises(DamagedError, match="is too long"):
        read_copy("tiny", file, Copy(tmp_path / (file.path + suffix), suffix[1:]))
    assert lengths == [file.size + 1]


def test_an_xz_file_that_asks_for_much_memory_is_refused(tiny, make, tmp_path):
    file = tiny.dataset.files[0]
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20}]
    make.put(tmp_path, tiny.contents, lambda content: lzma.compress(content, filters=filters), ".xz")
    saved, files.XZ_MEMORY_LIMIT = files.XZ_MEMORY_LIMIT, 100_000
    try:
        with pytest.raises(DamagedError, match="cannot be read"):
            read_copy("tiny", file, Copy(tmp_path / (file.path + ".xz"), "xz"))
    finally:
        files.XZ_MEMORY_LIMIT = saved


def test_tar_members_that_are_links_or_lie_elsewhere_are_not_used(make, tmp_path):
    contents = {"both/a": b"A" * 500}
    secret = tmp_path / "secret"
    secret.write_bytes(contents["both/a"])
    evil = tmp_path / "evil.tar.gz"
    with tarfile.open(evil, "w:gz") as archive:
        link = tarfile.TarInfo("both/a")
        link.type, link.linkname = tarfile.SYMTYPE, str(secret)
        archive.addfile(link)
        archive.add(secret, "../both/a")
    made = make.in_tar(contents, evil.read_bytes())
    make.put(tmp_path / "d", {"both.tar.gz": evil.read_bytes()})
    with pytest.raises(MissingError):
        read_dataset(made.dataset, [tmp_path / "d"])
    assert not (tmp_path / "both").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_is_not_opened(tiny, tmp_path):
    (tmp_path / "tiny").mkdir()
    os.mkfifo(tmp_path / "tiny/train-images")
    with pytest.raises(MissingError):
        read_dataset(tiny.dataset, [tmp_path])


def test_looking_for_data_loads_neither_torch_nor_numpy():
    code = (
        "import sys, tuidl.cli.data, tuidl.spec.datasets, tuidl.spec.augmentations, tuidl.train.data.fetch; "
        "print([name for name in ('torch', 'numpy', 'rich', 'textual') if name in sys.modules])"
    )
    root = Path(__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert result.stdout.strip() == "[]"
