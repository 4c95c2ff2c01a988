"""Names of runs: which are allowed, and the one a run gets when nobody names it."""

import re
import time

from tuidl.errors import UsageError
from tuidl.text import clean

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LONGEST_STEM = 40  # leaves room for the date, the time and a number


def is_name(text: str) -> bool:
    """Say whether `text` can be the name of a run, and so of a directory that is surely below the runs directory."""
    return _NAME.fullmatch(text) is not None and ".." not in text


def check_name(name: str) -> str:
    """Return `name`, or raise UsageError when it cannot be the name of a run."""
    if not is_name(name):
        raise UsageError(
            f"{clean(name, limit=80)!r} cannot be the name of a run: use 1 to 64 letters, digits, '.', '_' or '-', "
            "the first one a letter or a digit, and no '..'"
        )
    return name


def automatic_name(preset_name: str) -> str:
    """Return a name made of the preset's name and the local date and time, such as `mnist-mlp-1121-0853`."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", preset_name)[:_LONGEST_STEM].strip("-_")
    return check_name(f"{stem or 'run'}-{time.strftime('%m%d-%H%M')}")
