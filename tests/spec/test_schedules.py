"""The schedules at their start, middle and end, and what they promise everywhere."""

import itertools
from typing import Any

import pytest

from tuidl.errors import UsageError
from tuidl.spec.load import build_spec
from tuidl.spec.schedules import SCHEDULES, Position

TOTAL, PER_EPOCH = 200, 20


def factor(kind: str, step: int, history: list[float] | None = None, **settings: Any) -> float:
    return SCHEDULES[kind](**settings).factor(Position(step, TOTAL, PER_EPOCH, history or []))


# step: start, a quarter, the middle, the end
VALUES: list[tuple[str, dict[str, Any], dict[int, float]]] = [
    ("constant", {}, {0: 1, 50: 1, 199: 1}),
    # (t + 1) / (ramp + 1), so that the first step is not lost
    ("warmup", {}, {0: 1 / 21, 9: 10 / 21, 20: 1, 21: 1, 199: 1}),
    ("warmup", {"warmup": 0.5}, {0: 1 / 101, 49: 50 / 101, 100: 1, 199: 1}),
    ("step", {}, {0: 1, 99: 1, 100: 0.3, 199: 0.3, 200: 0.09}),
    ("step", {"every": 2.5, "gamma": 0.5}, {0: 1, 49: 1, 50: 0.5, 100: 0.25, 199: 0.125}),
    ("exponential", {}, {0: 1, 20: 0.9, 30: 0.9**1.5, 100: 0.9**5}),
    ("cosine", {}, {0: 1, 50: (1 + 2**-0.5) / 2, 100: 0.5, 150: (1 - 2**-0.5) / 2, 200: 0}),
    ("cosine", {"final": 0.2}, {0: 1, 100: 0.6, 200: 0.2}),
    ("cosine", {"warmup": 0.5}, {0: 1 / 101, 100: 1, 150: 0.5, 200: 0}),
    ("one-cycle", {}, {0: 0.1, 25: 0.55, 50: 1, 125: 0.505, 200: 0.01}),
    ("one-cycle", {"peak": 0.5, "start": 0.2, "final": 0.0}, {0: 0.2, 50: 0.6, 100: 1, 150: 0.5, 200: 0}),
    ("plateau", {}, {0: 1, 199: 1}),
]


@pytest.mark.parametrize(("kind", "settings", "values"), VALUES)
def test_factor_at_chosen_steps(kind: str, settings: dict[str, Any], values: dict[int, float]) -> None:
    assert {step: factor(kind, step, **settings) for step in values} == pytest.approx(values, abs=1e-12)


def test_every_schedule_is_checked() -> None:
    assert {case[0] for case in VALUES} == set(SCHEDULES)


@pytest.mark.parametrize(
    ("history", "falls"),
    [
        ([], 0),
        ([3.0, 2.0, 1.0], 0),
        ([1.0, 1.0], 0),  # one evaluation without a better one
        ([1.0, 1.0, 1.0], 1),  # as good is not better
        ([1.0, 2.0, 0.5, 2.0, 2.0], 1),
        ([1.0, 2.0, 2.0, 2.0], 1),  # the count starts again after each fall
        ([1.0, 2.0, 2.0, 2.0, 2.0], 2),
        ([1.0, float("inf"), float("inf"), 0.5, 0.6, 0.7], 2),
    ],
)
def test_plateau_counts_the_evaluations_without_a_better_one(history: list[float], falls: int) -> None:
    assert factor("plateau", 100, history, gamma=0.3, patience=2) == pytest.approx(0.3**falls)


def test_plateau_waits_as_long_as_its_patience() -> None:
    history = [1.0] * 6
    assert [factor("plateau", 0, history[:length], patience=4, gamma=0.5) for length in range(1, 7)] == [
        1, 1, 1, 1, 0.5, 0.5,
    ]  # fmt: skip


@pytest.mark.parametrize("kind", sorted(SCHEDULES))
@pytest.mark.parametrize("warmup", [0.0, 0.3, 0.9])
@pytest.mark.parametrize(("total", "per_epoch"), [(1, 1), (2, 1), (7, 3), (1000, 100), (3, 1000)])
def test_every_step_of_a_run_has_a_rate_above_zero_and_never_above_the_base(
    kind: str, warmup: float, total: int, per_epoch: int
) -> None:
    schedule = SCHEDULES[kind](kind=kind, warmup=warmup)
    for step in range(total):
        value = schedule.factor(Position(step, total, per_epoch, [1.0] * (step // per_epoch)))
        assert 0 < value <= 1 + 1e-12, step


@pytest.mark.parametrize("kind", ["warmup", "constant"])
def test_warm_up_never_falls_and_reaches_the_rate(kind: str) -> None:
    values = [factor(kind, step, warmup=0.4) for step in range(TOTAL)]
    assert all(first <= second for first, second in itertools.pairwise(values))
    assert values[0] < 0.02 and values[80] == 1


@pytest.mark.parametrize("kind", ["cosine", "exponential", "step"])
def test_falling_schedules_fall(kind: str) -> None:
    values = [factor(kind, step) for step in range(TOTAL)]
    assert all(first >= second for first, second in itertools.pairwise(values))
    assert values[-1] < 0.5


def test_settings_of_a_schedule_come_from_the_spec() -> None:
    spec = build_spec({}, ["schedule.kind=step", "schedule.gamma=0.5", "schedule.every=1"])
    assert spec.schedule.factor(Position(20, 200, 20)) == 0.5
    with pytest.raises(UsageError, match=r"schedule\.gamma"):
        build_spec({}, ["schedule.kind=step", "schedule.gamma=1.5"])
