"""`tuidl data list | get | verify`: results on stdout, everything else on stderr, exit codes for scripts."""

import argparse
import json

import pytest

from tuidl.cli.data import add_parser
from tuidl.errors import DataError, UsageError
from tuidl.spec.datasets import DATASETS


@pytest.fixture
def command(capsys):
    """Returns a function that runs `tuidl data ...` and returns exit code, stdout and stderr."""
    parser = argparse.ArgumentParser(prog="tuidl")
    add_parser(parser.add_subparsers())

    def run(*words):
        args = parser.parse_args(["data", *map(str, words)])
        code = args.handler(args)
        return code, *capsys.readouterr()

    return run


def test_list_names_every_set_with_state_and_cure(command, tiny, make, tmp_path):
    make.put(tmp_path, tiny.contents)
    code, out, err = command("list", "--data-dir", tmp_path)
    assert code == 0 and str(tmp_path) in err
    lines = {line.split()[0]: line for line in out.splitlines() if line.split()[0] in DATASETS}
    assert set(lines) == set(DATASETS)
    assert "present" in lines["tiny"] and str(tmp_path / "tiny") in lines["tiny"]
    assert "absent" in lines["mnist"] and "tuidl data get mnist" in lines["mnist"]
    assert "built in" in lines["drawn-digits"]
    (tmp_path / "tiny/test-labels").write_bytes(b"")
    _, out, _ = command("list", "--data-dir", tmp_path)
    assert "damaged" in out and "tuidl data get tiny" in out


def test_list_json_is_one_object_per_line(command, tmp_path):
    code, out, _ = command("list", "--json", "--data-dir", tmp_path)
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [row["name"] for row in rows] == list(DATASETS)
    assert {"title", "state", "where", "bytes", "note", "source", "terms"} < set(rows[0])


def test_get_then_verify(command, tiny, serve, tmp_path):
    serve(tiny.served)
    code, out, err = command("get", "tiny", "--data-dir", tmp_path)
    assert code == 0 and out == f"tiny: downloaded 4 files to {tmp_path}\n"
    assert "train-images.gz: " in err and "\x1b" not in err
    assert command("get", "tiny", "--data-dir", tmp_path)[1] == f"tiny: already complete in {tmp_path}\n"
    assert command("verify", "tiny", "--data-dir", tmp_path)[:2] == (0, "tiny: sound\n")
    (tmp_path / "tiny/test-labels.gz").write_bytes(b"x")
    code, out, _ = command("verify", "--json", "--data-dir", tmp_path)
    rows = {row["name"]: row for row in map(json.loads, out.splitlines())}
    assert code == 3 and rows["tiny"]["state"] == "not sound" and "test-labels.gz" in rows["tiny"]["note"]
    assert rows["mnist"]["state"] == "absent"
    code, out, _ = command("get", "--json", "tiny", "--data-dir", tmp_path)
    assert code == 0 and len(json.loads(out)["files"]) == 1


def test_verify_of_an_absent_set_that_was_named_fails(command, tiny, tmp_path):
    assert command("verify", "tiny", "--data-dir", tmp_path)[0] == 3
    assert command("verify", "--data-dir", tmp_path)[0] == 0


def test_get_without_network_built_in_and_unknown(command, tiny, tmp_path):
    with pytest.raises(DataError, match="cannot download"):
        command("get", "tiny", "--data-dir", tmp_path)
    assert command("get", "drawn-digits")[1] == "drawn-digits: built in, nothing to fetch\n"
    with pytest.raises(UsageError, match="did you mean 'mnist'"):
        command("get", "mnits")
    with pytest.raises(UsageError, match=r"data\.path"):
        command("get", "text")


def test_a_terminal_gets_a_bar(command, tiny, serve, tmp_path, monkeypatch):
    serve(tiny.served)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    code, out, err = command("get", "tiny", "--data-dir", tmp_path)
    assert code == 0 and out.count("\n") == 1 and "test-labels.gz" in err
