"""What the screen remembers of its user from one day to the next: theme, refresh rate, how curves are shown, keys."""

import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import platformdirs

LARGEST = 64 * 1024  # bytes of a settings file


@dataclass
class Settings:
    """The user's settings. `rate` is in frames a second, 0 to choose by the line; `keymap` maps binding ids to keys."""

    theme: str = "tuidl-dark"
    rate: float = 0.0
    x_axis: str = "step"
    smoothing: float = 0.9
    rates_in_matrix: bool = False
    keymap: dict[str, str] = field(default_factory=dict)


def settings_path() -> Path:
    """Return where the settings are kept: $TUIDL_SETTINGS, else in the user's configuration directory."""
    chosen = os.environ.get("TUIDL_SETTINGS")
    return Path(chosen) if chosen else platformdirs.user_config_path("tuidl") / "settings.json"


def load_settings(path: Path) -> tuple[Settings, str]:
    """Return the settings in `path` and what was wrong with them; what is wrong or absent has its default."""
    try:
        with path.open("rb") as file:
            stored = json.loads(file.read(LARGEST))
    except FileNotFoundError:
        return Settings(), ""
    except (OSError, ValueError, RecursionError) as error:
        return Settings(), f"settings {path} could not be read ({error}); the defaults hold"
    return _checked(stored, path)


def _checked(stored: Any, path: Path) -> tuple[Settings, str]:
    settings, wrong = Settings(), []
    for item in fields(Settings):
        value = stored.get(item.name, getattr(settings, item.name)) if isinstance(stored, dict) else None
        value = float(value) if type(value) is int and item.type in (float, "float") else value
        expected = isinstance(value, type(getattr(settings, item.name)))
        if not expected or (isinstance(value, dict) and not all(isinstance(text, str) for text in value.values())):
            wrong.append(item.name)
        else:
            setattr(settings, item.name, value)
    settings.rate = min(max(settings.rate, 0.0), 10.0)
    settings.smoothing = min(max(settings.smoothing, 0.0), 0.999)
    return settings, f"settings {path}: {', '.join(wrong)} not as expected; the defaults hold" if wrong else ""


def save_settings(settings: Settings, path: Path) -> None:
    """Write the settings. Raises StorageError."""
    from tuidl.runs.atomic import write_atomic  # takes a moment to load, and the first frame has no need of it
    from tuidl.runs.files import storage_error

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(path.parent, error) from error
    write_atomic(path, json.dumps(asdict(settings), indent=1).encode() + b"\n", durable=False)
