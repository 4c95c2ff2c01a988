"""JSON as the run directory uses it: compact, pure ASCII, strict, and honest about numbers that are not finite.

JSON has no sign for a float that is not a number or not finite, and other tools read it as invalid or as `null`. Here
such a float is written as one of the strings `"nan"`, `"inf"`, `"-inf"`; `as_float` turns the string back.
"""

import json
import math
from typing import Any, NoReturn

_WORDS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def dump_json(value: object) -> bytes:
    """Return `value` as compact JSON in ASCII, floats that are not finite as strings.

    ASCII also carries the lone surrogates that file names outside UTF-8 bring along.
    Raises TypeError for values JSON does not know.
    """
    try:
        text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    except ValueError:  # the rare way: something in there is nan or inf
        text = json.dumps(_worded(value), separators=(",", ":"), allow_nan=False)
    return text.encode("ascii")


def load_object(data: bytes) -> dict[str, Any]:
    """Return the JSON object in `data`. Raises ValueError for anything else, however it was made to fail."""
    try:
        value = _DECODER.decode(data.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def as_float(value: object) -> float:
    """Return the float that `dump_json` wrote as `value`: a number or one of its strings. Raises ValueError."""
    if isinstance(value, str) and value in _WORDS:
        return _WORDS[value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"not a number: {value!r:.40}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError("a number out of range") from None


def _worded(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if isinstance(value, dict):
        return {key: _worded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_worded(item) for item in value]
    return value


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)  # made once: a log has a record for every line
