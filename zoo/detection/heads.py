"""What a detector's head gives for each level, and how that encodes boxes and scores: read off the real head."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from torch import nn

from zoo.errors import StepError

# How four numbers of a position give a box; see zoo.detection.decoding for the formulas.
Encoding = Literal["centre_and_log_size", "anchors", "distances"]
JOINT = "predictions"  # the one convolution of a level that gives boxes, objectness and classes, anchor by anchor


@dataclass(frozen=True)
class Family:
    """What all heads of one class have in common."""

    name: str
    encoding: Encoding
    objectness: bool
    convolutions: tuple[tuple[str, str], ...]  # of a level: what it predicts, and its path with {} for the level


FAMILIES = {
    "YOLOXHead": Family(
        "yolox",
        "centre_and_log_size",
        True,
        (
            ("boxes", "multi_level_conv_reg.{}"),
            ("objectness", "multi_level_conv_obj.{}"),
            ("classes", "multi_level_conv_cls.{}"),
        ),
    ),
    "YOLOv5Head": Family("yolov5", "anchors", True, ((JOINT, "convs_pred.{}"),)),
    "YOLOv7Head": Family("yolov7", "anchors", True, ((JOINT, "convs_pred.{}"),)),
    "YOLOv6Head": Family("yolov6", "distances", False, (("boxes", "reg_preds.{}"), ("classes", "cls_preds.{}"))),
    "YOLOv8Head": Family("yolov8", "distances", False, (("boxes", "reg_preds.{}"), ("classes", "cls_preds.{}"))),
    "PPYOLOEHead": Family("ppyoloe", "distances", False, (("boxes", "reg_preds.{}"), ("classes", "cls_preds.{}"))),
    "RTMDetHead": Family("rtmdet", "distances", False, (("boxes", "rtm_reg.{}"), ("classes", "rtm_cls.{}"))),
}


@dataclass(frozen=True)
class Head:
    """One detector's head. Positions of a level are ordered by row, column and, where there are anchors, anchor."""

    family: Family
    num_classes: int
    strides: tuple[int, ...]  # pixels, by level
    offset: float  # of a position from the corner of its cell, in strides
    anchors: tuple[tuple[tuple[float, float], ...], ...]  # width and height in pixels, by level; of none: no anchors
    bins: int  # a distance is the mean of so many whole numbers from 0 (Li et al. 2020); 0: it is predicted itself
    reg_max: int  # what the config calls so: the bins of YOLOv8, one fewer for the others; 0: no bins

    @property
    def anchors_per_cell(self) -> int:
        """How many positions a cell has."""
        return len(self.anchors[0]) if self.anchors else 1

    def cells(self, size: int) -> tuple[int, ...]:
        """How many cells a level has across, and down, for images of ``size`` pixels.

        Raises StepError where the size is no multiple of the largest stride.
        """
        if size % max(self.strides):
            raise StepError(
                f"input size {size} is no multiple of {max(self.strides)}, the detector's largest stride; "
                "set input_size to one in the profile"
            )
        return tuple(size // stride for stride in self.strides)


def head_of(network: nn.Module) -> Head:
    """The head of a detector as its library builds it, lite or not.

    Raises StepError for a head whose encoding is not known.
    """
    bbox_head = getattr(network, "bbox_head", None)
    kind = type(bbox_head).__name__
    if bbox_head is None or kind not in FAMILIES:
        what = f"{type(network).__name__} has {'no bbox_head' if bbox_head is None else f'the head {kind}'}"
        raise StepError(f"{what}, which cannot be decoded; known heads: {', '.join(FAMILIES)}")
    priors = bbox_head.prior_generator
    sizes = cast(Sequence[Any], getattr(priors, "base_sizes", ()))
    bins = len(getattr(bbox_head.head_module, "proj", ()))
    return Head(
        family=FAMILIES[kind],
        num_classes=bbox_head.num_classes,
        strides=tuple(_across(stride) for stride in priors.strides),
        offset=0.5 if sizes else float(priors.offset),
        anchors=tuple(tuple((float(width), float(height)) for width, height in level) for level in sizes),
        bins=bins,
        reg_max=bbox_head.head_module.reg_max if bins else 0,
    )


def convolutions(network: nn.Module, level: int) -> dict[str, str]:
    """The paths of the modules that predict for a level, by what they predict; see ``Family``.

    Where such a module is a sequence, its last convolution is meant.
    """
    found = {}
    for what, template in head_of(network).family.convolutions:
        path = f"bbox_head.head_module.{template.format(level)}"
        module = network.get_submodule(path)
        inner = [name for name, part in module.named_modules() if isinstance(part, nn.Conv2d)]
        found[what] = f"{path}.{inner[-1]}".removesuffix(".")
    return found


def _across(stride: Any) -> int:
    across, down = stride if isinstance(stride, Sequence) else (stride, stride)
    if across != down:
        raise StepError(f"the detector's strides {across} across and {down} down differ; it cannot be decoded")
    return int(across)
