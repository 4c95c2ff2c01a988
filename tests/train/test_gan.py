"""What a step of a GAN is, and what it draws with."""

from typing import Any

import pytest
import torch

from tuidl.train import events
from tuidl.train.tasks.gan import Gan

from .tiny import done, image_data, of, run_all, same, spec_of, task_of, weights


def gan(**groups: Any) -> Gan:
    task = task_of(spec_of("gan", **groups))
    assert isinstance(task, Gan)
    return task


@pytest.mark.parametrize("d_steps", [1, 3])
def test_a_step_moves_the_discriminator_d_times_and_the_generator_once(d_steps: int) -> None:
    task = gan(loss={"kind": "non-saturating", "d_steps": d_steps}, training={"batch_size": 20})
    assert task.steps_per_epoch == 200 // (20 * d_steps)
    seen: list[torch.Tensor] = []
    genuine = task.scaled

    def spy(images: torch.Tensor) -> torch.Tensor:
        seen.append(images)
        return genuine(images)

    moved: list[str] = []
    for name in ("d_updater", "g_updater"):
        updater = getattr(task, name)
        step = updater.step
        updater.step = lambda *given, name=name, step=step: moved.append(name) or step(*given)
    task.scaled = spy  # type: ignore[method-assign]
    task.begin_epoch(0)
    for index in range(task.steps_per_epoch):
        task.step(index, 0.001)
    assert moved == [*["d_updater"] * d_steps, "g_updater"] * task.steps_per_epoch
    assert len(seen) == d_steps * task.steps_per_epoch
    shown = task.data.train.images[task.order[: 20 * len(seen)]]
    assert torch.equal(torch.cat(seen), shown)  # each image once


def test_neither_player_moves_the_other() -> None:
    task = gan()
    task.begin_epoch(0)
    batch = [task.order[:20]]
    players: list[torch.nn.Module] = [task.discriminator, task.generator]
    for moved, kept in (players, players[::-1]):
        before = {model: {k: v.detach().clone() for k, v in model.named_parameters()} for model in players}
        if moved is task.discriminator:
            task._teach_discriminator(batch, 0.01)
        else:
            task._teach_generator([20], 0.01, measure=False)
        assert same(dict(kept.named_parameters()), before[kept])
        assert all(parameter.grad is None for parameter in kept.parameters())
        assert not same(dict(moved.named_parameters()), before[moved])


def test_d_lr_factor_multiplies_the_rate_of_the_discriminator_alone_and_is_live() -> None:
    moved = {}
    for factor in (1.0, 0.25):
        loss = {"kind": "least-squares", "d_lr_factor": factor}
        task = gan(optimizer={"kind": "sgd"}, loss={"kind": "least-squares"})
        task.configure(spec_of("gan", optimizer={"kind": "sgd"}, loss=loss))
        before = weights(task)
        task.begin_epoch(0)
        task._teach_discriminator([task.order[:20]], 0.1)
        moved[factor] = weights(task)["discriminator.body.1.weight"] - before["discriminator.body.1.weight"]
    torch.testing.assert_close(moved[0.25], moved[1.0] / 4)


def test_images_become_numbers_from_minus_one_to_one_and_back() -> None:
    task = gan()
    levels = torch.arange(256, dtype=torch.uint8).view(4, 1, 8, 8)
    scaled = task.scaled(levels)
    assert (float(scaled.min()), float(scaled.max())) == (-1.0, 1.0)
    task.g_updater.model = torch.nn.Identity()
    assert torch.equal(task.draw(scaled), levels)


def test_the_same_noise_draws_the_same_grid() -> None:
    task = gan(evaluation={"sample_images": 9, "score_images": 100})
    (first,) = done(task.sample()).artifacts  # type: ignore[union-attr]
    (second,) = done(task.sample()).artifacts  # type: ignore[union-attr]
    assert first == second
    assert first.details == {"kind": "grid", "count": 9, "columns": 3, "height": 8, "width": 8}
    assert first.data.startswith(b"\x89PNG")


def test_state_and_load_are_a_round_trip_of_both_models() -> None:
    task, other = gan(), gan(seed=3)
    assert not same(task.state(), other.state())
    other.load(weights(task))
    assert same(task.state(), other.state())


def test_evaluation_says_what_the_judge_has_found() -> None:
    spec = spec_of("gan")
    task = task_of(spec)
    stream = run_all(task, spec)
    val, test = (event.report for event in of(events.Evaluated, stream))
    assert set(val.metrics) == {"score", "frechet", "classes", "scorer_accuracy"}
    assert set(test.metrics) == {"test_score", "test_frechet", "test_classes", "scorer_accuracy"}
    assert 1 <= val.metrics["score"] <= 4
    assert val.metrics["frechet"] >= 0
    assert 0 <= val.metrics["classes"] <= 4
    assert [artifact.name for artifact in (*val.artifacts, *test.artifacts)] == [
        "val_histogram.json", "test_histogram.json",
    ]  # fmt: skip


def test_more_discriminator_steps_than_images_are_refused_or_done() -> None:
    task = task_of(
        spec_of("gan", loss={"kind": "wgan-gp", "d_steps": 20}, training={"batch_size": 50}), image_data(count=60)
    )
    assert task.batch_size == 3 and task.steps_per_epoch == 1
