"""Generative adversarial network: one task with two models and two optimizers."""

import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tuidl.errors import UsageError
from tuidl.spec.losses import AdversarialLoss
from tuidl.spec.models import Adversarial
from tuidl.spec.run import RunSpec
from tuidl.train.checkpoint import restore_generator
from tuidl.train.data.augment import augment
from tuidl.train.data.load import ImageData, ImageSplit, order
from tuidl.train.device import Hardware
from tuidl.train.events import Artifact, Continuation, Report
from tuidl.train.losses import NonSaturating
from tuidl.train.models.adversarial import Discriminator, Generator
from tuidl.train.models.layers import resolve
from tuidl.train.scorer import Judgement, Scorer, load_scorer
from tuidl.train.stepper import Moving, Stepper
from tuidl.train.tasks.base import Pieces, set_dropout, why_no_graph
from tuidl.train.tasks.images import grid
from tuidl.train.updater import Updater

DRAWN_AT_ONCE = 500  # images drawn in one go where no gradient is kept


class Gan:
    """Learns to draw images. A step is `d_steps` updates of the discriminator and one of the generator.

    `d_real` and `d_fake` are what the discriminator makes of real and drawn images: probabilities where the loss has
    them. Images are bytes scaled to −1..1.
    """

    columns: tuple[str, ...] = ("g_loss", "d_loss", "d_real", "d_fake", "grad_norm", "d_grad_norm", "update_ratio")

    def __init__(self, spec: RunSpec, data: ImageData, hardware: Hardware) -> None:
        assert isinstance(spec.loss, AdversarialLoss) and isinstance(spec.model, Adversarial)
        self.data, self.hardware, self.seed = data, hardware, spec.seed
        device, self.d_steps, self.latent = hardware.device, spec.loss.d_steps, spec.model.latent
        self.loss: NonSaturating = resolve(spec.loss.entry)(spec.loss)
        models = resolve(spec.model.entry)(
            spec.model,
            tuple(data.train.images.shape[1:]),
            spec.regularization.dropout,
            critic_norm=not self.loss.penalty,
        )
        self.generator: Generator = models[0].to(device).to(memory_format=torch.channels_last)
        self.discriminator: Discriminator = models[1].to(device).to(memory_format=torch.channels_last)
        self.g_updater = Updater(self.generator, spec, hardware=hardware, average=spec.training.average)
        self.d_updater = Updater(
            self.discriminator, spec, spec.loss.d_lr_factor, alive=self.g_updater.alive, hardware=hardware
        )
        self.random = torch.Generator(device).manual_seed(spec.seed)  # of the noise and the augmentation
        fixed = torch.Generator(device).manual_seed(spec.seed + 1)
        self.grid_noise = torch.randn(spec.evaluation.sample_images, self.latent, generator=fixed, device=device)
        self.score_noise = torch.randn(spec.evaluation.score_images, self.latent, generator=fixed, device=device)
        if len(data.train.images) < 2 * self.d_steps or spec.training.batch_size < 2:
            raise UsageError("a GAN needs batches of two images or more; raise training.batch_size or data.train_limit")
        self.batch_size = min(spec.training.batch_size, len(data.train.images) // self.d_steps)
        self.full_batch = spec.optimizer.full_batch
        self.steps_per_epoch = 1 if self.full_batch else len(data.train.images) // (self.batch_size * self.d_steps)
        self.scorer: Scorer | None = None
        moving = Moving(lambda: [*self.g_updater.moving(), *self.d_updater.moving()], [self.random])
        self.stepper = Stepper(self.learn, hardware, moving, why_no_graph(spec, hardware, self.g_updater))
        self.configure(spec)

    def networks(self) -> Sequence[nn.Module]:
        """Return both models."""
        return self.generator, self.discriminator

    def prepare(self) -> Pieces[None]:
        """Get the classifier that judges drawn images, training it once where none is kept yet."""
        self.scorer = yield from load_scorer(self.data, self.hardware)

    def configure(self, spec: RunSpec) -> None:
        """Take over live settings."""
        assert isinstance(spec.loss, AdversarialLoss)
        self.spec = spec
        self.strengths = {key: strength for key, strength in spec.augmentation.model_dump().items() if strength}
        self.loss = resolve(spec.loss.entry)(spec.loss)
        self.d_updater.lr_factor = spec.loss.d_lr_factor
        for updater in (self.g_updater, self.d_updater):
            updater.configure(spec)
        set_dropout(self.discriminator, spec.regularization.dropout)
        self.stepper.forget()

    def begin_epoch(self, epoch: int) -> None:
        """Shuffle the training images."""
        self.order = order(len(self.data.train.images), self.seed, epoch, self.hardware.device)
        self.generator.train()
        self.discriminator.train()

    def step(self, index: int, lr: float) -> Sequence[Tensor]:
        """Learn from the next batches, one for each turn of the discriminator, or from all of them in each turn."""
        if self.full_batch:
            return self.stepper(self.order.split(self.batch_size), lr)
        size = self.d_steps * self.batch_size
        return self.stepper(self.order[index * size :][:size].split(self.batch_size), lr)

    def learn(self, batches: Sequence[Tensor], lr: float | Tensor, measure: bool) -> Sequence[Tensor]:
        """Teach the discriminator with real and drawn images, then the generator with the discriminator's gradient."""
        for turn in range(self.d_steps):
            lesson = batches if self.full_batch else [batches[turn]]
            d_loss, d_real = self._teach_discriminator(lesson, lr)
        g_loss, d_fake = self._teach_generator([len(batch) for batch in lesson], lr, measure)
        # an earlier turn may have failed: no weight moves any more, and the row that is drained must say so
        g_loss = torch.where(self.g_updater.alive > 0, g_loss, torch.nan)
        return (
            g_loss,
            d_loss,
            d_real,
            d_fake,
            self.g_updater.grad_norm,
            self.d_updater.grad_norm,
            self.g_updater.update_ratio,
        )

    def _teach_discriminator(self, batches: Sequence[Tensor], lr: float | Tensor) -> tuple[Tensor, Tensor]:
        total = belief = torch.zeros((), device=self.hardware.device)
        for batch in batches:
            real = self.scaled(self.data.train.images.index_select(0, batch))
            if self.strengths:
                real = augment(real, self.strengths, self.random, -1.0)
            with self.hardware.autocast():
                with torch.no_grad():
                    drawn = self.generator(self._noise(len(batch)))
                on_real, on_drawn = self.discriminator(real).float(), self.discriminator(drawn).float()
            loss = self.loss.discriminator(on_real, on_drawn)
            if self.loss.penalty:
                loss = loss + self.loss.penalty * self._slope_penalty(real, drawn.float())
            loss = (loss + self.d_updater.penalty()) / len(batches)
            self.d_updater.backward(loss)
            total = total + loss.detach()
            belief = belief + self.loss.belief(on_real.detach()).mean() / len(batches)
        self.d_updater.step(total, lr)
        return total, belief

    def _teach_generator(self, sizes: Sequence[int], lr: float | Tensor, measure: bool) -> tuple[Tensor, Tensor]:
        total = belief = torch.zeros((), device=self.hardware.device)
        for size in sizes:
            with self.hardware.autocast():
                on_drawn = self.discriminator(self.generator(self._noise(size))).float()
            loss = (self.loss.generator(on_drawn) + self.g_updater.penalty()) / len(sizes)
            self.g_updater.backward(loss)
            total = total + loss.detach()
            belief = belief + self.loss.belief(on_drawn.detach()).mean() / len(sizes)
        self.g_updater.step(total, lr, measure)
        return total, belief

    def _slope_penalty(self, real: Tensor, drawn: Tensor) -> Tensor:
        """Return (‖∇D(x̂)‖ − 1)² at random points x̂ between real and drawn images (Gulrajani et al. 2017)."""
        mix = torch.rand(len(real), 1, 1, 1, generator=self.random, device=real.device)
        between = (mix * real + (1 - mix) * drawn).requires_grad_(True)
        (slope,) = torch.autograd.grad(self.discriminator(between).sum(), between, create_graph=True)
        penalty: Tensor = (slope.flatten(1).norm(dim=1) - 1).square().mean()
        return penalty

    def _noise(self, count: int) -> Tensor:
        return torch.randn(count, self.latent, generator=self.random, device=self.hardware.device)

    def scaled(self, images: Tensor) -> Tensor:
        """Return bytes as floats in −1..1."""
        return images.float().div_(127.5).sub_(1).contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def draw(self, noise: Tensor) -> Tensor:
        """Return the images of `noise` [B, latent] in evaluation mode, as bytes."""
        generator = self.g_updater.judged.eval()
        with self.hardware.autocast():
            images = generator(noise).float()
        generator.train()
        drawn: Tensor = ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return drawn

    def evaluate(self) -> Pieces[Report]:
        """Return score, Fréchet distance and classes drawn, against the validation images."""
        return (yield from self._judge(self.data.val, ""))

    def test(self) -> Pieces[Report]:
        """Return the same against the test images."""
        return (yield from self._judge(self.data.test, "test_"))

    def _judge(self, split: ImageSplit, prefix: str) -> Pieces[Report]:
        if self.scorer is None:
            yield from self.prepare()
        assert self.scorer is not None
        drawn = []
        for start in range(0, len(self.score_noise), DRAWN_AT_ONCE):
            drawn.append(self.draw(self.score_noise[start : start + DRAWN_AT_ONCE]))
            yield f"drawing {start + len(drawn[-1])}/{len(self.score_noise)}"
        found: Judgement = yield from self.scorer.judge(torch.cat(drawn), split)
        metrics = {
            f"{prefix}score": found.score, f"{prefix}frechet": found.frechet, f"{prefix}classes": float(found.classes),
            "scorer_accuracy": self.scorer.accuracy,
        }  # fmt: skip
        content = json.dumps({
            "labels": list(self.data.labels), "drawn": found.histogram, "images": len(self.score_noise),
            "judge": {"accuracy": self.scorer.accuracy, "trained_on": self.scorer.trained_on},
        })  # fmt: skip
        return Report(
            metrics, (Artifact(f"{prefix or 'val_'}histogram.json", content.encode(), {"kind": "histogram"}),)
        )

    def sample(self) -> Pieces[Report | None]:
        """Return the grid of images that the same noise gives each time."""
        images = self.draw(self.grid_noise)
        yield "drawing samples"
        columns = max(1, round(len(images) ** 0.5))
        return Report({}, (grid("drawn", images, columns),))

    def state(self) -> dict[str, Tensor]:
        """Return the weights of both models by name."""
        return {
            f"{part}.{name}": value
            for part, model in self._parts().items()
            for name, value in model.state_dict().items()
        }

    def judged(self) -> dict[str, Tensor]:
        """Return the same with the weights of the generator that is judged."""
        drawing = self.g_updater.judged.state_dict()
        return self.state() | {f"generator.{name}": value for name, value in drawing.items()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Put the weights of both back, and judge this generator."""
        for part, model in (*self._parts().items(), ("generator", self.g_updater.judged)):
            own = {key.removeprefix(f"{part}."): value for key, value in state.items() if key.startswith(f"{part}.")}
            model.load_state_dict(own)

    def saved(self) -> Continuation:
        """Return the states of both optimizers and of the noise."""
        generator, discriminator = self.g_updater.saved("generator."), self.d_updater.saved("discriminator.")
        tensors = {**generator.tensors, **discriminator.tensors, "random": self.random.get_state()}
        values = {**generator.values, **discriminator.values, "steps": self.stepper.steps}
        return Continuation(tensors, values)

    def restore(self, saved: Continuation) -> None:
        """Put them back."""
        self.g_updater.restore("generator.", saved)
        self.d_updater.restore("discriminator.", saved)
        restore_generator(self.random, saved.tensors["random"])
        self.stepper.steps = int(saved.values["steps"])
        self.stepper.forget()

    def _parts(self) -> dict[str, torch.nn.Module]:
        return {"generator": self.generator, "discriminator": self.discriminator}

    def facts(self) -> dict[str, Any]:
        """Return the size of models and data."""
        sizes = {
            name: sum(parameter.numel() for parameter in model.parameters()) for name, model in self._parts().items()
        }
        return {
            "parameters": sum(sizes.values()), "parameters_of": sizes,
            "labels": list(self.data.labels), "shape": list(self.data.train.images.shape[1:]),
            "examples": {name: len(getattr(self.data, name).images) for name in ("train", "val", "test")},
        }  # fmt: skip
