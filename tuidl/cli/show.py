"""`tuidl presets`, `tuidl runs` and `tuidl show`: what there is, and what a run has become."""

import argparse
import json
import sys
import textwrap
from typing import Any

from tuidl.cli.output import duration, emit_row, number, table
from tuidl.errors import StorageError
from tuidl.runs import RunReader, RunSummary, as_float, find_run, list_runs, runs_dir, summarise
from tuidl.spec import load_preset, preset_names
from tuidl.spec.augmentations import AUGMENTATIONS
from tuidl.spec.datasets import DATASETS
from tuidl.spec.layers import ACTIVATIONS, INITS
from tuidl.spec.regularizers import REGULARIZERS
from tuidl.spec.run import CHOICES, RunSpec
from tuidl.spec.schema import describe, describe_choice, fields_of
from tuidl.spec.tasks import TASKS
from tuidl.text import clean


def presets(args: argparse.Namespace) -> int:
    """List the presets, or explain one."""
    if args.name:
        spec = load_preset(args.name)
        _print_preset_json(args.name, spec) if args.json else _print_preset(args.name, spec)
        return 0
    specs = {name: load_preset(name) for name in preset_names()}
    if args.json:
        for name, spec in specs.items():
            emit_row(
                name=name,
                task=spec.task,
                data=spec.data.name,
                stand_in=spec.data.stand_in,
                **spec.about.model_dump(mode="json"),
            )
        return 0
    rows = [[name, spec.about.title, spec.about.time_cpu, spec.about.time_gpu] for name, spec in specs.items()]
    print(table(rows, ["preset", "what it is", "on 2 CPU cores", "on a big GPU"]))
    return 0


def _print_preset(name: str, spec: RunSpec) -> None:
    about = spec.about
    print(f"{name}: {clean(about.title)}\n")
    print(textwrap.fill(clean(about.shows), 100))
    print(f"\nexpected: {clean(about.expected)}")
    print(f"time:     {clean(about.time_cpu)} on 2 CPU cores, {clean(about.time_gpu)} on a big GPU")
    print(f"without network: {spec.data.stand_in}\n")
    print("things to try (tuidl run " + name + " --set ...):")
    for idea in about.things_to_try:
        print(textwrap.fill(clean(idea), 98, initial_indent="  - ", subsequent_indent="    "))
    print("\nsettings (* may change while training, with tuidl set):")
    rows = [
        [f.path + ("*" if f.live else ""), _value(f.value), "" if f.value == f.default else _value(f.default), f.unit, f.help]
        for f in fields_of(spec) if not f.path.startswith("about.")
    ]  # fmt: skip
    print(table(rows, ["setting", "here", "default", "unit", "what it does"]))


def _value(value: Any) -> str:
    return json.dumps(value) if not isinstance(value, str) else value or '""'


def _print_preset_json(name: str, spec: RunSpec) -> None:
    """Print everything that a form needs: the preset, its fields, and all choices with theirs."""
    plain = {"activation": ACTIVATIONS, "init": INITS, "task": TASKS}
    emit_row(
        name=name,
        spec=spec.model_dump(mode="json"),
        fields=[f.as_dict() for f in fields_of(spec)],
        choices={
            **{group: [describe_choice(cls) for cls in registry.classes()] for group, registry in CHOICES.items()},
            **{group: [describe(entry) for entry in entries.values()] for group, entries in plain.items()},
            "data": [
                {"key": d.key, "title": d.title, "summary": d.summary, "source": d.source} for d in DATASETS.values()
            ],
            "augmentation": [
                {"key": a.key, "title": a.title, "summary": a.summary, "source": a.source}
                for a in AUGMENTATIONS.values()
            ],
            "regularization": [{**describe(r.entry), "paths": list(r.paths)} for r in REGULARIZERS.values()],
        },
    )


def runs(args: argparse.Namespace) -> int:
    """List the runs, newest first."""
    root = runs_dir(args.runs_dir)
    found = list_runs(root)
    if args.json:
        for run in found:
            emit_row(**_summary(run))
        return 0
    if not found:
        print(f"no runs in {clean(str(root))} yet; tuidl run mnist-mlp makes one", file=sys.stderr)
        return 0
    rows = [
        [
            run.name,
            run.state,
            f"{run.step}/{run.total_steps or '?'}",
            _best(run),
            duration(run.seconds),
            f"{run.created.astimezone():%Y-%m-%d %H:%M}",
        ]
        for run in found
    ]
    print(table(rows, ["run", "state", "step", "best", "trained", "started"]))
    return 0


def _best(run: RunSummary) -> str:
    return f"{run.best.metric} {number(run.best.metric, run.best.value)}" if run.best else ""


def _summary(run: RunSummary) -> dict[str, Any]:
    best = (
        {"metric": run.best.metric, "value": run.best.value, "step": run.best.step, "checkpoint": run.best.checkpoint}
        if run.best
        else None
    )
    return {
        "run": run.name, "directory": str(run.paths.directory), "created": run.created.isoformat(), "preset": run.preset,
        "title": run.title, "state": run.state, "step": run.step, "total_steps": run.total_steps, "best": best, "seconds": run.seconds,
    }  # fmt: skip


def show(args: argparse.Namespace) -> int:
    """Show one run: what it is, how it stands, its curves, and what happened."""
    paths = find_run(runs_dir(args.runs_dir), args.run)
    reader, run = RunReader(paths), summarise(paths)
    try:
        asked = reader.spec()
    except StorageError:
        asked = {}
    status, events = reader.status(), reader.events()
    latest = {name: as_float(value) for name, value in (status.latest if status else {}).items()}
    if args.json:
        emit_row(**_summary(run), reason=status.reason if status else "", exit_code=status.exit_code if status else None,
                 metrics=latest, spec=asked.get("spec"), device=asked.get("device"), data=asked.get("data"),
                 versions=asked.get("versions"), damaged=reader.damaged, events=events)  # fmt: skip
        return 0
    print(f"{run.name}: {clean(run.title)}")
    reason = f" ({clean(status.reason, limit=300)})" if status and status.reason else ""
    print(
        f"{run.state}{reason}; step {run.step}/{run.total_steps or '?'}; {duration(run.seconds)}; best {_best(run) or 'not known yet'}"
    )
    device, data = asked.get("device") or {}, asked.get("data") or {}
    if device:
        print(
            f"on {clean(str(device.get('name')))} in {clean(str(device.get('precision')))}; data {clean(str(data.get('used')))}",
            end="",
        )
        print(" as a stand-in for " + clean(str(data.get("asked"))) if data.get("stand_in") else "")
    for name, value in latest.items():
        print(f"  {clean(name, limit=40):<20} {number(name, value)}")
    _curves(reader, events)
    for event in events:
        if event["event"] in ("warning", "change", "answer", "failed"):
            told = {key: value for key, value in event.items() if key not in ("event", "step", "time", "elapsed", "id")}
            print(f"step {event['step']}: {event['event']} {clean(json.dumps(told, ensure_ascii=False), limit=200)}")
    if reader.damaged:
        print(f"{reader.damaged} damaged records were left out", file=sys.stderr)
    print(f"files: {clean(str(paths.directory))}", file=sys.stderr)
    return 0


def _curves(reader: RunReader, events: list[dict[str, Any]]) -> None:
    """Draw the training loss and the validation loss or, for a GAN, its distance."""
    import plotext

    steps: list[int] = []
    values: list[float] = []
    for block in reader.metrics():
        column = next((block.columns[name] for name in ("loss", "g_loss") if name in block.columns), None)
        if column is not None:
            steps += range(block.first_step, block.first_step + block.count)
            values += column
    if not steps or not sys.stdout.isatty():
        return
    evaluations = [event for event in events if event["event"] == "evaluation" and not event.get("final")]
    plotext.clf()
    plotext.theme("clear")
    plotext.plotsize(min(100, plotext.terminal_width() or 80), 18)
    stride = max(1, len(steps) // 1000)
    plotext.plot(steps[::stride], values[::stride], label="train loss", marker="braille")
    points = [
        (event["step"], as_float(event["metrics"]["val_loss"]))
        for event in evaluations
        if "val_loss" in event.get("metrics", {})
    ]
    if points:
        plotext.plot([step for step, _ in points], [value for _, value in points], label="val loss", marker="x")
    plotext.xlabel("step")
    print(plotext.build())
