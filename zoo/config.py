"""What the shared YAML under configs/ may say: datasets, schedules, targets and profiles."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

NAME_PATTERN = r"^[A-Za-z0-9](\.?[A-Za-z0-9_\-])*$"  # names become file names: no '/', no '..', no leading '.' or '-'
NAME_LENGTH = 100
Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=NAME_LENGTH)]
Positive = Annotated[int, Field(gt=0)]
MIN_OPSET, MAX_OPSET = 18, 23  # of ONNX, that PyTorch's exporter writes
Opset = Annotated[int, Field(ge=MIN_OPSET, le=MAX_OPSET)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class Config(BaseModel):
    """Unknown keys are refused; instances do not change; text is never taken for a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Rgb = Annotated[tuple[float, float, float], Field(strict=False)]
AboveZero = Annotated[float, Field(gt=0)]
Deviation = Annotated[tuple[AboveZero, AboveZero, AboveZero], Field(strict=False)]


class Preprocessing(Config):
    """From an RGB image to the model's input: resize the short side, centre-crop, scale to [0, 1], normalise."""

    resize: Positive  # pixels of the short side
    size: Positive  # pixels of the square crop, which is the model's input
    interpolation: Literal["nearest", "bilinear", "bicubic"] = "bilinear"
    mean: Rgb
    std: Deviation


class Dataset(Config):
    """Where a dataset is and what it holds. With a ``generator`` it is made on the spot, else ``root`` must exist."""

    description: str
    task: Literal["classification"]
    layout: Literal["imagefolder"]  # train/<class>/*.png and val/<class>/*.png
    generator: Name | None = None  # a module of zoo.datasets
    parameters: dict[str, int | float] = {}  # the generator's arguments
    root: str | None = None  # a folder; $VARIABLES are expanded
    num_classes: Positive
    mean: Rgb
    std: Deviation
    licence: str
    homepage: str | None = None


class Optimizer(Config):
    """Arguments of the optimizer; ``lr`` is for the schedule's batch size."""

    type: Literal["SGD", "AdamW"] = "SGD"
    lr: Annotated[float, Field(gt=0)]
    momentum: Fraction = 0.9
    nesterov: bool = False
    weight_decay: Annotated[float, Field(ge=0)] = 0.0


class Distillation(Config):
    """Logit distillation (Hinton et al. 2015): ``weight`` of the teacher's term, softmax ``temperature``."""

    weight: Annotated[float, Field(gt=0, le=1)] = 0.5
    temperature: Annotated[float, Field(gt=0)] = 2.0


class Schedule(Config):
    """How long and how to train: linear warm-up, then cosine decay to zero."""

    description: str
    epochs: Positive
    batch_size: Positive
    optimizer: Optimizer
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    label_smoothing: Fraction = 0.0
    ema_decay: Fraction | None = None  # exponential moving average of the weights, per iteration
    distillation: Distillation | None = Distillation()  # used where the model has a teacher
    augmentation: Literal["none", "shift", "crop_flip"] = "none"
    workers: Annotated[int, Field(ge=0)] = 0  # data-loading processes
    seed: int = 0


class KernelLimit(Config):
    """Largest kernel side, in pixels, that the device accelerates."""

    conv: Positive
    max_pool: Positive
    avg_pool: Positive | None = None  # none: any


class Target(Config):
    """A device's operators (ATen base names, as PyTorch dispatches them in eval mode) and limits.

    An in-place variant such as ``relu_`` counts as the operator itself.
    """

    description: str
    source: str  # where the facts come from
    opset: Opset
    accelerated: Annotated[tuple[str, ...], Field(strict=False)]
    free: Annotated[tuple[str, ...], Field(strict=False)] = ()  # views and the like, which cost nothing
    outputs_only: Annotated[tuple[str, ...], Field(strict=False)] = ()  # accelerated as the model's last operator
    kernels: KernelLimit


class ProfileTask(Config):
    """Which data and schedules a task uses in a profile."""

    dataset: Name
    input_size: Positive | None = None  # none: what the published weights were evaluated at
    baseline: Name | None = None  # schedule that trains the source; none: its published weights
    train: Name  # schedule that fine-tunes the lite model


class Profile(Config):
    """Which data and schedules a build uses."""

    description: str
    weights: Literal["scratch", "published"]
    starter: Annotated[tuple[Name, ...], Field(strict=False)] = ()
    tasks: dict[str, ProfileTask]
    timeout_minutes: dict[str, Positive] = {}  # by step; `default` for those not named
