"""`tuidl presets` and `tuidl runs`: what can be trained, and what has been."""

import argparse
import json
import sys
import textwrap
from typing import Any

from tuidl.cli.output import duration, emit_row, number, table
from tuidl.runs import RunSummary, list_runs, runs_dir
from tuidl.spec import load_preset
from tuidl.spec.augmentations import AUGMENTATIONS
from tuidl.spec.datasets import DATASETS
from tuidl.spec.layers import ACTIVATIONS, INITS
from tuidl.spec.own import list_presets
from tuidl.spec.regularizers import REGULARIZERS
from tuidl.spec.run import CHOICES, RunSpec
from tuidl.spec.schema import describe, describe_choice, fields_of
from tuidl.spec.settings import Entry
from tuidl.spec.tasks import TASKS
from tuidl.text import clean


def presets(args: argparse.Namespace) -> int:
    """List the presets, or explain one."""
    if args.name:
        spec = load_preset(args.name)
        _print_preset_json(args.name, spec) if args.json else _print_preset(args.name, spec)
        return 0
    if args.json:
        for preset in list_presets():
            emit_row(name=preset.name, own=preset.own, **(_summary(preset.spec) or {"error": preset.error}))
        return 0
    rows = []
    for preset in list_presets():
        about = preset.spec.about if preset.spec else None
        told = [about.title, about.time_cpu, about.time_gpu] if about else [f"cannot be used: {preset.error}", "", ""]
        rows.append([preset.name, *told])
    print(table(rows, ["preset", "what it is", "on 2 CPU cores", "on a big GPU"]))
    return 0


def _summary(spec: RunSpec | None) -> dict[str, Any]:
    if spec is None:
        return {}
    about = spec.about.model_dump(mode="json")
    return {"task": spec.task, "data": spec.data.name, "stand_in": spec.data.stand_in, **about}


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
    rows = []
    for f in fields_of(spec):
        if not f.path.startswith("about."):
            changed = "" if f.value == f.default else _value(f.default)
            rows.append([f.path + ("*" if f.live else ""), _value(f.value), changed, f.unit, f.help])
    print(table(rows, ["setting", "here", "default", "unit", "what it does"]))


def _value(value: Any) -> str:
    return json.dumps(value) if not isinstance(value, str) else value or '""'


def _print_preset_json(name: str, spec: RunSpec) -> None:
    """Print everything that a form needs: the preset, its fields, and all choices with theirs."""
    plain: dict[str, dict[str, Entry]] = {"activation": ACTIVATIONS, "init": INITS, "task": dict(TASKS)}
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
            emit_row(**summary(run))
        return 0
    if not found:
        print(f"no runs in {clean(str(root))} yet; tuidl run mnist-mlp makes one", file=sys.stderr)
        return 0
    rows = [
        [
            run.name,
            run.state,
            f"{run.step}/{run.total_steps or '?'}",
            best(run),
            duration(run.seconds),
            f"{run.created.astimezone():%Y-%m-%d %H:%M}",
        ]
        for run in found
    ]
    print(table(rows, ["run", "state", "step", "best", "trained", "started"]))
    return 0


def best(run: RunSummary) -> str:
    """Return the best value of the deciding metric in words, empty while there is none."""
    return clean(f"{run.best.metric} {number(run.best.metric, run.best.value)}", limit=80) if run.best else ""


def summary(run: RunSummary) -> dict[str, Any]:
    """Return what is known of a run at a glance, as JSON-ready data."""
    return {
        "run": run.name,
        "directory": str(run.paths.directory),
        "created": run.created.isoformat(),
        "preset": run.preset,
        "title": run.title,
        "task": run.task,
        "state": run.state,
        "step": run.step,
        "total_steps": run.total_steps,
        "epoch": run.epoch,
        "total_epochs": run.total_epochs,
        "best": run.best.model_dump() if run.best else None,
        "seconds": run.seconds,
    }
