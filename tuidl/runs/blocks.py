"""Blocks of metrics: the values of many steps in one record, every float32 exactly as it was measured."""

import base64
import binascii
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuidl.runs.jsonio import as_float

_ITEM = 4  # bytes of a float32


@dataclass(frozen=True)
class MetricsBlock:
    """The metrics of the steps `first_step` to `first_step + count - 1`.

    `elapsed` are the seconds of training at the first and at the last of these steps. Every column has `count` values.
    After a resume a block may repeat steps of earlier ones: the later block holds.
    """

    first_step: int
    count: int
    elapsed: tuple[float, float]
    columns: dict[str, "array[float]"]


def encode_block(
    first_step: int, columns: Mapping[str, Sequence[float]], elapsed: tuple[float, float]
) -> dict[str, Any]:
    """Return the record of one block: each column as base64 of little-endian float32.

    Raises ValueError when there is no column, when the columns differ in length, or when they are empty.
    """
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"the columns of a block need one common length, not {sorted(lengths)}")
    return {
        "first": first_step,
        "count": lengths.pop(),
        "elapsed": [float(elapsed[0]), float(elapsed[1])],
        "columns": {name: _encode(values) for name, values in columns.items()},
    }


def decode_block(record: Mapping[str, Any]) -> MetricsBlock:
    """Return the block in `record`. Raises ValueError when anything in it is not as `encode_block` writes it."""
    first, count = record.get("first"), record.get("count")
    elapsed, columns = record.get("elapsed"), record.get("columns")
    if type(first) is not int or type(count) is not int or first < 0 or count < 1:
        raise ValueError("a block needs its first step and its count")
    if not isinstance(elapsed, list) or len(elapsed) != 2:
        raise ValueError("a block needs two times")
    if not isinstance(columns, dict) or not columns:
        raise ValueError("a block needs columns")
    return MetricsBlock(
        first,
        count,
        (as_float(elapsed[0]), as_float(elapsed[1])),
        {name: _decode(name, text, count) for name, text in columns.items()},
    )


def _encode(values: Sequence[float]) -> str:
    # What is float32 already is not copied through Python floats, which may alter the bits inside a nan.
    packed = values if isinstance(values, array) and values.typecode == "f" else array("f", values)
    return base64.b64encode(_little_endian(packed)).decode("ascii")


def _little_endian(values: "array[float]") -> bytes:
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return values.tobytes()


def _decode(name: str, text: object, count: int) -> "array[float]":
    if not isinstance(text, str):
        raise ValueError(f"column {name!r:.80} is not text")
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise ValueError(f"column {name!r:.80} is not base64") from None
    if len(data) != count * _ITEM:
        raise ValueError(f"column {name!r:.80} has {len(data)} bytes, not {count * _ITEM}")
    values = array("f")
    values.frombytes(data)
    if sys.byteorder == "big":
        values.byteswap()
    return values
