"""How a run begins: its directory is made, then a trainer starts in the background, in a session of its own."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tuidl.files import expand
from tuidl.runs.atomic import open_append
from tuidl.runs.layout import RunPaths, create_run
from tuidl.runs.writer import write_spec

if TYPE_CHECKING:
    from tuidl.spec import RunSpec

# -P: a file named like a module in the current directory must not become part of tuidl
TUIDL = (sys.executable, "-P", "-m", "tuidl")


def at_home(spec: "RunSpec") -> "RunSpec":
    """Return the spec with the user's text file as a full path, so that the run can be repeated from anywhere."""
    if not spec.data.path:
        return spec
    full = str(expand(spec.data.path).absolute())
    return spec.model_copy(update={"data": spec.data.model_copy(update={"path": full})})


def prepare_run(
    spec: "RunSpec", preset: str, name: str | None, root: Path, data_dir: str | None, share: bool = False
) -> RunPaths:
    """Make the directory of a new run below `root`, with all in it that a trainer needs, and return its places.

    `preset` is the name of what the spec was made from, `data_dir` where its data is looked for; with `share` the
    user's group may read the run. Raises UsageError for a bad or taken `name`, StorageError.
    """
    spec = at_home(spec)
    paths = create_run(root, name, preset, share)
    write_spec(paths, {
        "format": 1, "preset": {"name": preset, "title": spec.about.title}, "seed": spec.seed,
        "spec": spec.model_dump(mode="json"), "data_dir": data_dir,
    })  # fmt: skip
    return paths


def spawn_trainer(paths: RunPaths, options: Sequence[str] = ()) -> "subprocess.Popen[bytes]":
    """Start the trainer of a prepared run in its own session, with the run's log as its output.

    `options` are those of the command `_train`. Raises StorageError when the log cannot be written.
    """
    log = open_log(paths)
    try:
        return subprocess.Popen(
            [*TUIDL, "_train", str(paths.directory), *options],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    finally:
        os.close(log)


def open_log(paths: RunPaths) -> int:
    """Open the log of the trainer for appending and return the descriptor. Raises StorageError."""
    return open_append(paths.trainer_log)
