"""What a run is: the typed, validated model of a preset."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import Field, model_validator

from tuidl.spec.augmentations import AUGMENTATIONS
from tuidl.spec.datasets import DATASETS
from tuidl.spec.losses import LOSSES, CrossEntropy, Loss
from tuidl.spec.models import MLP, MODELS, Model
from tuidl.spec.optimizers import OPTIMIZERS, Adam, Optimizer
from tuidl.spec.regularizers import Regularization
from tuidl.spec.schedules import SCHEDULES, Constant, Schedule
from tuidl.spec.settings import Entry, Group, Registry, named, setting
from tuidl.spec.tasks import METRICS, TASKS, TaskName
from tuidl.text import did_you_mean

if TYPE_CHECKING:
    ModelChoice = Model
    LossChoice = Loss
    OptimizerChoice = Optimizer
    ScheduleChoice = Schedule
    Augmentation = Group
else:
    # The registries are the only list of choices; pydantic's tagged unions and the augmentation group are made from them.
    def _any_of(registry: Registry) -> Any:
        return Annotated[Union[registry.classes()], Field(discriminator="kind")]  # noqa: UP007

    ModelChoice, LossChoice = _any_of(MODELS), _any_of(LOSSES)
    OptimizerChoice, ScheduleChoice = _any_of(OPTIMIZERS), _any_of(SCHEDULES)

    from pydantic import create_model

    Augmentation = create_model(
        "Augmentation",
        __base__=Group,
        **{
            key: (
                float,
                setting(0.0, help=entry.summary, unit=entry.unit, live=True, ge=entry.minimum, le=entry.maximum),
            )
            for key, entry in AUGMENTATIONS.items()
        },
    )

CHOICES: dict[str, Registry[Any]] = {"model": MODELS, "loss": LOSSES, "optimizer": OPTIMIZERS, "schedule": SCHEDULES}

_NONE = Entry("none", "None", "End the run instead.", "", "")
_DATA_NAMES = named({key: Entry(key, item.title, item.summary, "", item.source) for key, item in DATASETS.items()})
_STAND_INS = named(
    {"none": _NONE}
    | {key: Entry(key, item.title, item.summary, "", item.source) for key, item in DATASETS.items() if item.built_in}
)
Text = Annotated[str, Field(max_length=400)]


class About(Group):
    """What a student reads before starting."""

    title: str = setting("", help="One line that names the preset.", max_length=80)
    shows: str = setting("", help="What there is to see.", max_length=600)
    things_to_try: tuple[Text, ...] = setting((), help="Changes worth making, and what to watch.", max_length=8)
    expected: str = setting("", help="The result to expect.", max_length=200)
    time_cpu: str = setting("", help="How long it takes on two CPU cores.", max_length=80)
    time_gpu: str = setting("", help="How long it takes on a big GPU.", max_length=80)


class Data(Group):
    """What is learned from."""

    name: _DATA_NAMES = setting("mnist", help="The data set.")  # type: ignore[valid-type]
    path: str = setting("", help="The file, when the data set is a text of your own.", max_length=1000)
    stand_in: _STAND_INS = setting("none", help="The built-in set that takes over where the real one cannot be had.")  # type: ignore[valid-type]
    validation: float = setting(
        1 / 12,
        help="Share of the training data held out to judge the model while it learns.",
        unit="share",
        ge=0.02,
        le=0.5,
    )
    train_limit: int = setting(
        0,
        help="Train on this many examples only, to see what little data does; 0 takes all.",
        unit="examples",
        ge=0,
        le=10**9,
    )


class Training(Group):
    """How long, and how much at a time."""

    epochs: int = setting(10, help="Passes over the training data.", unit="epochs", ge=1, le=100_000)
    max_steps: int = setting(
        0,
        help="End after this many steps, whatever the epochs; 0 leaves it to the epochs.",
        unit="steps",
        ge=0,
        le=10**9,
    )
    batch_size: int = setting(128, help="Examples in each step.", unit="examples", ge=1, le=65_536)
    threads: int = setting(
        0,
        help="CPU threads; 0 tries how many a step is fastest with, of the cores that are not busy.",
        unit="threads",
        ge=0,
        le=1024,
    )
    average: float = setting(
        0.0,
        help="Judge, show and keep a moving average of the weights, which remembers this share of itself at each step; "
        "0 takes the weights as they are.",
        unit="share",
        ge=0,
        le=0.9999,
    )
    cuda_graph: Literal["auto", "off"] = setting(
        "auto", help="On a GPU, launch each step as one captured graph where that is possible."
    )
    compile: bool = setting(
        False, help="Let torch compile the model: minutes at the start for faster steps. Needs a C++ compiler."
    )


class EarlyStopping(Group):
    """When to stop before the last epoch."""

    patience: int = setting(
        0,
        help="Evaluations without a better one before the run stops; 0 never stops early.",
        unit="evaluations",
        ge=0,
        le=10_000,
    )
    min_delta: float = setting(0.0, help="By how much the metric must improve to count.", ge=0, le=1000)


class Evaluation(Group):
    """What is measured on data the model does not learn from."""

    metric: Literal["auto", "val_accuracy", "val_loss", "frechet", "score"] = setting(
        "auto", help="Decides which weights are best, early stopping and plateaus."
    )
    every_steps: int = setting(
        0, help="Also evaluate every so many steps; 0 only after each epoch.", unit="steps", ge=0, le=10**9
    )
    probes: int = setting(
        256, help="Validation images whose predictions are followed all along.", unit="images", ge=0, le=10_000
    )
    worst: int = setting(16, help="How many of the worst-classified probes are shown.", unit="images", ge=0, le=100)
    mirror: bool = setting(
        False, help="Judge each image by what the model makes of it and of its mirror image together."
    )
    prompt: str = setting("\n", help="What written samples begin with.", max_length=500)
    sample_length: int = setting(240, help="How much text each sample has.", unit="characters", ge=1, le=10_000)
    temperatures: tuple[Annotated[float, Field(ge=0.05, le=5)], ...] = setting(
        (0.5, 0.8, 1.1),
        help="How daring written samples are: low repeats the likely, high invents.",
        live=True,
        min_length=1,
        max_length=3,
    )
    sample_images: int = setting(64, help="Generated images in the grid.", unit="images", ge=4, le=400)
    score_images: int = setting(
        2000,
        help="Generated images behind the score and the Fréchet distance; both depend on it.",
        unit="images",
        ge=100,
        le=50_000,
    )


class Checkpoints(Group):
    """What is kept of a run so that it can go on after whatever ends it."""

    interval: int = setting(
        60, help="Save all that `tuidl resume` needs so often, and after each evaluation; 0 only then.",
        unit="seconds", ge=0, le=86_400,
    )  # fmt: skip
    keep: int = setting(2, help="How many of the newest are kept, beside the best.", unit="files", ge=2, le=1000)
    disk_full: Literal["pause", "go-on"] = setting(
        "pause", help="While the disk is full: wait for space, or train on and lose what cannot be written."
    )


class RunSpec(Group):
    """A whole run. Everything a trainer needs, and all that is needed to repeat it."""

    about: About = About()
    task: TaskName = setting("classification", help="What is learned.")
    seed: int = setting(0, help="Start of every random number; the same seed gives the same run.", ge=0, le=2**31 - 1)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = setting(
        "auto", help="Number format of the heavy work; auto takes bf16 where the hardware has it, else fp16 on a GPU."
    )
    device: str = setting(
        "auto", help="Where to train: auto, cpu, cuda, cuda:1 or mps.", pattern=r"^(auto|cpu|mps|cuda(:\d{1,2})?)$"
    )
    data: Data = Data()
    augmentation: Augmentation = Augmentation()
    model: ModelChoice = MLP()
    loss: LossChoice = CrossEntropy()
    optimizer: OptimizerChoice = Adam()
    regularization: Regularization = Regularization()
    schedule: ScheduleChoice = Constant()
    training: Training = Training()
    early_stopping: EarlyStopping = EarlyStopping()
    evaluation: Evaluation = Evaluation()
    checkpoints: Checkpoints = Checkpoints()

    @model_validator(mode="after")
    def _fits_together(self) -> "RunSpec":
        task = TASKS[self.task]
        for group in ("model", "loss"):
            choice = getattr(self, group)
            if choice.tasks and self.task not in choice.tasks:
                fitting = ", ".join(CHOICES[group].for_task(self.task))
                raise ValueError(
                    f"{group}.kind = {choice.kind!r} does not fit task {self.task!r}; choose one of {fitting}"
                )
        if DATASETS[self.data.name].kind != task.data:
            fitting = ", ".join(key for key, item in DATASETS.items() if item.kind == task.data)
            raise ValueError(f"data.name = {self.data.name!r} does not fit task {self.task!r}; choose one of {fitting}")
        if self.data.stand_in != "none" and DATASETS[self.data.stand_in].kind != task.data:
            raise ValueError(
                f"data.stand_in = {self.data.stand_in!r} does not fit task {self.task!r}, which needs {task.data}"
            )
        if self.data.name == "text" and not self.data.path:
            raise ValueError("data.path is empty; give the text file, as in --set data.path=book.txt")
        if self.evaluation.metric not in ("auto", *dict(task.metrics)):
            raise ValueError(
                f"evaluation.metric = {self.evaluation.metric!r}: {did_you_mean(self.evaluation.metric, dict(task.metrics))}"
            )
        return self

    @property
    def metric(self) -> str:
        """Return the metric that decides which weights are best."""
        return TASKS[self.task].metrics[0][0] if self.evaluation.metric == "auto" else self.evaluation.metric

    @property
    def larger_is_better(self) -> bool:
        """Return whether more of the deciding metric is better."""
        return METRICS[self.metric]
