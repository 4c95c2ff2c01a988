"""The tricks that a preset may switch on: whitening filters, looking at the mirror image too, compiling."""

import shutil

import pytest
import torch
from torch.nn import functional as F

from tuidl.train.models.layers import whiten
from tuidl.train.session import translate

from .tiny import image_data, spec_of, task_of

CONV = {"kind": "cnn", "channels": [20, 4]}


def test_whitened_filters_answer_uncorrelated_and_alike_strong() -> None:
    torch.manual_seed(0)
    images = F.avg_pool2d(torch.randn(200, 3, 12, 12), 3, 1)  # neighbours are alike, as in photographs
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 60, 3, bias=False), torch.nn.ReLU(), torch.nn.Conv2d(60, 5, 3))
    before, later = model[0].weight.detach().clone(), model[2].weight.detach().clone()
    whiten(model, images)
    filters = model[0].weight.detach()
    assert torch.equal(filters[27:54], -filters[:27]), "the other half are the negatives"
    assert torch.equal(filters[54:], before[54:]) and torch.equal(model[2].weight, later), "the rest is as it was"
    answers = F.conv2d(images, filters[:27]).transpose(0, 1).flatten(1)
    covariance = answers @ answers.T / answers.shape[1]
    strong = covariance.diag() > 0.9  # what hardly varies at all is not blown up
    assert strong.sum() > 9
    assert torch.allclose(covariance[strong][:, strong], torch.eye(int(strong.sum())), atol=0.1)


def test_few_filters_take_the_strongest_directions() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 5, 3))
    whiten(model, torch.rand(50, 1, 8, 8))
    first, second, third, fourth, _ = model[0].weight.detach()
    assert torch.equal(first, -third) and torch.equal(second, -fourth)
    assert first.std() < 0.2 * first.mean().abs(), "the mean of the patch varies most"


def test_whitening_is_an_option_of_the_model_and_decided_by_the_data_alone() -> None:
    plain, one, other = (
        task_of(spec_of(model={**CONV, "first_filters": name}, seed=seed)).model.body[0].weight
        for name, seed in (("random", 0), ("whitening", 0), ("whitening", 1))
    )
    assert not torch.equal(plain, one)
    assert torch.equal(one[:18], other[:18]) and not torch.equal(one[18:], other[18:])


def test_whitened_filters_stay_while_the_others_learn() -> None:
    settings = {**CONV, "first_filters": "whitening"}
    task = task_of(spec_of(model=settings, optimizer={"kind": "adamw", "weight_decay": 0.5}))
    before = {name: value.clone() for name, value in task.state().items()}
    assert task.parameters == sum(value.numel() for value in before.values()) - before["body.0.weight"].numel()
    task.begin_epoch(0)
    for index in range(3):
        task.step(index, 0.05)
    same = {name for name, value in task.state().items() if torch.equal(value, before[name])}
    assert same == {"body.0.weight"}


def test_mirror_judges_by_both_sides() -> None:
    data = image_data()
    images = data.val.images[:5]
    plain, both = (task_of(spec_of(model=CONV, evaluation={"mirror": mirror})) for mirror in (False, True))
    plain.model.eval(), both.model.eval()
    expected = (plain.logits(images) + plain.logits(images.flip(-1))) / 2
    assert torch.allclose(both.logits(images), expected, atol=1e-6)
    assert torch.allclose(both.logits(images.flip(-1)), expected, atol=1e-6)
    assert not torch.allclose(plain.logits(images), expected, atol=1e-4)


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_a_compiled_model_learns_the_same_under_the_same_names() -> None:
    plain, compiled = (task_of(spec_of(training={"compile": on})) for on in (False, True))
    assert plain.state().keys() == compiled.state().keys()
    for task in (plain, compiled):
        task.begin_epoch(0)
    for index in range(3):
        one, other = plain.step(index, 0.05), compiled.step(index, 0.05)
        assert [float(value) for value in other] == pytest.approx([float(value) for value in one], rel=1e-3)
    assert torch._dynamo.utils.counters["frames"]["ok"] >= 1, "nothing was compiled"


def test_a_compiler_that_fails_is_told_with_what_to_do() -> None:
    class FailedError(RuntimeError):
        __module__ = "torch._inductor.exc"

    assert "training.compile=false" in str(translate(FailedError("g++ not found\nmore")))
