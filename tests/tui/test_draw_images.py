"""Images as literal rows of half blocks and of ink, their sizes, and how they are made smaller."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.color import ColorTriplet
from rich.style import Style
from textual.app import App
from textual.strip import Strip
from textual.theme import BUILTIN_THEMES

from tuidl.tui.draw.images import INK, Pixels, Tiling, caption_row, draw, resized, tile, tilings
from tuidl.tui.draw.palette import palette_of
from tuidl.tui.draw.strips import strip

LOOK = palette_of(App().theme_variables)
LIGHT = palette_of(BUILTIN_THEMES["textual-light"].to_color_system().generate())
ROOM = (2, 5)
GROUND = LOOK.text.bgcolor.triplet if LOOK.text.bgcolor else None  # type: ignore[union-attr]


def grey(*rows: list[int]) -> Pixels:
    return np.array(rows, dtype=np.uint8)[None, :, :, None]


def picture(strips: list[Strip]) -> list[list[tuple[ColorTriplet, ColorTriplet]]]:
    """Return for each cell the colours of its two pixels, as a terminal would show them."""
    found = []
    for row in strips:
        cells: list[tuple[ColorTriplet, ColorTriplet]] = []
        for text, style, _ in row:
            assert style and style.color and style.bgcolor
            front, behind = style.color.get_truecolor(), style.bgcolor.get_truecolor()
            for char in text:
                cells.append((front if char in "▀█" else behind, front if char in "▄█" else behind))
        found.append(cells)
    return found


def test_two_pixels_in_a_cell() -> None:
    images = grey([0, 255, 0], [255, 255, 0], [0, 0, 0], [255, 0, 255])
    strips = draw(images, Tiling(1, 1, 3, 4, False), ROOM, LOOK, coloured=True)
    black, white = ColorTriplet(0, 0, 0), ColorTriplet(255, 255, 255)
    ground = [(GROUND, GROUND)] * 2
    assert picture(strips) == [
        [(black, white), (white, white), (black, black), *ground],
        [(black, white), (black, black), (black, white), *ground],
    ]


def test_a_stretch_of_two_colours_is_one_segment() -> None:
    images = grey([0, 255, 0, 255, 0], [255, 255, 0, 255, 0], [0] * 5, [255, 0, 255, 0, 255])
    strips = draw(images, Tiling(1, 1, 5, 4, False), ROOM, LOOK, coloured=True)
    assert [[text for text, _, _ in row] for row in strips] == [["▄█ █ "], ["▄ ▄ ▄"]]


def test_colours_are_kept_to_32_shades() -> None:
    images = np.array([[[[250, 3, 128]], [[251, 4, 129]]]], dtype=np.uint8)
    strips = draw(images, Tiling(1, 1, 1, 2, False), (1, 1), LOOK, coloured=True)
    assert picture(strips) == [[(ColorTriplet(255, 0, 131), ColorTriplet(255, 0, 131))]]


def test_images_stand_one_pixel_apart() -> None:
    images = np.full((4, 3, 3, 1), 255, dtype=np.uint8)
    found = picture(draw(images, Tiling(2, 2, 3, 3, False), (4, 8), LOOK, coloured=True))
    white = ColorTriplet(255, 255, 255)
    pixels = [[cell[half] == white for cell in row] for row in found for half in (0, 1)]
    line = [True, True, True, False, True, True, True, False]
    assert pixels == [line, line, line, [False] * 8, line, line, line, [False] * 8]


def test_ink_without_colours() -> None:
    ramp = list(range(0, 256, 255 // 9))[:10]
    strips = draw(grey(ramp, ramp), Tiling(1, 1, 10, 2, False), (1, 12), LOOK, coloured=False)
    assert [row.text for row in strips] == [INK + "  "]
    assert len(list(strips[0])) == 1


def test_ink_on_a_light_ground_is_what_is_dark() -> None:
    strips = draw(grey([0, 255], [0, 255]), Tiling(1, 1, 2, 2, False), (1, 4), LIGHT, coloured=False)
    assert [row.text for row in strips] == ["@   "]


def test_smaller_images_are_means() -> None:
    image = grey([0, 100, 10, 30], [100, 200, 10, 30])
    assert resized(image, 1, 2)[0, :, :, 0].tolist() == [[100, 20]]
    thirds = resized(grey([0, 90, 30]), 1, 2)[0, 0, :, 0].tolist()
    assert thirds == [30, 50]
    assert resized(image, 4, 8)[0, :, :, 0].tolist()[0] == [0, 0, 100, 100, 10, 10, 30, 30]


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_the_mean_of_all_pixels_stays(height: int, width: int, tall: int, wide: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    found = resized(image, tall, wide)
    assert found.shape == (2, tall, wide, 3)
    assert np.abs(found.mean((1, 2)) - image.mean((1, 2))).max() <= 0.51


def test_four_images_of_cifar_are_seen_in_a_small_panel() -> None:
    small = tile((32, 32), (8, 48), 4, caption=True)
    assert small.shown >= 4
    assert small == Tiling(4, 1, 11, 11, True)
    assert tile((28, 28), (36, 118), 4) == Tiling(4, 2, 28, 28, False)
    assert tile((8, 8), (36, 118), 4) == Tiling(3, 2, 32, 32, False)  # enlarged by whole times


def test_each_next_size_shows_more() -> None:
    found = tilings((28, 28), (20, 78), 64)
    shown = [tiling.shown for tiling in found]
    assert shown == sorted(set(shown))
    assert shown[-1] >= 64 > shown[-2]


@settings(deadline=None, max_examples=150)
@given(
    st.integers(1, 60), st.integers(1, 60), st.integers(1, 40), st.integers(1, 200), st.integers(1, 80),
    st.booleans(), st.booleans(), st.sampled_from([1, 3]),
)  # fmt: skip
def test_every_size_is_filled_exactly(
    height: int, width: int, rows: int, columns: int, wanted: int, caption: bool, coloured: bool, channels: int
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (9, height, width, channels), dtype=np.uint8)
    tiling = tile((height, width), (rows, columns), wanted, caption=caption)
    strips = draw(images, tiling, (rows, columns), LOOK, coloured=coloured)
    assert [sum(segment.cell_length for segment in row) for row in strips] == [columns] * rows
    if tiling.shown:
        assert tiling.columns * (tiling.width + 1) - 1 <= columns
        last = (tiling.rows - 1) * tiling.pitch
        assert last + tiling.height <= 2 * rows
        assert not caption or last // 2 + tiling.caption_at < rows


def test_captions_stand_below_the_middle_of_their_images() -> None:
    blank = Style()
    spans = caption_row([("4→9", blank), ("猫", blank)], Tiling(2, 1, 7, 6, True), blank)
    assert strip(spans, 17, blank).text == "  4→9     猫     "
