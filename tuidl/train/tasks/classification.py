"""Classification: images to one of K classes."""

import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tuidl.errors import UsageError
from tuidl.spec.run import RunSpec
from tuidl.train.checkpoint import restore_generator
from tuidl.train.data.augment import augment
from tuidl.train.data.load import ImageData, ImageSplit, order
from tuidl.train.device import Hardware
from tuidl.train.events import Artifact, Continuation, Report
from tuidl.train.models.classifiers import Classifier
from tuidl.train.models.layers import resolve, whiten
from tuidl.train.stepper import Moving, Stepper
from tuidl.train.tasks.base import OneModel, Pieces, total, why_no_graph
from tuidl.train.tasks.images import grid
from tuidl.train.updater import Updater

WHITENED = 500  # images whose patches the first filters are made from
EVALUATION_BATCH = 1000  # images at a time where no gradient is kept


class Classification(OneModel):
    """Learns p(class | image) with one model and one optimizer."""

    model: Classifier

    def __init__(self, spec: RunSpec, data: ImageData, hardware: Hardware) -> None:
        self.data, self.hardware, self.seed = data, hardware, spec.seed
        device = hardware.device
        shape = tuple(data.train.images.shape[1:])
        self.model: Classifier = resolve(spec.model.entry)(
            spec.model, shape, len(data.labels), spec.regularization.dropout
        )
        # channels last is how both GPUs and CPUs convolve fastest; models without convolutions do not care
        self.model.to(device).to(memory_format=torch.channels_last)
        self.scale = (1 / (255 * data.std)).view(-1, 1, 1).to(device)
        self.offset = (-data.mean / data.std).view(-1, 1, 1).to(device)  # also what black becomes
        if getattr(spec.model, "first_filters", "random") == "whitening":
            whiten(self.model, self.normalised(data.train.images[:WHITENED]))
        self.loss = resolve(spec.loss.entry)(spec.loss, len(data.labels), device)
        self.updater = Updater(self.model, spec, hardware=hardware, average=spec.training.average)
        self.random = torch.Generator(device).manual_seed(spec.seed)  # of the augmentation
        moving = Moving(self.updater.moving, [self.random])
        self.stepper = Stepper(self.learn, hardware, moving, why_no_graph(spec, hardware, self.updater))
        self.batch_size = min(spec.training.batch_size, len(data.train.images))
        self.full_batch = spec.optimizer.full_batch
        last = len(data.train.images) % self.batch_size if self.full_batch else 0
        if getattr(spec.model, "batch_norm", False) and 1 in (self.batch_size, last):
            raise UsageError(
                "batch norm needs batches of two images or more; raise training.batch_size or data.train_limit"
            )
        self.steps_per_epoch = 1 if self.full_batch else len(data.train.images) // self.batch_size
        self.configure(spec)

    def configure(self, spec: RunSpec) -> None:
        """Take over live settings."""
        super().configure(spec)
        self.strengths = {key: strength for key, strength in spec.augmentation.model_dump().items() if strength}

    def begin_epoch(self, epoch: int) -> None:
        """Shuffle the training images."""
        self.order = order(len(self.data.train.images), self.seed, epoch, self.hardware.device)
        self.batches = self.order.split(self.batch_size)  # the last may be smaller; only full batches learn from it
        self.model.train()

    def step(self, index: int, lr: float) -> Sequence[Tensor]:
        """Learn from the next batch, or from all of them."""
        return self.stepper(self.batches if self.full_batch else [self.batches[index]], lr)

    def learn(self, batches: Sequence[Tensor], lr: float | Tensor, measure: bool) -> Sequence[Tensor]:
        """Forward, backward, update. Full-batch gradient descent sums the gradients of all batches first."""
        losses, right = [], []
        count = sum(len(batch) for batch in batches)
        for batch in batches:
            images = self.normalised(self.data.train.images.index_select(0, batch))
            targets = self.data.train.targets.index_select(0, batch)
            if self.strengths:
                images = augment(images, self.strengths, self.random, self.offset)
            with self.hardware.autocast():
                logits = self.model(images)
            loss = self.loss(logits.float(), targets, self.spec.regularization.label_smoothing)
            share = loss if len(batches) == 1 else loss * (len(batch) / count)
            self.updater.backward(share)
            losses.append(share.detach())
            right.append((logits.detach().argmax(1) == targets).sum())
        return self.finish_step(total(losses), total(right) / count, lr, measure)

    def normalised(self, images: Tensor) -> Tensor:
        """Return bytes [B, C, H, W] as floats of mean 0 and spread 1 over the training data."""
        return images.float().mul_(self.scale).add_(self.offset).contiguous(memory_format=torch.channels_last)

    def evaluate(self) -> Pieces[Report]:
        """Return val_loss, val_accuracy, the confusion matrix, figures of each class, and the worst probes."""
        found = yield from self._measure(self.data.val, "validation")
        logits, loss = found
        metrics, artifacts = self._report("val", logits, self.data.val, loss)
        artifacts += self._probes(logits)
        return Report(metrics, tuple(artifacts))

    def test(self) -> Pieces[Report]:
        """Return test_loss, test_accuracy, the confusion matrix and figures of each class."""
        logits, loss = yield from self._measure(self.data.test, "test")
        metrics, artifacts = self._report("test", logits, self.data.test, loss)
        return Report(metrics, tuple(artifacts))

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Return the logits [B, K] of images in evaluation mode, as fp32; with `mirror` of both sides."""
        seen = self.normalised(images)
        with self.hardware.autocast():
            logits: Tensor = self.updater.judged(seen)
            if self.spec.evaluation.mirror:
                logits = (logits + self.updater.judged(seen.flip(-1))) / 2
        return logits.float()

    def _measure(self, split: ImageSplit, what: str) -> Pieces[tuple[Tensor, float]]:
        self.updater.judged.eval()
        found = []
        for start in range(0, len(split.images), EVALUATION_BATCH):
            found.append(self.logits(split.images[start : start + EVALUATION_BATCH]))
            yield f"{what} {start + len(found[-1])}/{len(split.images)}"
        self.updater.judged.train()
        logits = torch.cat(found)
        return logits, float(self.loss(logits, split.targets, 0.0))

    def _report(
        self, name: str, logits: Tensor, split: ImageSplit, loss: float
    ) -> tuple[dict[str, float], list[Artifact]]:
        classes = len(self.data.labels)
        predicted = logits.argmax(1)
        # rows are the true class, columns the predicted one
        counts = torch.bincount(split.targets * classes + predicted, minlength=classes**2).view(classes, classes).cpu()
        right = counts.diag().double()
        precision = right / counts.sum(0).clamp(min=1)
        recall = right / counts.sum(1).clamp(min=1)
        f1 = 2 * precision * recall / (precision + recall).clamp(min=1e-12)
        content = {
            "labels": list(self.data.labels), "counts": counts.tolist(),
            "precision": precision.tolist(), "recall": recall.tolist(), "f1": f1.tolist(),
        }  # fmt: skip
        metrics = {f"{name}_loss": loss, f"{name}_accuracy": float(right.sum() / len(split.targets))}
        return metrics, [Artifact(f"confusion-{name}.json", json.dumps(content).encode(), {"kind": "confusion"})]

    def _probes(self, logits: Tensor) -> list[Artifact]:
        """Follow the first validation images: what is predicted for each, and the worst of them as pictures."""
        count = min(self.spec.evaluation.probes, len(logits))
        if not count:
            return []
        targets = self.data.val.targets[:count]
        losses = F.cross_entropy(logits[:count], targets, reduction="none")
        confidence, predicted = logits[:count].softmax(1).max(1)
        worst = losses.argsort(descending=True)[: self.spec.evaluation.worst]
        content = {
            "labels": list(self.data.labels), "targets": targets.tolist(), "predicted": predicted.tolist(),
            "confidence": confidence.tolist(), "loss": losses.tolist(), "worst": worst.tolist(),
        }  # fmt: skip
        found = [Artifact("probes.json", json.dumps(content).encode(), {"kind": "probes"})]
        if len(worst):
            found.append(grid("worst", self.data.val.images[worst], columns=8))
        return found

    def saved(self) -> Continuation:
        """Return the states of the optimizer and of the augmentation's random numbers."""
        saved = super().saved()
        saved.tensors["random"] = self.random.get_state()
        return saved

    def restore(self, saved: Continuation) -> None:
        """Put both back."""
        super().restore(saved)
        restore_generator(self.random, saved.tensors["random"])

    def facts(self) -> dict[str, Any]:
        """Return the size of model and data."""
        return {
            "parameters": self.parameters, "cuda_graph": self.stepper.why_not or "yes",
            "labels": list(self.data.labels), "shape": list(self.data.train.images.shape[1:]),
            "examples": {name: len(getattr(self.data, name).images) for name in ("train", "val", "test")},
        }  # fmt: skip
