"""The colours of a drawing, taken from the theme once and again when the theme changes."""

from collections.abc import Mapping
from dataclasses import dataclass

from rich.style import Style
from textual.color import Color

LEAST_CONTRAST = 0.3  # of brightness, 0..1, between a colour and the background
RAMP = 8  # shades from nothing to most, for matrices and heat


@dataclass(frozen=True)
class Palette:
    """Styles by meaning. Every one brings the panel's background, so that neighbours merge into one escape sequence.

    What a colour tells is always told by a sign as well: train is a line, validation `●`, test `◆`, a change `┊`.
    """

    text: Style
    muted: Style
    axis: Style
    train: Style
    train_raw: Style  # the unsmoothed values behind the train line
    val: Style
    test: Style
    second: Style  # a further line: the discriminator of a GAN
    mark: Style  # where a knob was changed
    cursor: Style
    good: Style
    warn: Style
    bad: Style
    accent: Style
    ramp: tuple[Style, ...]  # RAMP shades of the background, each with a text colour that can be read on it


def palette_of(variables: Mapping[str, str]) -> Palette:
    """Return the palette of a theme's variables (`app.theme_variables`)."""
    background = Color.parse(variables["surface"])
    contrast = background.get_contrast_text(1.0)
    foreground = Color(contrast.r, contrast.g, contrast.b)

    def style(color: Color, strength: float = 1.0, bold: bool = False) -> Style:
        shown = background.blend(color, strength)
        return Style(color=shown.rich_color, bgcolor=background.rich_color, bold=bold or None)

    def shade(step: int) -> Style:
        color = background.blend(accent, 0.9 * step / (RAMP - 1))
        return Style(color=color.get_contrast_text(1.0).rich_color, bgcolor=color.rich_color)

    named = {
        name: _readable(Color.parse(variables[name]), background, foreground)
        for name in ("primary", "secondary", "accent", "success", "warning", "error")
    }
    accent = named["accent"]
    return Palette(
        text=style(foreground, 0.95),
        muted=style(foreground, 0.62),
        axis=style(foreground, 0.52),
        train=style(named["primary"], bold=True),
        train_raw=style(named["primary"], 0.4),
        val=style(named["warning"], bold=True),
        test=style(named["success"], bold=True),
        second=style(named["secondary"], bold=True),
        mark=style(named["accent"]),
        cursor=style(foreground, bold=True),
        good=style(named["success"]),
        warn=style(named["warning"]),
        bad=style(named["error"], bold=True),
        accent=style(accent),
        ramp=tuple(shade(step) for step in range(RAMP)),
    )


def _readable(color: Color, background: Color, foreground: Color) -> Color:
    """Return `color`, brought nearer to the colour of text until it stands out from the background."""
    for _ in range(5):
        if abs(color.brightness - background.brightness) >= LEAST_CONTRAST:
            break
        color = color.blend(foreground, 0.2)
    return color
