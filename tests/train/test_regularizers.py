"""Each regularizer measurably does what its help says."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tuidl.spec.load import build_spec
from tuidl.spec.models import MODELS
from tuidl.spec.optimizers import OPTIMIZERS
from tuidl.train import events
from tuidl.train.data.augment import augment
from tuidl.train.regularizers import tikhonov
from tuidl.train.tasks.base import set_dropout
from tuidl.train.updater import Updater

from .tiny import (
    Quadratic,
    Script,
    Scripted,
    columns,
    done,
    finished,
    image_data,
    of,
    run_all,
    same,
    spec_of,
    task_of,
    weights,
)


def trained(**groups: Any) -> Any:
    """Return a task after 320 steps of SGD. (A run would end with its best weights, often early ones.)"""
    task = task_of(spec_of(optimizer={"kind": "sgd"}, training={"batch_size": 50}, **groups))
    for epoch in range(80):
        task.begin_epoch(epoch)
        for index in range(task.steps_per_epoch):
            task.step(index, 0.1)
    return task


def steps_of(task: Any) -> int:
    return int(task.stepper.steps)


def matrices(task: Any) -> list[Tensor]:
    return [parameter.detach() for parameter in task.model.parameters() if parameter.ndim >= 2]


def share_of_zeros(task: Any) -> float:
    # a subgradient step hops over zero by up to lr × λ, so this near is zero
    joined = torch.cat([weight.flatten() for weight in matrices(task)])
    return float((joined.abs() < 0.1 * 0.02).float().mean())


def norm(task: Any) -> float:
    return float(torch.cat([weight.flatten() for weight in matrices(task)]).norm())


def penalty_and_gradient(**regularization: float) -> tuple[float, list[Tensor]]:
    """Return what the regularizers add to the loss of a small CNN, and to the gradient of each of its weights."""
    task = task_of(spec_of(model={"kind": "cnn", "channels": [3], "widths": [5]}, regularization=regularization))
    penalty = task.updater.penalty()
    weights = task.updater.weights
    return float(penalty.detach()), list(torch.autograd.grad(penalty, weights, materialize_grads=True))


def weights_of_the_same() -> list[Tensor]:
    return matrices(task_of(spec_of(model={"kind": "cnn", "channels": [3], "widths": [5]})))


# --- penalties -------------------------------------------------------------------------------------------------------


def test_l1_is_the_sum_of_absolute_weights() -> None:
    penalty, gradients = penalty_and_gradient(l1=0.3)
    expected = 0.3 * sum(np.abs(weight.numpy()).sum() for weight in weights_of_the_same())
    assert penalty == pytest.approx(expected, rel=1e-5)
    for gradient, weight in zip(gradients, weights_of_the_same(), strict=True):
        torch.testing.assert_close(gradient, 0.3 * weight.sign())


def test_l2_is_the_sum_of_squared_weights() -> None:
    penalty, gradients = penalty_and_gradient(l2=0.3)
    expected = 0.3 * sum((weight.numpy() ** 2).sum() for weight in weights_of_the_same())
    assert penalty == pytest.approx(expected, rel=1e-5)
    for gradient, weight in zip(gradients, weights_of_the_same(), strict=True):
        torch.testing.assert_close(gradient, 2 * 0.3 * weight)


def test_elastic_net_is_the_sum_of_l1_and_l2() -> None:
    (l1, g1), (l2, g2), (both, g) = (
        penalty_and_gradient(**settings) for settings in ({"l1": 0.2}, {"l2": 0.3}, {"l1": 0.2, "l2": 0.3})
    )
    assert both == pytest.approx(l1 + l2, rel=1e-6)
    for first, second, total in zip(g1, g2, g, strict=True):
        torch.testing.assert_close(first + second, total)


def test_penalties_leave_biases_alone() -> None:
    task = task_of(spec_of(regularization={"l1": 1.0, "l2": 1.0, "tikhonov": 1.0}))
    task.updater.backward(task.updater.penalty())
    for name, parameter in task.model.named_parameters():
        assert (parameter.grad is None) == ("bias" in name), name


def test_l1_pulls_weights_to_zero() -> None:
    assert share_of_zeros(trained()) < 0.05
    sparse = trained(regularization={"l1": 0.02})
    assert share_of_zeros(sparse) > 0.6
    assert done(sparse.evaluate()).metrics["val_accuracy"] > 0.9  # what is left suffices


def test_l2_shrinks_the_weights_but_leaves_none_at_zero() -> None:
    small = trained(regularization={"l2": 0.02})
    assert norm(small) < 0.7 * norm(trained())
    assert share_of_zeros(small) < 0.1


def roughness(filters: Tensor) -> float:
    down, right = np.diff(filters.numpy(), axis=-2), np.diff(filters.numpy(), axis=-1)
    return float((down**2).sum() + (right**2).sum())


def first_layer(task: Any) -> Tensor:
    weight = matrices(task)[0]
    return weight.view(-1, 1, 8, 8) if weight.ndim == 2 else weight


@pytest.mark.parametrize("model", [{"kind": "mlp", "widths": [8]}, {"kind": "cnn", "channels": [3], "widths": [5]}])
def test_tikhonov_is_the_squared_difference_of_neighbours(model: dict[str, Any]) -> None:
    """wᵀΓᵀΓw: neighbours in the image that a unit looks at, or in a filter; layers further up have no neighbours."""
    task = task_of(spec_of(model=model, regularization={"tikhonov": 0.7}))
    assert float(task.updater.penalty().detach()) == pytest.approx(0.7 * roughness(first_layer(task)), rel=1e-5)


@pytest.mark.parametrize("model", [{"kind": "mlp", "widths": [8]}, {"kind": "cnn", "channels": [3], "kernel": 5}])
def test_tikhonov_makes_filters_smoother(model: dict[str, Any]) -> None:
    def relative(task: Any) -> float:
        filters = first_layer(task)
        return roughness(filters) / float(filters.square().sum())

    smooth, plain = trained(model=model, regularization={"tikhonov": 0.05}), trained(model=model)
    assert relative(smooth) < 0.6 * relative(plain)


def test_tikhonov_has_nothing_to_smooth_where_nothing_has_neighbours() -> None:
    flat = nn.Sequential(nn.Linear(6, 3), nn.Conv2d(3, 3, 1))
    assert float(tikhonov(flat, [p for p in flat.parameters() if p.ndim > 1], 1.0)) == 0


def test_the_penalty_is_a_column_of_its_own_and_not_part_of_the_loss() -> None:
    plain, punished = task_of(spec_of()), task_of(spec_of(regularization={"l2": 0.1}))
    expected = 0.1 * sum(weight.square().sum() for weight in matrices(punished))
    for task in (plain, punished):
        task.begin_epoch(0)
    rows = [dict(zip(task.columns, task.step(0, 0.1), strict=True)) for task in (plain, punished)]
    assert rows[0]["loss"] == rows[1]["loss"]
    assert rows[0]["penalty"] == 0
    torch.testing.assert_close(rows[1]["penalty"], expected)
    assert rows[0]["grad_norm"] != rows[1]["grad_norm"]


# --- weight decay ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(OPTIMIZERS))
def test_weight_decay_shrinks_weights_by_exactly_lr_times_it_where_the_gradient_is_zero(kind: str) -> None:
    model = Quadratic(torch.float32)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    updater = Updater(model, build_spec({"optimizer": {"kind": kind, "weight_decay": 0.3}}))
    lr = 0.1
    for step in (1, 2):
        loss = 0 * model.loss()
        updater.backward(loss)
        updater.step(loss.detach(), lr)
        torch.testing.assert_close(model.matrix.detach(), before["matrix"] * (1 - lr * 0.3) ** step)
        assert torch.equal(model.vector.detach(), before["vector"])  # biases do not decay


@pytest.mark.parametrize("kind", sorted(OPTIMIZERS))
def test_weight_decay_reaches_the_filters_of_a_cnn(kind: str) -> None:
    def moved(decay: float) -> tuple[Tensor, Tensor]:
        task = task_of(
            spec_of(model={"kind": "cnn", "channels": [3]}, optimizer={"kind": kind, "lr": 0.01, "weight_decay": decay})
        )
        start = matrices(task)[0].clone()
        task.begin_epoch(0)
        task.step(0, 0.01)
        return start, matrices(task)[0]

    (start, without), (_, with_decay) = moved(0.0), moved(0.5)
    torch.testing.assert_close(without - with_decay, 0.01 * 0.5 * start, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw", "muon"])
def test_weight_decay_may_change_while_training(kind: str) -> None:
    model = Quadratic(torch.float32)
    before = model.matrix.detach().clone()
    updater = Updater(model, build_spec({"optimizer": {"kind": kind, "weight_decay": 0.0}}))
    for decay, share in ((0.0, 1.0), (0.5, 0.95)):
        updater.configure(build_spec({"optimizer": {"kind": kind, "weight_decay": decay}}))
        loss = 0 * model.loss()
        updater.backward(loss)
        updater.step(loss.detach(), 0.1)
        torch.testing.assert_close(model.matrix.detach(), before * share)


# --- dropout ---------------------------------------------------------------------------------------------------------


DROPPING = [
    ("mlp", {"widths": [64]}),
    ("cnn", {"channels": [16]}),
    ("cnn", {"channels": [4], "widths": [64]}),
    ("resnet", {"channels": [8, 16], "residual": [False, True]}),
]


@pytest.mark.parametrize(("kind", "settings"), DROPPING)
def test_dropout_is_at_work_in_training_and_not_in_evaluation(kind: str, settings: dict[str, Any]) -> None:
    task = task_of(spec_of(model={"kind": kind, **settings}, regularization={"dropout": 0.5}))
    images = task.normalised(task.data.train.images[:40])
    task.model.eval()
    plain = task.model(images)
    assert torch.equal(plain, task.model(images))
    task.model.train()
    set_dropout(task.model, 0.0)
    if kind != "resnet":  # whose batch norm also tells training from evaluation
        torch.testing.assert_close(task.model(images), plain)
    set_dropout(task.model, 0.5)
    assert not torch.equal(task.model(images), task.model(images))


def test_dropout_zeroes_its_share_and_scales_up_the_rest() -> None:
    """h · m / (1 − p), m ~ Bernoulli(1 − p)."""
    task = task_of(spec_of(model={"widths": [400], "activation": "sigmoid"}, regularization={"dropout": 0.25}))
    images = task.normalised(task.data.train.images)
    kept = task.model.eval().features(images)
    dropped = task.model.train().features(images)
    alive = dropped != 0
    assert float(alive.float().mean()) == pytest.approx(0.75, abs=0.01)
    torch.testing.assert_close(dropped[alive], kept[alive] / 0.75)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", MODELS.for_task("language"))
def test_dropout_of_recurrent_models_reads_the_live_share(kind: str, layers: int) -> None:
    model = {"kind": kind, "width": 8, "embedding": 4, "layers": layers, "unroll": 8}
    task = task_of(spec_of("language", model=model))
    ids, start = task.data.train[:16].view(2, 8), task.model.start(2)
    outputs = {}
    for share in (0.0, 0.6):
        task.configure(spec_of("language", model=model, regularization={"dropout": share}))
        task.model.train()
        outputs[share] = [task.model(ids, start)[0] for _ in range(2)]
        assert task.model.cell.dropout == (share if layers > 1 else 0.0)
        task.model.eval()
        torch.testing.assert_close(task.model(ids, start)[0], outputs[0.0][0])
    assert torch.equal(*outputs[0.0])
    assert not torch.equal(*outputs[0.6])


def test_dropout_of_a_gan_is_in_the_discriminator_only() -> None:
    task = task_of(spec_of("gan", regularization={"dropout": 0.5}))
    shares = {
        name: [module.p for module in model.modules() if isinstance(module, nn.Dropout)]
        for name, model in (("generator", task.generator), ("discriminator", task.discriminator))
    }
    assert set(shares["discriminator"]) == {0.5}
    assert set(shares["generator"]) <= {0.0}


def test_a_live_change_of_dropout_takes_effect_at_the_next_step() -> None:
    spec = spec_of(model={"widths": [32]}, optimizer={"kind": "sgd"}, training={"epochs": 2, "batch_size": 50})
    runs = {}
    for at in (None, 3):
        task = task_of(spec)
        lines = {} if at is None else {at: ["set regularization.dropout=0.9"]}
        control = Script(partial(steps_of, task), lines)
        runs[at] = columns(run_all(task, spec, control))["loss"]
    assert runs[None][:3] == runs[3][:3]
    assert runs[None][3] != runs[3][3]


# --- gradient and weights --------------------------------------------------------------------------------------------


def one_step(**groups: Any) -> tuple[Tensor, Tensor]:
    """Return the gradient that SGD has followed in one step, and the length that the step has reported."""
    task = task_of(spec_of(optimizer={"kind": "sgd"}, **groups))
    before = weights(task)
    task.begin_epoch(0)
    row = dict(zip(task.columns, task.step(0, 1.0), strict=True))
    return torch.cat([(before[name] - value).flatten() for name, value in task.state().items()]), row["grad_norm"]


def test_clip_norm_shortens_a_gradient_that_is_too_long_and_no_other() -> None:
    free, length = one_step()
    torch.testing.assert_close(free.norm(), length, rtol=1e-4, atol=0)
    for limit, expected in ((float(length) / 4, free / 4), (float(length) * 2, free)):
        clipped, shown = one_step(regularization={"clip_norm": limit})
        torch.testing.assert_close(clipped, expected, rtol=1e-3, atol=1e-6)
        assert shown == length  # what is shown is the length before clipping


def test_clip_value_cuts_each_number_of_the_gradient() -> None:
    free, length = one_step()
    limit = float(free.abs().quantile(0.7))
    clipped, shown = one_step(regularization={"clip_value": limit})
    torch.testing.assert_close(clipped, free.clamp(-limit, limit), rtol=1e-3, atol=1e-6)
    assert shown == length


def test_clipping_bounds_the_penalty_too() -> None:
    clipped, shown = one_step(regularization={"l2": 10.0, "clip_norm": 0.5})
    assert shown > 5
    assert float(clipped.norm()) == pytest.approx(0.5, rel=1e-3)


def test_max_norm_scales_back_long_rows_only() -> None:
    limit = 0.6
    choices: list[dict[str, Any]] = [{}, {"regularization": {"max_norm": limit}}]
    free, capped = (
        task_of(spec_of(model={"init": "normal", "init_std": 0.08}, optimizer={"kind": "sgd"}, **groups))
        for groups in choices
    )
    for task in (free, capped):
        task.begin_epoch(0)
        task.step(0, 0.1)
    lengths = []
    for before, after in zip(matrices(free), matrices(capped), strict=True):
        length = before.norm(dim=1, keepdim=True)
        torch.testing.assert_close(after, before * (limit / length).clamp(max=1), rtol=1e-5, atol=1e-7)
        lengths.append(length.flatten())
    joined = torch.cat(lengths)
    assert (joined > limit).any() and (joined < limit).any()
    for name, value in free.state().items():
        assert "bias" not in name or torch.equal(value, capped.state()[name])


def test_max_norm_holds_through_a_training() -> None:
    task = trained(regularization={"max_norm": 0.8}, model={"kind": "cnn", "channels": [4], "widths": [6]})
    for weight in matrices(task):
        assert weight.flatten(1).norm(dim=1).max() <= 0.8 * (1 + 1e-5)


# --- the others ------------------------------------------------------------------------------------------------------


def test_label_smoothing_gives_its_share_to_all_classes() -> None:
    """Target y(1 − ε) + ε/K; loss −Σ y log p."""
    losses = {}
    for share in (0.0, 0.3):
        task = task_of(spec_of(regularization={"label_smoothing": share}))
        task.begin_epoch(0)
        batch = task.order[:50]
        logits = task.logits(task.data.train.images[batch]).double().numpy()
        targets = task.data.train.targets[batch].numpy()
        logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        soft = np.eye(4)[targets] * (1 - share) + share / 4
        losses[share] = float(task.step(0, 0.1)[0])
        assert losses[share] == pytest.approx(float(-(soft * logs).sum(1).mean()), rel=1e-5)
    assert losses[0.0] != losses[0.3]


def test_label_smoothing_does_not_touch_what_is_measured() -> None:
    plain, smooth = task_of(spec_of()), task_of(spec_of(regularization={"label_smoothing": 0.5}))
    assert done(plain.evaluate()).metrics == done(smooth.evaluate()).metrics


@pytest.mark.parametrize("kind", MODELS.for_task("classification"))
def test_batch_norm_normalises_each_hidden_unit_over_the_batch(kind: str) -> None:
    side = 28 if kind == "lenet5" else 8
    small = {"mlp": {"widths": [8, 8]}, "cnn": {"channels": [4, 4]}, "resnet": {"channels": [4, 8]}}
    model = {"kind": kind, **small.get(kind, {})}
    task = task_of(spec_of(model={**model, "batch_norm": True}), image_data(side=side))
    seen: list[Tensor] = []
    for module in task.model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.register_forward_hook(lambda _, __, output: seen.append(output.detach()))
    task.model.train()
    task.model(task.normalised(task.data.train.images))
    assert len(seen) >= 2
    for output in seen:
        units = output.transpose(0, 1).flatten(1)
        torch.testing.assert_close(units.mean(1), torch.zeros(len(units)), atol=1e-3, rtol=0)
        spread = units.std(1)
        assert ((spread - 1).abs() < 0.02).logical_or(spread < 1e-3).all()  # a unit that never varies stays at 0
        assert (spread > 0.9).float().mean() > 0.7
    bare = task_of(spec_of(model={**model, "batch_norm": False}), image_data(side=side)).model
    assert not any(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in bare.modules())


def test_early_stopping_stops_with_a_reason_and_tests_the_best_weights() -> None:
    task = Scripted([0.1, 0.5, 0.3, 0.5, 0.9], steps_per_epoch=2)
    spec = spec_of(early_stopping={"patience": 2}, training={"epochs": 50})
    stream = run_all(task, spec)
    end = finished(stream)
    assert (end.status, end.step) == ("completed", 8)  # 0.5 again is no better, and 0.9 was never reached
    assert "early stopping" in end.reason and "val_accuracy" in end.reason and "step 4" in end.reason
    assert end.metrics["test_weight"] == end.metrics["best_step"] == 4
    assert end.metrics["best_val_accuracy"] == 0.5


def test_min_delta_is_what_an_improvement_must_exceed() -> None:
    task = Scripted([0.1, 0.5, 0.55, 0.58, 0.9], steps_per_epoch=2)
    stream = run_all(task, spec_of(early_stopping={"patience": 2, "min_delta": 0.1}, training={"epochs": 50}))
    assert finished(stream).step == 8
    assert [event.best for event in of(events.Evaluated, stream)] == [True, True, False, False, False]


def test_without_patience_no_run_stops_early() -> None:
    stream = run_all(Scripted([0.9] + [0.1] * 9, steps_per_epoch=1), spec_of(training={"epochs": 10}))
    assert finished(stream).step == 10
    assert finished(stream).metrics["test_weight"] == 1


def test_augmentation_changes_training_images_only(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    genuine = augment

    def spy(images: Tensor, *rest: Any) -> Tensor:
        calls.append(len(images))
        changed = genuine(images, *rest)
        assert not torch.equal(changed, images)
        return changed

    monkeypatch.setattr("tuidl.train.tasks.classification.augment", spy)
    spec = spec_of(augmentation={"noise": 0.5, "flip": 0.5, "shift": 2.0}, training={"batch_size": 50})
    task, plain = task_of(spec), task_of(spec_of())
    before = {name: getattr(task.data, name).images.clone() for name in ("train", "val", "test")}
    assert same(task.state(), plain.state())
    assert done(task.evaluate()).metrics == done(plain.evaluate()).metrics
    assert done(task.test()).metrics == done(plain.test()).metrics
    assert calls == []
    for each in (task, plain):
        each.begin_epoch(0)
    assert task.step(0, 0.1)[0] != plain.step(0, 0.1)[0]
    assert calls == [50]
    done(task.evaluate())
    assert calls == [50]
    assert all(torch.equal(getattr(task.data, name).images, images) for name, images in before.items())


def test_strength_of_augmentation_may_change_while_training() -> None:
    spec = spec_of(training={"epochs": 2, "batch_size": 50})
    runs = {}
    for lines in ({}, {2: ["set augmentation.noise=1.0"]}):
        task = task_of(spec)
        control = Script(partial(steps_of, task), dict(lines))
        runs[bool(lines)] = columns(run_all(task, spec, control))["loss"]
    assert runs[False][:2] == runs[True][:2]
    assert runs[False][2] != runs[True][2]


def test_augmentation_differs_from_step_to_step_and_from_seed_to_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def spy(images: Tensor, *rest: Any) -> Tensor:
        seen.append(augment(torch.zeros_like(images), *rest))
        return images

    monkeypatch.setattr("tuidl.train.tasks.classification.augment", spy)
    for seed in (0, 0, 1):
        task = task_of(spec_of(augmentation={"noise": 0.5}, seed=seed))
        task.begin_epoch(0)
        for index in range(2):
            task.step(index, 0.1)
    first, second, again, _, other, _ = seen
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert not torch.equal(first, other)
