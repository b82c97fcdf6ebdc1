"""Boxes between an image and the model's input, in which the image lies in its letterbox."""

from torch import Tensor

from zoo.preprocess import Placement


def into_input(boxes: Tensor, placed: Placement) -> Tensor:
    """Corners x1, y1, x2, y2 (K, 4) in pixels of the image as pixels of the input."""
    return boxes * boxes.new_tensor(placed.scale * 2) + boxes.new_tensor(placed.offset * 2)


def into_image(boxes: Tensor, placed: Placement, width: int, height: int) -> Tensor:
    """Corners (K, 4) in pixels of the input as pixels of the image of that size, cut off at its edges."""
    corners = (boxes - boxes.new_tensor(placed.offset * 2)) / boxes.new_tensor(placed.scale * 2)
    return corners.clamp(min=0).minimum(corners.new_tensor([width, height] * 2))
