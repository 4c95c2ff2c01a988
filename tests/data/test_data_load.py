"""Loading: the real sets as they are published, fixed splits, stand-ins only where they are allowed, exact order."""

import gzip
import os
import pickle
from dataclasses import replace

import pytest
import torch

from tuidl.errors import DataError, UsageError
from tuidl.spec.datasets import DATASETS
from tuidl.train.data import load as module
from tuidl.train.data.files import DamagedError, MissingError
from tuidl.train.data.load import load, order, pixel_statistics

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [
        ("mnist", [0.1307], [0.3081]),
        ("fashion-mnist", [0.2860], [0.3530]),
        ("cifar10", [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
    ],
)
def test_real_images(real_data, wish, name, mean, std):
    data = load(wish(name, validation=0.02), directory=real_data, device=CPU, download=False)
    train, val, test = data.train, data.val, data.test
    total = len(train.targets) + len(val.targets)
    assert (total, len(test.targets)) == (50_000 if name == "cifar10" else 60_000, 10_000)
    assert train.images.shape == (len(train.targets), *DATASETS[name].shape)
    assert train.images.dtype == torch.uint8 and train.targets.dtype == torch.int64
    counts = torch.cat([train.targets, val.targets]).bincount().tolist()
    if name == "mnist":
        assert counts == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
        assert test.targets.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    else:
        assert counts == [total // 10] * 10 and test.targets.bincount().tolist() == [1000] * 10
    whole_mean, whole_std = pixel_statistics(torch.cat([train.images, val.images]))
    torch.testing.assert_close(whole_mean, torch.tensor(mean), atol=1e-4, rtol=0)
    torch.testing.assert_close(whole_std, torch.tensor(std), atol=1e-4, rtol=0)
    torch.testing.assert_close(data.mean, whole_mean, atol=2e-3, rtol=0)
    assert not data.origin.stand_in and len(data.origin.files) == len(DATASETS[name].files)


def test_real_text(real_data, wish):
    data = load(wish("tinyshakespeare"), directory=real_data, device=CPU, download=False)
    assert len(data.vocabulary) == 65 and data.vocabulary[:2] == ("\n", " ")
    text = "".join(data.vocabulary[place] for place in torch.cat([data.train, data.val, data.test]))
    assert text.encode() == (real_data / "text/tinyshakespeare.txt").read_bytes()
    assert len(data.val) == len(data.test) == len(text) // 10


def test_split_is_fixed_disjoint_and_limited(tiny, make, tmp_path, wish):
    make.put(tmp_path, tiny.contents)

    def get(**changes):
        return load(wish("tiny", validation=0.25, **changes), directory=tmp_path, device=CPU)

    one, two = get(), get()
    assert torch.equal(one.train.images, two.train.images) and torch.equal(one.val.targets, two.val.targets)
    assert one.train.images.shape == (30, 1, 6, 5) and len(one.val.images) == 10 and len(one.test.images) == 20
    every = torch.cat([one.train.images, one.val.images]).flatten(1)
    assert len(every.unique(dim=0)) == 40
    few = get(train_limit=7)
    assert torch.equal(few.train.images, one.train.images[:7]) and torch.equal(few.val.images, one.val.images)
    torch.testing.assert_close(few.mean, (few.train.images.double() / 255).mean((0, 2, 3)).float())
    expected = (few.train.images.double() / 255).std((0, 2, 3), correction=0).float()
    torch.testing.assert_close(few.std, expected)


def test_a_constant_channel_has_a_positive_deviation():
    _, std = pixel_statistics(torch.zeros(2, 1, 3, 3, dtype=torch.uint8))
    assert std > 0


def test_missing_set_is_downloaded(tiny, serve, tmp_path, wish):
    asked = serve(tiny.served)
    data = load(wish("tiny"), directory=tmp_path, device=CPU)
    assert len(asked) == 4 and data.origin.used == "tiny" and not data.origin.stand_in
    load(wish("tiny"), directory=tmp_path, device=CPU)
    assert len(asked) == 4


def test_missing_set_without_network_uses_its_stand_in_and_says_so(tiny, tmp_path, wish, monkeypatch):
    monkeypatch.setattr(module, "STAND_IN_SIZES", (100, 20))
    data = load(wish("tiny", stand_in="drawn-digits"), directory=tmp_path, device=CPU)
    assert data.name == "drawn-digits" and data.train.images.shape == (90, 1, 28, 28)
    origin = data.origin
    assert (origin.asked, origin.used, origin.stand_in) == ("tiny", "drawn-digits", True)
    assert "Name or service not known" in origin.reason and "\n" not in origin.reason
    assert list(origin.files) == ["drawn: drawn-digits"]
    again = load(wish("drawn-digits"), directory=tmp_path, device=CPU)
    assert not again.origin.stand_in and again.origin.files == origin.files


def test_missing_set_without_stand_in_ends_with_code_3(tiny, tmp_path, wish):
    with pytest.raises(MissingError) as caught:
        load(wish("tiny"), directory=tmp_path, device=CPU)
    assert caught.value.exit_code == 3
    with pytest.raises(MissingError, match="tuidl data get tiny"):
        load(wish("tiny"), directory=tmp_path, device=CPU, download=False)


def test_damaged_set_is_repaired_or_refused_but_never_replaced_silently(tiny, make, serve, tmp_path, wish):
    make.put(tmp_path, tiny.contents)
    (tmp_path / "tiny/train-labels").write_bytes(b"")
    with pytest.raises(DamagedError, match=r"train-labels is empty.*Name or service not known"):
        load(wish("tiny", stand_in="drawn-digits"), directory=tmp_path, device=CPU)
    serve(tiny.served)
    assert load(wish("tiny"), directory=tmp_path, device=CPU).origin.used == "tiny"


def test_evil_pickle_in_the_place_of_a_batch_is_never_executed(tmp_path, wish):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "owned"),)

    for file in DATASETS["cifar10"].files:
        target = tmp_path / file.path
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(pickle.dumps(Evil()).ljust(file.size, b"\0"))
    with pytest.raises(DamagedError, match="sha256 sum differs"):
        load(wish("cifar10"), directory=tmp_path, device=CPU, download=False)
    assert not (tmp_path / "owned").exists()


def test_a_second_directory_is_read_but_not_written(tiny, make, tmp_path, wish):
    make.put(tmp_path / "data", tiny.contents)  # ./data: the tests run in tmp_path
    data = load(wish("tiny"), directory=tmp_path / "empty", device=CPU, download=False)
    assert data.origin.used == "tiny" and not (tmp_path / "empty").exists()


def test_files_that_do_not_fit_the_registry_are_refused(tiny, make, tmp_path, wish, monkeypatch):
    make.put(tmp_path, tiny.contents)
    monkeypatch.setitem(DATASETS, "tiny", replace(tiny.dataset, labels=("one",)))
    with pytest.raises(DataError, match="do not fit"):
        load(wish("tiny"), directory=tmp_path, device=CPU)


def test_own_text_is_split_in_order(tmp_path, wish):
    text = "abc\ndéf " * 100
    (tmp_path / "book.txt").write_text(text, encoding="utf-8")
    data = load(wish("text", path="book.txt", validation=0.2), directory=None, device=CPU)
    assert len(data.train) == 480 and len(data.val) == len(data.test) == 160
    assert "".join(data.vocabulary[place] for place in torch.cat([data.train, data.val, data.test])) == text
    assert list(data.origin.files) == ["book.txt"]
    half = load(wish("text", path="book.txt", validation=0.5, train_limit=50), directory=None, device=CPU)
    assert len(half.train) == 50 and len(half.val) == 200


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"caf\xe9" * 50, "is not UTF-8 text: byte 3"), (b"", "has only 0 characters"), (b"short", "has only 5")],
)
def test_own_text_that_cannot_be_used(tmp_path, wish, content, reason):
    (tmp_path / "book.txt").write_bytes(content)
    with pytest.raises(DataError, match=f"book.txt {reason}"):
        load(wish("text", path="book.txt", stand_in="python-docs"), directory=None, device=CPU)


def test_own_text_that_is_missing_or_no_file_or_too_large(tmp_path, wish, monkeypatch):
    for path, reason in (("absent.txt", "No such file"), (".", "not a regular file"), ("a\0b\x1b", "cannot read")):
        with pytest.raises(DataError, match=reason) as caught:
            load(wish("text", path=path, stand_in="python-docs"), directory=None, device=CPU)
        assert "\x1b" not in str(caught.value)
    monkeypatch.setattr(module, "MAX_TEXT_BYTES", 10)
    (tmp_path / "book.txt").write_text("x" * 11)
    with pytest.raises(DataError, match="more than 10"):
        load(wish("text", path="book.txt"), directory=None, device=CPU)


def test_unknown_name(wish):
    with pytest.raises(UsageError, match="did you mean 'mnist'"):
        load(wish("mnits"), directory=None, device=CPU)


def test_order_is_a_permutation_decided_by_seed_and_epoch():
    torch.manual_seed(1)
    one = order(1000, 7, 3, CPU)
    torch.manual_seed(2)
    assert torch.equal(one, order(1000, 7, 3, CPU)) and one.dtype == torch.int64
    assert torch.equal(one.sort().values, torch.arange(1000))
    others = [order(1000, seed, epoch, CPU) for seed, epoch in ((7, 4), (8, 3), (3, 7), (0, 0))]
    assert all(not torch.equal(one, other) for other in others)


def test_gz_and_plain_give_the_same_data(tiny, make, tmp_path, wish):
    make.put(tmp_path / "a", tiny.contents)
    make.put(tmp_path / "b", tiny.contents, gzip.compress, ".gz")
    one, two = (load(wish("tiny"), directory=tmp_path / place, device=CPU) for place in "ab")
    assert torch.equal(one.train.images, two.train.images) and one.origin == two.origin
