"""Downloading: only https, only the pinned content, never half a file, and no trouble with others."""

import errno
import gzip
import http.client
import io
import os
import subprocess
import sys
import time
import urllib.request
import urllib.response
from pathlib import Path
from urllib.error import HTTPError

import pytest

from tuidl.errors import DataError, StorageError
from tuidl.train.data import fetch as module
from tuidl.train.data.fetch import LOCK_NAME, HttpsOnly, fetch
from tuidl.train.data.files import read_dataset


def leftovers(directory: Path) -> list[Path]:
    return list(directory.rglob("*.part"))


def test_fetches_checks_and_reports(tiny, serve, tmp_path):
    asked, seen = serve(tiny.served), []
    paths = fetch(tiny.dataset, tmp_path, lambda *event: seen.append(event))
    assert paths == [tmp_path / file.download.path for file in tiny.dataset.files]
    assert read_dataset(tiny.dataset, [tmp_path]) == tiny.contents
    assert len(asked) == 4 and not leftovers(tmp_path)
    size = tiny.dataset.files[0].download.size
    assert seen[0] == ("train-images.gz", size, size)


def test_what_is_sound_is_kept(tiny, make, serve, tmp_path):
    make.put(tmp_path, tiny.contents)
    asked = serve(tiny.served)
    assert fetch(tiny.dataset, tmp_path) == [] and asked == []


def test_one_tar_archive_is_fetched_once_and_kept(tarred, serve, tmp_path):
    asked = serve(tarred.served)
    fetch(tarred.dataset, tmp_path)
    fetch(tarred.dataset, tmp_path)
    assert len(asked) == 1
    assert read_dataset(tarred.dataset, [tmp_path]) == tarred.contents


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz"])
def test_a_damaged_copy_is_replaced(tiny, make, serve, tmp_path, suffix):
    make.put(tmp_path, tiny.contents)
    (tmp_path / "tiny/test-images").unlink()
    make.put(tmp_path, {"tiny/test-images": b"broken"}, suffix=suffix)
    asked = serve(tiny.served)
    fetch(tiny.dataset, tmp_path)
    assert asked == ["https://one.example/tiny/test-images.gz"]
    assert read_dataset(tiny.dataset, [tmp_path]) == tiny.contents
    assert suffix == ".gz" or not (tmp_path / ("tiny/test-images" + suffix)).exists()


def test_second_server_takes_over(tiny, serve, tmp_path):
    served = {url: content for url, content in tiny.served.items() if "two." in url}
    served["https://one.example/tiny/train-labels.gz"] = b"not what was promised"
    serve(served)
    fetch(tiny.dataset, tmp_path)
    assert read_dataset(tiny.dataset, [tmp_path]) == tiny.contents


def test_wrong_short_and_long_answers_are_refused(tarred, serve, tmp_path):
    ((url, right),) = tarred.served.items()
    wrong = bytes([right[0] ^ 1]) + right[1:]
    for answer, reason in ((right[:-1], "sent only"), (right + b"x", "sent more than"), (wrong, "sha256 sum differs")):
        serve({url: answer})
        with pytest.raises(DataError, match=reason):
            fetch(tarred.dataset, tmp_path)
        assert not (tmp_path / "both.tar.gz").exists() and not leftovers(tmp_path)


def test_without_a_network_one_line_says_what_to_do(tiny, tmp_path):
    with pytest.raises(DataError) as caught:
        fetch(tiny.dataset, tmp_path)
    message = str(caught.value)
    assert "'tiny'" in message and str(tmp_path) in message and "--data-dir" in message and "\n" not in message
    assert "two.example" not in message  # no name resolution: the other servers were not tried


def test_a_server_that_never_answers_does_not_hold_us_up(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "OPEN_LIMIT", 0.05)
    monkeypatch.setattr(module, "open_url", lambda request, timeout: time.sleep(1))
    with pytest.raises(DataError, match="no answer within"):
        fetch(tiny.dataset, tmp_path)


@pytest.mark.parametrize(
    "error",
    [
        HTTPError("https://one.example", 404, "Not Found\x1b[2J", None, None),
        ConnectionResetError(104, "reset"),
        http.client.IncompleteRead(b""),
        TimeoutError("timed out"),
    ],
    ids=["404", "reset", "incomplete", "timeout"],
)
def test_network_errors_become_data_errors(tiny, tmp_path, monkeypatch, error):
    def fail(request, timeout):
        raise error

    monkeypatch.setattr(module, "open_url", fail)
    with pytest.raises(DataError, match="cannot download data set 'tiny'") as caught:
        fetch(tiny.dataset, tmp_path)
    assert "\x1b" not in str(caught.value)


def test_redirects_away_from_https_are_refused(tarred, make, tmp_path, monkeypatch):
    asked, original = [], urllib.request.build_opener

    class Server(urllib.request.HTTPSHandler):
        def https_open(self, req):
            asked.append(req.full_url)
            headers = http.client.HTTPMessage()
            headers["Location"] = targets[len(asked) - 1]
            answer = urllib.response.addinfourl(io.BytesIO(), headers, req.full_url, 302)
            answer.msg = "Found"
            return answer

    monkeypatch.setattr(module, "open_url", make.open_url)  # the real one; nothing leaves this process
    monkeypatch.setattr(urllib.request, "build_opener", lambda *handlers: original(*handlers, Server()))
    for target in ("http://one.example/both.tar.gz", "file:///etc/passwd", "ftp://one.example/x"):
        asked.clear()
        targets = ["https://elsewhere.example/both.tar.gz", target]
        with pytest.raises(DataError, match=r"refused a redirect away from https|Redirection to url .* is not allowed"):
            fetch(tarred.dataset, tmp_path)
        assert asked == [*tarred.served, targets[0]]


def test_redirect_within_https_is_followed():
    request = urllib.request.Request("https://one.example/a")
    followed = HttpsOnly().redirect_request(
        request, io.BytesIO(), 302, "", http.client.HTTPMessage(), "HTTPS://b.example/"
    )
    assert followed is not None


def test_only_https_addresses_are_opened(tarred, serve, tmp_path):
    url = "http://one.example/both.tar.gz"
    serve({url: b""})
    with pytest.raises(module.NetworkError, match="not an https address"):
        list(module._chunks(url))


def test_full_disk_is_a_storage_error_and_leaves_nothing(tiny, serve, tmp_path, monkeypatch):
    serve(tiny.served)

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"No space left on device.*--data-dir") as caught:
        fetch(tiny.dataset, tmp_path)
    assert str(tmp_path) in str(caught.value) and caught.value.exit_code == 6
    assert not leftovers(tmp_path) and not (tmp_path / "tiny/train-images.gz").exists()


def test_unwritable_directory_is_a_storage_error(tiny, serve, tmp_path, monkeypatch):
    asked = serve(tiny.served)
    original = os.open

    def denied(path, flags, *args, **named):
        if flags & os.O_CREAT:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return original(path, flags, *args, **named)

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(StorageError, match="Permission denied"):
        fetch(tiny.dataset, tmp_path)
    assert asked == []  # found out before anything was downloaded


def test_a_directory_that_is_a_file_is_a_storage_error(tiny, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError):
        fetch(tiny.dataset, tmp_path / "file")


def test_lock_is_never_followed_nor_truncated(tiny, serve, tmp_path):
    serve(tiny.served)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    data = tmp_path / "data"
    data.mkdir()
    (data / LOCK_NAME).symlink_to(victim)
    fetch(tiny.dataset, data)
    assert victim.read_text() == "precious"


def test_old_unfinished_downloads_are_swept_and_young_ones_stay(tarred, serve, tmp_path):
    serve(tarred.served)
    old, young = tmp_path / ".both.tar.gz.1.aa.part", tmp_path / ".both.tar.gz.2.bb.part"
    old.write_bytes(b"x")
    young.write_bytes(b"x")
    os.utime(old, (1, 1))
    fetch(tarred.dataset, tmp_path)
    assert leftovers(tmp_path) == [young]


WORKER = """
import hashlib, io, os, signal, sys, time
from pathlib import Path
from tuidl.spec.datasets import DataFile, DataSet, Download
from tuidl.train.data import fetch

place, how = Path(sys.argv[1]), sys.argv[2]
content = b"some text " * 300_000
pin = hashlib.sha256(content).hexdigest()
download = Download("t/one.txt", pin, len(content), ("https://one.example/one",))
dataset = DataSet("one", "", "", "", "text", "text", files=(DataFile("t/one.txt", pin, len(content), "all", download),))

class Slow(io.BytesIO):
    def read(self, size=-1):
        time.sleep(0.1)
        if how == "die" and self.tell() > 1_500_000:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(size)

def open_url(request, timeout):
    with open(place / "asked", "a") as log:
        log.write("x")
    return Slow(content)

fetch.open_url = open_url
fetch.fetch(dataset, place / "data")
assert (place / "data/t/one.txt").read_bytes() == content
"""


def start(place: Path, how: str) -> subprocess.Popen:
    root = Path(__file__).parents[2]
    return subprocess.Popen([sys.executable, "-c", WORKER, str(place), how], cwd=root)


def test_processes_that_fetch_at_once_share_one_download(tmp_path):
    workers = [start(tmp_path, "live") for _ in range(3)]
    assert [worker.wait(30) for worker in workers] == [0, 0, 0]
    assert (tmp_path / "asked").read_text() == "x"
    assert not leftovers(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_a_process_killed_while_fetching_blocks_nobody_and_leaves_no_half_file(tmp_path):
    assert start(tmp_path, "die").wait(30) == -9
    assert not (tmp_path / "data/t/one.txt").exists()
    assert start(tmp_path, "live").wait(30) == 0


def test_without_locks_the_work_is_done_all_the_same(tiny, serve, tmp_path, monkeypatch):
    serve(tiny.served)

    def lockf(descriptor, flags):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(module.fcntl, "lockf", lockf)
    fetch(tiny.dataset, tmp_path)
    assert gzip.decompress((tmp_path / "tiny/test-labels.gz").read_bytes()) == tiny.contents["tiny/test-labels"]
