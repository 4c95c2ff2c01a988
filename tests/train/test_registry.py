"""Every choice that a student is offered exists, and says what it is and where it comes from."""

import re
from collections.abc import Iterator

import pytest

from tuidl.spec.augmentations import AUGMENTATIONS
from tuidl.spec.layers import ACTIVATIONS, INITS
from tuidl.spec.losses import LOSSES
from tuidl.spec.models import MODELS
from tuidl.spec.optimizers import OPTIMIZERS
from tuidl.spec.regularizers import REGULARIZERS
from tuidl.spec.run import CHOICES
from tuidl.spec.schedules import SCHEDULES
from tuidl.spec.settings import Entry
from tuidl.spec.tasks import TASKS
from tuidl.train.data import augment
from tuidl.train.models.layers import resolve


def entries() -> Iterator[tuple[str, Entry, bool]]:
    """Yield every entry as (where it stands, entry, whether code of its own belongs to it)."""
    for name, registry in CHOICES.items():
        for key in registry:
            yield f"{name}.{key}", registry[key].entry, name != "schedule"  # a schedule is its own code
    for name, catalogue in (("activation", ACTIVATIONS), ("init", INITS), ("task", TASKS)):
        for key, entry in catalogue.items():
            yield f"{name}.{key}", entry, True
    for key, item in REGULARIZERS.items():
        yield f"regularizer.{key}", item.entry, item.role in ("penalty", "gradient", "weights")


ALL = {where: (entry, has_code) for where, entry, has_code in entries()}


def test_keys_are_unique_and_spelled_alike() -> None:
    assert set(CHOICES) == {"model", "loss", "optimizer", "schedule"}
    assert [len(list(registry)) for registry in (MODELS, LOSSES, OPTIMIZERS, SCHEDULES)] == [9, 11, 13, 7]
    for where, (entry, _) in ALL.items():
        assert where.partition(".")[2] == entry.key
        assert re.fullmatch(r"[a-z0-9]+([-_][a-z0-9]+)*", entry.key)


@pytest.mark.parametrize("where", ALL)
def test_implementation_resolves(where: str) -> None:
    entry, has_code = ALL[where]
    assert bool(entry.implementation) == has_code
    if has_code:
        assert re.match(r"(tuidl\.train|torch)\.", entry.implementation)
        assert callable(resolve(entry))


@pytest.mark.parametrize("where", ALL)
def test_entry_says_what_it_is_in_a_sentence_with_formula_and_source(where: str) -> None:
    entry, _ = ALL[where]
    assert entry.title and entry.title[0].isupper() and len(entry.title) <= 40
    assert entry.summary[0].isupper() and entry.summary.endswith(".")
    assert not re.search(r"[.!?] [A-Z]", entry.summary), "more than one sentence"
    assert len(entry.summary) <= 120
    assert entry.formula
    assert re.search(r"lecture|\d{4}|^torch|section", entry.source), entry.source


@pytest.mark.parametrize("key", AUGMENTATIONS)
def test_augmentation_has_tensor_code_and_says_what_it_is(key: str) -> None:
    entry = AUGMENTATIONS[key]
    assert callable(getattr(augment, key))
    assert entry.summary.endswith(".") and entry.title and entry.unit
    assert re.search(r"\d{4}", entry.source)
    assert entry.maximum > entry.minimum == 0


def test_every_optimizer_of_the_lectures_is_there() -> None:
    lectures = {"gradient-descent", "sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adadelta", "adam", "adamax"}
    assert lectures <= set(OPTIMIZERS)


def test_every_task_has_a_model_and_a_loss_for_it() -> None:
    for task in TASKS:
        assert MODELS.for_task(task) and LOSSES.for_task(task)
        assert OPTIMIZERS.for_task(task) == list(OPTIMIZERS)
