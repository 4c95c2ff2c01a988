"""The one place where text that comes from data is made safe to show.

Names, labels, log lines, samples and error details may hold control characters; a terminal would obey them.
"""

import difflib
import unicodedata
from collections.abc import Iterable

_UNSAFE = {
    "Cc",
    "Cf",
    "Cs",
    "Co",
    "Cn",
    "Zl",
    "Zp",
}  # control, bidi and format, surrogate, private, unassigned, separators


def clean(text: str, *, keep_newlines: bool = False, limit: int = 4000) -> str:
    """Return `text` with every character a terminal could act on replaced by a visible sign.

    C0 controls become their Unicode pictures (ESC is shown as ␛), every other unsafe character becomes `�`.
    With `keep_newlines`, newlines stay and tabs become spaces. Longer text is cut at `limit` characters.
    """
    shown = []
    for char in text[:limit]:
        if keep_newlines and char == "\n":
            shown.append(char)
        elif keep_newlines and char == "\t":
            shown.append("    ")
        elif unicodedata.category(char) in _UNSAFE:
            shown.append(chr(0x2400 + ord(char)) if ord(char) < 0x20 else "\N{REPLACEMENT CHARACTER}")
        else:
            shown.append(char)
    return "".join(shown) + ("…" if len(text) > limit else "")


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return a short hint that names the nearest of `choices`, or all of them when none is near."""
    known = list(choices)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if near:
        return f"did you mean {near[0]!r}?"
    return "choose one of " + ", ".join(known[:24]) + (", …" if len(known) > 24 else "")
