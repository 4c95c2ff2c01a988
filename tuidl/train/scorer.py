"""tuidl's own judge of drawn images: a small CNN trained on the real ones, once, and kept.

The score is the Inception score (Salimans et al. 2016), the distance Fréchet's (Heusel et al. 2017), both with this
classifier in place of Inception: so neither compares to numbers published with Inception, and both depend on how many
images are drawn.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import platformdirs
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from tuidl.errors import StorageError
from tuidl.runs.atomic import write_atomic
from tuidl.spec.load import build_spec
from tuidl.train.data.load import ImageData, ImageSplit
from tuidl.train.device import Hardware
from tuidl.train.events import Evaluated, Heartbeat, Metrics
from tuidl.train.tasks.base import Pieces
from tuidl.train.tasks.classification import EVALUATION_BATCH, Classification

# what the judge is and how it learns; its numbers are part of the name under which it is kept
JUDGE = {
    "seed": 0,
    "model": {"kind": "cnn", "channels": [32, 64], "batch_norm": True, "widths": [64]},
    "optimizer": {"kind": "adam", "lr": 0.003},
    "schedule": {"kind": "one-cycle"},
    "training": {"epochs": 4, "batch_size": 128},
    "evaluation": {"probes": 0},
}


@dataclass(frozen=True)
class Judgement:
    """`score` 1..K, `frechet` ≥ 0, `classes` drawn at least a fifth of their equal share, and the share of each."""

    score: float
    frechet: float
    classes: int
    histogram: list[float]


class Scorer:
    """A classifier that judges drawn images; `accuracy` is its own on the test images."""

    def __init__(self, task: Classification, accuracy: float, trained_on: str) -> None:
        self.task, self.accuracy, self.trained_on = task, accuracy, trained_on
        self._real: dict[int, tuple[Tensor, Tensor]] = {}  # mean and covariance of the features of a split

    def judge(self, drawn: Tensor, real: ImageSplit) -> Pieces[Judgement]:
        """Return how good `drawn` (uint8 [N, C, H, W]) is, compared with `real`."""
        if id(real) not in self._real:
            features, _ = yield from self._look(real.images)
            self._real[id(real)] = moments(features)
        features, logits = yield from self._look(drawn)
        probabilities = logits.cpu().double().softmax(1)
        histogram = torch.bincount(probabilities.argmax(1), minlength=probabilities.shape[1]).double() / len(drawn)
        enough = 0.2 / len(histogram)
        return Judgement(
            score=inception_score(probabilities),
            frechet=frechet_distance(moments(features), self._real[id(real)]),
            classes=int((histogram >= enough).sum()),
            histogram=histogram.tolist(),
        )

    def _look(self, images: Tensor) -> Pieces[tuple[Tensor, Tensor]]:
        model = self.task.model.eval()
        features, logits = [], []
        for start in range(0, len(images), EVALUATION_BATCH):
            with torch.no_grad(), self.task.hardware.autocast():
                seen = model.features(self.task.normalised(images[start : start + EVALUATION_BATCH]))
                features.append(seen.float())
                logits.append(model.output(seen).float())
            yield f"judging {start + len(features[-1])}/{len(images)}"
        return torch.cat(features), torch.cat(logits)


def inception_score(probabilities: Tensor) -> float:
    """Return exp of the mean KL(p(y|x) ‖ p(y)) of `probabilities` [N, K]: 1 (useless) to K (sure and varied)."""
    marginal = probabilities.mean(0, keepdim=True)
    divergence = (probabilities * ((probabilities + 1e-12).log() - (marginal + 1e-12).log())).sum(1)
    return float(divergence.mean().exp())


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean [F] and covariance [F, F] of `features` [N, F], in double precision on the CPU."""
    features = features.cpu().double()
    return features.mean(0), features.T.cov()


def frechet_distance(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> float:
    """Return ‖μ₁ − μ₂‖² + tr(C₁ + C₂ − 2(C₁C₂)^½) of two normal distributions."""
    (mean_1, cov_1), (mean_2, cov_2) = first, second
    values, vectors = torch.linalg.eigh(cov_1)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    # C₁^½ C₂ C₁^½ has the same eigenvalues as C₁C₂ and is symmetric, so that its root is real and stable
    shared = torch.linalg.eigvalsh(root @ cov_2 @ root).clamp(min=0).sqrt().sum()
    return max(0.0, float((mean_1 - mean_2).square().sum() + cov_1.trace() + cov_2.trace() - 2 * shared))


def load_scorer(data: ImageData, hardware: Hardware) -> Pieces[Scorer]:
    """Return the judge for this data: the kept one, or one trained now and kept for next time.

    The random state of the training is left as it was.
    """
    learned = [JUDGE, data.name, sorted(data.origin.files.values()), len(data.train.images), hardware.precision]
    key = hashlib.sha256(json.dumps(learned).encode()).hexdigest()[:16]
    path = platformdirs.user_cache_path("tuidl") / f"judge-{data.name}-{key}.safetensors"
    with torch.random.fork_rng(devices=[hardware.device] if hardware.device.type == "cuda" else []):
        torch.manual_seed(0)
        task = Classification(build_spec(JUDGE), data, hardware)
        accuracy = _read(path, task)
        if accuracy is None:
            accuracy = yield from _train(task, data.name)
            _keep(path, task, accuracy)
    return Scorer(task, accuracy, data.name)


def _train(task: Classification, name: str) -> Pieces[float]:
    from tuidl.train.loop import fit  # the judge is trained by the same loop that trains everything

    accuracy = 0.0
    seen = 0
    for event in fit(task, task.spec):
        if isinstance(event, Metrics):
            seen = event.step
        if isinstance(event, Metrics | Heartbeat):
            total = task.spec.training.epochs * task.steps_per_epoch
            yield f"training the judge of {name} images (once): step {seen}/{total}"
        if isinstance(event, Evaluated) and event.final:
            accuracy = event.report.metrics["test_accuracy"]
    return accuracy


def _read(path: Path, task: Classification) -> float | None:
    """Load the kept judge into `task` and return its accuracy; None where there is none that fits."""
    try:
        with safe_open(path, framework="pt") as file:
            accuracy = float(file.metadata()["accuracy"])
            held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        fresh = {name: value.clone() for name, value in task.state().items()}
        try:
            task.load(held)
        except RuntimeError:
            task.load(fresh)  # a file of another shape may have been loaded in part
            return None
        return accuracy
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None  # absent or damaged: trained anew


def _keep(path: Path, task: Classification, accuracy: float) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        state = {name: tensor.contiguous().cpu() for name, tensor in task.state().items()}
        write_atomic(path, save(state, {"accuracy": repr(accuracy)}))
    except (OSError, StorageError):
        return  # a cache that cannot be written costs the next run a minute, no more
