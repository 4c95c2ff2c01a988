import json
import os
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tuidl.errors import StorageError, UsageError
from tuidl.runs import Command, Inbox, Refused, RunPaths, RunWriter, send, wait_for_answer

GOOD = b'{"verb":"stop","arguments":{}}'


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def refusal(run: RunPaths) -> Refused:
    (answer,) = Inbox(run).poll()
    assert isinstance(answer, Refused)
    assert Inbox(run).poll() == []
    return answer


def test_commands_arrive_once_and_in_order(run: RunPaths) -> None:
    inbox = Inbox(run)
    assert inbox.poll() == []
    ids = [send(run, "pause"), send(run, "set", key="optimizer.lr", value="0.1 é"), send(run, "continue")]
    assert inbox.poll() == [
        Command(ids[0], "pause"),
        Command(ids[1], "set", {"key": "optimizer.lr", "value": "0.1 é"}),
        Command(ids[2], "continue"),
    ]
    assert inbox.poll() == []
    assert names_in(run.control) == []


def test_ids_are_unique_and_sorted_across_threads(run: RunPaths) -> None:
    ids: list[list[str]] = [[] for _ in range(4)]
    threads = [
        threading.Thread(target=lambda own=own: own.extend(send(run, "pause") for _ in range(20)))  # type: ignore[misc]
        for own in ids
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(own == sorted(own) for own in ids)
    assert [command.id for command in Inbox(run).poll()] == sorted(each for own in ids for each in own)


def test_a_flood_is_taken_in_parts(run: RunPaths) -> None:
    for number in range(130):
        (run.control / f"{number:04}.json").write_bytes(GOOD)
    inbox = Inbox(run)
    assert [len(inbox.poll()) for _ in range(3)] == [100, 30, 0]


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("kill", {}),
        ("stop", {"now": "1"}),
        ("set", {}),
        ("set", {"key": "a"}),
        ("set", {"key": "", "value": "1"}),
        ("set", {"key": "a" * 101, "value": "1"}),
        ("set", {"key": "a", "value": "1" * 1001}),
        ("set", {"key": "a", "value": "\N{GRINNING FACE}" * 1000}),  # few characters, many bytes
    ],
)
def test_what_no_trainer_would_take_is_not_sent(run: RunPaths, verb: str, arguments: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        send(run, verb, **arguments)
    assert names_in(run.control) == []


def test_sending_to_a_run_without_an_inbox(run: RunPaths) -> None:
    run.control.rmdir()
    with pytest.raises(StorageError):
        send(run, "stop")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "JSON"),
        (b"\xff\xfe", "JSON"),
        (b"[" * 4000, "JSON"),
        (b"[]", "JSON"),
        (b'"stop"', "JSON"),
        (b'{"verb":"stop"}', "exactly"),
        (b'{"verb":"stop","arguments":{},"x":1}', "exactly"),
        (b'{"verb":"kill","arguments":{}}', "unknown command"),
        (b'{"verb":["stop"],"arguments":{}}', "unknown command"),
        (b'{"verb":"st\\u001b[2Jop","arguments":{}}', "unknown command"),
        (b'{"verb":"stop","arguments":[]}', "takes no arguments"),
        (b'{"verb":"set","arguments":{"key":"a","value":1}}', "value of 'set'"),
        (b'{"verb":"set","arguments":{"key":"a","value":NaN}}', "JSON"),
        (GOOD + b" " * 5000, "larger"),
    ],
)
def test_junk_is_refused_and_removed(run: RunPaths, data: bytes, reason: str) -> None:
    (run.control / "1.json").write_bytes(data)
    answer = refusal(run)
    assert answer.id == "1" and reason in answer.reason and "\x1b" not in answer.reason
    assert names_in(run.control) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_make_the_inbox_raise(run: RunPaths, data: bytes) -> None:
    (run.control / "1.json").write_bytes(data)
    assert len(Inbox(run).poll()) == 1


def test_links_are_not_followed(run: RunPaths, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(GOOD)
    (run.control / "1.json").symlink_to(target)
    assert "regular" in refusal(run).reason
    os.link(target, run.control / "2.json")
    assert "more than one name" in refusal(run).reason
    assert target.read_bytes() == GOOD


def test_a_fifo_does_not_block(run: RunPaths) -> None:
    os.mkfifo(run.control / "1.json")
    assert "regular" in refusal(run).reason
    assert names_in(run.control) == []


def test_a_directory_is_put_aside(run: RunPaths) -> None:
    (run.control / "1.json").mkdir()
    (run.control / "1.json" / "full").write_text("")
    assert "regular" in refusal(run).reason


def test_strange_names_are_refused_and_temps_left_alone(run: RunPaths) -> None:
    (run.control / ".1.json.12.0123456789ab.tmp").write_bytes(GOOD)
    (run.control / "x\x1b[2J.json").write_bytes(GOOD)
    assert refusal(run).id == "x␛[2J"
    assert names_in(run.control) == [".1.json.12.0123456789ab.tmp"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_files_of_another_user_are_refused(run: RunPaths) -> None:
    (run.control / "1.json").write_bytes(GOOD)
    os.chown(run.control / "1.json", 65534, 65534)
    assert "another user" in refusal(run).reason


def test_an_inbox_open_to_others_is_not_used(run: RunPaths) -> None:
    inbox = Inbox(run)
    (run.control / "1.json").write_bytes(GOOD)
    run.control.chmod(0o777)
    (answer,) = inbox.poll()
    assert isinstance(answer, Refused) and "other users" in answer.reason
    assert inbox.poll() == []  # told once
    run.control.chmod(0o700)
    assert inbox.poll() == [Command("1", "stop")]


def test_an_inbox_that_is_a_link_or_absent_is_not_used(run: RunPaths, tmp_path: Path) -> None:
    run.control.rmdir()
    assert isinstance(Inbox(run).poll()[0], Refused)
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "elsewhere" / "1.json").write_bytes(GOOD)
    run.control.symlink_to(tmp_path / "elsewhere")
    assert isinstance(Inbox(run).poll()[0], Refused)
    assert names_in(tmp_path / "elsewhere") == ["1.json"]


def test_what_cannot_be_removed_is_not_obeyed(run: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise OSError(30, "Read-only file system")

    send(run, "stop")
    inbox = Inbox(run)
    monkeypatch.setattr(os, "unlink", fail)
    monkeypatch.setattr(os, "rename", fail)
    assert [type(answer) for answer in inbox.poll()] == [Refused]
    assert inbox.poll() == []


def test_the_answer_is_found_in_the_events(run: RunPaths) -> None:
    identifier = send(run, "pause")
    assert wait_for_answer(run, identifier, timeout=0) is None
    with RunWriter(run) as writer:
        writer.event("answer", 1, id="another", ok=False, text="no")
        writer.answer(identifier, "pause", 7, ok=True, text="paused")
    answer = wait_for_answer(run, identifier, timeout=0)
    assert answer is not None
    assert (answer["ok"], answer["text"], answer["step"]) == (True, "paused", 7)


def test_the_file_is_plain_json(run: RunPaths) -> None:
    identifier = send(run, "set", key="a", value="b")
    data = json.loads((run.control / f"{identifier}.json").read_text())
    assert data == {"verb": "set", "arguments": {"key": "a", "value": "b"}}
