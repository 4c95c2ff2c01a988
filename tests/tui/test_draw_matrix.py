"""The confusion matrix and the bars as literal rows, and their shares of whatever room there is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textual.app import App

from tuidl.tui.draw.bars import bars
from tuidl.tui.draw.matrix import Confusion, Matrix, short_labels, short_number, short_rate
from tuidl.tui.draw.palette import palette_of

LOOK = palette_of(App().theme_variables)
PETS = Confusion(("cat", "dog", "fish"), np.array([[8, 2, 0], [1, 9, 0], [0, 0, 5]]))
RIGHT = [455, 575, 1016, 502, 511, 424, 480, 521, 490, 445]
DIGITS = Confusion(tuple("0123456789"), np.diag(RIGHT) + np.eye(10, k=5, dtype=int) * 21)


def rows(drawing: Matrix) -> list[str]:
    return [strip.text.rstrip() for strip in drawing.strips(LOOK)]


def crowd(count: int) -> Confusion:
    random = np.random.default_rng(0)
    counts = random.integers(0, 9, (count, count)) + np.diag(random.integers(90, 900, count))
    return Confusion(tuple(f"class {number}" for number in range(count)), counts)


def test_small_matrix_with_its_margins_and_its_mistakes() -> None:
    assert rows(Matrix(PETS, 30, 8)) == [
        "true ↓  predicted →",
        "      cat dog fis  recall",
        " cat [  8]  2   ·   80.0%",
        " dog    1[  9]  ·   90.0%",
        "fish    ·   ·[  5]   100%",
        "prec   89  82 100       %",
        "most confused: cat as dog (2)",
        "dog as cat (1)",
    ]


def test_ten_classes_in_46_columns_and_12_rows() -> None:
    assert rows(Matrix(DIGITS, 46, 12)) == [
        "true    0   1   2   3   4   5   6   7   8   9",
        "   0 [455]  ·   ·   ·   ·  21   ·   ·   ·   ·",
        "   1    ·[575]  ·   ·   ·   ·  21   ·   ·   ·",
        "   2    ·   ·[ 1k]  ·   ·   ·   ·  21   ·   ·",
        "   3    ·   ·   ·[502]  ·   ·   ·   ·  21   ·",
        "   4    ·   ·   ·   ·[511]  ·   ·   ·   ·  21",
        "   5    ·   ·   ·   ·   ·[424]  ·   ·   ·   ·",
        "   6    ·   ·   ·   ·   ·   ·[480]  ·   ·   ·",
        "   7    ·   ·   ·   ·   ·   ·   ·[521]  ·   ·",
        "   8    ·   ·   ·   ·   ·   ·   ·   ·[490]  ·",
        "   9    ·   ·   ·   ·   ·   ·   ·   ·   ·[445]",
        "most confused: 0 as 5 (21)  1 as 6 (21)",
    ]


def test_rates_and_the_cell_under_the_cursor() -> None:
    drawing = Matrix(DIGITS, 46, 12, rates=True, cursor=(0, 5))
    assert drawing.unit == "per cent"
    assert rows(drawing)[:2] == [
        "%       0   1   2   3   4   5   6   7   8   9",
        "   0 [ 96]  ·   ·   ·   ·>  4<  ·   ·   ·   ·",
    ]


def test_the_list_stands_beside_where_no_row_is_left_for_it() -> None:
    assert rows(Matrix(DIGITS, 74, 11))[:3] == [
        "true     0    1    2    3    4    5    6    7    8    9   most confused",
        "   0 [ 455]   ·    ·    ·    ·   21    ·    ·    ·    ·   0 as 5        21",
        "   1     ·[ 575]   ·    ·    ·    ·   21    ·    ·    ·   1 as 6        21",
    ]


def test_a_narrow_room_costs_digits_and_a_low_one_classes() -> None:
    narrow = Matrix(DIGITS, 24, 12)
    assert (narrow.unit, narrow.left_out) == ("tenths", 0)
    assert rows(narrow)[0] == "/10 0 1 2 3 4 5 6 7 8 9"
    low = Matrix(DIGITS, 46, 8)
    assert (low.unit, low.left_out) == ("counts", 4)
    assert rows(low)[-1] == "most confused: 0 as 5 (21)  1 as 6 (21)"
    assert rows(Matrix(DIGITS, 12, 5)) == [
        "      0   1",
        " 0 [455]  ·",
        " 1    ·[575]",
        " 2    ·   ·",
        "0 as 5 (21)",
    ]


def test_of_many_classes_the_most_confused_are_drawn_and_the_cursor_is_among_them() -> None:
    confusion = crowd(100)
    drawing = Matrix(confusion, 44, 8, cursor=(3, 7))
    assert drawing.left_out == 94
    assert 3 in drawing.rows
    assert 7 in drawing.columns
    assert set(drawing.rows) - {3} <= set(confusion.troubled[: len(drawing.rows)])
    assert drawing.rows == sorted(drawing.rows)
    assert rows(drawing)[1].startswith("     3 >  5<")


def test_tall_rooms_make_tall_classes() -> None:
    drawing = Matrix(PETS, 70, 14)
    text = rows(drawing)
    assert text[3].startswith(" cat [   8]")
    assert [drawing.cell_at(7, y) for y in (1, 2, 4, 5, 11)] == [None, (0, 0), (0, 0), (1, 0), None]
    assert drawing.cell_at(2, 3) is None


def test_without_mistakes() -> None:
    assert rows(Matrix(Confusion(("a", "b"), np.array([[3, 0], [0, 4]])), 20, 4))[-1] == "no mistakes"


def test_classes_without_images() -> None:
    empty = Confusion(("a", "b"), np.zeros((2, 2), dtype=np.int64))
    assert rows(Matrix(empty, 30, 6))[2] == "   a [  ·]  ·       –"
    assert empty.tell((0, 1)) == "a taken for b: 0 of 0"


def test_cells_in_words() -> None:
    assert PETS.tell((0, 1)) == "cat taken for dog: 2 of 10 (20.0 %)"
    assert PETS.tell((1, 1)) == "dog recognised: 9 of 10 (90.0 %)"


def test_shades_follow_the_share_of_the_true_class() -> None:
    strip = Matrix(PETS, 30, 8).strips(LOOK)[2]
    behind = {text: style.bgcolor for text, style, _ in strip if style}
    assert behind["[  8"] == LOOK.ramp[6].bgcolor
    assert behind["]  2"] == LOOK.ramp[3].bgcolor


@pytest.mark.parametrize(
    ("number", "digits", "text"),
    [(982, 3, "982"), (1032, 3, "1k"), (1600, 3, "2k"), (99_800, 3, "+"), (123_456, 4, "123k"), (345, 2, "9+")],
)
def test_short_numbers(number: int, digits: int, text: str) -> None:
    found = short_number(number, digits)
    assert len(found) <= digits
    assert text in found


@given(st.integers(0, 10**15), st.integers(1, 9))
def test_numbers_never_take_more_than_their_digits(number: int, digits: int) -> None:
    assert 0 < len(short_number(number, digits)) <= digits


@given(st.floats(0, 1), st.integers(1, 9))
def test_rates_never_take_more_than_their_digits(rate: float, digits: int) -> None:
    text = short_rate(rate, digits)
    assert 0 < len(text) <= digits
    assert (text == "100") <= (rate == 1)
    assert (text == "0") <= (rate < 0.1 if digits == 1 else rate == 0) or text == "0.0"


def test_labels_are_shortened_so_that_they_are_told_apart() -> None:
    assert short_labels(["airplane", "automobile", "bird"], 3) == (["air", "aut", "bir"], False)
    assert short_labels(["class 1", "class 2"], 3) == (["1", "2"], False)
    assert short_labels(["sandal left", "sandal like"], 1) == (["e", "i"], False)
    assert short_labels(["sea", "sew", "tea"], 2) == (["0", "1", "2"], True)
    assert short_labels(["same", "same"], 2) == (["sa", "sa"], False)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 70), st.integers(1, 300), st.integers(1, 100), st.booleans(),
    st.none() | st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
)  # fmt: skip
def test_every_size_is_filled_exactly(
    count: int, width: int, height: int, rates: bool, at: tuple[float, float] | None
) -> None:
    cursor = (int(at[0] * count), int(at[1] * count)) if at else None
    drawing = Matrix(crowd(count), width, height, rates=rates, cursor=cursor)
    strips = drawing.strips(LOOK)
    assert len(strips) <= height
    assert {strip.cell_length for strip in strips} == {width}
    assert {sum(segment.cell_length for segment in strip) for strip in strips} == {width}


def test_wide_characters_keep_the_columns_in_line() -> None:
    drawing = Matrix(Confusion(("猫", "犬犬犬犬"), np.array([[3, 1], [0, 4]])), 30, 6)
    assert [strip.cell_length for strip in drawing.strips(LOOK)] == [30] * 6


def test_bars() -> None:
    assert [strip.text for strip in bars(["a", "b", "c"], [16, 1, 0], 12, 4, LOOK)] == [
        "███         ",
        "███ ▁▁▁     ",
        "16   1   0  ",
        " a   b   c  ",
    ]


def test_bars_of_more_classes_than_fit_show_the_largest_first() -> None:
    found = bars([str(n) for n in range(9)], list(range(9)), 8, 3, LOOK)
    assert [strip.text for strip in found] == ["█ ▇ ▆ ▅ ", "8 7 6 5 ", "8 7 6 5 "]


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**9), max_size=120), st.integers(0, 300), st.integers(0, 20))
def test_bars_fill_every_size(values: list[int], width: int, height: int) -> None:
    found = bars([f"label {n}" for n in range(len(values))], values, width, height, LOOK)
    assert len(found) in (0, height)
    assert all(strip.cell_length == width for strip in found)
