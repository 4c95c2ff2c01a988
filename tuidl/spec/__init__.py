"""What a run is: its settings, its presets and its schema. Knows neither torch nor a screen."""

from tuidl.spec.load import build_spec, load_preset, preset_names, validate, value_at, with_live_change
from tuidl.spec.run import RunSpec

__all__ = ["RunSpec", "build_spec", "load_preset", "preset_names", "validate", "value_at", "with_live_change"]
