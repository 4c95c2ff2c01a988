"""Runs made to do harm: their records, inboxes, names and directories."""

import contextlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from faults.box import ESCAPES, Attack, Box, case, refused
from faults.lab import hold
from tuidl.errors import TuidlError
from tuidl.runs import Identity, Inbox, RecordWriter, RunPaths, create_run, find_run, identity, kill, send
from tuidl.runs.launch import open_log, prepare_run
from tuidl.runs.listing import list_runs, summarise
from tuidl.runs.ownership import claim
from tuidl.runs.past import repeat_of
from tuidl.runs.writer import RunWriter, read_spec
from tuidl.spec import build_spec


@case(
    "names of artifacts",
    "links",
    "events",
    "metrics",
    "logs of other kinds",
    "log that is a fifo",
    "log that is a link",
)
def viewer(box: Box, what: str) -> Attack:
    """A run to be looked at: its records name other files, and its files are none."""
    from tuidl.tui.feed import Feed
    from tuidl.tui.snapshot import Artifact

    paths = box.run()
    names = ["../run.json", "/etc/passwd", "artifacts/../run.json", "artifacts/..", "artifacts/a\0", "artifacts//etc/x"]
    names += [f"artifacts/{kind}" for kind in ("link", "fifo", "endless", "socket", "directory")]
    odd: list[Any] = [2**70, -1, "nan", None, [[]], {"a": []}, ESCAPES, 1.5, True, names[1], "\ud800"]
    if what in ("names of artifacts", "links"):
        for name in names[6:]:
            box.plant(paths.directory / name, name.partition("/")[2])
    if what == "log that is a fifo" or what == "log that is a link":
        box.plant(paths.trainer_log, what.split()[-1])
    elif what == "logs of other kinds":
        for path in (paths.spec, paths.status, paths.metrics, paths.events):
            box.plant(path, box.random.choice(["fifo", "link", "endless", "directory", "socket"]))
    else:
        log = RecordWriter(paths.metrics if what == "metrics" else paths.events)
        for number in range(300):
            chosen = box.random.choices(odd, k=6)
            kind = box.random.choice(["started", "evaluation", "sample", "change", "resumed", "checkpoint", "answer"])
            items = box.random.choice([chosen[0], [chosen[0]], [{"path": box.random.choice(names), "kind": chosen[1]}]])
            event = {"event": kind, "step": number, "elapsed": chosen[2], "artifacts": items, "metrics": chosen[3]}
            block = {"first": chosen[0], "count": chosen[1], "elapsed": [chosen[2], 1], "columns": {"x": chosen[3]}}
            log.append(
                block if what == "metrics" else event | {"live": chosen[4], "key": chosen[5], "after": chosen[1]}
            )
        log.close()

    def attack() -> None:
        feed = Feed(paths)
        shown = feed.poll()
        hold("precious" not in "".join(shown.log), "it shows a file outside")
        for name in names:
            refused(feed.artifact, Artifact("grid", 1, 0.0, name, {}))
        for item in [item for items in shown.artifacts.values() for item in items if item.path in names]:
            refused(feed.artifact, item)
        from tuidl.cli import main

        hold(main(["show", str(paths.directory)]) != 1, "tuidl show met an internal error")

    return attack


# ---------------------------------------------------------------------- commands, names, records


@case("link", "hard link", "fifo", "socket", "directory", "too large", "names", "nested")
def inbox(box: Box, what: str) -> Attack:
    """Something in the inbox that is no command: told and put away, and the next command is obeyed."""
    paths, good = box.run(), b'{"verb":"stop","arguments":{}}'
    box.victim.write_bytes(good)
    if what == "too large":
        (paths.control / "1.json").write_bytes(good + b" " * box.random.randrange(4096, 1 << 22))
    elif what == "nested":
        (paths.control / "1.json").write_bytes(box.random.choice([b"[", b'{"verb":']) * 2000)
        (paths.control / "2.json").write_bytes(b'{"verb":"steps","arguments":{"count":' + b"9" * 4000 + b"}}")
    elif what == "names":
        for name in ("\u0661.json", "1.json ", "a\nb.json", "x" * 90 + ".json", "..json", "1.JSON", "\x1b[2J.json"):
            (paths.control / name).write_bytes(good)
    else:
        box.plant(paths.control / "1.json", what)

    def attack() -> None:
        found = Inbox(paths)
        hold(not [item for item in found.poll() if hasattr(item, "verb")], "it was obeyed")
        told = send(paths, "pause")
        hold([item.id for item in found.poll()] == [told], "the next command is not obeyed")

    return attack


@case("made", "found", "beside", "of presets")
def run_name(box: Box, what: str) -> Attack:
    """A name that leads elsewhere is refused."""
    root = box.inside / "runs"
    bad = ["..", ".", "", "/etc", "../outside", "a/../../x", "a\0b", "a\n", "-x", "a" * 65, "\uff0e\uff0e", "a\u2215b",
           "\u0430", "a\u202e", "~root", "a..b", str(box.outside)]  # fmt: skip
    if what == "made":
        return lambda: [refused(create_run, root, name, "p") for name in bad]
    if what == "of presets":
        spec = build_spec({})

        def made() -> None:
            for name in [*bad, ESCAPES, "\ud800", "x" * 1000]:
                hold(prepare_run(spec, name, None, root, None).directory.parent == root, f"{name!r:.80} led out")

        return made
    paths = box.run()
    if what == "beside":
        shutil.copytree(paths.directory, box.outside / "a-run")
        (root / "b-run").symlink_to(box.outside / "a-run")
        beside = box.inside / "runs-of-another"
        shutil.copytree(paths.directory, beside / "c-run")
        bad = ["b-run", "c-run", "../runs-of-another/c-run", f"{root}/../runs-of-another/c-run", "b"]
    return lambda: [refused(find_run, root, name) for name in bad]


@case("settings", "status", "owners", "kill of a process", "kill of a reader", "data directory")
def record(box: Box, what: str) -> Attack:
    """What a run says of itself is a stranger's word."""
    paths = box.run()
    told = json.loads(paths.spec.read_bytes())
    if what.startswith("kill"):
        return _kill(box, paths, reads=what.endswith("reader"))
    if what == "owners":
        box.plant(paths.directory / "owner-999999998.json", box.random.choice(["fifo", "link", "endless", "directory"]))
        (paths.directory / "owner-\u0669\u0669.json").write_text("{}")
        return lambda: refused(claim, paths)
    bombs = [
        "[" * 500_000,
        '{"a":' * 100_000,
        "9" * 100_000,
        '{"state":"running","step":1e400}',
        "\ud800",
        "{}",
        "null",
    ]
    texts = [told | {"spec": odd} for odd in (None, [], {"__class__": {}}, {"task": "os:system"}, ESCAPES)]
    texts += [told | {"preset": odd} for odd in (None, {"name": "../../x"}, {"name": 5}, ESCAPES, [ESCAPES])]
    texts += [told | {"created": odd} for odd in (1e308, "9999-99-99", ESCAPES, [])]
    if what == "data directory":
        texts = [told | {"data_dir": odd} for odd in (5, ["x"], {"a": 1})]
    path = paths.status if what == "status" else paths.spec

    def attack() -> None:
        for text in [*bombs, *map(json.dumps, texts)]:
            path.write_bytes(text.encode("utf-8", "surrogatepass"))
            summarise(paths), list_runs(paths.directory.parent)
            with contextlib.suppress(TuidlError):
                refused(repeat_of, read_spec(paths), paths.name) if what == "data directory" else repeat_of(
                    read_spec(paths), ESCAPES
                )

    return attack


def _kill(box: Box, paths: RunPaths, reads: bool) -> Attack:
    """The status names a process of this user that does not train this run."""
    with paths.events.open("rb") as log:
        process = subprocess.Popen(["sleep", "600"], stdin=log if reads else subprocess.DEVNULL)
    box.stack.callback(process.wait)
    box.stack.callback(process.kill)
    named = Identity.current().model_copy(
        update={"pid": process.pid, "start_ticks": identity._start_ticks(process.pid)}
    )
    status = json.loads(paths.status.read_bytes())
    paths.status.write_text(json.dumps(status | {"state": "running", "identity": named.model_dump()}))

    def attack() -> None:
        refused(kill, paths)
        hold(process.poll() is None, "another process was killed")

    return attack


@case("directories are links", "artifact is a fifo", "log is a link", "log is a fifo", "commands", "records are links")
def planted(box: Box, what: str) -> Attack:
    """A run directory from a stranger, with ways out of it, is trained and steered by this user."""
    from tuidl.train.resume import Wishes
    from tuidl.train.session import Door, conduct

    paths = box.run()
    if what in ("directories are links", "commands"):
        for place in (paths.artifacts, paths.checkpoints, paths.control)[2 if what == "commands" else 0 :]:
            box.plant(place, "link to directory")
    elif what == "artifact is a fifo":
        whole = RunPaths(box.inside / "whole")
        shutil.copytree(paths.directory, whole.directory)
        conduct(whole, lambda event, stored: None, Door(whole), Wishes(resume=True))
        for path in whole.artifacts.iterdir():  # the names that it is going to use
            box.plant(paths.artifacts / path.name, "fifo")
    elif what.startswith("log"):
        box.plant(paths.trainer_log, what.split()[-1])
        told = json.loads(paths.spec.read_bytes())  # and something goes wrong, which is logged
        told["spec"]["data"] = {"name": "text", "path": str(box.inside / "absent")}
        paths.spec.write_text(json.dumps(told))
    else:
        for path in (paths.metrics, paths.events, paths.status, paths.directory / "reserve"):
            box.plant(path, "link")

    def attack() -> None:
        for step in (
            lambda: os.close(open_log(paths)), lambda: send(paths, "checkpoint"), lambda: RunWriter(paths).close(),
            lambda: find_run(paths.directory.parent, paths.name), lambda: find_run(Path(), str(paths.directory)),
            lambda: conduct(paths, lambda event, stored: None, Door(paths), Wishes(resume=True)),
        ):  # fmt: skip
            with contextlib.suppress(TuidlError):
                step()

    return attack
