import json
import math
import struct
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuidl.runs import decode_block, encode_block

_float32 = st.binary(min_size=4, max_size=4)  # any bits, so every kind of nan too


@given(
    st.integers(1, 20).flatmap(
        lambda n: st.dictionaries(st.text(), st.lists(_float32, min_size=n, max_size=n), min_size=1)
    )
)
def test_round_trip_keeps_every_bit(raw: dict[str, list[bytes]]) -> None:
    columns = {}
    for name, values in raw.items():
        columns[name] = array("f")
        columns[name].frombytes(b"".join(values))
    record = json.loads(json.dumps(encode_block(5, columns, (1.0, 2.5))))
    block = decode_block(record)
    assert (block.first_step, block.elapsed) == (5, (1.0, 2.5))
    assert {name: values.tobytes() for name, values in block.columns.items()} == {
        name: b"".join(values) for name, values in raw.items()
    }
    assert all(len(values) == block.count for values in block.columns.values())


def test_the_bytes_are_little_endian_whatever_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    record = encode_block(0, {"a": [1.0, math.inf]}, (0, 0))
    assert record["columns"]["a"] == "AACAPwAAgH8="
    assert list(decode_block(record).columns["a"]) == [1.0, math.inf]
    monkeypatch.setattr("sys.byteorder", "big" if struct.pack("=h", 1)[0] else "little")
    values = array("f", [1.0])
    swapped = encode_block(0, {"a": values}, (0, 0))
    assert swapped["columns"]["a"] == "P4AAAA=="
    assert values[0] == 1.0
    assert decode_block(swapped).columns["a"][0] == 1.0


@pytest.mark.parametrize("columns", [{}, {"a": []}, {"a": [1.0], "b": [1.0, 2.0]}])
def test_uneven_columns_are_not_written(columns: dict[str, list[float]]) -> None:
    with pytest.raises(ValueError):
        encode_block(0, columns, (0.0, 0.0))


@pytest.mark.parametrize(
    "change",
    [
        {"first": -1},
        {"first": True},
        {"first": 1.0},
        {"count": 0},
        {"count": 3},
        {"count": "2"},
        {"elapsed": [1.0]},
        {"elapsed": [1.0, "x"]},
        {"elapsed": None},
        {"columns": {}},
        {"columns": []},
        {"columns": {"a": 1}},
        {"columns": {"a": "AACAPwAA"}},
        {"columns": {"a": "AACAPwAAgH8!"}},
        {"columns": {"a": "é"}},
    ],
)
def test_a_block_that_is_not_whole_is_refused(change: dict[str, Any]) -> None:
    record = encode_block(0, {"a": [1.0, 2.0]}, (0.0, 1.0))
    with pytest.raises(ValueError):
        decode_block(record | change)
    for name in record:
        with pytest.raises(ValueError):
            decode_block({key: value for key, value in record.items() if key != name})
