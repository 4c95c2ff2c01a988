"""No step waits for the device: while one runs, nothing may look at the value of a tensor."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from tuidl.spec.augmentations import AUGMENTATIONS
from tuidl.spec.losses import LOSSES
from tuidl.spec.models import MODELS
from tuidl.spec.optimizers import OPTIMIZERS
from tuidl.train.device import choose
from tuidl.train.meter import Meter
from tuidl.train.session import build_task
from tuidl.train.stepper import MEASURE_EVERY, WARM_UP

from .tiny import TEXT, data_of, image_data, on_device, spec_of, task_of, text_data

WAITING = (
    "item", "tolist", "cpu", "numpy", "nonzero", "unique", "equal", "__float__", "__bool__", "__int__", "__index__",
    "__array__", "__contains__", "__repr__", "__format__",
)  # fmt: skip
FUSED = sorted(kind for kind in OPTIMIZERS if OPTIMIZERS[kind].fused)
EVERYTHING = {
    "l1": 1e-4,
    "l2": 1e-4,
    "tikhonov": 1e-3,
    "dropout": 0.2,
    "label_smoothing": 0.1,
    "clip_norm": 0.5,
    "clip_value": 0.1,
    "max_norm": 1.0,
}
AUGMENTED = dict.fromkeys(AUGMENTATIONS, 0.5) | {"crop": 1.0, "shift": 1.0, "cutout": 2.0}
STEPS = 18  # enough to measure the update ratio twice


@contextmanager
def no_waiting() -> Iterator[None]:
    """Let every way to get at a tensor's value raise."""

    def forbidden(name: str) -> Any:
        def wait(*_: Any, **__: Any) -> Any:
            raise AssertionError(f"a step waits for the device in Tensor.{name}")

        return wait

    with pytest.MonkeyPatch.context() as patch:
        for name in WAITING:
            patch.setattr(torch.Tensor, name, forbidden(name))
        for name in ("equal", "allclose", "nonzero", "is_nonzero"):
            patch.setattr(torch, name, forbidden(name))
        yield


@pytest.mark.parametrize("look", [float, bool, int, str, "item", "tolist", "numpy", "cpu"])
def test_the_trap_works(look: Any) -> None:
    with pytest.raises(AssertionError, match="waits"), no_waiting():
        getattr(torch.ones(()), look)() if isinstance(look, str) else look(torch.ones(()))


def steps_without_waiting(task: Any) -> None:
    taken = 0
    for epoch in range(STEPS):
        task.begin_epoch(epoch)
        for index in range(task.steps_per_epoch):
            with no_waiting():
                row = task.step(index, 0.001)
            assert len(row) == len(task.columns)
            assert all(isinstance(value, torch.Tensor) and value.ndim == 0 for value in row)
            assert all(not value.requires_grad for value in row)
            taken += 1
            if taken == STEPS:
                return


GROUPS: list[dict[str, Any]] = [
    {}, {"regularization": EVERYTHING, "augmentation": AUGMENTED},
    {"precision": "fp16", "training": {"average": 0.9}},
]  # fmt: skip


@pytest.mark.parametrize("groups", GROUPS, ids=["plain", "everything", "fp16, averaged"])
@pytest.mark.parametrize("kind", FUSED)
def test_classification_never_waits(kind: str, groups: dict[str, Any]) -> None:
    model = {"kind": "cnn", "channels": [3], "widths": [5], "batch_norm": True}
    steps_without_waiting(task_of(spec_of(model=model, optimizer={"kind": kind, "weight_decay": 0.01}, **groups)))


@pytest.mark.parametrize("loss", LOSSES.for_task("classification"))
def test_no_loss_waits(loss: str) -> None:
    weighted = {"class_weights": [1.0, 2.0, 3.0, 4.0]} if loss == "cross-entropy" else {}
    steps_without_waiting(task_of(spec_of(loss={"kind": loss, **weighted})))


@pytest.mark.parametrize("kind", MODELS.for_task("classification"))
def test_no_classifier_waits(kind: str) -> None:
    small = {"resnet": {"channels": [3, 4]}, "cnn": {"channels": [3]}}.get(kind, {})
    data = image_data(side=28 if kind == "lenet5" else 8)
    steps_without_waiting(task_of(spec_of(model={"kind": kind, **small}), data))


@pytest.mark.parametrize("groups", GROUPS, ids=["plain", "everything", "fp16, averaged"])
@pytest.mark.parametrize("carry", [True, False])
@pytest.mark.parametrize("kind", MODELS.for_task("language"))
def test_language_never_waits(kind: str, carry: bool, groups: dict[str, Any]) -> None:
    model = {"kind": kind, "width": 8, "embedding": 4, "unroll": 8, "layers": 2, "carry_state": carry}
    if kind == "lstm" and "precision" in groups:
        groups = {**groups, "precision": "bf16"}  # torch has no other 16 bits for an LSTM on a CPU
    steps_without_waiting(task_of(spec_of("language", model=model, **groups), text_data(TEXT)))


@pytest.mark.parametrize("groups", GROUPS, ids=["plain", "everything", "fp16, averaged"])
@pytest.mark.parametrize("loss", LOSSES.for_task("gan"))
def test_gan_never_waits(loss: str, groups: dict[str, Any]) -> None:
    model = {"kind": "dcgan", "channels": 4, "latent": 3}
    training = {"batch_size": 10, **groups.get("training", {})}
    spec = spec_of("gan", **{**groups, "model": model, "loss": {"kind": loss, "d_steps": 2}, "training": training})
    steps_without_waiting(task_of(spec, image_data(side=16, count=60)))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("graph", ["auto", "off"])
@pytest.mark.parametrize("task", ["classification", "language", "gan"])
def test_on_a_gpu_the_driver_sees_no_step_wait(task: str, graph: str) -> None:
    """CUDA itself raises where the host waits; steps that warm up or capture may, which is before the others."""
    training = {"batch_size": 8 if task == "language" else 20, "cuda_graph": graph, "average": 0.9}
    hardware = choose("cuda")
    trained = build_task(spec_of(task, training=training), on_device(data_of(task), hardware.device), hardware)
    warm = 2 * MEASURE_EVERY + WARM_UP  # both kinds of step, with and without the update ratio, are captured by then
    meter = Meter(trained.columns, hardware.device)
    taken = 0
    for epoch in range(100):
        trained.begin_epoch(epoch)
        for index in range(trained.steps_per_epoch):
            torch.cuda.set_sync_debug_mode("error" if taken >= warm else "default")
            try:
                meter.write(trained.step(index, 0.001), 0.001)
            finally:
                torch.cuda.set_sync_debug_mode("default")
            taken += 1
            if taken == warm + STEPS:
                assert (trained.stepper.why_not == "") == (graph == "auto"), hardware.notes
                assert len(meter.drain(wait=True)[0]) == taken
                return
