"""The rungs of the ladder: the training loop as lectures teach it, and one flag for each thing that makes it faster.

Read `main` first: it holds the loop, once, for every rung. Each rung runs in a process of its own, started by
`ladder.py`, which lets them train in turns (see `Turns`):

    python benchmarks/ladder_rungs.py PRESET DATA DEVICE resident,no_item
"""

import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tuidl.spec import RunSpec, load_preset
from tuidl.spec.schedules import Position
from tuidl.train.data.augment import augment
from tuidl.train.data.load import ImageData, load
from tuidl.train.device import choose_device, choose_precision
from tuidl.train.models.layers import resolve

import torch  # isort: skip  # after tuidl.train, which would tell OpenMP's threads how to wait, were it not said already
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

WARM_UP = 0.3  # seconds of each turn that do not count: caches and clocks have cooled down since the last one
CONVOLVES = ("cnn", "resnet", "dcgan")

Batch = tuple[Tensor, ...]
Step = Callable[..., tuple[Tensor, Tensor]]  # takes a batch, returns the loss and one more number to look at


@dataclass(frozen=True)
class Rung:
    """What is done differently from the lectures; with nothing set it is the loop as they teach it."""

    resident: bool = False
    no_item: bool = False
    fused: bool = False
    channels_last: bool = False
    tf32: bool = False
    bf16: bool = False
    captured: bool = False
    compiled: bool = False
    threads: int = 0  # 0: as many as torch takes by itself

    @property
    def parts(self) -> list[str]:
        """Return what is set, as `Rung.of` reads it."""
        flags = [field.name for field in fields(self) if getattr(self, field.name) is True]
        return [*flags, *([f"threads={self.threads}"] if self.threads else [])]

    @classmethod
    def of(cls, text: str) -> "Rung":
        """Read `resident,no_item,threads=2`."""
        pairs = [part.partition("=") for part in text.split(",") if part]
        return cls(**{name: int(value) if value else True for name, _, value in pairs})


# what a rung is called, and why it pays
WHY = {
    "resident": ("data on the device", "All examples are decoded and normalised once and stay on the device; a batch "
                 "is one slice of a tensor in place of a Python call for each example."),
    "no_item": ("no .item() in the step", ".item() makes Python wait for the device, and then the device for Python; "
                "sums that stay on a GPU keep its queue full. A CPU has no queue: there it changes nothing."),
    "fused": ("fused optimizer", "fused=True updates all weights in one pass over memory in place of about ten small "
              "operations for each weight tensor."),
    "channels_last": ("channels last", "The fast convolutions want the channels of a pixel side by side; laid out so "
                      "from the start, nothing is reordered around each layer."),
    "tf32": ("TF32", "A GPU's matrix units round fp32 factors to 10 bits after the point and add up in full; without "
             "that they stand idle in fp32."),
    "bf16": ("bf16 autocast", "Units for 16-bit numbers multiply two to sixteen times as fast and move half the bytes; "
             "small layers lose more by converting than they gain."),
    "captured": ("CUDA graph", "The whole step is recorded once and replayed with one call, so that the GPU never "
                 "waits for Python to name the next kernel."),
    "compiled": ("torch.compile", "Neighbouring operations become one kernel, which saves trips to memory; the first "
                 "step pays for it with seconds to minutes of compiling."),
    "threads": ("threads", "More threads share out large layers; small ones are done before the threads have met, and "
                "one thread is then as fast, or faster on a busy machine."),
}  # fmt: skip


def ladder(spec: RunSpec, device: torch.device, with_compile: bool) -> list[Rung]:
    """Return the rungs that make sense for a preset on a device: the lectures' loop, each thing alone, then all."""
    flags = ["resident", "no_item"]
    if spec.optimizer.fused:
        flags.append("fused")
    if spec.model.kind in CONVOLVES:
        flags.append("channels_last")
    if device.type == "cuda":
        flags.append("tf32")
    if choose_precision(device, "auto")[0] == "bf16":
        flags.append("bf16")
    if device.type == "cuda":
        flags.append("captured")
    if with_compile:
        flags.append("compiled")
    alone = [{flag: True} for flag in flags]
    if spec.precision == "fp32":  # alone it is worth a look, but all together is to compute in the preset's format
        flags = [flag for flag in flags if flag != "bf16"]
    climb = [dict.fromkeys(flags[:height], True) for height in range(2, len(flags) + 1)]
    rungs = [Rung(), *(Rung(**set_) for set_ in [*alone, *climb])]
    if device.type == "cpu":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        for count in sorted({1, min(2, cores), cores} - {torch.get_num_threads()}):
            rungs += [Rung(threads=count), Rung(**climb[-1], threads=count)]
    return rungs


# ---------------------------------------------------------------- the data


def store_data(spec: RunSpec, path: Path) -> str:
    """Write the preset's training data where the rungs find it, decoded once for all of them; return its name."""
    data = load(spec.data, directory=None, device=torch.device("cpu"), download=False)
    if isinstance(data, ImageData):
        pictures = {"images": data.train.images, "targets": data.train.targets, "mean": data.mean, "std": data.std}
        torch.save({**pictures, "classes": len(data.labels)}, path)
    else:
        torch.save({"text": data.train, "classes": len(data.vocabulary)}, path)
    return data.name


class Pictures(Dataset):
    """Images as torchvision's data sets hold them: bytes, made a PIL image and transformed when one is asked for."""

    def __init__(self, images: Tensor, targets: Tensor, transform: Callable[[Any], Tensor]) -> None:
        pixels = images.permute(0, 2, 3, 1).contiguous().numpy()  # [N, H, W, C]
        self.pixels = pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels
        self.targets, self.transform = targets.tolist(), transform

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.pixels[index])), self.targets[index]


def pictures_one_by_one(spec: RunSpec, data: dict[str, Any]) -> DataLoader[Any]:
    """Return the DataLoader that the lectures use, with the preset's augmentation for each picture."""
    from torchvision import transforms as T

    side, wanted = data["images"].shape[-1], spec.augmentation.model_dump()
    steps: list[Any] = []
    if wanted["crop"]:
        steps.append(T.RandomCrop(side, padding=int(wanted["crop"]), padding_mode="reflect"))
    if wanted["flip"]:
        steps.append(T.RandomHorizontalFlip(wanted["flip"]))
    steps += [T.ToTensor(), T.Normalize(data["mean"].tolist(), data["std"].tolist())]
    if wanted["cutout"]:
        steps.append(T.RandomErasing(1.0, scale=((wanted["cutout"] / side) ** 2,) * 2, ratio=(1.0, 1.0)))
    pictures = Pictures(data["images"], data["targets"], T.Compose(steps))
    return DataLoader(pictures, spec.training.batch_size, shuffle=True, drop_last=True)


def pictures_in_slices(spec: RunSpec, data: dict[str, Any], device: torch.device) -> Iterator[Batch]:
    """Yield the same batches from tensors on the device, augmented as a whole, for ever."""
    mean, std = (data[name].view(-1, 1, 1).to(device) for name in ("mean", "std"))
    images, targets = (data["images"].to(device).float() / 255 - mean) / std, data["targets"].to(device)
    strengths = {name: strength for name, strength in spec.augmentation.model_dump().items() if strength}
    random = torch.Generator(device).manual_seed(spec.seed)
    size = spec.training.batch_size
    while True:
        order = torch.randperm(len(images), device=device)
        for begin in range(0, len(order) - size + 1, size):
            picked = order[begin : begin + size]
            batch = images[picked]
            yield augment(batch, strengths, random) if strengths else batch, targets[picked]


def pictures(spec: RunSpec, data: dict[str, Any], rung: Rung, device: torch.device) -> Iterator[Batch]:
    """Return batches of normalised images and their classes, without end."""
    if rung.resident:
        return pictures_in_slices(spec, data, device)
    loader = pictures_one_by_one(spec, data)
    epochs = itertools.repeat(loader)
    return ((images.to(device), targets.to(device)) for epoch in epochs for images, targets in epoch)


def windows(spec: RunSpec, data: dict[str, Any], rung: Rung, device: torch.device) -> Iterator[Batch]:
    """Yield random windows of the text and the characters that follow each of theirs, for ever."""
    length, size = spec.model.unroll, spec.training.batch_size
    text = data["text"].to(device) if rung.resident else data["text"]
    reach = torch.arange(length, device=text.device)
    while True:
        begins = torch.randint(len(text) - length, (size,), device=text.device)
        if rung.resident:
            at = begins[:, None] + reach
            yield text[at], text[at + 1]
        else:
            ids = torch.stack([text[begin : begin + length] for begin in begins])
            following = torch.stack([text[begin + 1 : begin + 1 + length] for begin in begins])
            yield ids.to(device), following.to(device)


# ---------------------------------------------------------------- the lessons


@dataclass
class Lesson:
    """What comes before the loop: batches without end, a step, and the optimizers with their share of the rate."""

    batches: Iterator[Batch]
    step: Step
    optimizers: list[tuple[torch.optim.Optimizer, float]]
    model: nn.Module
    objective: Step  # forward pass and loss alone, for the frameworks


def lesson_of(spec: RunSpec, data: dict[str, Any], rung: Rung, device: torch.device) -> Lesson:
    """Return the lesson of a preset, its models built as tuidl builds them."""
    torch.manual_seed(spec.seed)
    return {"classification": classification, "language": language, "gan": adversarial}[spec.task](
        spec, data, rung, device
    )


def classification(spec: RunSpec, data: dict[str, Any], rung: Rung, device: torch.device) -> Lesson:
    """Images to classes."""
    shape, dropout = tuple(data["images"].shape[1:]), spec.regularization.dropout
    model = placed(resolve(spec.model.entry)(spec.model, shape, data["classes"], dropout), rung, device)
    network = torch.compile(model) if rung.compiled else model
    smoothing = spec.regularization.label_smoothing

    def objective(images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(device.type, torch.bfloat16, enabled=rung.bf16):
            logits = network(laid_out(images, rung))
        accuracy = (logits.argmax(1) == targets).float().mean()
        return F.cross_entropy(logits.float(), targets, label_smoothing=smoothing), accuracy

    return one_network(spec, rung, device, model, objective, pictures(spec, data, rung, device))


def language(spec: RunSpec, data: dict[str, Any], rung: Rung, device: torch.device) -> Lesson:
    """Characters to the characters that follow."""
    model = resolve(spec.model.entry)(spec.model, data["classes"], spec.regularization.dropout).to(device)
    network = torch.compile(model) if rung.compiled else model

    def objective(ids: Tensor, following: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(device.type, torch.bfloat16, enabled=rung.bf16):
            logits, _ = network(ids, model.start(len(ids)))
        flat, truth = logits.flatten(0, 1).float(), following.flatten()
        return F.cross_entropy(flat, truth), (flat.argmax(1) == truth).float().mean()

    return one_network(spec, rung, device, model, objective, windows(spec, data, rung, device))


def one_network(
    spec: RunSpec, rung: Rung, device: torch.device, model: nn.Module, objective: Step, batches: Iterator[Batch]
) -> Lesson:
    """Return the lesson of one model with one optimizer, and with it the step that every beginner knows by heart."""
    optimizer = optimizer_of(spec, model, rung, device)
    limit = spec.regularization.clip_norm

    def step(*batch: Tensor) -> tuple[Tensor, Tensor]:
        optimizer.zero_grad()
        loss, accuracy = objective(*batch)
        loss.backward()
        if limit:
            nn.utils.clip_grad_norm_(model.parameters(), limit)
        optimizer.step()
        return loss.detach(), accuracy

    return Lesson(batches, step, [(optimizer, 1.0)], model, objective)


def adversarial(spec: RunSpec, data: dict[str, Any], rung: Rung, device: torch.device) -> Lesson:
    """A generator and a discriminator, each with its optimizer, as in PyTorch's own DCGAN example."""
    half = torch.full_like(data["mean"], 0.5)  # brings images to −1..1
    data = {**data, "mean": half, "std": half}
    shape, dropout = tuple(data["images"].shape[1:]), spec.regularization.dropout
    pair = resolve(spec.model.entry)(spec.model, shape, dropout, critic_norm=True)
    generator, discriminator = (placed(model, rung, device) for model in pair)
    draw, judge = (torch.compile(model) if rung.compiled else model for model in (generator, discriminator))
    loss = resolve(spec.loss.entry)(spec.loss)
    g_optimizer, d_optimizer = (optimizer_of(spec, model, rung, device) for model in (generator, discriminator))

    def step(images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(device.type, torch.bfloat16, enabled=rung.bf16):
            drawn = draw(torch.randn(len(images), generator.latent, device=device))
            on_real, on_drawn = judge(laid_out(images, rung)), judge(drawn.detach())
        d_loss = loss.discriminator(on_real.float(), on_drawn.float())
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()
        with torch.autocast(device.type, torch.bfloat16, enabled=rung.bf16):
            on_drawn = judge(drawn)
        g_loss = loss.generator(on_drawn.float())
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()
        return g_loss.detach(), d_loss.detach()

    optimizers = [(g_optimizer, 1.0), (d_optimizer, spec.loss.d_lr_factor)]
    return Lesson(pictures(spec, data, rung, device), step, optimizers, generator, step)


def placed(model: nn.Module, rung: Rung, device: torch.device) -> nn.Module:
    """Return the model on the device, its filters laid out as the rung says."""
    model = model.to(device)
    return model.to(memory_format=torch.channels_last) if rung.channels_last else model


def laid_out(images: Tensor, rung: Rung) -> Tensor:
    """Return the images laid out as the rung says."""
    return images.contiguous(memory_format=torch.channels_last) if rung.channels_last else images


def optimizer_of(spec: RunSpec, model: nn.Module, rung: Rung, device: torch.device) -> torch.optim.Optimizer:
    """Return the preset's optimizer as one writes it down from torch's documentation."""
    more: dict[str, Any] = {"fused": True} if rung.fused else {}
    lr: float | Tensor = spec.optimizer.lr
    if rung.captured:  # a graph replays the same numbers, so the rate must be a place in memory and not a number
        lr = torch.tensor(lr, device=device)
        more |= {"capturable": True} if "adam" in spec.optimizer.kind else {}
    settings = {**spec.optimizer.group(), "weight_decay": spec.optimizer.weight_decay, **more}
    optimizer: torch.optim.Optimizer = resolve(spec.optimizer.entry)(model.parameters(), lr=lr, **settings)
    return optimizer


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Let the next step use this learning rate."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def captured(step: Step, example: Batch) -> Step:
    """Record `step` as a CUDA graph and return what copies a batch into its input and replays it."""
    inputs = [torch.empty_like(part).copy_(part) for part in example]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):  # what happens in first steps only must be over: optimizers make their state, cuDNN chooses
            step(*inputs)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = step(*inputs)

    def replay(*batch: Tensor) -> tuple[Tensor, Tensor]:
        for place, part in zip(inputs, batch, strict=True):
            place.copy_(part)
        graph.replay()
        return outputs

    return replay


# ---------------------------------------------------------------- the loop


class Turns:
    """Lets a loop run when its parent says so: a line with seconds comes in, one with steps and seconds goes out.

    The first reply, after the first step, says that all is ready.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._replies = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)  # what a framework prints is no reply
        self._steps, self._until, self._counting = 0, 0.0, True
        self._begin, self._wanted = time.perf_counter(), 0.0

    def step_done(self) -> None:
        """Return at once, or at the end of a turn when the next one begins; end the process when there is none."""
        self._steps += 1
        if time.perf_counter() < self._until:
            return
        if self.device.type != "cpu":
            torch.accelerator.synchronize()  # the steps still in the queue belong to this turn
        now = time.perf_counter()
        if not self._counting:  # the warm-up is over
            self._steps, self._begin, self._until, self._counting = 0, now, now + self._wanted, True
            return
        self._replies.write(json.dumps({"steps": self._steps, "seconds": now - self._begin}) + "\n")
        order = sys.stdin.readline()
        if not order:
            os._exit(0)
        self._wanted, self._until, self._counting = float(order), time.perf_counter() + WARM_UP, False


def rates(spec: RunSpec, data: dict[str, Any]) -> Callable[[int], float]:
    """Return the preset's learning rate as a function of the step."""
    examples = len(data["text"]) // spec.model.unroll if "text" in data else len(data["images"])
    per_epoch = examples // spec.training.batch_size
    total = spec.training.epochs * per_epoch
    return lambda step: spec.optimizer.lr * spec.schedule.factor(Position(step, total, per_epoch))


def train(spec: RunSpec, data: dict[str, Any], rung: Rung, device: torch.device, turns: Turns) -> None:
    """Train for ever: the loop of every rung."""
    lesson = lesson_of(spec, data, rung, device)
    rate = rates(spec, data)
    step = captured(lesson.step, next(lesson.batches)) if rung.captured else lesson.step
    total_loss = total_accuracy = torch.zeros((), device=device) if rung.no_item else 0.0
    for number, batch in enumerate(lesson.batches):
        for optimizer, share in lesson.optimizers:
            set_rate(optimizer, rate(number) * share)
        loss, accuracy = step(*batch)
        if rung.no_item:
            total_loss, total_accuracy = total_loss + loss, total_accuracy + accuracy
        else:
            total_loss, total_accuracy = total_loss + loss.item(), total_accuracy + accuracy.item()
        turns.step_done()


# ---------------------------------------------------------------- frameworks, to compare with


def train_with_lightning(spec: RunSpec, data: dict[str, Any], device: torch.device, turns: Turns) -> None:
    """Train with Lightning, its progress bar and two numbers on it, fed by the DataLoader of the lectures."""
    import lightning

    lesson, rate = lesson_of(spec, data, Rung(), device), rates(spec, data)

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = lesson.model

        def training_step(self, batch: Batch) -> Tensor:
            loss, accuracy = lesson.objective(*batch)
            self.log_dict({"loss": loss, "accuracy": accuracy}, prog_bar=True)
            return loss

        def configure_optimizers(self) -> Any:
            optimizer = lesson.optimizers[0][0]
            factor = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step) / spec.optimizer.lr)
            return [optimizer], [{"scheduler": factor, "interval": "step"}]

    class Bell(lightning.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            turns.step_done()

    trainer = lightning.Trainer(
        max_epochs=-1, accelerator="gpu" if device.type == "cuda" else device.type, devices=[device.index or 0]
        if device.type == "cuda" else 1, logger=False, enable_checkpointing=False, callbacks=[Bell()],
        gradient_clip_val=spec.regularization.clip_norm or None,
    )  # fmt: skip
    loader = pictures_one_by_one(spec, data) if "images" in data else lesson.batches
    trainer.fit(Module(), loader)


def train_with_keras(spec: RunSpec, data: dict[str, Any], device: torch.device, turns: Turns) -> None:
    """Train with Keras on torch: arrays that are normalised once, or the DataLoader where there is augmentation."""
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    class Bell(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            turns.step_done()

    shape, settings = tuple(data["images"].shape[1:]), spec.optimizer.group()
    network = keras.Sequential([
        keras.Input(shape), keras.layers.TorchModuleWrapper(lesson_of(spec, data, Rung(), device).model),
    ])  # fmt: skip
    make = keras.optimizers.SGD if settings.get("nesterov") else keras.optimizers.Adam
    settings = {name: value for name, value in settings.items() if name in ("momentum", "nesterov")}
    loss = keras.losses.CategoricalCrossentropy(True, label_smoothing=spec.regularization.label_smoothing)
    network.compile(make(spec.optimizer.lr, **settings), loss, metrics=["accuracy"])
    hot = F.one_hot(data["targets"], data["classes"]).float()
    feeding: dict[str, Any] = {"epochs": 10**9, "callbacks": [Bell()]}
    if any(spec.augmentation.model_dump().values()):
        loader = pictures_one_by_one(spec, data)
        loader.dataset.targets = hot
        network.fit(loader, **feeding)
    mean, std = (data[name].view(-1, 1, 1) for name in ("mean", "std"))
    images = ((data["images"].float() / 255 - mean) / std).numpy()
    network.fit(images, hot.numpy(), batch_size=spec.training.batch_size, **feeding)


FRAMEWORKS = {"lightning": train_with_lightning, "keras": train_with_keras}


def main() -> None:
    """Be one rung: the preset, the file of its data, the device, and what is done differently."""
    preset, path, name, parts = sys.argv[1:]
    device, _ = choose_device(name)
    turns = Turns(device)
    spec, data = load_preset(preset), torch.load(path)
    if parts in FRAMEWORKS:
        FRAMEWORKS[parts](spec, data, device, turns)
    rung = Rung.of(parts)
    if rung.threads:
        torch.set_num_threads(rung.threads)
    if rung.tf32:
        torch.set_float32_matmul_precision("high")
    train(spec, data, rung, device, turns)


if __name__ == "__main__":
    main()
