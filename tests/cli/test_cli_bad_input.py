"""Everything a user can get wrong: the exit code, exactly one clear line on stderr, and never a traceback."""

import json
import signal
import time
from types import SimpleNamespace

import pytest


def check(said, code, one_line, *words):
    """Check exit code and error line, and that the line names all of `words`."""
    line = one_line(said.err)
    assert said.code == code, line
    assert said.out == ""
    for word in words:
        assert word in line, line


SETTINGS = {
    "unknown key": ("optimizer.learning_rate=1", "optimizer.lr"),
    "unknown group": ("optimiser.lr=1", "optimizer.lr"),
    "key of another kind": ("optimizer.momentum=0.9", "optimizer.momentum"),
    "unknown choice": ("optimizer.kind=adamm", "did you mean 'adam'"),
    "unknown value": ("model.activation=reluu", "relu"),
    "wrong type": ("optimizer.lr=fast", "optimizer.lr"),
    "text for a whole number": ("training.epochs=two", "training.epochs"),
    "fraction for a whole number": ("training.epochs=1.5", "training.epochs"),
    "number for a list": ("model.widths=5", "model.widths"),
    "below the range": ("optimizer.lr=-1", "nearest is"),
    "above the range": ("regularization.dropout=1.5", "out of range"),
    "nan": ("optimizer.lr=nan", "optimizer.lr"),
    "inf": ("optimizer.lr=inf", "optimizer.lr"),
    "no value": ("optimizer.lr", "group.key=value"),
    "no key": ("=3", "group.key=value"),
    "empty value": ("optimizer.lr=", "optimizer.lr"),
    "escape codes in the key": ("optimizer.\x1b[31mlr=1", "there is no setting"),
    "escape codes in the value": ("optimizer.lr=\x1b[31m", "optimizer.lr"),
    "evil model": ("model.kind=os.system", "model.kind"),
    "evil task": ("task=os:system", "task"),
    "data of another kind": ("data.name=tinyshakespeare", "does not fit"),
    "model of another task": ("model.kind=lstm", "does not fit"),
    "huge number": ("training.epochs=" + "9" * 400, "training.epochs"),
    "huge value": ("model.activation=" + "x" * 5000, "model.activation"),
    "device that is none": ("device=tpu", "auto, cpu, cuda"),
    "a whole group": ("optimizer=adam", "optimizer"),
}


@pytest.mark.parametrize(("change", "told"), SETTINGS.values(), ids=SETTINGS)
def test_bad_setting(cli, one_line, tuidl, change, told):
    check(cli("run", "mnist-mlp", "--set", change), 2, one_line, told)
    assert not tuidl.runs.exists()


OPTIONS = {
    "unknown preset": (["mnist-mpl"], "mnist-mlp"),
    "escape codes as preset": (["\x1b[31mred"], "31m"),
    "preset file that is not there": (["gone.toml"], "gone.toml"),
    "run directory that is none": (["./gone"], "gone"),
    "epochs below one": (["mnist-mlp", "--epochs", "0"], "training.epochs"),
    "negative seed": (["mnist-mlp", "--seed", "-1"], "seed"),
    "huge seed": (["mnist-mlp", "--seed", str(2**40)], "seed"),
    "device that is none": (["mnist-mlp", "--device", "gpu"], "cuda"),
    "name that climbs": (["mnist-mlp", "--name", "../evil"], "name of a run"),
    "name that is a path": (["mnist-mlp", "--name", "/tmp/evil"], "name of a run"),
    "name with escape codes": (["mnist-mlp", "--name", "a\x1b[31m"], "name of a run"),
    "empty name": (["mnist-mlp", "--name", ""], "name of a run"),
    "text data without a file": (["char-lstm", "--set", "data.name=text"], "data.path"),
}


@pytest.mark.parametrize(("words", "told"), OPTIONS.values(), ids=OPTIONS)
def test_bad_option(cli, one_line, tuidl, words, told):
    check(cli("run", *words), 2, one_line, told)
    assert not list(tuidl.root.rglob("*.json"))


PRESETS = {
    "not TOML": b"this is no TOML",
    "binary junk": bytes(range(256)) * 8,
    "not UTF-8": b'[about]\ntitle = "\xff\xfe"\n',
    "escape codes": b"\x1b[31m = 1\n",
    "17 KB": b"# " + b"x" * 17_000,
    "deep nesting": b"x = " + b"[" * 3000 + b"]" * 3000,
    "deep tables": b"[" + b".".join([b"a"] * 3000) + b"]",
    "huge number": b"seed = " + b"9" * 5000,
    "nan": b"[optimizer]\nlr = nan\n",
    "a date": b"seed = 2020-01-01\n",
    "code as task": b'task = "os:system"\n',
    "dotted path as model": b'[model]\nkind = "torch.nn.modules.linear.Linear"\n',
    "dunder key": b"[model]\n__class__ = 'x'\n",
    "unknown group": b"[evil]\ncommand = 'rm'\n",
    "number for a group": b"optimizer = 5\n",
    "list for a group": b"[[optimizer]]\nkind = 'adam'\n",
    "list for a kind": b"[optimizer]\nkind = ['adam']\n",
    "text for a plain group": b'data = "mnist"\n',
    "quotes as a key": b'[about]\n"\\u001b[31m" = 1\n',
}


@pytest.mark.parametrize("content", PRESETS.values(), ids=PRESETS)
def test_bad_preset_file(cli, one_line, tuidl, content):
    (tuidl.root / "evil.toml").write_bytes(content)
    check(cli("run", "evil.toml", "--offline"), 2, one_line, "evil.toml")
    check(cli("presets", "evil.toml"), 2, one_line, "evil.toml")
    assert not tuidl.runs.exists()


def _breaks(content: bytes, change: str):
    return pytest.param(
        content, change, id=f"{content.decode().split()[0]} and {change}")  # fmt: skip


@pytest.mark.parametrize(
    ("content", "change"),
    [
        (b"optimizer = 5\n", "data.train_limit=5"),
        (b'data = "mnist"\n', "optimizer.lr=1"),
        _breaks(b"optimizer = 5\n", "optimizer.lr=1"),
        _breaks(b"optimizer = 5\n", "optimizer.kind=sgd"),
        _breaks(b"[[optimizer]]\nkind = 'adam'\n", "optimizer.lr=1"),
        _breaks(b"[[optimizer]]\nkind = 'adam'\n", "optimizer.kind=sgd"),
        _breaks(b'data = "mnist"\n', "data.train_limit=5"),
    ],
)
def test_bad_preset_file_with_a_change(cli, one_line, tuidl, content, change):
    (tuidl.root / "evil.toml").write_bytes(content)
    check(cli("run", "evil.toml", "--offline", "--set", change), 2, one_line)


def test_preset_file_that_is_a_directory(cli, one_line, tuidl):
    (tuidl.root / "folder.toml").mkdir()
    check(cli("run", "folder.toml"), 2, one_line, "folder.toml")


def test_name_that_is_taken(cli, one_line, tuidl):
    assert cli(*tuidl.language("--name", "mine", "--quiet")).code == 0
    before = tuidl.paths("mine").spec.read_bytes()
    check(cli(*tuidl.language("--name", "mine", "--quiet")), 2, one_line, "mine", "exists already")
    assert tuidl.paths("mine").spec.read_bytes() == before


def test_text_file_that_is_not_there(cli, one_line, tuidl):
    words = ["--set", "data.name=text", "--set", "data.path=gone.txt", "--quiet", "--name", "x"]
    check(cli("run", "char-lstm", *words), 3, one_line, "gone.txt")
    status = tuidl.reader("x").status()
    assert status.state == "failed" and status.exit_code == 3 and "gone.txt" in status.reason


@pytest.mark.parametrize(("content", "told"), [(b"", "characters"), (b"\xff\xfe\x00" * 99, "UTF-8")])
def test_text_file_that_is_none(cli, one_line, tuidl, content, told):
    (tuidl.root / "bad.txt").write_bytes(content)
    words = ["--set", "data.name=text", "--set", "data.path=bad.txt", "--quiet"]
    check(cli("run", "char-lstm", *words), 3, one_line, "bad.txt", told)


def test_no_data_and_no_stand_in(cli, one_line, digits):
    check(cli(*digits, "--set", "data.stand_in=none", "--quiet"), 3, one_line, "tuidl data get mnist")


@pytest.mark.parametrize("cut", [0, 1000])
def test_damaged_archive_is_not_trained_on(cli, one_line, tuidl, digits, cut):
    raw = tuidl.data / "MNIST/raw"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8b\x08" + b"\0" * cut if cut else b"")
    check(cli(*digits, "--quiet"), 3, one_line, "train-images-idx3-ubyte.gz", "tuidl data get mnist")


@pytest.mark.parametrize(("size", "told"), [(0, "is empty"), (5000, "is truncated")])
def test_damaged_tar_archive_is_not_trained_on(cli, one_line, tuidl, size, told):
    tuidl.data.mkdir()
    (tuidl.data / "cifar-10-python.tar.gz").write_bytes(b"\x1f\x8b\x08" + b"\0" * (size - 3) if size else b"")
    check(cli("run", "cifar-cnn", "--offline", "--quiet"), 3, one_line, "cifar-10-python.tar.gz", told)


def test_data_directory_that_cannot_be_written(cli, one_line, tuidl):
    tuidl.data.write_text("a file where the directory should be")
    check(cli("data", "get", "mnist"), 6, one_line, str(tuidl.data))


def test_data_set_that_is_unknown_or_ones_own(cli, one_line):
    check(cli("data", "get", "mnisst"), 2, one_line, "mnist")
    check(cli("data", "verify", "mnisst"), 2, one_line, "mnist")
    check(cli("data", "get", "text"), 2, one_line, "data.path")


def test_runs_directory_that_cannot_be_made(cli, one_line, tuidl):
    tuidl.runs.write_text("a file where the directory should be")
    check(cli(*tuidl.language("--quiet")), 6, one_line, str(tuidl.runs))
    check(cli("runs"), 6, one_line, str(tuidl.runs))
    check(cli(*tuidl.language("--quiet", "--runs-dir", tuidl.runs / "deeper")), 6, one_line, str(tuidl.runs))


def test_device_that_is_not_there(cli, one_line, tuidl):
    check(cli(*tuidl.language("--device", "cuda:77", "--quiet", "--name", "x")), 5, one_line, "cuda:77", "cpu")
    status = tuidl.reader("x").status()
    assert status.state == "failed" and status.exit_code == 5


def test_failure_in_json_is_a_finished_line_too(cli, tuidl):
    said = cli(*tuidl.language("--device", "cuda:77", "--json"))
    assert said.code == 5 and [line["event"] for line in said.lines] == ["finished"]
    assert said.lines[0]["status"] == "failed" and said.lines[0]["exit_code"] == 5
    assert "cuda:77" in said.lines[0]["reason"]


def test_out_of_memory_is_told_with_what_to_do(cli, one_line, tuidl, monkeypatch):
    from tuidl.train import session

    def burst(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(session, "load", burst)
    check(cli(*tuidl.language("--quiet")), 5, one_line, "out of memory", "batch_size")


def test_full_disk_is_waited_for_until_a_signal_comes(cli, tuidl, monkeypatch):
    from tuidl.runs.files import storage_error
    from tuidl.train import checkpoint, recorder

    states = []

    def full(path, data, **kwargs):
        raise storage_error(path, OSError(28, "No space left on device"))

    def nap(seconds):
        states.append(tuidl.reader("x").status().state)
        if len(states) == 2:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(checkpoint, "write_atomic", full)
    monkeypatch.setattr(recorder, "time", SimpleNamespace(sleep=nap, monotonic=time.monotonic))
    said = cli(*tuidl.language("--name", "x"))
    assert said.code == 6 and "Traceback" not in said.err
    waiting, _ = [line for line in said.err.splitlines() if "the disk is full" in line]
    assert waiting.endswith("waiting for space")
    assert states == ["paused", "paused"] and tuidl.reader("x").status().state == "failed"


STORED = {
    "preset is a list": {"preset": ["x"]},
    "preset name is a number": {"preset": {"name": 5}},
    "spec is a list": {"spec": ["x"]},
    "spec is missing": {},
    "groups are numbers": {"spec": {"optimizer": 1, "model": 2}},
    "task is code": {"spec": {"task": "os:system"}},
    "data directory is a number": {"spec": {}, "data_dir": 7},
}


@pytest.mark.parametrize(
    "stored",
    [pytest.param(value, id=key) for key, value in STORED.items()],
)
def test_repeating_a_run_whose_spec_a_stranger_wrote(cli, tuidl, stored):
    paths = tuidl.paths("strange")
    paths.directory.mkdir(parents=True)
    paths.spec.write_text(json.dumps(stored))
    said = cli("run", "strange", "--offline", "--max-steps", "1", "--quiet", "--set", "training.threads=1")
    assert said.code in (0, 2, 3, 6) and "Traceback" not in said.err


def test_repeating_a_run_that_is_damaged(cli, one_line, tuidl):
    paths = tuidl.paths("torn")
    paths.directory.mkdir(parents=True)
    paths.spec.write_bytes(b'{"spec": {"opt')
    said = cli("run", "torn")
    assert said.code in (2, 6) and "damaged" in one_line(said.err)
