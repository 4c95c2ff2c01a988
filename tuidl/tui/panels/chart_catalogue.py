"""The charts of the dashboard: what each shows, and what a student should know about it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class CurveSpec:
    """A column of the step metrics. `role` is one of `tuidl.tui.draw.chart.ROLES`."""

    column: str
    label: str
    role: str = "train"


@dataclass(frozen=True)
class DotsSpec:
    """A metric of the evaluations."""

    metric: str
    label: str
    role: str = "val"


@dataclass(frozen=True)
class ChartSpec:
    """A chart. What a run does not have is not drawn. `lower` and `upper` are bounds that no value can pass."""

    title: str
    about: str
    curves: tuple[CurveSpec, ...] = ()
    dots: tuple[DotsSpec, ...] = ()
    log_y: bool = False
    lower: float = -math.inf
    upper: float = math.inf
    percent: bool = False
    smooth: bool = True  # whether its curves are noisy, so that smoothing helps


_READING = (
    "\n\nThe bright line is smoothed; the faint band behind it holds every single value, so no spike is lost. Press s "
    "for more smoothing, S for less. Left and right move a cursor that reads all values off, m holds on to a place to "
    "compare with. ┊ marks where a setting was changed, ✗ a value that is not finite."
)

_LOSS_DOTS = (DotsSpec("val_loss", "val"), DotsSpec("test_loss", "test", "test"))
_ACCURACY = ChartSpec(
    "accuracy",
    "The share of right answers: ─ on the batches being trained on, ● on validation images that are never trained on, "
    "◆ on the test images, measured once at the end.\n\n"
    "Guessing one of 10 classes is right 10 % of the time, so that is where a curve starts. Judge the model by ●. "
    "Dropout and augmentation make training harder than validation: then ● above ─ is normal.\n\n"
    "Alarming: ─ near 100 % while ● stays behind or falls. The model learns the training images by heart; more "
    "augmentation, dropout, weight decay or an earlier end help. A curve that stays at chance means that nothing is "
    "learned: look at the learning rate and at grad norm." + _READING,
    (CurveSpec("accuracy", "train"),),
    (DotsSpec("val_accuracy", "val"), DotsSpec("test_accuracy", "test", "test")),
    lower=0.0,
    upper=1.0,
    percent=True,
)

CHARTS: Mapping[str, ChartSpec] = {
    "loss": ChartSpec(
        "loss",
        "How wrong the model is, the number that training makes smaller: ─ on the batches being trained on, ● on "
        "validation images that are never trained on, ◆ on the test images, measured once at the end with the best "
        "weights.\n\n"
        "With cross-entropy, a model that guesses among 10 classes has ln 10 = 2.30, and 0 means certain and right. A "
        "good run falls steeply, then ever more slowly; log y (l) shows whether it still does. Judge by ●, as ─ is "
        "measured on what the model has just seen.\n\n"
        "Alarming: ─ falls while ● rises. That is overfitting: stop earlier, or regularize more. A loss that jumps up "
        "or turns into ✗ means that the learning rate is too high. One that stays at 2.30 means that it is too low, or "
        "that no gradient comes through." + _READING,
        (CurveSpec("loss", "train"),),
        _LOSS_DOTS,
    ),
    "language.loss": ChartSpec(
        "loss",
        "How surprised the model is by the next character, in nats: ─ on the text being trained on, ● on validation "
        "text, ◆ on test text, measured once at the end with the best weights.\n\n"
        "A model that guesses among 65 characters has ln 65 = 4.17; one that only knows how frequent each is, about "
        "3.3 on English; below 1.5 words and rhythm come right. Divided by ln 2 = 0.693 it is bits a character.\n\n"
        "Alarming: ─ falls while ● rises. The model learns the text by heart: stop earlier, use more dropout or a "
        "smaller model. A sudden jump is an exploding gradient, which recurrent nets are prone to: clip it." + _READING,
        (CurveSpec("loss", "train"),),
        _LOSS_DOTS,
    ),
    "gan.loss": ChartSpec(
        "loss of both nets",
        "Two nets with opposite aims: the generator (─) is to be taken for real, the discriminator (╌) to tell drawn "
        "images from real ones. As one gets better, the other's loss rises, so neither falls for long and neither "
        "tells how good the images are: look at them, and at the score.\n\n"
        "Balance, with the non-saturating loss: the discriminator cannot tell, its loss is 2 ln 2 = 1.39 and the "
        "generator's ln 2 = 0.69. In practice a discriminator that is somewhat ahead is healthy. With the Wasserstein "
        "loss the numbers are distances and may be negative.\n\n"
        "Alarming: the discriminator's loss goes to 0 and the generator's climbs. The discriminator wins, and the "
        "generator learns nothing from it any more: lower its learning rate (d_lr_factor), smooth its labels, give it "
        "dropout. Losses that swing ever more widely mean that both learn too fast." + _READING,
        (CurveSpec("g_loss", "generator"), CurveSpec("d_loss", "discriminator", "second")),
    ),
    "accuracy": _ACCURACY,
    "language.accuracy": ChartSpec(
        "accuracy",
        "How often the most likely next character is the one that stands in the text: ─ on the text being trained on, "
        "● on validation text, ◆ on test text.\n\n"
        "A good model of English gets 55 to 60 %: nobody can know every next letter, so 100 % is no aim. Always "
        "guessing a blank gives about 15 to 20 %.\n\n"
        "Alarming: ─ goes on rising while ● falls: the text is learned by heart." + _READING,
        _ACCURACY.curves,
        _ACCURACY.dots,
        lower=0.0,
        upper=1.0,
        percent=True,
    ),
    "outputs": ChartSpec(
        "discriminator's view",
        "How real the discriminator holds images: ─ real ones, ╌ those that the generator draws. With the "
        "non-saturating loss these are probabilities; with the other losses they are scores of any size, and only the "
        "distance of the lines counts.\n\n"
        "Both at 0.5: the discriminator cannot tell, which is the aim, or it is too weak to try. Real at 0.6 to 0.9 "
        "and drawn at 0.1 to 0.4 is a healthy game.\n\n"
        "Alarming: real at 1 and drawn at 0. The discriminator is sure, and the generator gets almost no gradient. "
        "Lines that swing from end to end: the nets chase each other, and the images change without getting better."
        + _READING,
        (CurveSpec("d_real", "real"), CurveSpec("d_fake", "drawn", "second")),
    ),
    "score": ChartSpec(
        "score",
        "How good the drawn images are, judged by a classifier that was trained on real ones: ● against validation, ◆ "
        "against test images. The score is high when each image is clearly of one class and all classes are drawn: 1 "
        "is useless, the number of classes (10) is perfect.\n\n"
        "It rises quickly, then slowly and unsteadily; a few hundredths up and down are noise, as it depends on which "
        "images were drawn. It cannot be compared with published Inception scores, as the judge is another net.\n\n"
        "Alarming: a score that falls for several evaluations, often because the generator draws ever fewer kinds of "
        "images (mode collapse): look at the images.",
        dots=(DotsSpec("score", "score"), DotsSpec("test_score", "test", "test")),
        lower=1.0,
    ),
    "frechet": ChartSpec(
        "Fréchet distance",
        "How far drawn images are from real ones, as a classifier sees them: ● against validation, ◆ against test "
        "images. 0 would be the same distribution; smaller is better, and the best weights are chosen by it.\n\n"
        "Alarming: a distance that rises for several evaluations while the losses look well.",
        dots=(DotsSpec("frechet", "distance"), DotsSpec("test_frechet", "test", "test")),
        lower=0.0,
    ),
    "lr": ChartSpec(
        "learning rate",
        "How large a step the optimizer takes along the gradient, as the schedule and your changes (┊) have it. It is "
        "the setting that matters most.\n\n"
        "Many schedules rise for a while (warm-up, while the gradients are still wild) and then fall, so that the "
        "weights come to rest. For Adam 1e-3 is a usual peak, for SGD 0.01 to 0.1.\n\n"
        "Alarming: a loss that jumps where the rate is at its highest: lower it. A loss that still falls steeply where "
        "the rate is almost 0: the run ends too early.",
        (CurveSpec("lr", "lr"),),
        lower=0.0,
        smooth=False,
    ),
    "grad_norm": ChartSpec(
        "gradient norm",
        "The length of the gradient of all weights together, before it is clipped: how steep the loss is where the "
        "weights are now. The scale is logarithmic; ╌ is the discriminator of a GAN.\n\n"
        "It is large at first, then falls and stays about level; how large it is depends on the model, so compare it "
        "with itself. Choose a clipping limit a little above the usual level.\n\n"
        "Alarming: spikes of ten times the usual and more (exploding gradients: clip, or lower the learning rate), or "
        "a slow fall towards 0 while the loss is still high (vanishing gradients: look at activations, initialization, "
        "batch norm)." + _READING,
        (CurveSpec("grad_norm", "norm"), CurveSpec("d_grad_norm", "discriminator", "second")),
        log_y=True,
        lower=0.0,
    ),
    "update_ratio": ChartSpec(
        "update ratio",
        "How far a step moves the weights, compared with how large they are: ‖Δw‖/‖w‖, measured at every 16th step. "
        "The scale is logarithmic.\n\n"
        "About 1e-3 is healthy: in a thousand steps the weights could be made anew. It follows the learning rate.\n\n"
        "Alarming: above 1e-1 the weights are thrown about, and the learning rate is too high. Below 1e-5 hardly "
        "anything is learned: the rate is too low, or the schedule has come to its end." + _READING,
        (CurveSpec("update_ratio", "ratio"),),
        log_y=True,
        lower=0.0,
    ),
}
"""By the name of its panel; `task.name` stands before `name` where a task has a chart of its own."""
