"""The language model: its losses are what they are called, it learns, it writes, and its memory matters."""

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
import torch

from tuidl.errors import UsageError
from tuidl.spec.models import MODELS
from tuidl.train.tasks.language import Language

from .tiny import TEXT, done, finished, run_all, spec_of, task_of, text_data, weights

ALPHABET = "abcdefghij" * 60


def language(text: str = TEXT, **groups: Any) -> Language:
    task = task_of(spec_of("language", **groups), text_data(text))
    assert isinstance(task, Language)
    return task


def train(task: Language, epochs: int, lr: float = 0.02) -> None:
    for epoch in range(epochs):
        task.begin_epoch(epoch)
        for index in range(task.steps_per_epoch):
            task.step(index, lr)


@pytest.mark.parametrize("kind", MODELS.for_task("language"))
def test_an_untrained_model_is_as_surprised_as_one_that_knows_nothing(kind: str) -> None:
    """val_loss ≈ ln V: every character of the vocabulary is as likely as any other."""
    task = language(model={"kind": kind, "width": 12, "embedding": 6, "unroll": 8, "init": "normal", "init_std": 0.02})
    metrics = done(task.evaluate()).metrics
    assert metrics["val_loss"] == pytest.approx(math.log(len(task.data.vocabulary)), rel=0.01)


def test_bits_a_character_are_nats_divided_by_ln_2() -> None:
    task = language()
    for report, name in ((done(task.evaluate()), "val"), (done(task.test()), "test")):
        assert report.metrics[f"{name}_bpc"] == pytest.approx(report.metrics[f"{name}_loss"] / math.log(2))
        assert set(report.metrics) == {f"{name}_loss", f"{name}_bpc", f"{name}_accuracy"}


def test_val_loss_is_the_mean_surprise_at_each_next_character() -> None:
    """Checked on a text so short that it is read as one stream."""
    task = language(TEXT[:300], model={"unroll": 8})
    train(task, 1)
    text = task.data.val
    assert len(text) < 4 * 8 * 2
    logits, _ = task.model(text[None, :-1], task.model.start(1))
    scores, truth = logits[0].detach().double().numpy(), text[1:].numpy()
    surprise = np.log(np.exp(scores).sum(1)) - scores[np.arange(len(truth)), truth]
    metrics = done(task.evaluate()).metrics
    assert metrics["val_loss"] == pytest.approx(surprise.mean(), rel=1e-5)
    assert metrics["val_accuracy"] == pytest.approx((scores.argmax(1) == truth).mean())


def test_a_long_text_is_measured_in_chunks_that_hand_on_the_memory() -> None:
    """Chunks are 256 characters long; `unroll` 512 makes one stream of a text of 840."""
    task = language(TEXT * 6, model={"unroll": 512}, training={"batch_size": 1})
    train(task, 1)
    text = task.data.val
    assert len(text) > 3 * 256
    total, memory = 0.0, task.model.eval().start(1)
    for start in range(0, len(text) - 1, 100):
        end = min(start + 100, len(text) - 1)
        with torch.no_grad():
            logits, memory = task.model(text[None, start:end], memory)
        total += float(torch.nn.functional.cross_entropy(logits[0], text[start + 1 : end + 1], reduction="sum"))
    assert len(list(task.evaluate())) == 4
    assert done(task.evaluate()).metrics["val_loss"] == pytest.approx(total / (len(text) - 1), rel=1e-5)


@pytest.mark.parametrize("kind", MODELS.for_task("language"))
@pytest.mark.parametrize("carry", [True, False])
def test_a_text_that_repeats_is_soon_known_by_heart(kind: str, carry: bool) -> None:
    model = {"kind": kind, "width": 24, "embedding": 8, "unroll": 10, "carry_state": carry}
    spec = spec_of("language", model=model, optimizer={"lr": 0.03}, training={"epochs": 15, "batch_size": 8})
    task = task_of(spec, text_data(ALPHABET))
    assert done(task.evaluate()).metrics["val_loss"] > 2
    end = finished(run_all(task, spec))
    assert end.metrics["test_loss"] < 0.1
    assert end.metrics["test_accuracy"] > 0.98


def samples(task: Language) -> dict[str, Any]:
    report = done(task.sample())
    assert report is not None
    (artifact,) = report.artifacts
    found: dict[str, Any] = json.loads(artifact.data)
    return found


def test_samples_come_from_the_vocabulary_at_each_temperature_and_repeat_for_the_same_weights() -> None:
    task = language(evaluation={"temperatures": [0.3, 1.0, 2.0], "sample_length": 150, "prompt": "the"})
    first = samples(task)
    assert first == samples(task)
    assert first["prompt"] == "the"
    assert [sample["temperature"] for sample in first["samples"]] == [0.3, 1.0, 2.0]
    texts = [sample["text"] for sample in first["samples"]]
    assert len(set(texts)) == 3
    for text in texts:
        assert len(text) == 150
        assert set(text) <= set(task.data.vocabulary)
    train(task, 2)
    assert samples(task)["samples"] != first["samples"]


def test_low_temperatures_repeat_the_likely_and_high_ones_invent() -> None:
    task = language(ALPHABET, model={"width": 24}, evaluation={"temperatures": [0.05, 5.0], "sample_length": 100})
    train(task, 15)
    cold, hot = (sample["text"] for sample in samples(task)["samples"])
    start = task.data.vocabulary.index(cold[0])
    assert cold == ("abcdefghij" * 11)[start:][:100]
    right = sum(first + second in "abcdefghija" for first, second in itertools.pairwise(hot))
    assert right < 80


def test_temperatures_may_change_while_training() -> None:
    task = language()
    task.configure(spec_of("language", evaluation={"temperatures": [0.9]}))
    assert [sample["temperature"] for sample in samples(task)["samples"]] == [0.9]


@pytest.mark.parametrize(("prompt", "used"), [("the cat", "the cat"), ("THE cat§", " cat"), ("ÄÖÜ", None), ("", None)])
def test_characters_of_the_prompt_that_the_text_does_not_have_are_left_out(prompt: str, used: str | None) -> None:
    task = language(evaluation={"prompt": prompt, "sample_length": 5})
    assert samples(task)["prompt"] == (used if used is not None else task.data.vocabulary[0])


def test_sampling_and_evaluating_leave_weights_memory_and_mode_alone() -> None:
    task = language()
    train(task, 1)
    before, memory = weights(task), [part.clone() for part in task.memory]
    done(task.evaluate())
    done(task.sample())
    assert all(torch.equal(value, before[name]) for name, value in task.state().items())
    assert all(torch.equal(*pair) for pair in zip(task.memory, memory, strict=True))
    assert task.model.training


@pytest.mark.parametrize("carry", [True, False])
def test_with_carried_state_two_steps_read_on_and_without_it_each_starts_empty(carry: bool) -> None:
    task = language(model={"carry_state": carry})
    task.begin_epoch(0)
    start = task.model.start(task.streams)
    state = start
    for index in range(3):
        at = task.starts[index][:, None] + task.reach
        logits, after = task.model(task.data.train[at], state)
        expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), task.data.train[at + 1].flatten())
        state = after if carry else start
        found = task.step(index, 0.0)[0]  # a rate of 0 leaves the weights alone
        torch.testing.assert_close(found, expected.detach())
        if carry:
            assert torch.equal(task.starts[index] + task.unroll, task.starts[index + 1])
    task.begin_epoch(1)
    assert all(not part.any() for part in task.memory)  # an epoch begins with an empty memory


def test_memory_outlasts_the_unroll() -> None:
    """In a text of pairs that are far apart, only a memory that is carried on knows what is due."""
    random = np.random.default_rng(0)
    # each block says one of two letters, ten dots, and the letter again: 12 characters, unrolled 4 at a time
    text = "".join(f"{letter}..........{letter}" for letter in random.choice(list("xy"), 400))
    losses = {}
    for carry in (True, False):
        model = {"kind": "gru", "width": 24, "embedding": 8, "unroll": 4, "carry_state": carry}
        task = language(text, model=model, training={"batch_size": 8}, optimizer={"kind": "adam"})
        train(task, 12, lr=0.01)
        losses[carry] = done(task.evaluate()).metrics["val_loss"]
    assert losses[True] < losses[False] - 0.02


def test_no_gradient_flows_back_through_the_carried_state() -> None:
    task = language()
    task.begin_epoch(0)
    for index in range(3):
        task.step(index, 0.01)
        assert all(part.grad_fn is None and not part.requires_grad for part in task.memory)


def test_full_batch_gradient_descent_reads_the_whole_text_in_a_step() -> None:
    task = language(optimizer={"kind": "gradient-descent"}, model={"carry_state": False})
    assert task.steps_per_epoch == 1
    task.begin_epoch(0)
    ids = torch.cat([task.starts[row][:, None] + task.reach for row in range(task.windows)])
    assert ids.numel() == ids.unique().numel() == task.windows * task.streams * task.unroll
    logits, _ = task.model(task.data.train[ids], task.model.start(len(ids)))
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), task.data.train[ids + 1].flatten())
    torch.testing.assert_close(task.step(0, 0.1)[0], expected.detach())


@pytest.mark.parametrize("carry", [True, False])
@pytest.mark.parametrize("length", [100, 130, 177, 1000, 5000])
@pytest.mark.parametrize(("unroll", "batch"), [(2, 1), (8, 8), (8, 500), (64, 64), (50, 1)])
def test_every_text_is_read_within_its_bounds_or_refused_with_advice(
    length: int, unroll: int, batch: int, carry: bool
) -> None:
    text = text_data((TEXT * 4)[:length])
    spec = spec_of(
        "language",
        model={"kind": "rnn", "width": 2, "embedding": 2, "unroll": unroll, "carry_state": carry},
        training={"batch_size": batch},
    )
    try:
        task = task_of(spec, text)
    except UsageError as error:
        assert "model.unroll" in str(error)
        return
    for epoch in range(3):
        task.begin_epoch(epoch)
        assert int(task.starts.min()) >= 0
        assert int(task.starts.max()) + unroll < len(text.train)
        assert task.starts.shape == (task.steps_per_epoch, task.streams)
    task.step(0, 0.01)
    done(task.evaluate())
