import pytest
from textual.geometry import Region

from tuidl.tui.arrangement import LOG, PANELS, WIDE, arrange

TASKS = list(PANELS)


def drawing(task: str, width: int, height: int, chosen: str, scale: tuple[int, int] = (4, 2)) -> list[str]:
    """One letter for every few cells: the first of the panel that stands there."""
    places = arrange(task, width, height, chosen)
    rows = []
    for y in range(0, height, scale[1]):
        row = ""
        for x in range(0, width, scale[0]):
            owners = [name for name, region in places.items() if region.contains(x, y)]
            assert len(owners) == 1, f"cell {x},{y} belongs to {owners}"
            row += owners[0][0]
        rows.append(row)
    return rows


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("size", [(1, 1), (20, 5), (60, 17), (80, 21), (99, 40), (100, 28), (120, 36), (300, 100)])
def test_every_cell_belongs_to_one_panel_and_the_chosen_one_is_seen(task: str, size: tuple[int, int]) -> None:
    for chosen in (*PANELS[task], LOG):
        places = arrange(task, *size, chosen)
        assert chosen in places
        covered = sum(region.area for region in places.values())
        assert covered == size[0] * size[1]
        drawing(task, *size, chosen)


def test_all_panels_stand_on_a_wide_terminal() -> None:
    assert set(arrange("classification", 120, 36, "loss")) == set(PANELS["classification"])


def test_two_panels_stand_on_80x24_and_one_on_less() -> None:
    assert list(arrange("classification", 80, 21, "matrix")) == ["loss", "matrix"]
    assert list(arrange("classification", 80, 21, "loss")) == ["loss", "accuracy"]
    assert list(arrange("gan", 80, 21, "loss")) == ["loss", "drawn"]
    assert arrange("language", 59, 20, "samples") == {"samples": Region(0, 0, 59, 20)}


def test_a_maximised_panel_stands_alone() -> None:
    assert arrange("gan", 120, 36, "score", maximised=True) == {"score": Region(0, 0, 120, 36)}


@pytest.mark.parametrize("task", TASKS)
def test_every_panel_of_a_task_stands_in_its_wide_arrangement(task: str) -> None:
    places = arrange(task, 200, 60, PANELS[task][0])
    missing = set(PANELS[task]) - set(places)
    assert missing <= {"events"}, f"reachable by key only: {missing}"
    assert task in WIDE
