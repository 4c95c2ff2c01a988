"""The judge of drawn images: its two numbers have the values that theory says, and it is trained once and kept."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import platformdirs
import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from tuidl.train import scorer
from tuidl.train.data.load import ImageData, ImageSplit
from tuidl.train.scorer import Scorer, frechet_distance, inception_score, load_scorer, moments

from .tiny import HARDWARE, done, image_data


def drawn_like(count: int, features: int, seed: int = 0) -> Tensor:
    return torch.randn(count, features, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("classes", [2, 4, 10])
def test_score_is_the_number_of_classes_for_sure_and_balanced_predictions(classes: int) -> None:
    assert inception_score(torch.eye(classes, dtype=torch.float64).repeat(7, 1)) == pytest.approx(classes)


@pytest.mark.parametrize("row", [[0.1, 0.2, 0.7], [1.0, 0.0, 0.0], [1 / 3] * 3])
def test_score_is_one_where_every_image_gets_the_same_prediction(row: list[float]) -> None:
    assert inception_score(torch.tensor([row] * 50, dtype=torch.float64)) == pytest.approx(1)


def test_score_by_hand() -> None:
    """exp of the mean KL of (¾, ¼) and (¼, ¾) from (½, ½)."""
    predictions = torch.tensor([[0.75, 0.25], [0.25, 0.75]], dtype=torch.float64)
    expected = math.exp(0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5))
    assert inception_score(predictions) == pytest.approx(expected)


def test_moments_are_mean_and_covariance() -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 6.0], [5.0, 1.0]])
    mean, covariance = moments(x)
    assert mean.tolist() == [3.0, 3.0]
    torch.testing.assert_close(covariance, torch.tensor([[4.0, -1.0], [-1.0, 7.0]], dtype=torch.float64))


def test_distance_of_equal_moments_is_zero() -> None:
    both = moments(drawn_like(50, 8) @ drawn_like(8, 8, 1))
    assert frechet_distance(both, both) == pytest.approx(0, abs=1e-9)


def test_distance_of_normal_distributions_along_the_axes_has_a_closed_form() -> None:
    """‖μ₁ − μ₂‖² + Σ (σ₁ − σ₂)²."""
    mu_1, mu_2 = torch.tensor([0.0, 1.0, 2.0]).double(), torch.tensor([1.0, 1.0, -2.0]).double()
    std_1, std_2 = torch.tensor([1.0, 2.0, 0.0]).double(), torch.tensor([3.0, 0.5, 1.0]).double()
    expected = float((mu_1 - mu_2).square().sum() + (std_1 - std_2).square().sum())
    first, second = (mu_1, std_1.square().diag()), (mu_2, std_2.square().diag())
    assert frechet_distance(first, second) == pytest.approx(expected)
    assert frechet_distance(second, first) == pytest.approx(expected)
    # the same turned as a whole
    turn, _ = torch.linalg.qr(drawn_like(3, 3))
    turned = [(turn @ mean, turn @ covariance @ turn.T) for mean, covariance in (first, second)]
    assert frechet_distance(turned[0], turned[1]) == pytest.approx(expected)


def test_distance_is_sound_where_covariances_are_singular() -> None:
    few, many = moments(drawn_like(3, 20)), moments(drawn_like(500, 20, 1))
    assert math.isfinite(frechet_distance(few, many))
    assert frechet_distance(few, many) > 0


# --- the kept judge --------------------------------------------------------------------------------------------------


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that no other test has filled."""
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_, **__: tmp_path / "deep" / "cache")
    return tmp_path / "deep" / "cache"


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Tells how often a judge has been trained."""
    seen: list[str] = []
    genuine = scorer._train

    def count(task: Any, name: str) -> Iterator[str]:
        seen.append(name)
        return genuine(task, name)

    monkeypatch.setattr(scorer, "_train", count)
    return seen


def judge_of(data: ImageData) -> Scorer:
    return done(load_scorer(data, HARDWARE))


def state(judge: Scorer) -> dict[str, Tensor]:
    return judge.task.state()


def kept_file(cache: Path) -> Path:
    (path,) = cache.iterdir()
    return path


def test_the_judge_is_trained_once_and_read_again(own_cache: Path, trainings: list[str]) -> None:
    first = judge_of(image_data())
    assert trainings == ["tiny"]
    second = judge_of(image_data())
    assert trainings == ["tiny"]
    assert all(torch.equal(value, state(second)[name]) for name, value in state(first).items())
    assert (second.accuracy, second.trained_on) == (first.accuracy, "tiny")
    assert 0 <= first.accuracy <= 1


def test_other_data_has_another_judge(own_cache: Path, trainings: list[str]) -> None:
    for data in (image_data(), image_data(name="other"), image_data(seed=1)):
        judge_of(data)
    assert trainings == ["tiny", "other", "tiny"]
    assert len(list(own_cache.iterdir())) == 3


LIMITED = "a judge that learned from few images (data.train_limit) is kept under the name of the full one"


def test_fewer_training_images_have_another_judge(own_cache: Path, trainings: list[str]) -> None:
    data = image_data()
    few = replace(data, train=ImageSplit(data.train.images[:20], data.train.targets[:20]))
    judge_of(few)
    judge_of(data)
    assert trainings == ["tiny", "tiny"]


def damage(path: Path, how: str) -> None:
    whole = path.read_bytes()
    tensors = load(whole)
    first = "output.weight"
    match how:
        case "empty":
            path.write_bytes(b"")
        case "cut":
            path.write_bytes(whole[: len(whole) // 2])
        case "noise":
            path.write_bytes(bytes(range(256)) * 10)
        case "no accuracy":
            path.write_bytes(save(tensors))
        case "no number":
            path.write_bytes(save(tensors, {"accuracy": "high"}))
        case "other shapes":
            path.write_bytes(save({**tensors, first: torch.zeros(3)}, {"accuracy": "0.9"}))
        case "tensor missing":
            path.write_bytes(save({name: value for name, value in tensors.items() if name != first}, {"accuracy": "1"}))
        case "a directory":
            path.unlink()
            path.mkdir()


@pytest.mark.parametrize(
    "how", ["empty", "cut", "noise", "no accuracy", "no number", "other shapes", "tensor missing", "a directory"]
)
def test_a_damaged_file_is_trained_anew(own_cache: Path, trainings: list[str], how: str) -> None:
    first = judge_of(image_data())
    damage(kept_file(own_cache), how)
    again = judge_of(image_data())
    assert trainings == ["tiny", "tiny"]
    assert again.accuracy == pytest.approx(first.accuracy, abs=0.5)
    if how != "a directory":
        judge_of(image_data())
        assert trainings == ["tiny", "tiny"]  # what was kept now is sound


@pytest.mark.parametrize(
    "how",
    [
        "cut",
        "no accuracy",
    ],
)
def test_a_judge_trained_anew_is_the_same_as_the_first(own_cache: Path, how: str) -> None:
    first = judge_of(image_data())
    before = {name: value.clone() for name, value in state(first).items()}
    damage(kept_file(own_cache), how)
    assert all(torch.equal(value, before[name]) for name, value in state(judge_of(image_data())).items())


def test_a_cache_that_cannot_be_written_costs_only_the_training(
    own_cache: Path, tmp_path: Path, trainings: list[str]
) -> None:
    (tmp_path / "deep").write_text("a file where the folder should be")
    judge_of(image_data())
    judge_of(image_data())
    assert trainings == ["tiny", "tiny"]


def test_the_random_state_of_the_training_is_left_alone(own_cache: Path) -> None:
    torch.manual_seed(99)
    before = torch.get_rng_state()
    judge = judge_of(image_data())
    assert torch.equal(torch.get_rng_state(), before)
    data = image_data()
    done(judge.judge(data.test.images, data.val))
    judge_of(image_data())  # now from the cache
    assert torch.equal(torch.get_rng_state(), before)


def test_the_judge_does_not_depend_on_the_seed_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judges = []
    for seed in (1, 2):
        cache = tmp_path / str(seed)
        monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_, cache=cache, **__: cache)
        torch.manual_seed(seed)
        judges.append(state(judge_of(image_data())))
    assert all(torch.equal(value, judges[1][name]) for name, value in judges[0].items())


def test_whoever_stops_waiting_for_the_judge_has_his_random_state_back(own_cache: Path) -> None:
    torch.manual_seed(99)
    before = torch.get_rng_state()
    pieces = load_scorer(image_data(), HARDWARE)
    next(pieces)
    pieces.close()
    assert torch.equal(torch.get_rng_state(), before)


def test_training_the_judge_says_how_far_it_is(own_cache: Path) -> None:
    told = list(load_scorer(image_data(), HARDWARE))
    assert told and all("judge" in line and "tiny" in line for line in told)


# --- its verdict -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def able(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    """A judge that can tell the classes apart."""
    with pytest.MonkeyPatch.context() as patch:
        cache = tmp_path_factory.mktemp("able")
        patch.setattr(platformdirs, "user_cache_path", lambda *_, **__: cache)
        patch.setitem(scorer.JUDGE, "training", {"epochs": 30, "batch_size": 50})
        patch.setitem(scorer.JUDGE, "evaluation", {"probes": 0, "metric": "val_loss"})  # the surest, not the first
        judge = judge_of(image_data())
    assert judge.accuracy == 1.0
    return judge


def test_real_images_are_judged_as_good_as_can_be(able: Scorer) -> None:
    data = image_data()
    found = done(able.judge(data.val.images, data.val))
    assert found.frechet == pytest.approx(0, abs=1e-6)
    assert found.score > 3.5
    assert found.classes == 4
    assert found.histogram == pytest.approx([0.25] * 4)


def test_a_collapse_to_one_class_is_seen(able: Scorer) -> None:
    data = image_data()
    one = data.test.images[data.test.targets == 2].repeat(4, 1, 1, 1)
    found = done(able.judge(one, data.val))
    assert found.score < 1.2
    assert found.classes == 1
    assert found.histogram[2] == 1.0
    assert found.frechet > 10 * done(able.judge(data.test.images, data.val)).frechet


def test_noise_is_farther_away_than_real_images(able: Scorer) -> None:
    data = image_data()
    noise = torch.randint(0, 256, (60, 1, 8, 8), dtype=torch.uint8)
    assert done(able.judge(noise, data.val)).frechet > 5 * done(able.judge(data.test.images, data.val)).frechet


def test_a_class_counts_from_a_fifth_of_its_equal_share_on(able: Scorer) -> None:
    data = image_data()
    images = {label: data.train.images[data.train.targets == label] for label in range(4)}
    for rare, counted in ((5, 4), (4, 3)):  # of 100 images an equal share is 25, a fifth of that 5
        drawn = torch.cat([images[0][: 100 - 2 * 30 - rare], images[1][:30], images[2][:30], images[3][:rare]])
        found = done(able.judge(drawn, data.val))
        assert found.histogram[3] == pytest.approx(rare / 100)
        assert found.classes == counted


def test_the_verdict_is_read_in_pieces(able: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scorer, "EVALUATION_BATCH", 16)
    data = image_data()
    whole = done(able.judge(data.test.images, data.val))
    fresh = Scorer(able.task, able.accuracy, able.trained_on)
    told = list(fresh.judge(data.test.images, data.val))
    assert len(told) == 4 + 4
    assert done(fresh.judge(data.test.images, data.val)).frechet == pytest.approx(whole.frechet, rel=1e-3)
    assert json.dumps(whole.histogram)
