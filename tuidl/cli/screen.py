"""`tuidl` and `tuidl attach`: the screen."""

import argparse
import os
import sys

from tuidl.errors import UsageError
from tuidl.files import expand
from tuidl.text import clean


def home(args: argparse.Namespace) -> int:
    """Show Home."""
    from tuidl.runs import runs_dir

    return _show(args, runs_dir(args.runs_dir))


def attach(args: argparse.Namespace) -> int:
    """Show a run, the newest when none is named."""
    from tuidl.runs import find_run, runs_dir

    root = runs_dir(args.runs_dir)
    if args.run:
        return _show(args, root, find_run(root, args.run))
    from tuidl.runs import list_runs

    found = list_runs(root)
    if not found:
        raise UsageError(f"there is no run in {clean(str(root))} yet; start one with `tuidl run mnist-mlp --detach`")
    return _show(args, root, found[0].paths)


def _show(args: argparse.Namespace, root, run=None) -> int:  # type: ignore[no-untyped-def]
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError("the screen needs a terminal; `tuidl show RUN` and `tuidl runs` print without one")
    if os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
        raise UsageError("this terminal (TERM=dumb) cannot show a screen; `tuidl run` and `tuidl show` need none")
    from tuidl.tui.app import show

    data_dir = str(expand(args.data_dir).absolute()) if args.data_dir else None
    code, left = show(root, data_dir, run)
    if left:
        name = clean(left, limit=80)
        print(f"{name} goes on training; come back with: tuidl attach {name}", file=sys.stderr)
    return code
