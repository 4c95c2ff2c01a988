"""The regularizers.

Each setting of the `[regularization]` group is one regularizer. Its role says where the trainer applies it:
`penalty` is added to the loss, `gradient` changes the gradient before the step, `weights` projects the weights after it,
`model` and `target` are read by the models and the losses. `REGULARIZERS` lists these and the few whose setting stands
in another group because it belongs to the optimizer, the model or the loop.
"""

from dataclasses import dataclass
from typing import Any

from tuidl.spec.settings import Entry, Group, setting

_HERE = "tuidl.train.regularizers"
_ENTRIES: dict[str, Entry] = {}


def regularizer(
    key: str,
    role: str,
    default: float,
    *,
    title: str,
    help: str,
    formula: str,
    source: str,
    unit: str = "",
    implementation: str = "",
    **bounds: Any,
) -> Any:
    """Declare a setting that is a regularizer; zero switches it off."""
    _ENTRIES[key] = Entry(key, title, help, formula, source, implementation and f"{_HERE}:{implementation}")
    return setting(default, help=help, unit=unit, live=True, entry=_ENTRIES[key], role=role, **bounds)


class Regularization(Group):
    """Everything that keeps a model simple; all may change while training."""

    l1: float = regularizer(
        "l1",
        "penalty",
        0.0,
        title="L1",
        help="Adds the sum of absolute weights to the loss: pulls weights to exactly zero.",
        formula="L + λ Σ|w|",
        source="Tibshirani 1996; seed lecture 3",
        implementation="l1",
        ge=0,
        le=10,
    )
    l2: float = regularizer(
        "l2",
        "penalty",
        0.0,
        title="L2",
        help="Adds the sum of squared weights to the loss: keeps all weights small.",
        formula="L + λ Σw²",
        source="Tikhonov 1943; seed lecture 3",
        implementation="l2",
        ge=0,
        le=10,
    )
    tikhonov: float = regularizer(
        "tikhonov",
        "penalty",
        0.0,
        title="Tikhonov (smoothness)",
        help="Adds the squared difference of neighbouring weights of a filter: makes what a unit looks for smooth.",
        formula="L + λ wᵀΓᵀΓw, Γ = differences of neighbours",
        source="seed lecture 3",
        implementation="tikhonov",
        ge=0,
        le=100,
    )
    dropout: float = regularizer(
        "dropout",
        "model",
        0.0,
        title="Dropout",
        help="Switches this share of hidden units off at random in each step, never in evaluation.",
        formula="h · m / (1 − p), m ~ Bernoulli(1 − p)",
        source="Srivastava et al. 2014; seed lecture 3",
        unit="share",
        ge=0,
        le=0.95,
    )
    label_smoothing: float = regularizer(
        "label_smoothing",
        "target",
        0.0,
        title="Label smoothing",
        help="Gives this share of the target to the other classes, so that the model is never quite sure.",
        formula="y(1 − ε) + ε/K",
        source="Szegedy et al. 2016",
        unit="share",
        ge=0,
        le=0.9,
    )
    clip_norm: float = regularizer(
        "clip_norm",
        "gradient",
        0.0,
        title="Gradient clipping by norm",
        help="Shortens the gradient to this length when it is longer; 0 switches it off.",
        formula="g · min(1, c / ‖g‖)",
        source="Pascanu et al. 2013",
        implementation="clip_norm",
        ge=0,
        le=1e6,
    )
    clip_value: float = regularizer(
        "clip_value",
        "gradient",
        0.0,
        title="Gradient clipping by value",
        help="Cuts each number of the gradient to ± this; 0 switches it off.",
        formula="max(−c, min(c, g))",
        source="Mikolov 2012",
        implementation="clip_value",
        ge=0,
        le=1e6,
    )
    max_norm: float = regularizer(
        "max_norm", "weights", 0.0, title="Max-norm", help="Scales a unit's incoming weights back when they are longer than this; 0 switches it off.",
        formula="w · min(1, c / ‖w‖)", source="Srebro & Shraibman 2005; Srivastava et al. 2014", implementation="max_norm", ge=0, le=1e6)  # fmt: skip


@dataclass(frozen=True)
class Regularizer:
    """A regularizer and the settings that switch it on."""

    entry: Entry
    role: str
    paths: tuple[str, ...]


def _elsewhere(key: str, title: str, summary: str, formula: str, source: str, *paths: str) -> Regularizer:
    return Regularizer(Entry(key, title, summary, formula, source), "elsewhere", paths)


def _own() -> list[Regularizer]:
    found = []
    for name, field in Regularization.model_fields.items():
        extra = field.json_schema_extra
        assert isinstance(extra, dict)
        found.append(Regularizer(_ENTRIES[name], str(extra["role"]), (f"regularization.{name}",)))
    return found


REGULARIZERS: dict[str, Regularizer] = {
    item.entry.key: item
    for item in [
        *_own(),
        _elsewhere("elastic_net", "Elastic net", "L1 and L2 together: zeros, but not at the whim of one of two like features.",
                   "L + λ₁ Σ|w| + λ₂ Σw²", "Zou & Hastie 2005; seed lecture 3", "regularization.l1", "regularization.l2"),
        _elsewhere("weight_decay", "Decoupled weight decay", "Shrinks the weights beside the gradient step, whatever the optimizer.",
                   "θ ← θ − ηλθ", "Loshchilov & Hutter 2017", "optimizer.weight_decay"),
        _elsewhere("batch_norm", "Batch normalisation", "The noise of each batch's mean and variance regularizes a little.",
                   "γ (x − μ_B) / √(σ²_B + ε) + β", "Ioffe & Szegedy 2015; seed lecture 5", "model.batch_norm"),
        _elsewhere("augmentation", "Augmentation", "Shows the training images a little changed each time, so that there seem to be more of them.",
                   "x → T(x)", "seed lecture 5", "augmentation"),
        _elsewhere("early_stopping", "Early stopping", "Stops when the validation metric no longer improves, and goes back to the best weights.",
                   "stop after `patience` evaluations without a better one", "Prechelt 1998; seed lecture 2", "early_stopping.patience"),
    ]
}  # fmt: skip
