"""`tuidl doctor`: what works here, what does not, and what to do about it.

Each check is a function from what was seen to findings. What is seen comes from a `Machine`, which looks at each part
once, when it is asked for; a test puts its own driver or GPU in its place.
"""

import argparse
import io
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import platformdirs

from tuidl import __version__
from tuidl.cli.machine import GpuUser, Machine, Nvidia, Processor, Terminal, Torch, numbers
from tuidl.cli.output import emit_row
from tuidl.errors import TuidlError
from tuidl.runs import run_names, runs_dir
from tuidl.spec.datasets import DATASETS
from tuidl.text import clean

State = Literal["ok", "note", "problem"]
MARKS: dict[State, str] = {"ok": "ok", "note": "!", "problem": "x"}

GIB = 2**30
GPU_FULL = 1 * GIB  # free memory of a GPU under which hardly any preset fits beside the CUDA context
MEMORY_LOW = 1 * GIB
DISK_LOW, DISK_FULL = 1 * GIB, 100 * 2**20
SMALLEST_TERMINAL = (60, 20)
OLDEST_TORCH = (2, 10)  # the last known holes in weight loading are closed there

PIP = "pip install torch torchvision"
PIP_AGAIN = "pip install --force-reinstall torch torchvision"
WHEELS = "https://download.pytorch.org/whl"
BUILDS = {13: "cu130", 12: "cu126"}  # for each CUDA generation the PyTorch wheels that run on all of its drivers
DRIVERS = {13: "580", 12: "525"}  # the oldest driver branch of each CUDA generation


@dataclass(frozen=True)
class Finding:
    """What one check found; `do` is empty when nothing is to be done."""

    check: str
    state: State
    found: str
    do: str = ""


def doctor(args: argparse.Namespace, machine: Machine | None = None) -> int:
    """Print what every check found; return 1 when something is a problem, else 0."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # whoever has a broken locale needs the doctor most
    counts = dict.fromkeys(MARKS, 0)
    for finding in examine(machine or Machine(), runs_dir(args.runs_dir), args.data_dir):
        counts[finding.state] += 1
        if args.json:
            emit_row(**asdict(finding))
        else:
            print(f"{MARKS[finding.state]:<3} {finding.check:<14} {finding.found}")
            if finding.do:
                print(f"{'':<18} -> {finding.do}", flush=True)
    if not args.json:
        print(f"\n{counts['ok']} ok, {counts['note']} to note (!), {counts['problem']} problems (x)", file=sys.stderr)
    return 1 if counts["problem"] else 0


def examine(machine: Machine, runs: Path, data: Path | None) -> Iterator[Finding]:
    """Yield the findings of all checks, every text in them safe to show; a check that breaks becomes a finding."""
    checks: dict[str, Callable[[], Iterable[Finding]]] = {
        "versions": lambda: check_versions(machine.torch),
        "driver": lambda: check_driver(machine.torch, machine.nvidia, machine.terminal.environ),
        "gpu": lambda: check_gpus(machine.nvidia),
        "device": lambda: check_devices(machine),
        "cpu": lambda: check_processor(machine.processor),
        "terminal": lambda: check_terminal(machine.terminal),
        "directories": check_home,
        "data": lambda: check_data(data),
        "runs": lambda: check_runs(runs),
    }
    for name, check in checks.items():
        try:
            for finding in check():
                yield Finding(
                    clean(finding.check, limit=60), finding.state, clean(finding.found, limit=600), clean(finding.do)
                )
        except Exception as error:
            told = clean(f"{type(error).__name__}: {error}", limit=300)
            yield Finding(name, "problem", f"this check failed: {told}", "please report it, with these words")


# --- checks ---------------------------------------------------------------------------------------------------------


def check_versions(torch: Torch) -> Iterator[Finding]:
    """Python, tuidl, torch and torchvision: there, importable and new enough."""
    yield Finding("python", "ok", f"Python {platform.python_version()}, tuidl {__version__} on {platform.system()}")
    for package, why in torch.broken:
        both = package == "torchvision" and torch.version  # there but unusable: most often built for another torch
        yield Finding(package, "problem", f"{package} cannot be imported: {why}", PIP_AGAIN if both else PIP)
    if torch.version:
        built = f"built for CUDA {_dotted(torch.cuda)}" if torch.cuda else f"built for {torch.other or 'CPUs only'}"
        if numbers(torch.version) < OLDEST_TORCH:
            wanted = _dotted(OLDEST_TORCH)
            yield Finding("torch", "problem", f"torch {torch.version} is older than {wanted}", f"{PIP} --upgrade")
        else:
            yield Finding("torch", "ok", f"torch {torch.version}, {built}")
    if torch.torchvision:
        yield Finding("torchvision", "ok", f"torchvision {torch.torchvision}")


def check_driver(torch: Torch, nvidia: Nvidia, environ: Mapping[str, str]) -> Iterator[Finding]:
    """The NVIDIA driver, and whether torch fits it."""
    if not nvidia.gpus:
        yield _no_driver(torch, nvidia)
        return
    told = f"NVIDIA driver {nvidia.driver}, for CUDA up to {_dotted(nvidia.cuda)}"
    hidden = environ.get("CUDA_VISIBLE_DEVICES")
    if not torch.version:
        yield Finding("driver", "ok", told)
    elif torch.cuda is None:
        build = f"{PIP_AGAIN} --index-url {WHEELS}/{_build_for(nvidia.cuda)}"
        yield Finding("driver", "problem", f"{told}; this torch is built for {torch.other or 'CPUs only'}", build)
    elif torch.usable and torch.cuda > nvidia.cuda:
        found = f"{told}; torch is built for {_dotted(torch.cuda)} and works all the same"
        yield Finding("driver", "note", found, "upgrade the NVIDIA driver if kernels fail to compile")
    elif torch.usable:
        yield Finding("driver", "ok", told)
    elif torch.cuda > nvidia.cuda:
        yield Finding("driver", "problem", f"{told}, too old for torch {torch.version}, which is built for CUDA "
                      f"{_dotted(torch.cuda)}", _mend_driver(torch.cuda, nvidia.cuda))  # fmt: skip
    elif hidden is not None:
        found = f"{told}; torch sees no GPU because CUDA_VISIBLE_DEVICES is {hidden!r}"
        yield Finding("driver", "note", found, "unset CUDA_VISIBLE_DEVICES to train on a GPU")
    else:
        found = f"{told}; torch cannot use it: {torch.complaint or 'it does not say why'}"
        yield Finding("driver", "problem", found, "run nvidia-smi; if that fails too, restart the machine")


def _no_driver(torch: Torch, nvidia: Nvidia) -> Finding:
    if torch.usable:  # torch knows better than we do
        return Finding("driver", "note", f"the GPU works, but its driver cannot be asked: {nvidia.trouble}",
                       "pip install nvidia-ml-py")  # fmt: skip
    if nvidia.cards:
        found = f"{nvidia.cards} NVIDIA GPU on the bus, but no driver answers ({nvidia.trouble or 'no GPU listed'})"
        return Finding("driver", "note", found, "install the NVIDIA driver; in a container, start it with --gpus all")
    found = f"no NVIDIA GPU is seen here ({nvidia.trouble})" if nvidia.trouble else "no NVIDIA GPU is seen here"
    if torch.other:  # another maker's GPU, which torch finds by itself
        return Finding("driver", "ok", f"{found}; torch is built for {torch.other}")
    return Finding("driver", "note", f"{found}; training on the CPU works")


def _mend_driver(built: tuple[int, int], driver: tuple[int, int]) -> str:
    branch = DRIVERS.get(built[0])
    upgrade = "upgrade the NVIDIA driver" + (f" to {branch} or newer" if branch else f" to one for CUDA {built[0]}")
    if driver[0] < min(BUILDS):
        return upgrade
    return f"{upgrade}, or take an older build: {PIP_AGAIN} --index-url {WHEELS}/{_build_for(driver)}"


def _build_for(driver: tuple[int, int]) -> str:
    """Return the name of the newest PyTorch wheels that run on a driver for this CUDA."""
    return next((name for major, name in BUILDS.items() if major <= driver[0]), BUILDS[min(BUILDS)])


def check_gpus(nvidia: Nvidia) -> Iterator[Finding]:
    """Each GPU: how much of it is free, and who has the rest."""
    for gpu in nvidia.gpus:
        memory = "its memory cannot be read"
        if gpu.free is not None and gpu.total is not None:
            memory = f"{_gib(gpu.free)} of {_gib(gpu.total)} GiB free"
        busy = "" if gpu.busy is None else f", busy {gpu.busy} % of the time"
        users = "; ".join(_told(user) for user in gpu.users) or "no process is seen"
        found = f"{gpu.name}: {memory}{busy}; used by: {users}"
        full = gpu.free is not None and gpu.free < GPU_FULL
        do = "wait until it is free, or choose another --device; tuidl runs shows your own runs" if full else ""
        yield Finding(f"gpu {gpu.index}", "problem" if full else "ok", found, do)


def _told(user: GpuUser) -> str:
    who = f"{user.user or 'a hidden user'} ({user.name or 'hidden program'}, pid {user.pid})"
    return f"{who} with {_gib(user.memory)} GiB" if user.memory is not None else who


def check_devices(machine: Machine) -> Iterator[Finding]:
    """Each device that torch offers: does it compute, and in what numbers."""
    if not machine.torch.version:
        return
    for name in machine.devices:
        try:
            yield Finding(f"device {name}", "ok", f"computes; {machine.try_device(name)}")
        except Exception as error:
            told = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            do = "reinstall torch for this GPU (https://pytorch.org/get-started), or train with --device cpu"
            if name == "cpu":
                do = PIP_AGAIN
            elif "memory" in told.lower():
                do = "wait until its memory is free, or train with --device cpu"
            yield Finding(f"device {name}", "problem", f"fails: {told}", do)
    if platform.system() == "Darwin" and "mps" not in machine.devices:
        yield Finding("device mps", "note", "the Mac's GPU cannot be used by this torch", "it needs macOS 14 and arm64")


def check_processor(processor: Processor) -> Iterator[Finding]:
    """Cores and memory."""
    found = f"{processor.name}: {processor.cores} cores, {processor.threads} threads, {processor.usable} usable here"
    if processor.quota is not None and processor.quota < processor.usable:
        found += f", but a container's limit of {processor.quota:g}"
        threads = max(1, int(processor.quota))
        do = f"threads beyond the limit only wait: --set training.threads={threads}"
        yield Finding("cpu", "note", found, do)
    else:
        yield Finding("cpu", "ok", found)
    low = processor.free < MEMORY_LOW
    found = f"{_gib(processor.free)} of {_gib(processor.total)} GiB free"
    yield Finding("memory", "note" if low else "ok", found, "end other programs before training" if low else "")


def check_terminal(terminal: Terminal) -> Iterator[Finding]:
    """Size, colours, encoding, and what lies between us and the screen."""
    environ = terminal.environ
    if terminal.size is None:
        yield Finding("terminal", "note", "no terminal on standard output; commands print plain lines",
                      "the live screen needs a terminal")  # fmt: skip
    else:
        columns, lines = terminal.size
        small = columns < SMALLEST_TERMINAL[0] or lines < SMALLEST_TERMINAL[1]
        do = "make the window 60x20 or larger (80x24 is good, 120x40 is best)" if small else ""
        yield Finding("terminal", "note" if small else "ok", f"{columns}x{lines} characters", do)
    term = environ.get("TERM", "")
    if environ.get("NO_COLOR"):
        yield Finding("colours", "ok", "none, as NO_COLOR asks")
    elif term in ("", "dumb", "unknown"):
        yield Finding("colours", "note", f"TERM is {term!r}: no colours and no live screen",
                      "in a usual terminal: export TERM=xterm-256color")  # fmt: skip
    elif environ.get("COLORTERM") in ("truecolor", "24bit"):
        yield Finding("colours", "ok", f"all (TERM={term}, COLORTERM={environ['COLORTERM']})")
    else:
        yield Finding("colours", "ok", f"{256 if '256' in term else 16} (TERM={term})")
    utf8 = terminal.encoding.lower().replace("-", "") == "utf8"
    yield Finding("encoding", "ok" if utf8 else "note", terminal.encoding or "unknown",
                  "" if utf8 else "for curves and signs: export LC_ALL=C.UTF-8")  # fmt: skip
    tmux = bool(environ.get("TMUX") or environ.get("STY"))
    if environ.get("SSH_CONNECTION") and not tmux:
        yield Finding("connection", "note", "SSH without tmux: a run in the foreground ends with the connection",
                      "start runs with --detach, or inside tmux")  # fmt: skip
    elif environ.get("SSH_CONNECTION") or tmux:
        between = [name for name, there in (("SSH", environ.get("SSH_CONNECTION")), ("tmux or screen", tmux)) if there]
        yield Finding("connection", "ok", " and ".join(between))


def check_home() -> Iterator[Finding]:
    """The user's own directories, where runs and data go by default and torch keeps compiled code."""
    for name, place in (("home", Path.home()), ("cache", platformdirs.user_cache_path("tuidl"))):
        reason = why_not_writable(place)
        do = "name other places: TUIDL_RUNS_DIR, TUIDL_DATA_DIR, XDG_CACHE_HOME" if reason else ""
        yield Finding(name, "note" if reason else "ok", f"{place}{reason and f' cannot be written: {reason}'}", do)


def check_data(override: Path | None) -> Iterator[Finding]:
    """The data directory and each data set, judged by names and sizes."""
    from tuidl.train.data.files import data_dir, locate, search_path

    directory = data_dir(override)
    reason = why_not_writable(directory)
    # Data that is there can be read all the same, as in a teaching lab with one shared read-only copy.
    do = "to download, name another directory with --data-dir or TUIDL_DATA_DIR" if reason else ""
    found = f"{directory} cannot be written: {reason}" if reason else f"{directory} {_made_when_needed(directory)}"
    yield Finding("data directory", "note" if reason else "ok", found, do)
    for dataset in DATASETS.values():
        if not dataset.files:
            continue
        located = locate(dataset, search_path(override))
        if located.state == "present":
            yield Finding("data", "ok", f"{dataset.key}: present in {located.where}")
            continue
        state: State = "problem" if located.state == "damaged" else "note"
        found = f"{dataset.key}: {located.state}"
        if located.state != "absent":
            found += f" in {located.where} ({located.note.partition(';')[0]})"
        yield Finding("data", state, found, f"tuidl data get {dataset.key}")
    built_in = ", ".join(dataset.key for dataset in DATASETS.values() if dataset.built_in)
    yield Finding("data", "ok", f"{built_in}: built in, no download needed")


def check_runs(directory: Path) -> Iterator[Finding]:
    """The runs directory: writable, and with room on the disk."""
    reason = why_not_writable(directory)
    if reason:
        yield Finding("runs directory", "problem", f"{directory} cannot be written: {reason}",
                      "name another directory with --runs-dir or TUIDL_RUNS_DIR")  # fmt: skip
    else:
        yield Finding("runs directory", "ok", f"{directory} {_made_when_needed(directory)}")
    free = shutil.disk_usage(_nearest(directory)).free
    state: State = "problem" if free < DISK_FULL else "note" if free < DISK_LOW else "ok"
    yield Finding("disk", state, f"{_gib(free)} GiB free for runs", "" if state == "ok" else "delete old runs")
    try:
        yield Finding("runs", "ok", f"{len(run_names(directory))} runs")
    except TuidlError as error:
        yield Finding("runs", "problem", str(error), "name another directory with --runs-dir or TUIDL_RUNS_DIR")


def why_not_writable(directory: Path) -> str:
    """Return why files cannot be made in `directory`, or where it would be made; empty when they can.

    It is tried for real, as permissions do not tell of read-only mounts, quotas or network drives.
    """
    place = _nearest(directory)
    try:
        with tempfile.TemporaryFile(dir=place, prefix=".tuidl-doctor-") as file:
            file.write(b"tuidl")
            file.flush()
            os.fsync(file.fileno())
    except NotADirectoryError:
        return f"{place} is not a directory"
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _nearest(path: Path) -> Path:
    """Return `path`, or the nearest place above it that exists."""
    return next((place for place in (path, *path.absolute().parents) if os.path.lexists(place)), Path("/"))


def _made_when_needed(directory: Path) -> str:
    return "can be written" if directory.exists() else "is not there yet and will be made when needed"


def _gib(size: int) -> str:
    return f"{size / GIB:.1f}"


def _dotted(numbers: tuple[int, int] | None) -> str:
    return ".".join(map(str, numbers or ()))
