"""The drawn and collected stand-ins: repeatable, balanced, and as hard as they should be."""

import string

import numpy as np
import pytest
import torch
from torch import nn

from tuidl.train.data.standins import drawn_digits, drawn_shapes, python_docs


@pytest.mark.parametrize(("draw", "shape"), [(drawn_digits, (1, 28, 28)), (drawn_shapes, (3, 32, 32))])
def test_drawn_sets_are_repeatable_and_balanced(draw, shape):
    images, labels = draw(200, 5)
    again, same_labels = draw(200, 5)
    other, _ = draw(200, 6)
    assert images.shape == (200, *shape) and images.dtype == np.uint8 and labels.dtype == np.int64
    assert np.bincount(labels).tolist() == [20] * 10
    assert np.array_equal(images, again) and np.array_equal(labels, same_labels) and not np.array_equal(images, other)
    assert len(np.unique(images.reshape(200, -1), axis=0)) == 200
    assert not np.array_equal(labels, np.sort(labels))


@pytest.mark.parametrize("count", [0, 1, 3, 11])
@pytest.mark.parametrize("draw", [drawn_digits, drawn_shapes])
def test_any_number_can_be_drawn(draw, count):
    images, labels = draw(count, 0)
    assert len(images) == len(labels) == count


def test_python_docs_are_plain_and_repeatable():
    text = python_docs()
    assert 500_000 < len(text) < 5_000_000
    assert set(text) <= set(string.printable) - set("\t\r\v\f")
    assert text == python_docs()


@pytest.fixture
def _one_thread():
    """On a machine that others use too, threads of tiny kernels wait for each other far longer than they work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def accuracy(net: nn.Module, draw, train: int, epochs: int, rate: float) -> float:
    """Train `net` on `train` drawn images and return its accuracy on 1,500 others."""
    torch.manual_seed(0)
    images, labels = (torch.from_numpy(array) for array in draw(train, 1))
    test_images, test_labels = (torch.from_numpy(array) for array in draw(1500, 2))
    optimizer = torch.optim.Adam(net.parameters(), lr=rate)
    for _ in range(epochs):
        for part in torch.randperm(train).split(100):
            loss = nn.functional.cross_entropy(net(images[part].float() / 128 - 1), labels[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    net.eval()
    with torch.no_grad():
        return (net(test_images.float() / 128 - 1).argmax(1) == test_labels).float().mean().item()


def mlp(inputs: int) -> nn.Module:
    torch.manual_seed(0)
    hidden = (nn.Linear(inputs, 250), nn.ReLU(), nn.Linear(250, 100), nn.ReLU())
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(100, 10))


def cnn() -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(64, 10))


@pytest.mark.usefixtures("_one_thread")
def test_drawn_digits_are_learnable_but_not_trivial():
    assert 0.90 < accuracy(mlp(784), drawn_digits, 20_000, 5, 1e-3) < 0.99


@pytest.mark.usefixtures("_one_thread")
def test_drawn_shapes_need_convolution():
    dense = accuracy(mlp(3072), drawn_shapes, 6_000, 5, 1e-3)
    convolution = accuracy(cnn(), drawn_shapes, 6_000, 5, 2e-3)
    assert dense > 0.2  # more than guessing
    assert convolution > dense + 0.10
    assert convolution > 0.7
