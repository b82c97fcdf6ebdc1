"""What the shared YAML under configs/ may say: datasets and profiles; see zoo.schedule and zoo.targets.target too."""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

NAME_PATTERN = r"^[A-Za-z0-9](\.?[A-Za-z0-9_\-])*$"  # names become file names: no '/', no '..', no leading '.' or '-'
NAME_LENGTH = 100
Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=NAME_LENGTH)]
# What a library calls its models may hold folders and dots, but never leads out of a folder.
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_\-]*([./][A-Za-z0-9_\-]+)*$", max_length=200)]
Positive = Annotated[int, Field(gt=0)]
MIN_OPSET, MAX_OPSET = 11, 23  # of ONNX, that PyTorch's exporter writes
Opset = Annotated[int, Field(ge=MIN_OPSET, le=MAX_OPSET)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class Config(BaseModel):
    """Unknown keys are refused; instances do not change; text is never taken for a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Rgb = Annotated[tuple[float, float, float], Field(strict=False)]
AboveZero = Annotated[float, Field(gt=0)]
Deviation = Annotated[tuple[AboveZero, AboveZero, AboveZero], Field(strict=False)]


class Preprocessing(Config):
    """From an RGB image to the model's input: fit it into a square, scale to [0, 1], normalise.

    ``geometry`` is how it is fitted: "crop" resizes the short side to ``resize`` and takes the central square;
    "letterbox" resizes the long side to ``size`` and fills the rest, half of it on either side, with grey; "corner"
    does the same with the image in the upper left corner; "stretch" resizes both sides to ``size``.
    """

    geometry: Literal["crop", "letterbox", "corner", "stretch"] = "crop"
    resize: Positive  # pixels of the short side; where the whole image is seen, it is the size
    size: Positive  # pixels of the square, which is the model's input
    interpolation: Literal["nearest", "bilinear", "bicubic"] = "bilinear"
    mean: Rgb  # of pixels in [0, 1], in the order red, green, blue, whatever the order of channels
    std: Deviation
    channels: Literal["RGB", "BGR"] = "RGB"  # their order in the model's input


class Evaluation(Config):
    """How a dataset's images are fitted into a model's input when it is measured; the task says by which geometry."""

    resize: Positive | None = None  # pixels of the short side; none: the size
    size: Positive  # pixels of the square
    interpolation: Literal["nearest", "bilinear", "bicubic"] = "bilinear"


Counts = Positive | Annotated[tuple[Positive, ...], Field(strict=False, min_length=1)]


def _digest(given: Any) -> Any:
    if isinstance(given, str) and not re.fullmatch("[0-9a-f]{64}", given):
        raise ValueError("is no SHA-256 of 64 digits, 0 to 9 and a to f; copy what `zoo data check` prints")
    return given


Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$"), BeforeValidator(_digest)]


class Dataset(Config):
    """Where a dataset is and what it holds. With a ``generator`` it is made on the spot, else ``root`` must exist."""

    description: str
    task: Name  # a module of zoo.tasks
    layout: Name  # a module of zoo.layouts
    generator: Name | None = None  # a module of zoo.datasets
    parameters: dict[str, int | float] = {}  # the generator's arguments
    root: str | None = None  # a folder; $VARIABLES are expanded
    num_classes: Positive
    labels: Annotated[tuple[str, ...], Field(strict=False)] = ()  # where the files do not name the classes
    corrupt: Literal["refuse", "skip"] = "refuse"  # what to do with an image or annotation that cannot be read
    expected: dict[Literal["train", "val"], Counts] = {}  # images by split, skipped ones among them; of several, one
    files_digest: Digest | None = None  # as `zoo data check` prints it
    evaluation: Evaluation | None = None  # what models are measured with that come with no preprocessing of their own
    mean: Rgb
    std: Deviation
    licence: str
    homepage: str | None = None


class ProfileTask(Config):
    """Which data and schedules a task uses in a profile."""

    dataset: Name
    input_size: Positive | None = None  # none: what the published weights were evaluated at
    baseline: Name | None = None  # schedule that trains the source; none: its published weights
    train: Name  # schedule that fine-tunes the lite model


class ProfileModel(Config):
    """What one model has in place of its task's: such as a shorter schedule, or smaller images, where it would train
    for hours."""

    input_size: Positive | None = None
    baseline: Name | None = None
    train: Name | None = None


class Launch(Config):
    """On how many devices training runs: one process for each, started by torchrun where there are several."""

    launcher: Literal["none", "torchrun"] = "none"
    devices: Positive = 1  # of one node
    nodes: Positive = 1


class Profile(Config):
    """Which data and schedules a build uses."""

    description: str
    weights: Literal["scratch", "published"]
    starter: Annotated[tuple[Name, ...], Field(strict=False)] = ()
    tasks: dict[str, ProfileTask]
    models: dict[str, ProfileModel] = {}  # by recipe
    launch: Launch = Launch()  # a recipe can say otherwise under train
    timeout_minutes: dict[str, Positive] = {}  # by step; `default` for those not named
