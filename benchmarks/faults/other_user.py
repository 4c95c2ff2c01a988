"""Another user of the machine: reads what is shared with him, and gets no further."""

import contextlib
import io
import json
import os
import signal
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults import evil_runs  # noqa: F401 - they register their cases
from faults.box import make_template
from faults.campaign import NotHere, Trials, campaign
from faults.lab import BrokenError, Trial, attempts, hold
from tuidl.cli import main, show, steer  # noqa: F401 - loaded before a child cannot read them any more
from tuidl.errors import TuidlError
from tuidl.runs import (
    Identity,
    Inbox,
    RunPaths,
    RunReader,
    RunWriter,
    create_run,
    find_run,
    kill,
    list_runs,
    run_names,
    send,
)
from tuidl.runs.launch import open_log
from tuidl.runs.ownership import claim

NOBODY, GROUP = 65534, 54321  # another user, and a group that runs are shared with
UMASKS = (0o000, 0o002, 0o022, 0o077)
PATIENCE = 20  # seconds that another user may take


@dataclass
class World:
    """A run of this user in a place that every user gets to, and a home for the other one."""

    root: Path
    paths: RunPaths
    home: Path

    def other(self, act: Callable[[], Any], group: int = GROUP, meanwhile: Callable[[], None] | None = None) -> Any:
        """Return what `act` returns in a process of the other user, who is in `group` only."""
        source, sink = os.pipe()
        child = os.fork()
        if not child:
            self._be_another(act, group, sink)
        os.close(sink)
        if meanwhile:
            meanwhile()
        with os.fdopen(source, "rb") as pipe:
            told = pipe.read()
        os.waitpid(child, 0)
        hold(told, "the other user hung, or died")
        return json.loads(told)

    def _be_another(self, act: Callable[[], Any], group: int, sink: int) -> None:
        try:
            os.setgroups([])
            os.setgid(group)
            os.setuid(NOBODY)
            os.umask(0)
            os.chdir(self.home)
            names = ("HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
            os.environ.update(dict.fromkeys(names, str(self.home)))
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(PATIENCE)
            os.write(sink, json.dumps(act()).encode())
        except BaseException as error:
            os.write(sink, json.dumps(f"{type(error).__name__}: {error}").encode())
        finally:
            os._exit(0)


Scene = Callable[[World], None]
SCENES: dict[str, tuple[bool, Scene]] = {}


def scene(*, shared: bool) -> Callable[[Scene], Scene]:
    """Register what another user may try with a run, private or shared."""

    def register(function: Scene) -> Scene:
        SCENES[function.__name__] = (shared, function)
        return function

    return register


@campaign("second-user", "another user reads what is shared and nothing else, and steers nothing", small=10, full=40)
def second_user(root: Path, count: int) -> Trials:
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        raise NotHere("only root can be another user for a while")
    from tuidl.tui import feed  # noqa: F401 - as above

    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        public = Path(place) / "public"
        public.write_text("for all")
        public.chmod(0o644)
        if World(Path(place), RunPaths(public), Path("/")).other(public.read_text) != "for all":
            raise NotHere("other users do not get to the directory of temporary files")

        def one(trial: Trial) -> None:
            name = list(SCENES)[trial.number % len(SCENES)]
            shared, act = SCENES[name]
            mask = UMASKS[(trial.number + trial.number // len(SCENES)) % len(UMASKS)]
            trial.note(f"{name.replace('_', ' ')}, umask {mask:03o}")
            with _umask(mask):
                act(_world(Path(place) / str(trial.number), shared))

        yield from attempts("second-user", count, one)


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def _world(root: Path, shared: bool) -> World:
    home = root / "home"
    home.mkdir(parents=True)
    os.chown(home, NOBODY, NOBODY)
    runs = root / "lab" / "runs"
    runs.mkdir(parents=True)
    for directory in (root, root / "lab", runs):  # open to all, so that what closes a run is the run
        os.chown(directory, 0, GROUP)
        directory.chmod(0o2755)
    return World(root, make_template(root / "lab", shared), home)


def _done(tries: dict[str, Callable[[], object]]) -> list[str]:
    """Try all, and return what was neither denied by the system nor refused by tuidl."""
    found = []
    for name, act in tries.items():
        try:
            act()
        except (PermissionError, TuidlError):
            continue
        except OSError as error:
            name = f"{name} ({error})"
        found.append(name)
    return found


def _files(paths: RunPaths) -> list[Path]:
    return [paths.directory, *sorted(paths.directory.rglob("*"))]


def _state(paths: RunPaths) -> dict[str, Any]:
    """Return everything that a change of a run would change."""
    found = {}
    for path in _files(paths):
        info = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(info.st_mode) else b""
        found[str(path)] = (info.st_mode, info.st_uid, info.st_gid, info.st_mtime_ns, info.st_ino, content)
    return found


def _reading(paths: RunPaths) -> dict[str, Callable[[], object]]:
    tries: dict[str, Callable[[], object]] = {}
    for path in _files(paths):
        tries[f"list {path.name}" if path.is_dir() else f"read {path.name}"] = (
            (lambda path=path: list(path.iterdir())) if path.is_dir() else path.read_bytes
        )
    return tries | {"spec": RunReader(paths).spec, "events": RunReader(paths).events, "show": lambda: find_run(
        Path("/"), str(paths.directory)
    )}  # fmt: skip


def _writing(paths: RunPaths) -> dict[str, Callable[[], object]]:
    tries: dict[str, Callable[[], object]] = {}
    for path in _files(paths):
        name = path.name
        if path.is_dir():
            tries |= {
                f"new file in {name}": (path / "new").touch,
                f"link in {name}": lambda p=path: (p / "l").symlink_to("/"),
                f"fifo in {name}": lambda p=path: os.mkfifo(p / "f"), f"owner of {name}": (path / "owner-2.json").touch,
            }  # fmt: skip
        else:
            tries[f"append to {name}"] = lambda p=path: p.open("ab").close()
            tries[f"truncate {name}"] = lambda p=path: os.truncate(p, 0)
        tries |= {
            f"rename {name}": lambda p=path: p.rename(p.with_name("x")), f"chmod {name}": lambda p=path: p.chmod(0o777),
            f"touch {name}": lambda p=path: os.utime(p),
        }  # fmt: skip
        if path != paths.directory:
            tries[f"remove {name}"] = lambda p=path: p.rmdir() if p.is_dir() else p.unlink()
    return tries | {
        "send": lambda: send(paths, "stop"), "claim": lambda: claim(paths), "kill": lambda: kill(paths),
        "take over": lambda: claim(paths, take_over=True), "write": lambda: RunWriter(paths),
        "log": lambda: open_log(paths),
    }  # fmt: skip


@contextlib.contextmanager
def _live(paths: RunPaths) -> Iterator[RunWriter]:
    with RunWriter(paths) as writer:
        writer.status.update(state="running", step=4)
        yield writer


def _untouched(world: World, tries: dict[str, Callable[[], object]], group: int) -> None:
    """Let the other user try all of that on a live run: nothing works, and nothing has changed."""
    with _live(world.paths):
        before = _state(world.paths)
        hold((done := world.other(lambda: _done(tries), group)) == [], f"worked: {done}")
        hold(_state(world.paths) == before, "the run has changed")
        hold(Inbox(world.paths).poll() == [], "a command has come")
        hold(not list(world.home.iterdir()), "something was written into the home of the other user")


def _say(*words: str) -> list[Any]:
    """Return the exit code and the lines of a command."""
    out = io.StringIO()
    with contextlib.redirect_stderr(out), contextlib.redirect_stdout(out):
        code = main(words)
    return [code, out.getvalue().splitlines()]


@scene(shared=False)
def reads_a_private_run(world: World) -> None:
    for group in (NOBODY, GROUP):
        _untouched(world, _reading(world.paths), group)


@scene(shared=False)
def steers_a_private_run(world: World) -> None:
    for group in (NOBODY, GROUP):
        _untouched(world, _writing(world.paths), group)


@scene(shared=True)
def reads_a_shared_run_from_outside_the_group(world: World) -> None:
    _untouched(world, _reading(world.paths), NOBODY)


@scene(shared=True)
def writes_into_a_shared_run(world: World) -> None:
    _untouched(world, _writing(world.paths), GROUP)


@scene(shared=True)
def reads_a_shared_run(world: World) -> None:
    paths, before = world.paths, _state(world.paths)

    def read() -> list[Any]:
        from tuidl.tui.feed import Feed

        reader, shown = RunReader(paths), Feed(paths).poll()
        events = [event["event"] for event in reader.events()]
        names = [path.name for path in paths.artifacts.iterdir()]
        sizes = [len(reader.artifact(f"artifacts/{name}")) for name in sorted(names)]
        seen = [reader.spec()["seed"], events, len(reader.metrics()), sizes, shown.state, shown.problem]
        return [*seen, [len(path.read_bytes()) for path in sorted(paths.checkpoints.iterdir())]]

    seen = world.other(read)
    hold(seen == read() and seen[4:6] == ["stopped", ""] and seen[3] and seen[6], f"not all could be read: {seen}")
    hold(world.other(lambda: _say("show", str(paths.directory))[0]) == 0, "tuidl show did not show it")
    hold(world.other(lambda: os.access(paths.control, os.R_OK)) is False, "the inbox is open")
    hold(_state(paths) == before, "reading has changed the run")
    hold(not list(world.home.iterdir()), "reading has left something behind")


@scene(shared=True)
def watches_a_shared_run(world: World) -> None:
    def watch() -> list[Any]:
        from tuidl.tui.feed import Feed

        feed = Feed(world.paths)
        for _ in range(PATIENCE * 20):
            shown = feed.poll()
            if shown.status and shown.status.step == 99:
                return [shown.state, shown.history.length, shown.events[-1]["event"]]
            time.sleep(0.05)
        return []

    with _live(world.paths) as writer:
        names = {path.name for path in _files(world.paths)}

        def train() -> None:
            for step in range(9, 100, 10):
                writer.metrics(step - 9, {"loss": [1.0] * 10}, (step / 10, step / 10 + 1))
                writer.event("warning", step, text="seen?")
                writer.status.update(step=step)
                time.sleep(0.02)

        seen = world.other(watch, meanwhile=train)
        hold(seen and seen[0] == "running" and seen[2] == "warning", f"not seen: {seen}")
        hold({path.name for path in _files(world.paths)} == names, "watching has left something behind")


@scene(shared=True)
def steers_a_shared_run(world: World) -> None:
    where = str(world.paths.directory)
    orders = [("stop",), ("pause",), ("continue",), ("checkpoint",), ("step",), ("set", "optimizer.lr=0.1"), ("kill",),
              ("resume",), ("resume", "--take-over")]  # fmt: skip
    with _live(world.paths):
        before = _state(world.paths)
        for order in orders:
            words = (order[0], where, *order[1:])
            code, lines = world.other(lambda words=words: _say(*words))
            told = [line for line in lines if line.startswith("tuidl: ")]
            hold(code in (2, 6) and len(told) == 1 and lines[-1:] == told, f"tuidl {order[0]}: {code} {lines}")
            hold("internal" not in told[0], told[0])
        hold(_state(world.paths) == before, "the run has changed")
        hold(Inbox(world.paths).poll() == [], "a command has come")


@scene(shared=True)
def plants_in_an_open_inbox(world: World) -> None:
    """The user has made the inbox group-writable by mistake, and later closes it again."""
    paths, good = world.paths, b'{"verb":"stop","arguments":{}}'
    mine = world.root / "mine.json"
    mine.write_bytes(good)
    mine.chmod(0o644)
    paths.control.chmod(0o2770)

    def plant() -> list[str]:
        def write() -> None:
            (paths.control / "1.json").write_bytes(good)
            (paths.control / "1.json").chmod(0o644)

        return _done({
            "write": write, "send": lambda: send(paths, "stop"), "fifo": lambda: os.mkfifo(paths.control / "2.json"),
            "link": lambda: (paths.control / "3.json").symlink_to(mine),
            "folder": (paths.control / "4.json").mkdir, "again": lambda: (paths.control / "5.json").hardlink_to(mine),
        })  # fmt: skip

    planted = set(world.other(plant))
    hold({"write", "fifo", "link"} <= planted, "nothing could be planted")
    hold("send" not in planted, "a command could be sent into another user's run")
    inbox = Inbox(paths)
    told = inbox.poll()
    hold([getattr(item, "id", "") for item in told] == ["inbox"] and "other users" in told[0].reason, f"taken: {told}")
    paths.control.chmod(0o700)
    taken = [item for item in inbox.poll() if hasattr(item, "verb")]
    hold(not taken, f"obeyed once it was closed: {taken}")
    hold(mine.read_bytes() == good and stat.S_IMODE(mine.stat().st_mode) == 0o644, "a file outside has changed")


@scene(shared=True)
def plants_in_an_open_directory(world: World) -> None:
    """The user has made the whole run group-writable by mistake; what is planted leads nowhere and holds nothing up."""
    paths, precious = world.paths, world.root / "precious"
    precious.write_text("precious")
    for directory in (paths.directory, paths.artifacts, paths.checkpoints):
        directory.chmod(0o2770)
    logs = (paths.events, paths.metrics, paths.trainer_log, paths.status)

    def plant(how: str) -> list[str]:
        def put(path: Path) -> None:
            path.unlink(missing_ok=True)
            os.mkfifo(path) if how == "fifo" else path.symlink_to(precious)

        return _done({path.name: lambda path=path: put(path) for path in logs})

    for how in ("link", "fifo"):
        hold(len(world.other(lambda how=how: plant(how))) == len(logs), "nothing could be planted")
        _in_time({"kill": lambda: kill(paths), "write": lambda: RunWriter(paths), "log": lambda: open_log(paths)})
        hold(precious.read_text() == "precious", "a file outside was written")


def _in_time(tries: dict[str, Callable[[], object]]) -> None:
    """Do what must be refused, and not wait for it for ever."""

    def ring(number: int, frame: object) -> None:
        raise BrokenError("it was waited for")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(PATIENCE)
    try:
        hold((done := _done(tries)) == [], f"worked: {done}")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@scene(shared=False)
def plants_runs_beside(world: World) -> None:
    """A directory of runs for all, as a lab has in a hurry: what others put there is their own."""
    runs, precious = world.root / "lab" / "runs", world.root / "precious"
    precious.mkdir(mode=0o700)
    runs.chmod(0o1777)
    named = Identity.current().model_dump()

    def plant() -> list[str]:
        def forge() -> None:
            (runs / "theirs" / "artifacts").mkdir(parents=True)
            (runs / "theirs" / "control").symlink_to(precious)
            (runs / "theirs" / "run.json").write_text("{}")
            (runs / "theirs" / "status.json").write_text(json.dumps({"state": "running", "identity": named}))

        return _done({
            "forge": forge, "link": lambda: (runs / "next").symlink_to(precious),
            "fifo": lambda: os.mkfifo(runs / "pipe"), "rename": lambda: world.paths.directory.rename(runs / "x"),
        })  # fmt: skip

    hold(world.other(plant) == ["forge", "link", "fifo"], "more or less than expected could be planted")
    theirs = RunPaths(runs / "theirs")
    hold(set(run_names(runs)) == {"template", "theirs"}, "a link counts as a run")
    hold({run.name for run in list_runs(runs)} == {"template", "theirs"}, "the list is not to be had")
    done = _done({
        "new": lambda: create_run(runs, "next", "p"), "pipe": lambda: create_run(runs, "pipe", "p"),
        "found": lambda: find_run(runs, "theirs"), "kill": lambda: kill(theirs), "send": lambda: send(theirs, "stop"),
    })  # fmt: skip
    hold(done == [], f"what another user has planted was used: {done}")
    hold(not list(precious.iterdir()), "something was written outside")
