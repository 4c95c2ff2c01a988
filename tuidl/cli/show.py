"""`tuidl show`: what a run is, how it stands, its curves, and what happened."""

import argparse
import json
import math
import shutil
import sys
from typing import Any

from tuidl.cli.lists import best, summary
from tuidl.cli.output import duration, emit_row, number, told_costs
from tuidl.errors import StorageError, TuidlError
from tuidl.runs import (
    MetricsBlock,
    RunReader,
    as_float,
    find_run,
    runs_dir,
    standing_blocks,
    standing_events,
    summarise,
)
from tuidl.text import clean

Event = dict[str, Any]
NOT_TOLD = ("event", "step", "time", "elapsed", "id", "live")
POINTS = 400  # of a curve that a terminal can still show


def show(args: argparse.Namespace) -> int:
    """Show one run."""
    paths = find_run(runs_dir(args.runs_dir), args.run)
    reader, run = RunReader(paths), summarise(paths)
    try:
        asked = reader.spec()
    except StorageError:
        asked = {}
    status, events, blocks = reader.status(), reader.events(), reader.metrics()
    latest = {name: as_float(value) for name, value in (status.latest if status else {}).items()}
    if args.json:
        emit_row(
            **summary(run),
            reason=status.reason if status else "",
            exit_code=status.exit_code if status else None,
            metrics=latest,
            **{key: asked.get(key) for key in ("spec", "device", "data", "versions")},
            damaged=reader.damaged,
            events=events,
        )
        return 0
    reason = f" ({clean(status.reason, limit=300)})" if status and status.reason else ""
    print(clean(f"{run.name}: {run.title}"))
    print(f"{run.state}{reason}; step {run.step}/{run.total_steps or '?'}; {duration(run.seconds)}")
    print(f"best: {best(run) or 'not known yet'}")
    _origin(asked)
    legs = [event for event in events if event["event"] in ("finished", "failed", "resumed")]
    if legs and isinstance(legs[-1].get("costs"), dict) and (costs := told_costs(legs[-1]["costs"])):
        print(f"cost{' since it was resumed' * (len(legs) > 1)}: {', '.join(costs)}")
    for name, value in latest.items():
        print(f"  {clean(name, limit=40):<20} {number(name, value)}")
    held = standing_events(events)
    _curves(standing_blocks(blocks), held)
    _confused(reader, held)
    for event in events:
        if event["event"] in ("warning", "change", "answer", "failed", "resumed"):
            told = {key: value for key, value in event.items() if key not in NOT_TOLD}
            print(f"step {event['step']}: {event['event']} {clean(json.dumps(told, ensure_ascii=False), limit=200)}")
    if reader.damaged:
        print(f"{reader.damaged} damaged records were left out", file=sys.stderr)
    print(f"files: {clean(str(paths.directory))}", file=sys.stderr)
    return 0


def _origin(asked: dict[str, Any]) -> None:
    """Print on what device and what data the run was trained."""
    device, data = asked.get("device"), asked.get("data")
    if isinstance(device, dict) and isinstance(data, dict):
        instead = f", a stand-in for {data.get('asked')}" if data.get("stand_in") else ""
        print(clean(f"on {device.get('name')} in {device.get('precision')}; data {data.get('used')}{instead}"))


def _curves(blocks: list[MetricsBlock], events: list[Event]) -> None:
    """Draw training and validation loss over the steps, and name the steps at which one was not finite."""
    if not sys.stdout.isatty():
        return
    import plotext

    train: list[tuple[int, float]] = []
    for block in blocks:
        losses = block.columns.get("loss") or block.columns.get("g_loss")
        train += enumerate(losses or (), start=block.first_step)
    val = [
        (event["step"], as_float(event["metrics"]["val_loss"]))
        for event in _evaluations(events)
        if "val_loss" in event["metrics"]
    ]
    figure = plotext.figure
    figure.clear()
    figure.theme("colorless")
    figure.plot_size(min(100, shutil.get_terminal_size().columns), 16)
    for name, points in (("train loss", train), ("val loss", val)):
        broken = [step for step, value in points if not math.isfinite(value)]
        if broken:
            print(f"{name} is not finite at step {', '.join(map(str, broken[:8]))}")
        sound = _thinned([point for point in points if math.isfinite(point[1])])
        if sound:
            signal = figure.signal(*map(list, zip(*sound, strict=True)), marker="braille" if points is train else "x")
            figure.draw(signal.lines(points is train).label(name))
    if train:
        figure.label("step")
        print(plotext.uncolorize(str(figure.build())))


def _thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return the lowest and the highest of each group of neighbouring points, so that no spike is lost."""
    size = max(1, 2 * len(points) // POINTS)
    kept: list[tuple[int, float]] = []
    for start in range(0, len(points), size):
        group = points[start : start + size]
        ends = {min(group, key=lambda point: point[1]), max(group, key=lambda point: point[1])}
        kept += sorted(ends)
    return kept


def _evaluations(events: list[Event]) -> list[Event]:
    """Return the evaluations on validation data."""
    return [
        event
        for event in events
        if event["event"] == "evaluation" and not event.get("final") and isinstance(event.get("metrics"), dict)
    ]


def _confused(reader: RunReader, events: list[Event]) -> None:
    """Print the pairs of classes that the newest evaluation confuses most."""
    for event in reversed(events):
        artifacts = event.get("artifacts")
        for artifact in artifacts if isinstance(artifacts, list) else []:
            if isinstance(artifact, dict) and artifact.get("kind") == "confusion":
                try:
                    told = _most_confused(json.loads(reader.artifact(str(artifact["path"]))))
                except (TuidlError, ValueError, KeyError, TypeError, IndexError, RecursionError):
                    told = "the confusion matrix is absent or damaged"
                if told:
                    print(f"most confused: {clean(told)}")
                return


def _most_confused(found: dict[str, Any]) -> str:
    labels = found["labels"]
    pairs = [
        (count, labels[true], labels[predicted])
        for true, row in enumerate(found["counts"])
        for predicted, count in enumerate(row)
        if true != predicted and count
    ]
    return ", ".join(f"{true} as {predicted} ({count})" for count, true, predicted in sorted(pairs)[:-6:-1])
