"""The run directory: the one thing a trainer and its viewers share.

The trainer writes with `RunWriter` and takes commands from its `Inbox`; a viewer reads with `RunReader` and sends
commands with `send`. Nobody else touches the files.

The names are loaded when they are first used: the screen and the commands start before they need all of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuidl.runs.atomic import sweep_temps, write_atomic
    from tuidl.runs.blocks import MetricsBlock, decode_block, encode_block
    from tuidl.runs.control import VERBS, Command, Inbox, Refused, kill, send, wait_for_answer
    from tuidl.runs.frames import RecordReader, RecordWriter
    from tuidl.runs.identity import Identity, alive
    from tuidl.runs.jsonio import as_float
    from tuidl.runs.layout import RunPaths, create_run, find_run, run_names, runs_dir
    from tuidl.runs.listing import RunLister, RunSummary, list_runs, summarise
    from tuidl.runs.names import automatic_name, check_name
    from tuidl.runs.reader import RunReader
    from tuidl.runs.standing import standing_blocks, standing_events
    from tuidl.runs.status import (
        FINAL_STATES,
        LIVE_STATES,
        Best,
        Status,
        StatusWriter,
        observed_state,
        read_state,
        read_status,
    )
    from tuidl.runs.writer import RunWriter, complete_spec, read_spec, write_spec

__all__ = [
    "FINAL_STATES",
    "LIVE_STATES",
    "VERBS",
    "Best",
    "Command",
    "Identity",
    "Inbox",
    "MetricsBlock",
    "RecordReader",
    "RecordWriter",
    "Refused",
    "RunLister",
    "RunPaths",
    "RunReader",
    "RunSummary",
    "RunWriter",
    "Status",
    "StatusWriter",
    "alive",
    "as_float",
    "automatic_name",
    "check_name",
    "complete_spec",
    "create_run",
    "decode_block",
    "encode_block",
    "find_run",
    "kill",
    "list_runs",
    "observed_state",
    "read_spec",
    "read_state",
    "read_status",
    "run_names",
    "runs_dir",
    "send",
    "standing_blocks",
    "standing_events",
    "summarise",
    "sweep_temps",
    "wait_for_answer",
    "write_atomic",
    "write_spec",
]

_NAMES = {
    "atomic": "sweep_temps write_atomic",
    "blocks": "MetricsBlock decode_block encode_block",
    "control": "VERBS Command Inbox Refused kill send wait_for_answer",
    "frames": "RecordReader RecordWriter",
    "identity": "Identity alive",
    "jsonio": "as_float",
    "layout": "RunPaths create_run find_run run_names runs_dir",
    "listing": "RunLister RunSummary list_runs summarise",
    "names": "automatic_name check_name",
    "reader": "RunReader",
    "standing": "standing_blocks standing_events",
    "status": "FINAL_STATES LIVE_STATES Best Status StatusWriter observed_state read_state read_status",
    "writer": "RunWriter complete_spec read_spec write_spec",
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = found
    return found
