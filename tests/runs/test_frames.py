import errno
import math
import os
import stat
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tuidl.errors import StorageError, UsageError
from tuidl.runs import RecordReader, RecordWriter, as_float, frames
from tuidl.runs.frames import MAX_LINE

RECORDS: list[dict[str, Any]] = [
    {"event": "start", "step": 0},
    {"event": "nan", "step": 17, "value": 0.25, "note": "a é \n \x00 ' \""},
    {},
    {"event": "end", "list": [1, 2.5, None, True], "deep": {"a": {"b": "c"}}},
]

_scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
_json = st.recursive(_scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)
_records = st.lists(st.dictionaries(st.text(), _json, max_size=4), max_size=6)


def write(path: Path, records: list[dict[str, Any]]) -> bytes:
    path.unlink(missing_ok=True)
    writer = RecordWriter(path)
    for record in records:
        writer.append(record)
    writer.sync()
    writer.close()
    writer.close()
    return path.read_bytes()


def test_the_file_is_what_the_contract_says(tmp_path: Path) -> None:
    data = write(tmp_path / "metrics.log", [{"a": 1}])
    assert data == b"".join(b"%08x %b\n" % (zlib.crc32(p), p) for p in (b'{"format":1,"file":"metrics"}', b'{"a":1}'))
    assert stat.S_IMODE((tmp_path / "metrics.log").stat().st_mode) == 0o600


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(_records)
def test_round_trip(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    write(tmp_path / "f", records)
    reader = RecordReader(tmp_path / "f")
    assert reader.read() == records
    assert reader.read() == []
    assert reader.damaged == 0


def test_floats_that_are_not_finite_travel_as_words(tmp_path: Path) -> None:
    write(tmp_path / "f", [{"a": [math.nan, math.inf, (-math.inf, 1.5)]}])
    (record,) = RecordReader(tmp_path / "f").read()
    assert record == {"a": ["nan", "inf", ["-inf", 1.5]]}
    assert math.isnan(as_float("nan")) and as_float("-inf") == -math.inf and as_float(3) == 3.0
    for bad in ("NaN", "1", None, True, [], 10**400):
        with pytest.raises(ValueError):
            as_float(bad)


def test_every_cut_gives_exactly_the_complete_records(tmp_path: Path) -> None:
    data = write(tmp_path / "f", RECORDS)
    path = tmp_path / "cut"
    for cut in range(len(data) + 1):
        path.unlink(missing_ok=True)
        path.write_bytes(data[:cut])
        complete = max(data[:cut].count(b"\n") - 1, 0)  # less the header
        reader = RecordReader(path)
        assert reader.read() == RECORDS[:complete]
        with path.open("ab") as file:  # the rest arrives
            file.write(data[cut:])
        assert reader.read() == RECORDS[complete:]
        assert (reader.damaged, reader.restarted) == (0, 0)


def test_every_cut_then_a_new_writer_loses_nothing_new(tmp_path: Path) -> None:
    data = write(tmp_path / "f", RECORDS)
    path = tmp_path / "cut"
    for cut in range(len(data) + 1):
        path.unlink(missing_ok=True)
        path.write_bytes(data[:cut])
        before = RecordReader(path)
        seen = before.read()
        writer = RecordWriter(path)
        writer.append({"new": 1})
        writer.append({"new": 2})
        writer.close()
        seen += before.read()
        assert seen[-2:] == [{"new": 1}, {"new": 2}]
        assert seen[:-2] == RECORDS[: len(seen) - 2]
        assert len(seen) - 2 >= max(data[:cut].count(b"\n") - 1, 0)
        assert RecordReader(path).read() == seen


def is_subsequence(part: list[dict[str, Any]], whole: list[dict[str, Any]]) -> bool:
    rest = iter(whole)
    return all(any(item == other for other in rest) for item in part)


def test_every_bit_flip_loses_records_but_never_alters_one(tmp_path: Path) -> None:
    data = write(tmp_path / "f", RECORDS)
    path = tmp_path / "flipped"
    path.write_bytes(data)
    for position in range(len(data)):
        for bit in range(8):
            flipped = data[position] ^ (1 << bit)
            path.write_bytes(data[:position] + bytes([flipped]) + data[position + 1 :])
            records = RecordReader(path).read()
            assert is_subsequence(records, RECORDS)
            assert len(records) >= len(RECORDS) - 2


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=200), st.binary(max_size=200))
def test_any_bytes_at_all_are_read_without_an_error(tmp_path: Path, junk: bytes, more: bytes) -> None:
    data = write(tmp_path / "f", RECORDS)
    path = tmp_path / "junk"
    path.unlink(missing_ok=True)
    path.write_bytes(junk + b"\n" + data + more)
    assert RecordReader(path).read()[-len(RECORDS) :] == RECORDS


def test_damaged_lines_are_counted(tmp_path: Path) -> None:
    data = write(tmp_path / "f", RECORDS)
    lines = data.splitlines(keepends=True)
    payloads = [b"[1]", b'{"a":NaN}', b"\xff", b'{"a":' * 3000 + b"1" + b"}" * 3000, b'{"a":' + b"9" * 5000 + b"}"]
    bad = [b"%08x %b\n" % (zlib.crc32(payload), payload) for payload in payloads]  # sound sums, no records
    bad += [b"\n", b"x\n", b"%08X {}\n" % zlib.crc32(b"{}"), b"%08x  {}\n" % zlib.crc32(b"{}")]
    (tmp_path / "f").write_bytes(lines[0] + b"".join(bad) + b"".join(lines[1:]))
    reader = RecordReader(tmp_path / "f")
    assert reader.read() == RECORDS
    assert reader.damaged == len(bad)


def test_nuls_at_the_tail_may_still_become_records(tmp_path: Path) -> None:
    data = write(tmp_path / "f", RECORDS)
    lines = data.splitlines(keepends=True)
    start = len(data) - len(lines[-1]) - len(lines[-2])
    path = tmp_path / "g"
    reader = RecordReader(path)
    path.write_bytes(data[:start] + bytes(len(data) - start))
    assert reader.read() == RECORDS[:2]
    path.write_bytes(data[:start] + bytes(len(data) - start - 1) + b"\n")  # the last byte came first
    assert reader.read() == []
    assert reader.damaged == 0
    path.write_bytes(data)
    assert reader.read() == RECORDS[2:]
    assert reader.damaged == 0


def test_nuls_before_a_sound_record_are_one_lost_line(tmp_path: Path) -> None:
    path = tmp_path / "f"
    data = write(path, RECORDS)
    path.write_bytes(data + bytes(50))
    writer = RecordWriter(path)
    writer.append({"new": 1})
    writer.close()
    reader = RecordReader(path)
    assert reader.read() == [*RECORDS, {"new": 1}]
    assert reader.damaged == 1


def test_too_long_lines_are_one_damaged_line(tmp_path: Path) -> None:
    path = tmp_path / "f"
    data = write(path, RECORDS)
    header, *rest = data.splitlines(keepends=True)
    reader = RecordReader(path)
    path.write_bytes(header + b"x" * (MAX_LINE + 10))
    assert reader.read() == []
    path.write_bytes(header + b"x" * (2 * MAX_LINE + 10) + b"\n" + b"".join(rest))
    assert reader.read() == RECORDS
    assert (reader.damaged, reader.restarted) == (1, 0)
    writer = RecordWriter(path)
    with pytest.raises(ValueError):
        writer.append({"x": "x" * MAX_LINE})
    writer.close()


def test_a_replaced_or_shrunk_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "f"
    assert RecordReader(path).read() == []
    write(path, RECORDS)
    reader = RecordReader(path)
    reader.read()
    write(tmp_path / "other", [{"b": 1}, *RECORDS])
    (tmp_path / "other").rename(path)
    assert reader.read() == [{"b": 1}, *RECORDS]
    assert reader.restarted == 1
    path.write_bytes(path.read_bytes()[:-1])
    assert reader.read() == [{"b": 1}, *RECORDS[:-1]]
    assert reader.restarted == 2
    path.unlink()
    assert reader.read() == []


def test_a_read_that_fails_half_way_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "f", RECORDS)
    reader = RecordReader(tmp_path / "f")
    real = frames._record
    calls = 0

    def fail_at_the_third(line: bytes) -> dict[str, Any] | None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise OSError(errno.EIO, "Input/output error")
        return real(line)

    monkeypatch.setattr(frames, "_record", fail_at_the_third)
    with pytest.raises(StorageError):
        reader.read()
    assert reader.read() == RECORDS


def test_another_format_is_refused(tmp_path: Path) -> None:
    payload = b'{"format":2,"file":"metrics"}'
    (tmp_path / "f").write_bytes(b"%08x %b\n" % (zlib.crc32(payload), payload))
    with pytest.raises(UsageError, match="format '2'"):
        RecordReader(tmp_path / "f").read()


def test_a_full_disk_costs_one_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    line = len(b'00000000 {"lost":1}\n')
    for taken in range(line):  # how much of the record the disk still takes
        path = tmp_path / str(taken)
        writer = RecordWriter(path)
        writer.append({"a": 1})
        room = taken

        def write_until_full(fd: int, data: bytes) -> int:
            nonlocal room
            if room == 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            done = real(fd, data[:room])
            room -= done
            return done

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", write_until_full)
            with pytest.raises(StorageError, match="disk is full"):
                writer.append({"lost": 1})
        writer.append({"b": 2})
        writer.append({"c": 3})
        writer.close()
        reader = RecordReader(path)
        assert reader.read() == [{"a": 1}, {"b": 2}, {"c": 3}]
        assert reader.damaged == (taken > 0)


def test_what_is_not_a_plain_file_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "dir").mkdir()
    for name in ("link", "fifo", "dir"):
        with pytest.raises(StorageError):
            RecordWriter(tmp_path / name)
        with pytest.raises(StorageError):
            RecordReader(tmp_path / name).read()
    assert (tmp_path / "victim").read_text() == "precious"


WRITER = """
import sys
from pathlib import Path
from tuidl.runs import RecordWriter
writer = RecordWriter(Path(sys.argv[1]))
for number in range(int(sys.argv[2])):
    writer.append({"n": number})
writer.close()
"""
READER = """
import sys, time
from pathlib import Path
from tuidl.runs import RecordReader
reader, seen, wanted = RecordReader(Path(sys.argv[1])), [], int(sys.argv[2])
print("ready", flush=True)
while len(seen) < wanted:
    new = reader.read()
    seen += [record["n"] for record in new]
    if not new:
        time.sleep(0.002)
assert seen == list(range(wanted)), "lost, doubled or out of order"
assert (reader.damaged, reader.restarted, reader.read()) == (0, 0, [])
"""


def test_many_readers_see_every_record_once_while_it_is_written(tmp_path: Path) -> None:
    arguments = [str(tmp_path / "f"), "20000"]
    readers = [subprocess.Popen([sys.executable, "-c", READER, *arguments], stdout=subprocess.PIPE) for _ in range(4)]
    try:
        for reader in readers:
            assert reader.stdout is not None and reader.stdout.readline() == b"ready\n"
        subprocess.run([sys.executable, "-c", WRITER, *arguments], check=True)
        assert [reader.wait(60) for reader in readers] == [0] * 4
    finally:
        for reader in readers:
            reader.kill()
            reader.communicate()


# --- in slices --------------------------------------------------------------------------------------------------------


def in_slices(reader: RecordReader, most: int) -> list[dict[str, Any]]:
    found, slices = reader.read(most), 1
    while reader.more:
        found += reader.read(most)
        slices += 1
        assert slices < 10_000
    return found


_damage = st.sampled_from([b"", b"x\n", b"\0\0\n", b"\0\n\0\n", b"\0" * 9, b"no end", b"00000000 {}\n"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(_records, st.integers(1, 200), st.lists(st.tuples(st.integers(0, 6), _damage), max_size=3))
def test_slices_add_up_to_the_whole(
    tmp_path: Path, records: list[dict[str, Any]], most: int, damage: list[tuple[int, bytes]]
) -> None:
    lines = write(tmp_path / "f", records).splitlines(keepends=True)
    for place, junk in damage:
        lines.insert(place, junk)
    (tmp_path / "f").write_bytes(b"".join(lines))
    whole, sliced = RecordReader(tmp_path / "f"), RecordReader(tmp_path / "f")
    assert in_slices(sliced, most) == whole.read()
    assert sliced.damaged == whole.damaged
    assert not whole.more


def test_a_slice_ends_with_the_line_that_fills_it(tmp_path: Path) -> None:
    write(tmp_path / "f", [{"n": number} for number in range(10)])
    reader = RecordReader(tmp_path / "f")
    assert (reader.read(1), reader.more) == ([], True)  # the header
    assert (reader.read(17), reader.more) == ([{"n": 0}], True)  # a line has 17 bytes
    assert (reader.read(18), reader.more) == ([{"n": 1}, {"n": 2}], True)
    assert (reader.read(7 * 17), reader.more) == ([{"n": number} for number in range(3, 10)], False)
    assert (reader.read(1), reader.more) == ([], False)


def test_garbage_without_end_is_passed_in_slices(tmp_path: Path) -> None:
    data = write(tmp_path / "f", RECORDS)
    (tmp_path / "f").write_bytes(data + b"x" * (3 * MAX_LINE) + b"\n" + data.splitlines(keepends=True)[-1])
    reader = RecordReader(tmp_path / "f")
    assert in_slices(reader, 1) == [*RECORDS, RECORDS[-1]]
    assert reader.damaged == 1
