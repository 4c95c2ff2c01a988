"""Images as cells: two pixels in each, one above the other, or signs of more and less ink without colours."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.color import Color
from rich.style import Style
from textual.strip import Strip

from tuidl.tui.draw.palette import Palette
from tuidl.tui.draw.strips import Span, cells

Pixels = NDArray[np.uint8]  # [N, height, width, channels], 1 channel for grey or 3

INK = " .:-=+*#%@"  # from nothing to most
_BLOCKS = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}
_SHADES = 32  # of each channel: fewer colours make longer runs, and so fewer bytes
_SMALLEST = 4  # pixels; below, an image is a blot
_LARGEST = 4  # times its own size that an image may be enlarged to


@dataclass(frozen=True)
class Tiling:
    """How many images stand in a room, and how large. Sizes in pixels: a cell is one wide and two high."""

    columns: int
    rows: int
    width: int
    height: int
    caption: bool  # a row of text below each image

    @property
    def shown(self) -> int:
        """How many images have a place."""
        return self.columns * self.rows

    def area(self, count: int) -> int:
        """Return the pixels that `count` images cover, or as many of them as have a place."""
        return min(count, self.shown) * self.width * self.height

    @property
    def pitch(self) -> int:
        """Pixels from the top of an image to the top of the one below it."""
        return 2 * (self.caption_at + 1) if self.caption else self.height + 1

    @property
    def caption_at(self) -> int:
        """Cells from the top of an image to its caption."""
        return (self.height + 1) // 2


def tilings(image: tuple[int, int], room: tuple[int, int], count: int, *, caption: bool = False) -> list[Tiling]:
    """Return every way to fill a room, from the largest images to the first size of which all `count` are seen.

    `image` is height and width in pixels, `room` height and width in cells. Of two sizes of which equally many fit,
    only the larger is returned; where not even a small image fits, there is none.
    """
    height, width = image
    sizes = [height * times for times in range(_LARGEST, 1, -1)]
    sizes += range(height, min(height, _SMALLEST) - 1, -1)
    found: list[Tiling] = []
    for size in sizes:
        tiling = _filled(size, max(1, round(width * size / height)), room, caption)
        if tiling.shown > (found[-1].shown if found else 0):
            found.append(tiling)
        if tiling.shown >= count:
            break
    return found


def tile(image: tuple[int, int], room: tuple[int, int], wanted: int, *, caption: bool = False) -> Tiling:
    """Return the tiling with the largest images of which `wanted` are seen, or else with as many as can be."""
    return next(reversed(tilings(image, room, wanted, caption=caption)), Tiling(0, 0, 1, 1, caption))


def _filled(height: int, width: int, room: tuple[int, int], caption: bool) -> Tiling:
    pitch = Tiling(0, 0, width, height, caption).pitch
    gap = 0 if caption else 1  # the last image has no need of the gap below it
    return Tiling((room[1] + 1) // (width + 1), (2 * room[0] + gap) // pitch, width, height, caption)


def resized(images: Pixels, height: int, width: int) -> Pixels:
    """Return the images in another size: every new pixel is the mean of what it covers."""
    if images.shape[1:3] == (height, width):
        return images
    down, across = _coverage(images.shape[1], height), _coverage(images.shape[2], width)
    mean = np.einsum("yh,nhwc,xw->nyxc", down, images.astype(np.float32), across, optimize=True)
    found: Pixels = (mean + 0.5).astype(np.uint8)
    return found


def _coverage(before: int, after: int) -> NDArray[np.float32]:
    """Return [after, before]: the share that each old pixel has in each new one."""
    edges = np.arange(after + 1) * (before / after)
    old = np.arange(before)
    overlap = np.minimum(edges[1:, None], old + 1) - np.maximum(edges[:-1, None], old)
    shares: NDArray[np.float32] = (np.clip(overlap, 0, None) * (after / before)).astype(np.float32)
    return shares


def draw(images: Pixels, tiling: Tiling, room: tuple[int, int], palette: Palette, *, coloured: bool) -> list[Strip]:
    """Return `room` filled with the images in their places, in colours or in ink."""
    background = _background(palette)
    small = resized(images[: tiling.shown], tiling.height, tiling.width)
    if not coloured:
        ink = small.mean(3) / 255
        ink = 1 - ink if sum(background) > 3 * 127 else ink  # on a light ground ink makes it darker
        levels = 1 + (ink * (len(INK) - 0.001)).astype(np.int64)  # 0 is where no image is
        return _ink(_placed(levels, tiling, room, 0), palette)
    shades = (small.astype(np.int64) * _SHADES // 256) * 255 // (_SHADES - 1)
    red, green, blue = (shades[..., channel if shades.shape[3] == 3 else 0] for channel in range(3))
    ground = background[0] << 16 | background[1] << 8 | background[2]
    return _blocks(_placed(red << 16 | green << 8 | blue, tiling, room, ground), ground)


def _background(palette: Palette) -> tuple[int, int, int]:
    color = palette.text.bgcolor
    return color.get_truecolor(foreground=False) if color is not None else (0, 0, 0)


def _placed(values: NDArray[np.int64], tiling: Tiling, room: tuple[int, int], ground: int) -> NDArray[np.int64]:
    """Return the pixels of the whole room, each image in its place."""
    canvas = np.full((2 * room[0], room[1]), ground)
    for number, value in enumerate(values):
        row, column = divmod(number, tiling.columns)
        y, x = row * tiling.pitch, column * (tiling.width + 1)
        canvas[y : y + tiling.height, x : x + tiling.width] = value
    return canvas


def _blocks(canvas: NDArray[np.int64], ground: int) -> list[Strip]:
    """Return the canvas as half blocks.

    A stretch goes on for as long as it has no more than two colours: either of them may be above or below, so that
    one style serves it all.
    """
    rows = []
    for upper, lower in zip(canvas[::2].tolist(), canvas[1::2].tolist(), strict=True):
        characters: list[str] = []
        styles: list[Style] = []
        while len(characters) < len(upper):
            start = len(characters)
            end, colors = _stretch(upper, lower, start)
            behind = ground if ground in colors else colors[0]
            front = next((color for color in colors if color != behind), behind)
            for top, bottom in zip(upper[start:end], lower[start:end], strict=True):
                characters.append(_BLOCKS[top != behind, bottom != behind])
            styles += [_style(front, behind)] * (end - start)
        rows.append(cells(characters, styles))
    return rows


def _stretch(upper: Sequence[int], lower: Sequence[int], start: int) -> tuple[int, list[int]]:
    """Return where the stretch of at most two colours from `start` ends, and its colours."""
    colors: list[int] = []
    for at in range(start, len(upper)):
        fresh = {upper[at], lower[at]}.difference(colors)
        if len(colors) + len(fresh) > 2:
            return at, colors
        colors += fresh
    return len(upper), colors


@lru_cache(maxsize=16_384)
def _style(front: int, behind: int) -> Style:
    """Return the style of two colours 0xRRGGBB."""
    return Style(color=_color(front), bgcolor=_color(behind))


def _color(value: int) -> Color:
    return Color.from_rgb(value >> 16, value >> 8 & 255, value & 255)


def _ink(canvas: NDArray[np.int64], palette: Palette) -> list[Strip]:
    """Return the canvas as signs, each the mean of its two pixels."""
    means = (canvas[::2] + canvas[1::2] + 1) // 2
    return [cells([INK[max(0, level - 1)] for level in row], [palette.text] * len(row)) for row in means.tolist()]


def caption_row(texts: Sequence[Span], tiling: Tiling, blank: Style) -> list[Span]:
    """Return the row of text below one row of images, each text in the middle of its image."""
    spans: list[Span] = []
    for text, style in texts:
        free = tiling.width - cell_len(text)
        spans += [(" " * (free // 2), blank), (text, style), (" " * (free - free // 2 + 1), blank)]
    return spans
