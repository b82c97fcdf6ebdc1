"""From an image to a model's input: the same for training's validation, for calibration and for the consumer.

Needs torch and Pillow only, so that a release loads where torchvision and numpy are not installed.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from zoo.config import Preprocessing
from zoo.errors import MissingLibrary

if TYPE_CHECKING:
    from PIL import Image


GREY = 114  # of 255, around an image in its letterbox, as the YOLO family was trained with


@dataclass(frozen=True)
class Transform:
    """A PIL image, or an array (H, W, 3) or (H, W) of uint8, to a normalised float32 tensor (3, size, size)."""

    preprocessing: Preprocessing

    def __call__(self, image: Any) -> Tensor:
        return normalised(to_pixels(fitted(to_rgb(image), self.preprocessing)), self.preprocessing)


def to_rgb(image: Any) -> "Image.Image":
    """Any PIL image, or an array of uint8, as RGB with 8 bits.

    Palettes are looked up, 16-bit grey is scaled, transparency is laid on white; the EXIF orientation is not applied,
    as it was not when the published weights were evaluated.

    Raises ValueError for an image of floating-point numbers, whose range is not known, and TypeError for what is
    neither such an image nor such an array.
    """
    picture = _pil_image(image)
    if picture.mode == "RGB":
        return picture
    if picture.mode == "F":
        raise ValueError("an image of floating-point numbers, whose range is not known")
    if picture.mode.startswith("I"):
        return picture.convert("I").point(lambda grey: grey * (1 / 257) + 0.5).convert("L").convert("RGB")
    if picture.has_transparency_data:
        layered = picture.convert("RGBA")
        page = layered.copy()
        page.paste((255, 255, 255, 255), (0, 0, *page.size))
        page.alpha_composite(layered)
        return page.convert("RGB")
    return picture.convert("RGB")


@dataclass(frozen=True)
class Placement:
    """Where an image lies in the model's input: a point (x, y) of the image is at ``scale * (x, y) + offset``."""

    scale: tuple[float, float]  # across, down
    offset: tuple[float, float]  # pixels of the input


def fitted(image: "Image.Image", preprocessing: Preprocessing) -> "Image.Image":
    """An RGB image as the square that the model takes, as ``preprocessing.geometry`` says."""
    return (letterboxed if preprocessing.geometry == "letterbox" else cropped)(image, preprocessing)


def placement(width: int, height: int, preprocessing: Preprocessing) -> Placement:
    """Where ``letterboxed`` puts an image of these sides."""
    inner = _inner(width, height, preprocessing.size)
    left, top = ((preprocessing.size - side) // 2 for side in inner)
    return Placement((inner[0] / width, inner[1] / height), (left, top))


def letterboxed(image: "Image.Image", preprocessing: Preprocessing) -> "Image.Image":
    """Long side to ``size`` (aspect kept, antialiased), in the middle of a grey square."""
    from PIL import Image

    size, inner = preprocessing.size, _inner(*image.size, preprocessing.size)
    if image.size != inner:
        image = image.resize(inner, Image.Resampling[preprocessing.interpolation.upper()])
    if inner == (size, size):
        return image
    square = Image.new("RGB", (size, size), (GREY, GREY, GREY))
    square.paste(image, ((size - inner[0]) // 2, (size - inner[1]) // 2))
    return square


def _inner(width: int, height: int, size: int) -> tuple[int, int]:
    scale = size / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def cropped(image: "Image.Image", preprocessing: Preprocessing) -> "Image.Image":
    """Short side to ``resize`` (aspect kept, antialiased), then the central square of ``size``; black beyond the image.

    The arithmetic of torchvision's Resize and CenterCrop, with which published weights were evaluated. An image whose
    short side has the right length is not resampled.
    """
    from PIL import Image

    short, size = min(image.size), preprocessing.size
    if short != preprocessing.resize:
        width, height = (max(1, int(preprocessing.resize * side / short)) for side in image.size)
        image = image.resize((width, height), Image.Resampling[preprocessing.interpolation.upper()])
    if image.size == (size, size):
        return image
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def to_pixels(image: "Image.Image") -> Tensor:
    """An RGB image as uint8 (3, H, W), rows of pixels contiguous in memory as (H, W, 3)."""
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return pixels.view(image.height, image.width, 3).permute(2, 0, 1)


def normalised(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """RGB pixels (..., 3, H, W) of uint8 to [0, 1], less the mean, over the standard deviation, in the model's order
    of channels; memory layout is kept."""
    mean = torch.tensor(preprocessing.mean, device=pixels.device).view(3, 1, 1)
    std = torch.tensor(preprocessing.std, device=pixels.device).view(3, 1, 1)
    image = (pixels.to(torch.float32) / 255 - mean) / std
    return image.flip(-3) if preprocessing.channels == "BGR" else image


def _pil_image(image: Any) -> "Image.Image":
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingLibrary("preprocessing: needs Pillow, which is not installed; pip install pillow") from error
    if isinstance(image, Image.Image):
        return image
    shape, kind = getattr(image, "shape", None), getattr(image, "dtype", None)
    described = type(image).__name__ if shape is None else f"{type(image).__name__} {tuple(shape)} of {kind}"
    is_image = hasattr(image, "__array_interface__") and str(kind) == "uint8" and _is_picture(tuple(shape or ()))
    if not is_image:
        raise TypeError(f"preprocessing takes a PIL image or an array (H, W, 3) or (H, W) of uint8, not {described}")
    return Image.fromarray(image)


def _is_picture(shape: tuple[int, ...]) -> bool:
    return 0 not in shape and (len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4)))
