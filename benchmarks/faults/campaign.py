"""What a campaign of faults is: something breaks so and so often, and each time the promise must hold."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

CAMPAIGNS: "dict[str, Campaign]" = {}
Trials = Iterator[str]  # one line for each trial: empty when the promise held, else what was wrong


@dataclass(frozen=True)
class Campaign:
    """`run(root, count)` carries out `count` trials below the directory `root` and yields what came of each."""

    name: str
    promise: str
    small: int  # trials in the tests
    full: int  # trials on demand
    run: Callable[[Path, int], Trials]


def campaign(
    name: str, promise: str, *, small: int, full: int
) -> Callable[[Callable[[Path, int], Trials]], Callable[[Path, int], Trials]]:
    """Register a campaign; `promise` says in a sentence what must hold in each trial."""

    def register(run: Callable[[Path, int], Trials]) -> Callable[[Path, int], Trials]:
        CAMPAIGNS[name] = Campaign(name, promise, small, full, run)
        return run

    return register


class NotHere(Exception):  # noqa: N818 - it is no error
    """The campaign needs something that this machine does not have; the message says what."""
