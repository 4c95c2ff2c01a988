"""The tasks: what is learned from what, and which metric decides which weights are best."""

from dataclasses import dataclass

from tuidl.spec.settings import Entry, named


@dataclass(frozen=True)
class TaskEntry(Entry):
    """A task: the kind of data it needs and its metrics; `True` where larger is better. The first metric is the default."""

    data: str = "images"
    metrics: tuple[tuple[str, bool], ...] = ()


TASKS: dict[str, TaskEntry] = {
    entry.key: entry
    for entry in [
        TaskEntry(
            "classification", "Classification", "Say which of a few classes an image belongs to.", "argmax p(y | x)", "seed lectures 1 to 5",
            "tuidl.train.tasks.classification:Classification", "images", (("val_accuracy", True), ("val_loss", False)),
        ),
        TaskEntry(
            "language", "Language model", "Guess the next character of a text, and write more of it.", "Π p(cₜ | c₁…cₜ₋₁)", "seed lecture 4",
            "tuidl.train.tasks.language:Language", "text", (("val_loss", False), ("val_accuracy", True)),
        ),
        TaskEntry(
            "gan", "Generative adversarial network", "Draw images that a second network cannot tell from real ones.", "min_G max_D", "seed lecture 4",
            "tuidl.train.tasks.gan:Gan", "images", (("frechet", False), ("score", True)),
        ),
    ]
}  # fmt: skip

TaskName = named(dict[str, Entry](TASKS))
METRICS: dict[str, bool] = {name: larger for task in TASKS.values() for name, larger in task.metrics}
