import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuidl.spec import load_preset, preset_names, with_live_change
from tuidl.tui.knobs import as_text, check, live_fields, stepped, undo_of
from tuidl.tui.snapshot import Change


@pytest.mark.parametrize("preset", preset_names())
def test_every_knob_has_a_value_that_the_trainer_takes_back(preset: str) -> None:
    spec = load_preset(preset)
    fields = live_fields(spec)
    assert {"optimizer.lr", "regularization.dropout"} <= {field.path for field in fields}
    for field in fields:
        assert check(spec, field.path, as_text(field.value)) == ""
        assert with_live_change(spec, field.path, as_text(field.value)) == spec


@pytest.mark.parametrize("preset", preset_names())
@pytest.mark.parametrize("up", [True, False])
def test_stepping_never_leaves_the_bounds(preset: str, up: bool) -> None:
    spec = load_preset(preset)
    for field in live_fields(spec):
        if field.type not in ("number", "integer"):
            continue
        for _ in range(5):
            text = stepped(field, up)
            assert check(spec, field.path, text) == "", f"{field.path} = {text}"
            spec = with_live_change(spec, field.path, text)
            field = next(item for item in live_fields(spec) if item.path == field.path)


def test_a_wrong_value_is_told_in_one_line() -> None:
    spec = load_preset("mnist-mlp")
    assert "out of range" in check(spec, "optimizer.lr", "-1")
    assert "cannot change while training" in check(spec, "model.kind", "cnn")
    assert "\n" not in check(spec, "optimizer.lr", "x\ny")


def change(key: str, before: float, after: float) -> Change:
    return Change(1, 0.0, key, before, after)


def test_undo_goes_back_one_change_after_the_other() -> None:
    changes = [change("lr", 1, 2), change("l2", 0, 5)]
    assert undo_of(changes) == changes[1]
    changes.append(change("l2", 5, 0))  # the undoing itself
    assert undo_of(changes) == changes[0]
    changes.append(change("lr", 2, 1))
    assert undo_of(changes) is None


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 3)), max_size=12))
def test_undoing_everything_restores_the_start(moves: list[tuple[str, int]]) -> None:
    values, changes = {"a": 0, "b": 0}, []
    for key, after in moves:
        if values[key] != after:
            changes.append(change(key, values[key], after))
            values[key] = after
    for _ in range(2 * len(moves) + 1):
        undo = undo_of(changes)
        if undo is None:
            break
        changes.append(change(undo.key, undo.after, undo.before))
        values[undo.key] = undo.before
    assert values == {"a": 0, "b": 0}
