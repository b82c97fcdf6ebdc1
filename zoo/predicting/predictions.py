"""What a model finds in one image: as lines of text, as JSON, and drawn on the image.

numpy and Pillow are imported inside functions: a release loads without them.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

UNSEEN = 255  # in a mask: pixels that the model did not look at
BEST = 5  # classes that are told of a whole image


@dataclass(frozen=True)
class Finding:
    """One thing that was found; what does not apply is None."""

    label: str
    score: float | None = None  # how sure the model is, 0 to 1
    share: float | None = None  # of the pixels that the model looked at, 0 to 1
    box: tuple[float, float, float, float] | None = None  # left, top, right, bottom in pixels of the image

    def __str__(self) -> str:
        fraction = self.share if self.score is None else self.score
        figures = [] if fraction is None else [f"{fraction * 100:5.1f} %"]
        corners = [] if self.box is None else [" ".join(f"{value:.1f}" for value in self.box)]
        return "  ".join([*figures, printable(self.label), *corners])

    def as_json(self) -> dict[str, Any]:
        """Its fields but for those that are None."""
        return {key: value for key, value in asdict(self).items() if value is not None}


class Prediction(Protocol):
    """What a task's ``predicted`` returns."""

    def findings(self) -> Sequence[Finding]:
        """What there is to tell, the most important first."""

    def drawn(self, image: "Image.Image") -> "Image.Image":
        """A copy of the RGB image that was looked at with everything found in it; a small one is enlarged."""


@dataclass(frozen=True, eq=False)
class ClassScores:
    """Of a whole image: a score (C,) for each class, 0 to 1."""

    scores: "np.ndarray[Any, Any]"
    labels: Sequence[str]

    def findings(self) -> Sequence[Finding]:
        """The best classes, the first of equals first."""
        best = sorted(range(len(self.scores)), key=lambda index: -float(self.scores[index]))[:BEST]
        return [Finding(label(self.labels, index), score=float(self.scores[index])) for index in best]

    def drawn(self, image: "Image.Image") -> "Image.Image":
        """The image with the best classes in a bar below it."""
        from zoo.predicting.pictures import draw_label

        return draw_label(image, [str(finding) for finding in self.findings()])


@dataclass(frozen=True, eq=False)
class ClassMask:
    """The class of each pixel: uint8 (H, W) of the image's size, 255 where the model did not look."""

    classes: "np.ndarray[Any, Any]"
    labels: Sequence[str]

    def findings(self) -> Sequence[Finding]:
        """Every class that is there by its share of the pixels, the largest first."""
        import numpy as np

        present, counts = np.unique(self.classes[self.classes != UNSEEN], return_counts=True)
        found = [
            Finding(label(self.labels, int(index)), share=float(count / counts.sum()))
            for index, count in zip(present, counts, strict=True)
        ]
        return sorted(found, key=lambda finding: -(finding.share or 0))

    def drawn(self, image: "Image.Image") -> "Image.Image":
        """The image under half-transparent colours, with a legend of the classes."""
        from zoo.predicting.pictures import draw_mask

        return draw_mask(image, self.classes, self.labels)


@dataclass(frozen=True, eq=False)
class Boxes:
    """Objects: boxes (K, 4) as left, top, right, bottom in pixels of the image, scores (K,), classes (K,)."""

    boxes: "np.ndarray[Any, Any]"
    scores: "np.ndarray[Any, Any]"
    classes: "np.ndarray[Any, Any]"
    labels: Sequence[str]  # by class

    def findings(self) -> Sequence[Finding]:
        """Every object, the surest first."""
        found = []
        for box, score, index in zip(self.boxes, self.scores, self.classes, strict=True):
            left, top, right, bottom = (float(value) for value in box)
            found.append(Finding(label(self.labels, int(index)), float(score), box=(left, top, right, bottom)))
        return sorted(found, key=lambda finding: -(finding.score or 0))

    def drawn(self, image: "Image.Image") -> "Image.Image":
        """The image with a frame around each object."""
        from zoo.predicting.pictures import draw_boxes

        return draw_boxes(image, self.boxes, self.scores, self.classes, self.labels)


def label(labels: Sequence[str], index: int) -> str:
    """The name of a class, or its number where it has none."""
    return labels[index] if index < len(labels) else f"class {index}"


def printable(text: str) -> str:
    """The text with what a terminal would obey shown as '?'."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
