"""What leaves the build of a detector: the graph that is exported, files that describe it, and what is loaded."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor, nn

from zoo.detection import head_description, tidl_prototxt
from zoo.detection.decoding import Decoded
from zoo.detection.detector import Detector
from zoo.detection.fusing import fused
from zoo.detection.suppression import PREDICTION, suppressed
from zoo.errors import StepError
from zoo.origin import Origin
from zoo.predicting.predictions import Boxes
from zoo.recipe import Export

if TYPE_CHECKING:
    import onnx
    from PIL import Image

RETURNS = (
    "The model returns boxes (N, K, 4), corners x1, y1, x2, y2 in pixels of its input, scores and labels (N, K), best "
    "first; `postprocess` leaves each image's objects, `detect` takes an image and gives boxes in its own pixels. The "
    "ONNX file returns `boxes` (N, A, 4) and `scores` (N, A, classes) before suppression or, where the recipe's export "
    f"says nms, of one image `boxes` ({PREDICTION.most}, 4), `scores` and `labels` ({PREDICTION.most}), label -1 where "
    "there is no object."
)


class Suppressed(nn.Module):
    """A detector with non-maximum suppression in it, for one image at a time.

    Maps a model input (1, 3, size, size) to boxes (most, 4), scores (most,) and labels (most,), best first; rows
    without an object are zero and their label is -1.
    """

    def __init__(self, decoded: Decoded) -> None:
        import torchvision.ops  # noqa: F401  # PyTorch's exporter knows its operators only if they are there by then

        super().__init__()
        self.decoded = decoded

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See the class."""
        boxes, scores = self.decoded(images)
        return suppressed(boxes, scores, PREDICTION)


def host_boundary(model: nn.Module, exported: "onnx.ModelProto") -> frozenset[str]:
    """What the head's last convolutions make: what they predict is decoded on the host.

    Raises StepError where one of these tensors is not in the exported model.
    """
    return head_description.boundary(fused(model), exported).tensors


def outputs(export: Export) -> tuple[str, ...]:
    """Boxes (N, A, 4) and scores (N, A, classes); with suppression boxes (most, 4), scores and labels (most,)."""
    return ("boxes", "scores", "labels") if export.nms else ("boxes", "scores")


def deployable(model: nn.Module, origin: Origin, export: Export) -> nn.Module:
    """A copy of the detector that gives boxes and scores, each re-parameterisable block as one convolution.

    Raises StepError where its head is not known or does not fit the size, and where suppression, which is of one
    image, is asked for together with a batch of any size.
    """
    if export.nms and export.dynamic_batch:
        raise StepError("export.nms: suppression is of one image at a time; set export.dynamic_batch to false")
    decoded = Decoded(fused(model), origin.preprocessing.size).eval()
    return Suppressed(decoded).eval() if export.nms else decoded


def descriptions(model: nn.Module, origin: Origin, export: Export, exported: "onnx.ModelProto") -> Mapping[str, str]:
    """``detection_head.json`` and, where TIDL knows the detector's family, its ``tidl_meta.prototxt``.

    Raises StepError where a tensor of the head's boundary is not in the exported model.
    """
    boundary = head_description.boundary(fused(model), exported)
    head = head_description.describe(boundary, origin, exported)
    prototxt = tidl_prototxt.write(boundary, origin.preprocessing.size, outputs(export))
    files = {head_description.FILE: head_description.as_text(head)}
    return files if prototxt is None else files | {tidl_prototxt.FILE: prototxt}


def loadable(model: nn.Module, origin: Origin) -> Detector:
    """What ``zoo.load`` returns."""
    return Detector(model, origin.preprocessing, origin.labels).eval()


def predicted(image: "Image.Image", model: nn.Module, origin: Origin) -> Boxes:
    """The objects that a loaded model finds in an RGB image, in its pixels."""
    assert isinstance(model, Detector)
    found = model.detect(image)
    boxes, scores, labels = (part.cpu().numpy() for part in (found.boxes, found.scores, found.labels))
    return Boxes(boxes, scores, labels, origin.labels)
