"""What ``zoo.load`` returns for a detector."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from zoo.config import Preprocessing
from zoo.detection.decoding import Decoded
from zoo.detection.placing import into_image
from zoo.detection.suppression import PREDICTION, Candidates, Detections, Limits, candidates, kept
from zoo.preprocess import Transform, placement, to_rgb

if TYPE_CHECKING:
    from PIL import Image


class Detector(nn.Module):
    """A detector that finds boxes, scores and labels; ``labels`` are the names of its classes.

    ::

        found = detector.detect(image)                           # one image: boxes in its own pixels
        found = detector.postprocess(detector(images))           # a batch: boxes in pixels of the input

    ``network`` is the detector as its library builds it, with its loss. From the input's pixels to those of an image
    of width W and height H: ``(xy - placed.offset) / placed.scale``, with ``zoo.preprocess.placement(W, H,
    preprocessing)`` as ``placed``; ``detect`` does that.
    """

    def __init__(self, network: nn.Module, preprocessing: Preprocessing, labels: tuple[str, ...]) -> None:
        """Raises StepError where the network's head is not known, or does not fit the preprocessing's size."""
        super().__init__()
        self.decoded = Decoded(network, preprocessing.size)
        self.preprocessing = preprocessing
        self.labels = labels

    @property
    def network(self) -> nn.Module:
        """The detector as its library builds it."""
        return self.decoded.network

    def forward(self, images: Tensor) -> Candidates:
        """Model inputs (N, 3, size, size) to boxes (N, K, 4), scores (N, K) and labels (N, K), best first.

        Boxes are corners x1, y1, x2, y2 in pixels of the input, before any suppression. A box is there once for each
        class that it may be of; K is all pairs of box and class, or 30,000.
        """
        return candidates(*self.decoded(images))

    def postprocess(
        self,
        found: Candidates,
        *,
        score_threshold: float = PREDICTION.score,
        iou_threshold: float = PREDICTION.iou,
        most: int = PREDICTION.most,
    ) -> list[Detections]:
        """Each image's objects: scores above the threshold, non-maximum suppression within each class, the best few.

        mAP is evaluated with the thresholds of ``zoo.detection.suppression.EVALUATION``.
        """
        return kept(found, Limits(score_threshold, iou_threshold, most))

    def detect(self, image: "Image.Image", *, score_threshold: float = PREDICTION.score) -> Detections:
        """The objects of one PIL image of any size, boxes in its pixels and within it.

        Raises ValueError where the preprocessing crops images.
        """
        if self.preprocessing.geometry == "crop":
            raise ValueError("images are fitted by 'crop'; boxes are of whole images only")
        picture = to_rgb(image)
        device = self.decoded.decoder.centres.device
        with torch.inference_mode():
            found = self(Transform(self.preprocessing)(picture)[None].to(device))
            (objects,) = self.postprocess(found, score_threshold=score_threshold)
        boxes = into_image(objects.boxes, placement(*picture.size, self.preprocessing), *picture.size)
        return Detections(boxes, objects.scores, objects.labels)
