"""What a trainer leaves behind besides numbers: pictures, samples, matrices, and the events that tell of them."""

import io
import json
import math
from collections.abc import Sequence
from typing import Any

from faketrainer import FakeTrainer
from PIL import Image, ImageDraw


def grid(count: int, columns: int, size: int = 12) -> tuple[bytes, dict[str, int]]:
    """Return a PNG with `count` discs, each larger than the one before, and what an event tells of such a grid."""
    rows = -(-count // columns)
    image = Image.new("L", (columns * size, rows * size))
    draw = ImageDraw.Draw(image)
    for number in range(count):
        x, y = number % columns * size, number // columns * size
        middle, radius = (size - 1) / 2, (size - 1) / 2 * (number + 1) / count
        box = (x + middle - radius, y + middle - radius, x + middle + radius, y + middle + radius)
        draw.ellipse(box, fill=255 - 12 * (number % 12))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue(), {"count": count, "columns": columns, "height": size, "width": size}


def confusion(labels: Sequence[str]) -> dict[str, Any]:
    size = len(labels)
    counts = [[90 - 3 * i if i == j else (3 * i + 5 * j) % 7 for j in range(size)] for i in range(size)]
    return {"labels": list(labels), "counts": counts}


def probes(labels: Sequence[str], worst: int) -> dict[str, Any]:
    classes = len(labels)
    return {
        "labels": list(labels), "worst": list(range(worst)),
        "targets": [number % classes for number in range(worst)],
        "predicted": [(number + (number % 4 != 3)) % classes for number in range(worst)],
        "confidence": [0.99 - 0.03 * number / worst for number in range(worst)],
    }  # fmt: skip


class FullTrainer(FakeTrainer):
    """Leaves everything that a trainer of its task leaves."""

    def learn(self, steps: int = 100) -> None:
        """Train as a run that goes well: curves fall and rise, with a ripple, towards their ends."""
        at = [(self.step + number + 1) / 200 for number in range(steps)]
        falling = [0.1 + 2.2 * math.exp(-x) + 0.05 * math.sin(60 * x) for x in at]
        values = {
            "loss": falling, "accuracy": [1 - value / 2.6 for value in falling], "penalty": [0.0] * steps,
            "grad_norm": [3 * value for value in falling], "update_ratio": [value / 1000 for value in falling],
            "lr": [0.002 * math.cos(x / 4) for x in at],
        }  # fmt: skip
        if self.task == "gan":
            values |= {
                "g_loss": [3 - value for value in falling], "d_loss": falling, "d_grad_norm": values["grad_norm"],
                "d_real": [0.7 + value / 20 for value in falling], "d_fake": [0.3 - value / 20 for value in falling],
            }  # fmt: skip
            del values["loss"], values["accuracy"], values["penalty"]
        self.writer.metrics(self.step + 1, values, (self.step / 100, (self.step + steps) / 100))
        self.step += steps
        self.state("running")

    def store(self, stem: str, content: Any, kind: str, suffix: str = "json", **details: Any) -> dict[str, Any]:
        """Write an artifact and return what an event tells of it."""
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        return {"path": self.writer.artifact(f"{stem}-{self.step:09d}.{suffix}", data), "kind": kind, **details}

    def tell(self, kind: str, **fields: Any) -> None:
        """Write an event."""
        self.writer.event(kind, self.step, elapsed=self.step / 100, **fields)

    def classified(self, labels: Sequence[str], worst: int = 16, **metrics: float) -> None:
        """Evaluate a classifier: the matrix, the probes and the worst of them."""
        data, details = grid(worst, 8)
        artifacts = [
            self.store("confusion-val", confusion(labels), "confusion"),
            self.store("probes", probes(labels, worst), "probes"),
            self.store("worst", data, "grid", "png", **details),
        ]
        self._evaluated(artifacts, metrics or {"val_loss": 0.5, "val_accuracy": 0.9})

    def drawn(self, labels: Sequence[str], **metrics: float) -> None:
        """Judge a generator, and draw with it."""
        shares = [(number + 1) / sum(range(len(labels) + 1)) for number in range(len(labels))]
        histogram = {"labels": list(labels), "drawn": shares, "images": 2000}
        self._evaluated(
            [self.store("val_histogram", histogram, "histogram")], metrics or {"score": 5.98, "frechet": 7.6}
        )
        data, details = grid(64, 8)
        self.tell("sample", artifacts=[self.store("drawn", data, "grid", "png", **details)])

    def wrote(self, prompt: str, *texts: str, **metrics: float) -> None:
        """Evaluate a language model, and write with it."""
        self._evaluated([], metrics or {"val_loss": 1.97, "val_accuracy": 0.41})
        samples = [{"temperature": 0.5 + 0.3 * number, "text": text} for number, text in enumerate(texts)]
        self.tell("sample", artifacts=[self.store("text", {"prompt": prompt, "samples": samples}, "text")])

    def _evaluated(self, artifacts: list[dict[str, Any]], metrics: dict[str, float]) -> None:
        self.tell(
            "evaluation", epoch=self.step / 100, best=True, final=False, metrics=dict(metrics), artifacts=artifacts
        )
