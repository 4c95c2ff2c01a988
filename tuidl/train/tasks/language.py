"""Language model: the next character of a text, read in parallel streams with a memory that is carried along."""

import json
import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from tuidl.errors import UsageError
from tuidl.spec.models import Recurrent
from tuidl.spec.run import RunSpec
from tuidl.train.data.load import TextData, order
from tuidl.train.device import Hardware
from tuidl.train.events import Artifact, Continuation, Report
from tuidl.train.models.layers import resolve
from tuidl.train.models.recurrent import CharRNN, State
from tuidl.train.stepper import Moving, Stepper
from tuidl.train.tasks.base import OneModel, Pieces, total, why_no_graph
from tuidl.train.updater import Updater

EVALUATION_STREAMS = 32  # texts read side by side, each from an empty memory that is then carried


class Language(OneModel):
    """Learns p(next character | text so far) with one recurrent model and one optimizer.

    The training text is cut into `batch_size` streams that are read side by side, `unroll` characters a step; with
    `carry_state` the hidden state goes on from step to step, without its gradient. Losses are nats a character.
    """

    model: CharRNN

    def __init__(self, spec: RunSpec, data: TextData, hardware: Hardware) -> None:
        assert isinstance(spec.model, Recurrent)
        if hardware.precision == "fp16" and hardware.device.type == "cpu" and spec.model.kind == "lstm":
            raise UsageError("torch has no LSTM in fp16 on a CPU; set precision=bf16 or fp32")
        self.data, self.hardware, self.seed = data, hardware, spec.seed
        self.unroll: int = spec.model.unroll
        self.carry: bool = spec.model.carry_state
        self.model: CharRNN = resolve(spec.model.entry)(spec.model, len(data.vocabulary), spec.regularization.dropout)
        self.model.to(hardware.device)
        self.loss = resolve(spec.loss.entry)(spec.loss, len(data.vocabulary), hardware.device)
        self.updater = Updater(self.model, spec, hardware=hardware, average=spec.training.average)
        # carried streams start up to one unroll late, so that each needs room for two
        room = self.unroll * (2 if self.carry else 1)
        self.streams = min(spec.training.batch_size, max(1, (len(data.train) - 1) // room))
        windows = (len(data.train) - 1) // self.streams // self.unroll - (1 if self.carry else 0)
        if windows < 1:
            raise UsageError(
                f"the text has only {len(data.train)} characters to train on; lower model.unroll or training.batch_size"
            )
        self.windows = windows
        self.reach = torch.arange(self.unroll, device=hardware.device)
        self.memory = self.model.start(self.streams)
        moving = Moving(lambda: [*self.updater.moving(), *self.memory], [])
        self.stepper = Stepper(self.learn, hardware, moving, why_no_graph(spec, hardware, self.updater))
        self.full_batch = spec.optimizer.full_batch
        self.steps_per_epoch = 1 if self.full_batch else windows
        self.configure(spec)

    def begin_epoch(self, epoch: int) -> None:
        """Start the streams at a place that depends on (seed, epoch); without carried state, shuffle all windows."""
        device = self.hardware.device
        if self.carry:
            begin = order(self.unroll, self.seed, epoch, device)[0]
            stride = (len(self.data.train) - self.unroll - 1) // self.streams
            streams = begin + stride * torch.arange(self.streams, device=device)
            self.starts = streams + self.unroll * torch.arange(self.windows, device=device)[:, None]
        else:
            shuffled = order(self.windows * self.streams, self.seed, epoch, device)
            self.starts = shuffled.view(self.windows, self.streams) * self.unroll
        self._remember(self.model.start(self.streams))
        self.model.train()

    def _remember(self, memory: State) -> None:
        """Keep a memory for the next step, in the place of the one before."""
        for part, value in zip(self.memory, memory, strict=True):
            part.copy_(value.detach())

    def step(self, index: int, lr: float) -> Sequence[Tensor]:
        """Learn from the next window of each stream, or from all windows."""
        return self.stepper(list(self.starts) if self.full_batch else [self.starts[index]], lr)

    def learn(self, windows: Sequence[Tensor], lr: float | Tensor, measure: bool) -> Sequence[Tensor]:
        """Forward, backward through `unroll` characters, update. Full-batch sums the gradients of all windows first."""
        losses, right = [], []
        for starts in windows:
            at = starts[:, None] + self.reach
            ids, targets = self.data.train[at], self.data.train[at + 1]
            with self.hardware.autocast():
                logits, memory = self.model(ids, self.memory)
            flat = logits.flatten(0, 1).float()
            loss = self.loss(flat, targets.flatten(), self.spec.regularization.label_smoothing) / len(windows)
            self.updater.backward(loss)
            if self.carry:
                self._remember(memory)  # only now: the backward pass reads the one before
            losses.append(loss.detach())
            right.append((flat.detach().argmax(1) == targets.flatten()).sum())
        return self.finish_step(total(losses), total(right) / (len(windows) * self.streams * self.unroll), lr, measure)

    def evaluate(self) -> Pieces[Report]:
        """Return val_loss in nats and bits a character, and val_accuracy, of the whole validation text."""
        return (yield from self._measure(self.data.val, "val", "validation"))

    def test(self) -> Pieces[Report]:
        """Return the same of the test text."""
        return (yield from self._measure(self.data.test, "test", "test"))

    def _measure(self, text: Tensor, name: str, what: str) -> Pieces[Report]:
        streams = max(1, min(EVALUATION_STREAMS, len(text) // (4 * self.unroll)))
        length = (len(text) - 1) // streams
        ids = text[: streams * length].view(streams, length)
        targets = text[1 : streams * length + 1].view(streams, length)
        nats, correct = [], []
        model = cast(CharRNN, self.updater.judged.eval())
        memory = model.start(streams)
        chunk = 256
        for start in range(0, length, chunk):
            with torch.no_grad(), self.hardware.autocast():
                logits, memory = model(ids[:, start : start + chunk], memory)
            flat, truth = logits.flatten(0, 1).float(), targets[:, start : start + chunk].flatten()
            nats.append(F.cross_entropy(flat, truth, reduction="sum"))
            correct.append((flat.argmax(1) == truth).sum())
            yield f"{what} {min(length, start + chunk)}/{length}"
        model.train()
        loss = float(torch.stack(nats).cpu().double().sum()) / targets.numel()
        accuracy = int(torch.stack(correct).sum()) / targets.numel()
        return Report(
            {
                f"{name}_loss": loss,
                f"{name}_bpc": loss / math.log(2),
                f"{name}_accuracy": accuracy,
            }
        )

    @torch.no_grad()
    def sample(self) -> Pieces[Report | None]:
        """Write on from the prompt at each temperature, with the same random numbers each time."""
        settings, device = self.spec.evaluation, self.hardware.device
        known = {character: number for number, character in enumerate(self.data.vocabulary)}
        prompt = "".join(character for character in settings.prompt if character in known) or self.data.vocabulary[0]
        temperatures = torch.tensor(settings.temperatures, device=device)[:, None]
        random = torch.Generator(device).manual_seed(self.seed)
        ids = torch.tensor([known[character] for character in prompt], device=device).expand(len(temperatures), -1)
        model = cast(CharRNN, self.updater.judged.eval())
        memory, written = model.start(len(temperatures)), []
        for position in range(settings.sample_length):
            logits, memory = model(ids, memory)
            ids = torch.multinomial((logits[:, -1] / temperatures).softmax(1), 1, generator=random)
            written.append(ids)
            if position % 32 == 0:
                yield f"sampling {position}/{settings.sample_length}"
        model.train()
        texts = ["".join(self.data.vocabulary[number] for number in row) for row in torch.cat(written, 1).tolist()]
        samples = [{"temperature": heat, "text": text} for heat, text in zip(settings.temperatures, texts, strict=True)]
        content = json.dumps({"prompt": prompt, "samples": samples}).encode()
        return Report({}, (Artifact("text.json", content, {"kind": "text"}),))

    def saved(self) -> Continuation:
        """Return the optimizer's state and the memory that is carried to the next step."""
        saved = super().saved()
        saved.tensors.update({f"memory.{index}": part for index, part in enumerate(self.memory)})
        return saved

    def restore(self, saved: Continuation) -> None:
        """Put both back."""
        super().restore(saved)
        self._remember(tuple(saved.tensors[f"memory.{index}"] for index in range(len(self.memory))))

    def facts(self) -> dict[str, Any]:
        """Return the size of model and data."""
        return {
            "parameters": self.parameters, "cuda_graph": self.stepper.why_not or "yes",
            "vocabulary": list(self.data.vocabulary),
            "examples": {name: len(getattr(self.data, name)) for name in ("train", "val", "test")},
        }  # fmt: skip
