"""Every optimizer trains with every regularizer under every schedule."""

import itertools
import math
from collections.abc import Mapping
from typing import Any

import pytest

from tuidl.errors import UsageError
from tuidl.spec.augmentations import AUGMENTATIONS
from tuidl.spec.losses import LOSSES
from tuidl.spec.models import MODELS
from tuidl.spec.optimizers import OPTIMIZERS
from tuidl.spec.regularizers import REGULARIZERS
from tuidl.spec.run import RunSpec
from tuidl.spec.schedules import SCHEDULES
from tuidl.train import events
from tuidl.train.data.load import ImageData
from tuidl.train.device import Hardware
from tuidl.train.session import build_task

from .tiny import CPU, TEXT, columns, data_of, finished, image_data, of, run_all, spec_of, task_of, text_data

# what switches each regularizer on; `augmentation` is all of them at once
ON: dict[str, dict[str, dict[str, Any]]] = {
    "l1": {"regularization": {"l1": 1e-3}},
    "l2": {"regularization": {"l2": 1e-3}},
    "tikhonov": {"regularization": {"tikhonov": 1e-2}},
    "dropout": {"regularization": {"dropout": 0.5}},
    "label_smoothing": {"regularization": {"label_smoothing": 0.1}},
    "clip_norm": {"regularization": {"clip_norm": 0.5}},
    "clip_value": {"regularization": {"clip_value": 0.01}},
    "max_norm": {"regularization": {"max_norm": 0.5}},
    "elastic_net": {"regularization": {"l1": 1e-3, "l2": 1e-3}},
    "weight_decay": {"optimizer": {"weight_decay": 0.1}},
    "batch_norm": {"model": {"batch_norm": True}},
    "augmentation": {"augmentation": dict.fromkeys(AUGMENTATIONS, 0.5) | {"crop": 1.0, "shift": 1.0, "cutout": 2.0}},
    "early_stopping": {"early_stopping": {"patience": 1}, "evaluation": {"every_steps": 1}},
}
STEPS = 3


@pytest.fixture(scope="module")
def data() -> ImageData:
    return image_data(count=60)


def test_the_walk_meets_every_regularizer() -> None:
    assert ON.keys() == REGULARIZERS.keys()


def walked(spec: RunSpec, data: Any) -> None:
    """Train and check that the run is sound."""
    stream = run_all(task_of(spec, data), spec)
    end, numbers = finished(stream), columns(stream)
    assert end.status == "completed", end.reason
    assert 1 <= end.step <= STEPS
    assert all(len(values) == end.step for values in numbers.values())
    assert all(math.isfinite(value) for values in numbers.values() for value in values)
    assert all(math.isfinite(value) for value in end.metrics.values())
    assert [event.final for event in of(events.Evaluated, stream)][-1]


def with_on(kind: str, regularizer: str, schedule: str) -> dict[str, Any]:
    groups: dict[str, Any] = {
        "schedule": {"kind": schedule},
        "training": {"epochs": STEPS, "max_steps": STEPS, "batch_size": 30},
    }
    on: Mapping[str, dict[str, Any]] = ON[regularizer]
    return {**groups, **on, "optimizer": {"kind": kind, **on.get("optimizer", {})}}


@pytest.mark.parametrize("kind", sorted(OPTIMIZERS))
def test_each_optimizer_with_each_regularizer_and_schedule(kind: str, data: ImageData) -> None:
    for regularizer, schedule in itertools.product(ON, SCHEDULES):
        try:
            walked(spec_of(**with_on(kind, regularizer, schedule)), data)
        except Exception as error:
            error.add_note(f"{kind} with {regularizer} under {schedule}")
            raise


@pytest.mark.parametrize("kind", sorted(OPTIMIZERS))
def test_each_optimizer_with_all_regularizers_at_once_in_each_task(kind: str, data: ImageData) -> None:
    regularization = {name: value for on in ON.values() for name, value in on.get("regularization", {}).items()}
    groups: dict[str, Any] = {
        "optimizer": {"kind": kind, "weight_decay": 0.1},
        "regularization": regularization,
        "augmentation": ON["augmentation"]["augmentation"],
        "training": {"epochs": STEPS, "max_steps": STEPS, "batch_size": 8},
    }
    walked(spec_of(**groups, model={"kind": "cnn", "channels": [3], "batch_norm": True}), data)
    walked(spec_of("language", **groups), text_data(TEXT[:700]))
    walked(spec_of("gan", **groups), data)


@pytest.mark.parametrize("loss", LOSSES.for_task("gan"))
@pytest.mark.parametrize("model", MODELS.for_task("gan"))
@pytest.mark.parametrize("kind", ["adam", "gradient-descent"])
def test_each_gan_loss_with_each_gan_model(loss: str, model: str, kind: str) -> None:
    groups = {
        "model": {"kind": model, "latent": 4, **({"channels": 4} if model == "dcgan" else {"widths": [8]})},
        "loss": {"kind": loss, "d_steps": 2},
        "optimizer": {"kind": kind, "lr": 0.001},
        "training": {"epochs": 2, "max_steps": 2, "batch_size": 16},
    }
    walked(spec_of("gan", **groups), image_data(side=16, channels=3, count=70, name="sixteen"))


@pytest.mark.parametrize("loss", LOSSES.for_task("classification"))
def test_each_classification_loss_is_learned_from(loss: str) -> None:
    spec = spec_of(loss={"kind": loss}, training={"epochs": 12}, optimizer={"lr": 0.01})
    stream = run_all(task_of(spec), spec)
    assert finished(stream).metrics["test_accuracy"] > 0.9
    shown = columns(stream)["loss"]
    assert shown[-1] < 0.7 * shown[0]


def test_an_lstm_in_fp16_on_a_cpu_is_refused_in_words() -> None:
    with pytest.raises(UsageError, match="bf16"):
        task_of(spec_of("language", model={"kind": "lstm"}, precision="fp16"))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("task", ["classification", "language", "gan"])
def test_each_task_trains_in_16_bits(task: str, precision: str) -> None:
    spec = spec_of(task, training={"max_steps": 3})
    stream = run_all(build_task(spec, data_of(task), Hardware(CPU, precision, 1, ())), spec)
    assert finished(stream).status == "completed"
    assert all(math.isfinite(value) for values in columns(stream).values() for value in values)
