"""A run written as a trainer writes it, and what stands on a screen."""

import json
from dataclasses import dataclass, field

from tuidl.runs import Command, Inbox, RunPaths, RunWriter

LABELS = ["cat", "dog", "bird"]
COLUMNS = ("loss", "accuracy", "penalty", "grad_norm", "update_ratio", "lr")
GAN_COLUMNS = ("g_loss", "d_loss", "d_real", "d_fake", "grad_norm", "d_grad_norm", "update_ratio", "lr")
FACTS = {
    "parameters": 222_360, "steps": 1000, "steps_per_epoch": 100, "device": "cpu (2 threads)", "device_kind": "cpu",
    "precision": "fp32", "examples": {"train": 12_800, "val": 100, "test": 100}, "stand_in": False,
}  # fmt: skip


@dataclass
class FakeTrainer:
    """Writes a run as a trainer does, and takes its commands when it is told to."""

    paths: RunPaths
    writer: RunWriter
    task: str
    step: int = 0
    inbox: Inbox = field(init=False)

    def __post_init__(self) -> None:
        self.inbox = Inbox(self.paths)

    def train(self, steps: int = 100) -> None:
        names = GAN_COLUMNS if self.task == "gan" else COLUMNS
        values = {name: [1.0 / (self.step + index + 1) for index in range(steps)] for name in names}
        self.writer.metrics(self.step + 1, values, (self.step / 100, (self.step + steps) / 100))
        self.step += steps
        self.state("running")

    def state(self, state: str, **changes: object) -> None:
        self.writer.status.update(
            state=state, step=self.step, total_steps=1000, total_epochs=10, elapsed=self.step / 100, **changes
        )

    def evaluate(self, labels: list[str] = LABELS, **metrics: float) -> None:
        counts = [[3 if i == j else 1 for j in range(len(labels))] for i in range(len(labels))]
        scores = [0.5] * len(labels)
        content = {"labels": labels, "counts": counts, "precision": scores, "recall": scores, "f1": scores}
        path = self.writer.artifact(f"confusion-val-{self.step:09d}.json", json.dumps(content).encode())
        self.writer.event(
            "evaluation", self.step, elapsed=self.step / 100, epoch=self.step / 100, best=True, final=False,
            metrics=metrics or {"val_loss": 0.5, "val_accuracy": 0.9}, artifacts=[{"path": path, "kind": "confusion"}],
        )  # fmt: skip

    def write(self, *texts: str) -> None:
        samples = [{"temperature": 0.5 + 0.3 * number, "text": text} for number, text in enumerate(texts)]
        content = json.dumps({"prompt": "ROMEO:", "samples": samples}).encode()
        path = self.writer.artifact(f"text-{self.step:09d}.json", content)
        artifacts = [{"path": path, "kind": "text"}]
        self.writer.event("sample", self.step, elapsed=self.step / 100, artifacts=artifacts)

    def commands(self) -> list[Command]:
        """Take what lies in the inbox."""
        found = self.inbox.poll()
        assert all(isinstance(item, Command) for item in found), found
        return found  # type: ignore[return-value]

    def answer(self, command: Command, text: str, ok: bool = True) -> None:
        self.writer.answer(command.id, command.verb, self.step, ok=ok, text=text, elapsed=self.step / 100)


def shown(app: object) -> str:
    """Return the text on the screen, row by row."""
    screen = app.screen  # type: ignore[attr-defined]
    return "\n".join("".join(segment.text for segment in strip) for strip in screen._compositor.render_strips())
