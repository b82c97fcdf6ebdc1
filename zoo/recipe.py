"""What a recipe may say: one model's YAML. The file is the registry entry; its stem is the model's name."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from zoo.config import AboveZero, Config, Launch, ModelName, Name, Opset, Positive
from zoo.schedule import Schedule

Anchors = Annotated[
    tuple[Annotated[tuple[Annotated[tuple[AboveZero, AboveZero], Field(strict=False)], ...], Field(strict=False)], ...],
    Field(strict=False),
]


def _named(entry: str) -> str:
    if not any(letter.isalnum() for letter in entry):
        raise ValueError("would leave whatever the target refuses; name an operator or layers")
    return entry


def _share(given: Any) -> Any:
    if isinstance(given, int | float) and not isinstance(given, bool) and 1 < given <= 100:
        raise ValueError(f"is a share between 0 and 1, not {given:g}; write {given / 100:g} for {given:g} percent")
    return given


_NOT_POINTS = BeforeValidator(_share)
Entry = Annotated[str, Field(min_length=1), AfterValidator(_named)]
Reason = Annotated[str, Field(pattern=r"\S")]


class Source(Config):
    """The published model: its library, its name there, and which of its published weights."""

    library: Name
    model: ModelName | None = None  # either this
    config: ModelName | None = None  # or this, where the library knows its models by config files
    weights: Name | None = None  # needed by profiles that use published weights
    checkpoint: Annotated[str, Field(min_length=1)] | None = None  # a path or URL, in place of published weights
    anchors: Anchors | None = None  # width and height in pixels, by level; none: the config's own

    @property
    def name(self) -> str:
        """What the library knows the model by."""
        return self.model or self.config or ""


class WarmStart(Config):
    """What replaced layers start from, by training images without labels; each part can be switched off."""

    gates: bool = True  # a removed gate becomes its mean, folded into the next layer; else it becomes one
    norms: bool = True  # BatchNorm in place of another normalisation starts from what that one gave; else as made
    statistics: bool = True  # BatchNorm's statistics are measured anew; else they are the source's
    refit: bool = False  # layers behind an edit are fitted by least squares to what they gave in the source
    # Of an optimizer that fits block by block to the source; none: as many as the fine-tuning schedule has.
    reconstruction_steps: Annotated[int, Field(ge=0)] | None = None


class Surgery(Config):
    """Which rules to apply: ``auto`` for what the target needs, ``default`` for all but options whatever the target,
    ``none``, or exactly those of a list.

    A recipe may write the rules alone: ``surgery: auto`` is ``surgery: {rules: auto}``; ``surgery: none`` expects no
    edits.
    """

    rules: Literal["auto", "default", "none"] | Annotated[tuple[Name, ...], Field(strict=False, min_length=1)] = (
        "default"
    )
    expect: Literal["edits", "no_edits"] = "edits"  # no_edits: nothing to replace; the release is not called lite
    calibration_batches: Positive = 16  # training batches that the warm start is measured on
    warm_start: WarmStart = WarmStart()

    @model_validator(mode="before")
    @classmethod
    def _rules_alone(cls, given: Any) -> Any:
        if not isinstance(given, str | list | tuple):
            return given
        return {"rules": given, "expect": "no_edits"} if given == "none" else {"rules": given}

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        mapping = handler.resolve_ref_schema(handler(core))
        about = {"description": mapping.pop("description"), "title": mapping.pop("title")}
        return about | {"anyOf": [*mapping["properties"]["rules"]["anyOf"], mapping]}


class Train(Config):
    """What this model changes in the profile's fine-tuning schedule."""

    schedule: Name | None = None
    epochs: Positive | None = None
    lr: AboveZero | None = None
    batch_size: Positive | None = None  # the learning rate is scaled with it (Goyal et al. 2017)
    teacher: bool = True  # the source model teaches
    launcher: Literal["none", "torchrun"] | None = None  # these three, also for the source: none, the profile's
    devices: Positive | None = None  # of one node
    nodes: Positive | None = None

    def changed(self, schedule: Schedule) -> Schedule:
        """The schedule with what this model changes in it.

        Another batch size scales the schedule's learning rate in proportion (Goyal et al. 2017, section 2.1); one that
        is given beside it is for that batch size.
        """
        batch_size = self.batch_size or schedule.batch_size
        rate = self.lr or schedule.optimizer.lr * batch_size / schedule.batch_size
        return schedule.model_copy(
            update={
                "epochs": self.epochs or schedule.epochs,
                "batch_size": batch_size,
                "optimizer": schedule.optimizer.model_copy(update={"lr": rate}),
            }
        )

    def scaled_from(self, schedule: Schedule) -> str:
        """What the learning rate of `changed` was in proportion to, for people; nothing where it was not scaled."""
        if self.lr is not None or self.batch_size in (None, schedule.batch_size):
            return ""
        return f"{schedule.optimizer.lr:g} at batch size {schedule.batch_size}"

    def launched(self, launch: Launch) -> Launch:
        """The profile's launch with what this model changes in it."""
        changes = {"launcher": self.launcher, "devices": self.devices, "nodes": self.nodes}
        return launch.model_copy(update={name: value for name, value in changes.items() if value is not None})


class Accept(Config):
    """What a release has to reach; shares of the task's metric, which is between 0 and 1.

    The source's is what the same profile measured of it on the same validation images.
    """

    lost_at_most: Annotated[float, Field(ge=0, lt=1), _NOT_POINTS] | None = None  # the source's minus the lite model's
    at_least: dict[Name, Annotated[float, Field(gt=0, le=1), _NOT_POINTS]] = Field(default={})  # by profile


class Export(Config):
    """How the ONNX file is written."""

    opset: Opset | None = None  # none: the target's
    dynamic_batch: bool = False
    simplify: bool = True
    argmax: bool = False  # segmentation: the output is each pixel's class, not its logits
    nms: bool = False  # detection: the outputs are what non-maximum suppression leaves
    tolerance: Annotated[float, Field(gt=0)] = 1e-3  # largest |onnx - torch| over the largest |torch| of the outputs


class Recipe(Config):
    """One model of the zoo."""

    description: str = ""
    source: Source
    task: Name
    target: Name
    device: Name | None = None  # one of the target's; none: all of them
    surgery: Surgery = Surgery()
    train: Train = Train()
    export: Export = Export()
    accept: Accept = Accept()
    left: dict[Entry, Reason] = Field(default={})  # what the target refuses and stays: operator or layer (*), and why


def as_json(part: Config) -> dict[str, Any]:
    """The settings of a part, defaults included, as JSON values."""
    return part.model_dump(mode="json")
