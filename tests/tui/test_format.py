import math
from datetime import UTC, datetime, timedelta

import pytest
from rich.cells import cell_len

from tuidl.runs.status import FINAL_STATES, LIVE_STATES
from tuidl.tui.format import STATES, byte_count, count, duration, fit, metric, moment, share, state_sign


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (12.9, "0:12"), (185, "3:05"), (3723, "1:02:03"), (360_000, "100:00:00"), (-1, "–"),
     (math.nan, "–"), (math.inf, "–")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (12_345, "12,345"), (999_999, "999,999"), (1_234_567, "1.2 M"), (3.4e9, "3.4 G"), (5e13, "50.0 T"),
     (math.nan, "nan")],
)  # fmt: skip
def test_counts(number: float, text: str) -> None:
    assert count(number) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (512, "512 B"), (11_490_434, "11.5 MB"), (2e3, "2.0 kB"), (139.8e9, "139.8 GB")]
)
def test_bytes(number: float, text: str) -> None:
    assert byte_count(number) == text


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [("val_accuracy", 0.9834, "98.3 %"), ("accuracy", 1.0, "100.0 %"), ("val_loss", 0.0663412, "0.06634"),
     ("frechet", 12.3456, "12.35"), ("val_loss", math.nan, "nan"), ("val_accuracy", math.inf, "inf")],
)  # fmt: skip
def test_metrics(name: str, value: float, text: str) -> None:
    assert metric(name, value) == text


@pytest.mark.parametrize(
    ("done", "total", "text"),
    [(0, 100, "0 %"), (999, 1000, "99 %"), (1000, 1000, "100 %"), (2000, 1000, "100 %"), (5, None, ""), (5, 0, "")],
)
def test_all_of_it_is_said_only_of_all_of_it(done: float, total: float | None, text: str) -> None:
    assert share(done, total) == text


def test_every_state_has_its_own_word_and_a_sign_of_one_cell() -> None:
    assert {*LIVE_STATES, *FINAL_STATES, "lost", "unreadable"} == set(STATES)
    assert len({word for _, word in STATES.values()}) == len(STATES)
    assert all(cell_len(sign) == 1 for sign, _ in STATES.values())
    assert state_sign("something new") == state_sign("unreadable")


def test_moments_are_told_so_that_they_do_not_age() -> None:
    now = datetime(2026, 11, 21, 14, 3).astimezone()
    assert moment(now - timedelta(minutes=5), now) == "13:58"
    assert moment(now - timedelta(days=20), now) == "1 Nov"
    assert moment(now - timedelta(days=400), now) == "2025-10-17"
    assert moment((now - timedelta(minutes=5)).astimezone(UTC), now) == "13:58"


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [("abc", 5, "abc  "), ("abcdef", 4, "abc…"), ("漢字漢字", 5, "漢字…"), ("漢字漢字", 4, "漢 …"), ("abc", 0, ""),
     ("abc", 1, "…"), ("", 2, "  ")],
)  # fmt: skip
def test_text_fits_in_cells(text: str, width: int, shown: str) -> None:
    assert fit(text, width) == shown
    assert cell_len(shown) == width
