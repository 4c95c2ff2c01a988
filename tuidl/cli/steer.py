"""`tuidl pause`, `continue`, `stop`, `set` and the like: commands to a training run, from any terminal."""

import argparse

from tuidl.errors import UsageError
from tuidl.runs import LIVE_STATES, find_run, kill, read_state, runs_dir, send, wait_for_answer
from tuidl.text import clean

PATIENCE = 15.0  # seconds until a run that does not answer is called deaf


def steer(args: argparse.Namespace, verb: str, **arguments: str) -> int:
    """Send a command, wait for the answer, and print it."""
    paths = find_run(runs_dir(args.runs_dir), args.run)
    name = clean(paths.name, limit=80)
    _, state = read_state(paths)
    if state not in LIVE_STATES:
        raise UsageError(f"run {name} is {state}, not training; it takes no more commands")
    answer = wait_for_answer(paths, send(paths, verb, **arguments), PATIENCE)
    if answer is None:
        raise UsageError(f"run {name} has not answered in {PATIENCE:.0f} s; the command waits in its inbox")
    text = clean(str(answer.get("text", "")), limit=400)
    if not answer.get("ok"):
        raise UsageError(f"run {name}: {text}")
    print(f"{name}: {text}")
    return 0


def kill_trainer(args: argparse.Namespace) -> int:
    """End a trainer at once."""
    paths = find_run(runs_dir(args.runs_dir), args.run)
    print(f"{clean(paths.name, limit=80)}: {kill(paths)}")
    return 0


def set_live(args: argparse.Namespace) -> int:
    """Change a live setting."""
    key, equals, value = args.change.partition("=")
    if not equals:
        raise UsageError(f"{clean(args.change, limit=100)!r}: write it as KEY=VALUE, for example optimizer.lr=0.001")
    return steer(args, "set", key=key.strip(), value=value.strip())
