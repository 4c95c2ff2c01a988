"""What a run is: its settings, its presets and its schema. Knows neither torch nor a screen.

The names are loaded when they are first used: the models of all settings take a moment to build.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuidl.spec.load import build_spec, load_preset, preset_names, validate, value_at, with_live_change
    from tuidl.spec.run import RunSpec

__all__ = ["RunSpec", "build_spec", "load_preset", "preset_names", "validate", "value_at", "with_live_change"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{'run' if name == 'RunSpec' else 'load'}"), name)
    globals()[name] = found
    return found
