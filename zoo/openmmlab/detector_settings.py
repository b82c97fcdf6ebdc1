"""What a recipe changes in a detector's settings, which are nested dicts and lists as a config of mmyolo makes them."""

from collections.abc import Iterator, Sequence
from typing import Any

from zoo.errors import UnknownName

# Their configs multiply the weight of the classification loss by the number of classes over COCO's, and that of
# objectness by the area of images over that of 640 pixels' squares.
SCALES_LOSSES = {"YOLOv5Head", "YOLOv7Head"}


def set_classes(settings: Any, num_classes: int) -> None:
    """Make it a model for so many classes, on one device, that downloads nothing when it is built."""
    head = settings["bbox_head"]
    if head["type"] in SCALES_LOSSES:
        head["loss_cls"]["loss_weight"] *= num_classes / head["head_module"]["num_classes"]
    for part in _parts(settings):
        if "num_classes" in part:
            part["num_classes"] = num_classes
        if part.get("type") == "SyncBN":  # the same layer, with statistics over several devices
            part["type"] = "BN"
        if "checkpoint" in (part.get("init_cfg") or {}):
            del part["init_cfg"]


def set_image_size(settings: Any, size: int, configured: int) -> None:
    """Make it a model to train on squares of so many pixels, where its config is for another size."""
    head = settings["bbox_head"]
    if head["type"] in SCALES_LOSSES:
        head["loss_obj"]["loss_weight"] *= (size / configured) ** 2


def set_anchors(settings: Any, anchors: Sequence[Sequence[Sequence[float]]], what: str) -> None:
    """Replace the widths and heights of anchors, in pixels by level; ``what`` is the model's name.

    Raises UnknownName for a detector that has no anchors, or has them in other numbers.
    """
    priors = settings["bbox_head"].get("prior_generator", {})
    if "base_sizes" not in priors:
        raise UnknownName(f"{what} has no anchors; remove 'anchors' from the recipe")
    own = [len(level) for level in priors["base_sizes"]]
    if (given := [len(level) for level in anchors]) != own:
        raise UnknownName(f"{what} has {own} anchors by level, not {given}; give as many")
    priors["base_sizes"] = [[tuple(anchor) for anchor in level] for level in anchors]


def _parts(settings: Any) -> Iterator[Any]:
    """Every dict in a tree of settings."""
    if isinstance(settings, dict):
        yield settings
    children = settings.values() if isinstance(settings, dict) else settings if isinstance(settings, list) else ()
    for child in list(children):
        yield from _parts(child)
