"""`tuidl data list | get NAME | verify [NAME]`: where the data sets are, fetching them, checking them."""

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuidl.errors import DataError, UsageError
from tuidl.spec.datasets import DATASETS, DataSet
from tuidl.text import clean, did_you_mean

if TYPE_CHECKING:
    from tuidl.train.data.fetch import Progress

Parsers = argparse._SubParsersAction  # argparse has no public name for what add_subparsers returns


def add_parser(subparsers: "Parsers[argparse.ArgumentParser]") -> None:
    """Register `data` and its sub-commands; each sets `handler`, a function from arguments to exit code."""
    data = subparsers.add_parser("data", help="data sets: where they are, fetch, check")
    commands = data.add_subparsers(dest="data_command", required=True, metavar="list|get|verify")
    for name, handler, text, count in (
        ("list", list_data, "list all data sets and where they are", None),
        ("get", get, "download data sets, or repair damaged ones", "+"),
        ("verify", verify, "read data sets and compare their sums (default: all that are here)", "*"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        if count:
            command.add_argument("names", nargs=count, metavar="NAME", help=", ".join(_downloadable()))
        command.add_argument("--json", action="store_true", help="one JSON object per line on stdout")
        command.add_argument("--data-dir", type=Path, metavar="DIR", help="the data directory")
        command.set_defaults(handler=handler)


def list_data(args: argparse.Namespace) -> int:
    """Print every data set with its state, judged by names and sizes; the content is not read."""
    from tuidl.train.data.files import data_dir, locate, search_path

    rows: list[dict[str, Any]] = []
    for dataset in DATASETS.values():
        found = locate(dataset, search_path(args.data_dir))
        where = clean(str(found.where)) if found.where else None
        row: dict[str, Any] = {"name": dataset.key, "title": dataset.title, "state": found.state, "where": where}
        rows.append(row | {"bytes": found.size, "note": found.note, "source": dataset.source, "terms": dataset.terms})
    if args.json:
        _print_lines(rows)
        return 0
    for row in rows:
        place = f"{row['where']} ({_megabytes(row['bytes'])})" if row["where"] else row["note"]
        print(f"{row['name']:16} {row['title']:22} {row['state']:11} {place}")
        if row["where"] and row["state"] != "present":
            print(f"{'':51} {row['note']}")
    print(f"data directory: {clean(str(data_dir(args.data_dir)))}", file=sys.stderr)
    return 0


def get(args: argparse.Namespace) -> int:
    """Download the named data sets into the data directory; what is sound there is kept."""
    from tuidl.train.data.fetch import fetch
    from tuidl.train.data.files import data_dir

    directory = data_dir(args.data_dir)
    for dataset in _chosen(args.names):
        if dataset.built_in:
            result = {"name": dataset.key, "state": "built in", "files": []}
        else:
            with _shown_progress() as progress:
                paths = fetch(dataset, directory, progress)
            result = {"name": dataset.key, "state": "present", "files": [clean(str(path)) for path in paths]}
        if args.json:
            _print_lines([result])
        elif dataset.built_in:
            print(f"{dataset.key}: built in, nothing to fetch")
        else:
            what = f"downloaded {len(result['files'])} files to" if result["files"] else "already complete in"
            print(f"{dataset.key}: {what} {clean(str(directory))}")
    return 0


def verify(args: argparse.Namespace) -> int:
    """Read the named data sets, or all that are here, and compare sha256 sums; exit code 3 if one is not sound."""
    from tuidl.train.data.files import locate, read_dataset, search_path

    dirs, all_sound = search_path(args.data_dir), True
    for dataset in _chosen(args.names or _downloadable()):
        state, note = "sound", ""
        if dataset.built_in:
            state = "built in"
        elif not args.names and locate(dataset, dirs).state == "absent":
            state, note = "absent", f"run: tuidl data get {dataset.key}"
        else:
            try:
                read_dataset(dataset, dirs)
            except DataError as error:
                state, note, all_sound = "not sound", str(error), False
        if args.json:
            _print_lines([{"name": dataset.key, "state": state, "note": note}])
        else:
            print(f"{dataset.key}: {state}" + (f" ({note})" if note else ""), flush=True)
    return 0 if all_sound else DataError.exit_code


def _downloadable() -> list[str]:
    """Return the keys of the data sets that consist of files."""
    return [dataset.key for dataset in DATASETS.values() if dataset.files]


def _chosen(names: list[str]) -> list[DataSet]:
    """Return the data sets with these names."""
    for name in names:
        if name not in DATASETS:
            raise UsageError(f"unknown data set {clean(name)!r}: {did_you_mean(name, DATASETS)}")
        if not (DATASETS[name].files or DATASETS[name].built_in):
            raise UsageError(
                f"data set {name!r} is a file of your own, named by data.path; choose from {', '.join(_downloadable())}"
            )
    return [DATASETS[name] for name in names]


def _print_lines(rows: list[dict[str, Any]]) -> None:
    """Print one JSON object per line, at once, for whoever reads along."""
    for row in rows:
        print(json.dumps(row, ensure_ascii=True), flush=True)


def _megabytes(size: int) -> str:
    """Return a size in bytes as people read it."""
    return f"{size / 1e6:,.1f} MB"


@contextlib.contextmanager
def _shown_progress() -> Iterator["Progress"]:
    """Give a function that shows progress on stderr: a bar on a terminal, else a plain line about every two seconds."""
    if not sys.stderr.isatty():
        yield _plain_progress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    text = TextColumn("{task.description}", markup=False)
    with Bars(text, BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(clean(what), total=total or None)
            bars.update(tasks[what], completed=done)

        yield show


def _plain_progress() -> "Progress":
    """Return a function that prints a line when something begins or ends and about every two seconds between."""
    last_what, last_time = "", 0.0

    def show(what: str, done: int, total: int) -> None:
        nonlocal last_what, last_time
        now = time.monotonic()
        if what != last_what or (total and done == total) or now - last_time >= 2:
            share = f": {_megabytes(done)} of {_megabytes(total)}" if total else ""
            print(f"{clean(what)}{share}", file=sys.stderr, flush=True)
            last_what, last_time = what, now

    return show
