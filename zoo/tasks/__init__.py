"""The ML tasks, one module each: the folder is the registry. A task knows its data, its loss and its metric."""

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from zoo.config import Preprocessing
from zoo.errors import UnknownName, did_you_mean
from zoo.origin import Origin
from zoo.reading import registry
from zoo.recipe import Export
from zoo.schedule import Schedule

if TYPE_CHECKING:
    import onnx
    from mmengine.hooks import Hook
    from PIL import Image
    from torch import Tensor, nn

    from zoo.predicting.predictions import Prediction
    from zoo.training.runner import Trained


class Task(Protocol):
    """What a module of this folder offers. ``model`` is the network as its library builds it, lite or not."""

    METRIC: str  # the figure that a release is known by, a fraction
    GEOMETRY: Literal["crop", "letterbox"]  # how images are fitted into a square where no published weights say it
    RETURNS: str  # what a loaded model and the ONNX file return, in a sentence or two, for the model card

    def calibration_batches(
        self, data: Path, preprocessing: Preprocessing, batch_size: int, count: int, seed: int
    ) -> "Iterator[Tensor]":
        """At most ``count`` model inputs (batch_size, 3, size, size): training images drawn by seed, not augmented."""

    def validation_sample(self, data: Path, preprocessing: Preprocessing, count: int) -> "Tensor":
        """At most ``count`` model inputs (N, 3, size, size), evenly spaced over the validation images.

        Raises DatasetError where there is none.
        """

    def evaluate(self, model: "nn.Module", data: Path, preprocessing: Preprocessing) -> dict[str, Any]:
        """Metrics on all validation images as fractions, with ``images``, ``dataset`` and ``dataset_digest``."""

    def fit(
        self,
        model: "nn.Module",
        data: Path,
        preprocessing: Preprocessing,
        schedule: Schedule,
        *,
        name: str,
        folder: Path,
        key: str,
        teacher: "nn.Module | None" = None,
        hooks: "Sequence[Hook]" = (),
    ) -> "Trained":
        """Train ``model`` in place as the schedule says; see zoo.training.runner.train for what is after the star."""

    def host_boundary(self, model: "nn.Module", exported: "onnx.ModelProto") -> frozenset[str]:
        """Values of the model as it was exported, behind which a device's host takes over by design; of most none."""

    def outputs(self, export: Export) -> tuple[str, ...]:
        """Names of what ``deployable`` returns, in order."""

    def deployable(self, model: "nn.Module", origin: Origin, export: Export) -> "nn.Module":
        """What is exported, in eval mode: a model input (N, 3, size, size) to one tensor, or a tuple of them."""

    def descriptions(
        self, model: "nn.Module", origin: Origin, export: Export, exported: "onnx.ModelProto"
    ) -> Mapping[str, str]:
        """Further files of the release, their text by their names, for those who run the ONNX file."""

    def loadable(self, model: "nn.Module", origin: Origin) -> "nn.Module":
        """What ``zoo.load`` returns, in eval mode; ``network`` is the model where it is another one."""

    def predicted(self, image: "Image.Image", model: "nn.Module", origin: Origin) -> "Prediction":
        """What a model that ``loadable`` returned finds in an RGB image of any size."""


def find(name: str) -> Task:
    """The task of that name; raises UnknownName with the near ones."""
    known = registry.modules("zoo.tasks")
    if name not in known:
        raise UnknownName(f"unknown task '{name}'; {did_you_mean(name, known)}".rstrip("; "))
    return cast(Task, import_module(f"zoo.tasks.{name}"))
