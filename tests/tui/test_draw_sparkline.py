import math

import pytest

from tuidl.tui.draw.sparkline import sparkline, thin
from tuidl.tui.draw.wrap import wrap


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([], ""),
        ([0.5], "▄"),
        ([2.0, 2.0, 2.0], "▄▄▄"),
        ([0, 1, 2, 3, 4, 5, 6], "▁▂▃▄▅▆▇"),
        ([6, 5, 4, 3, 2, 1, 0], "▇▆▅▄▃▂▁"),
        ([0, math.nan, 6], "▁×▇"),
        ([math.inf, 1, 1], "×▄▄"),
        ([math.nan, -math.inf], "××"),
        ([-1.7e308, 1.7e308], "▁▇"),
    ],
)
def test_one_character_a_value(values: list[float], shown: str) -> None:
    assert sparkline(values, 12) == shown


def test_a_long_rise_is_thinned_to_the_width() -> None:
    assert sparkline(range(700), 7) == "▁▂▃▄▅▆▇"
    assert sparkline(range(700), 1) == "▄"
    assert sparkline([1.0, 2.0], 0) == ""


@pytest.mark.parametrize("spike", [50.0, -50.0])
@pytest.mark.parametrize("place", [0, 1234, 9999])
def test_a_single_spike_stays(place: int, spike: float) -> None:
    values = [1.0] * 10_000
    values[place] = spike
    shown = sparkline(values, 20)
    assert len(shown) == 20
    assert shown.count("▇" if spike > 0 else "▁") == 1


def test_a_single_value_that_is_no_number_stays() -> None:
    values = [float(number) for number in range(1000)]
    values[567] = math.nan
    assert sparkline(values, 10)[5] == "×"
    assert thin(values, 1000) is not values


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("", 10, []),
        ("one two three", 8, ["one two", "three"]),
        ("abcdefghij kl", 4, ["abcd", "efgh", "ij", "kl"]),
        ("漢字漢 字", 4, ["漢字", "漢", "字"]),
        ("anything", 1, []),
    ],
)
def test_lines_are_broken_by_cells(text: str, width: int, lines: list[str]) -> None:
    assert wrap(text, width) == lines
