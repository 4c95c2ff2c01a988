"""What a resumed run has left behind does not hold any more."""

from array import array

from hypothesis import given
from hypothesis import strategies as st

from tuidl.runs import MetricsBlock, standing_blocks, standing_events


def block(first: int, count: int, value: float) -> MetricsBlock:
    return MetricsBlock(first, count, (float(first), float(first + count - 1)), {"loss": array("f", [value] * count)})


def test_a_later_block_replaces_what_it_repeats_and_all_after_it() -> None:
    found = standing_blocks([block(1, 4, 0), block(5, 4, 0), block(9, 4, 0), block(7, 2, 1)])
    assert [(item.first_step, item.count) for item in found] == [(1, 4), (5, 2), (7, 2)]
    assert found[1].elapsed == (5.0, 6.0)


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 6)), max_size=12))
def test_as_if_each_step_had_been_written_one_by_one(parts: list[tuple[int, int]]) -> None:
    wanted: dict[int, float] = {}
    blocks = []
    for value, (first, count) in enumerate(parts):
        wanted = {step: held for step, held in wanted.items() if step < first}
        wanted |= dict.fromkeys(range(first, first + count), float(value))
        blocks.append(block(first, count, value))
    found = {
        item.first_step + row: held for item in standing_blocks(blocks) for row, held in enumerate(item.columns["loss"])
    }
    assert found == wanted


def test_events_after_the_step_of_a_resume_go() -> None:
    def at(step: int, kind: str) -> dict[str, object]:
        return {"event": kind, "step": step}

    story = [at(0, "started"), at(5, "evaluation"), at(9, "evaluation"), at(9, "failed"), at(5, "resumed"), at(8, "x")]
    assert standing_events(story) == [story[0], story[1], story[4], story[5]]
