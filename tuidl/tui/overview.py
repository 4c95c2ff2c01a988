"""What Home tells of presets and runs, read from the disk: slow, so it runs beside the screen's own thread.

Home loads this module only after its first frame: the settings of a run and the run directory take a while to load.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

from tuidl.errors import StorageError, TuidlError, UsageError
from tuidl.runs import RecordReader, RunLister, RunReader, RunSummary, as_float, read_spec
from tuidl.spec import load_preset, preset_names
from tuidl.spec.datasets import DATASETS
from tuidl.spec.run import CHOICES
from tuidl.spec.schema import fields_of
from tuidl.tui.draw.sparkline import thin

CURVE = 60  # values kept of a curve; no list draws a wider one
SLICE = 1 << 20  # bytes of a log that are read at once
MOST_VALUES = 4096  # values of a run that are remembered while it is read


@dataclass(frozen=True)
class PresetEntry:
    """A preset as a student meets it. `problem` says why it cannot be read; the rest is empty then."""

    name: str
    title: str = ""
    shows: str = ""
    things_to_try: tuple[str, ...] = ()
    expected: str = ""
    time_cpu: str = ""
    time_gpu: str = ""
    data: str = ""  # key of the data set
    stand_in: str = ""  # title of the data set that takes over, or nothing
    problem: str = ""


def read_presets() -> tuple[PresetEntry, ...]:
    """Return every preset, those that cannot be read with their problem. Raises TuidlError where there is no list."""
    _preset_settings.cache_clear()  # presets of one's own may have changed
    return tuple(_entry(name) for name in preset_names())


def _entry(name: str) -> PresetEntry:
    try:
        spec = load_preset(name)
    except TuidlError as error:
        return PresetEntry(name, problem=str(error))
    about, data = spec.about, spec.data
    return PresetEntry(
        name=name, title=about.title, shows=about.shows, things_to_try=about.things_to_try, expected=about.expected,
        time_cpu=about.time_cpu, time_gpu=about.time_gpu, data=data.name,
        stand_in=DATASETS[data.stand_in].title if data.stand_in != "none" else "",
    )  # fmt: skip


@dataclass(frozen=True)
class RunFacts:
    """What a run's `run.json` tells: settings that differ from its preset's, and what it trained on and with."""

    changes: tuple[str, ...] = ()  # key=value
    device: str = ""
    data: str = ""


def read_facts(run: RunSummary) -> RunFacts:
    """Return the facts of one run; nothing where its files are damaged."""
    try:
        stored = read_spec(run.paths)
    except StorageError:
        return RunFacts()
    device, data, spec = (stored.get(key) for key in ("device", "data", "spec"))
    told = ""
    if isinstance(data, dict):
        told = str(data.get("used", "")) + (f" in place of {data.get('asked', '')}" if data.get("stand_in") else "")
    return RunFacts(
        changes=tuple(_changes(spec, run.preset)) if isinstance(spec, dict) else (),
        device=str(device.get("name", "")) if isinstance(device, dict) else "",
        data=told,
    )


def _changes(spec: Mapping[str, Any], preset: str) -> list[str]:
    """Return the settings in which `spec` is not its preset; of a kind the preset has not, those not at default."""
    base = _preset_settings(preset)
    if not base:
        return []
    ours = _flat(spec)
    kinds = {group: str(ours.get(f"{group}.kind", "")) for group in CHOICES}
    defaults = {field.path: field.default for field in fields_of(kinds)}
    changed = {key: value for key, value in ours.items() if value != base.get(key, defaults.get(key))}
    return [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in changed.items()]


@lru_cache(maxsize=64)
def _preset_settings(name: str) -> dict[str, Any]:
    try:
        return _flat(load_preset(name).model_dump(mode="json")) if name in preset_names() else {}
    except TuidlError:
        return {}


def _flat(spec: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for group, value in spec.items():
        if isinstance(value, dict):
            flat |= {f"{group}.{key}": item for key, item in value.items() if group != "about"}
        else:
            flat[group] = value
    return flat


class Library:
    """The runs below one directory. Its methods may be called from any thread."""

    def __init__(self, root: Path) -> None:
        self._lister = RunLister(root)
        self._curves: dict[str, tuple[RunSummary, _Curve]] = {}
        self._lock = Lock()

    def runs(self) -> tuple[RunSummary, ...]:
        """Return all runs, the newest first. Raises StorageError."""
        with self._lock:
            return tuple(self._lister.runs())

    def curves(self, runs: Iterable[RunSummary]) -> tuple[dict[str, tuple[float, ...]], bool]:
        """Return the small curve of each of `runs` by name, and whether some of them go on when asked again.

        Reads only what is new since it was last asked, and of a long log only a slice.
        """
        found, more = {}, False
        for run in runs:
            with self._lock:
                known, curve = self._curves.get(run.name, (None, None))
                if curve is None or curve.more or known != run:
                    curve = (curve or _Curve(run)).read(run)
                    self._curves[run.name] = (run, curve)
                found[run.name] = curve.values
                more = more or curve.more
        return found, more


class _Curve:
    """The values of one run: its evaluations, or its training loss as long as there is none."""

    def __init__(self, run: RunSummary) -> None:
        self._events, self._metrics = RecordReader(run.paths.events), RunReader(run.paths)
        self._evaluations: dict[str, list[float]] = {}
        self._loss: list[float] = []
        self.values: tuple[float, ...] = ()

    @property
    def more(self) -> bool:
        """Whether a log has not been read to its end."""
        return self._events.more or (self._metrics.more and not self._evaluations)

    def read(self, run: RunSummary) -> "_Curve":
        """Read what is new and return the curve as it is now; what cannot be read is left out."""
        try:
            for record in self._events.read(SLICE):
                if record.get("event") == "evaluation":
                    self._take(record.get("metrics"))
            if not self._evaluations:
                self._read_loss()
        except (StorageError, UsageError):
            pass
        if self._events.restarted or self._metrics.restarted:
            return _Curve(run).read(run)
        name = run.best.metric if run.best else next(iter(self._evaluations), "")
        self.values = tuple(thin(self._evaluations.get(name) or self._loss, CURVE))
        return self

    def _take(self, metrics: object) -> None:
        for name, value in metrics.items() if isinstance(metrics, dict) else ():
            try:
                self._add(self._evaluations.setdefault(str(name), []), [as_float(value)])
            except ValueError:
                continue

    def _read_loss(self) -> None:
        for block in self._metrics.metrics(SLICE):
            losses = block.columns.get("loss") or block.columns.get("g_loss")
            self._add(self._loss, losses or [])

    def _add(self, known: list[float], new: Iterable[float]) -> None:
        known += new
        if len(known) > MOST_VALUES:
            known[:] = thin(known, MOST_VALUES // 2)
