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


WHITE_OF_16_BITS = 65535
LONGEST = 2**16  # pixels of a side that is cropped; a line of pixels would else become an image of gigabytes
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

    Raises ValueError for an image of floating-point numbers or of integers beyond 16 bits, whose range is not known,
    and TypeError for what is neither such an image nor such an array.
    """
    picture = _pil_image(image)
    if picture.mode == "RGB":
        return picture
    require_range(picture)
    if picture.mode.startswith("I"):
        return picture.convert("I").point(lambda grey: grey * (1 / 257) + 0.5).convert("L").convert("RGB")
    if picture.has_transparency_data:
        layered = picture.convert("RGBA")
        page = layered.copy()
        page.paste((255, 255, 255, 255), (0, 0, *page.size))
        page.alpha_composite(layered)
        return page.convert("RGB")
    return picture.convert("RGB")


def require_range(picture: "Image.Image") -> None:
    """Raises ValueError where nothing says which of an image's values is white."""
    if picture.mode == "F":
        raise ValueError("an image of floating-point numbers, whose range is not known")
    if picture.mode == "I":
        extrema: Any = picture.getextrema()
        darkest, brightest = extrema
        if darkest < 0 or brightest > WHITE_OF_16_BITS:
            raise ValueError(f"an image of 32-bit integers from {darkest} to {brightest}, whose range is not known")


@dataclass(frozen=True)
class Placement:
    """Where an image lies in the model's input: a point (x, y) of the image is at ``scale * (x, y) + offset``."""

    scale: tuple[float, float]  # across, down
    offset: tuple[float, float]  # pixels of the input


def fitted(image: "Image.Image", preprocessing: Preprocessing) -> "Image.Image":
    """An RGB image as the square that the model takes, as ``preprocessing.geometry`` says."""
    return (cropped if preprocessing.geometry == "crop" else letterboxed)(image, preprocessing)


def placement(width: int, height: int, preprocessing: Preprocessing) -> Placement:
    """Where ``letterboxed`` puts an image of these sides."""
    inner = _inner(width, height, preprocessing)
    return Placement((inner[0] / width, inner[1] / height), _corner(inner, preprocessing))


def letterboxed(image: "Image.Image", preprocessing: Preprocessing) -> "Image.Image":
    """The whole image (antialiased) in a square of ``size``: its long side that long and its aspect kept, with grey
    around or beside it, or stretched to fill the square, as the geometry says."""
    from PIL import Image

    size, inner = preprocessing.size, _inner(*image.size, preprocessing)
    if image.size != inner:
        image = image.resize(inner, Image.Resampling[preprocessing.interpolation.upper()])
    if inner == (size, size):
        return image
    square = Image.new("RGB", (size, size), (GREY, GREY, GREY))
    square.paste(image, _corner(inner, preprocessing))
    return square


def _inner(width: int, height: int, preprocessing: Preprocessing) -> tuple[int, int]:
    size = preprocessing.size
    if preprocessing.geometry == "stretch":
        return size, size
    scale = size / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _corner(inner: tuple[int, int], preprocessing: Preprocessing) -> tuple[int, int]:
    """The image's upper left one in the square."""
    if preprocessing.geometry == "corner":
        return 0, 0
    left, top = ((preprocessing.size - side) // 2 for side in inner)
    return left, top


def cropped(image: "Image.Image", preprocessing: Preprocessing) -> "Image.Image":
    """Short side to ``resize`` (aspect kept, antialiased), then the central square of ``size``; black beyond the image.

    The arithmetic of torchvision's Resize and CenterCrop, with which published weights were evaluated. An image whose
    short side has the right length is not resampled, and the far ends of a long one are not looked at.
    """
    from PIL import Image

    image = _central(image, preprocessing)
    short, size = min(image.size), preprocessing.size
    if short != preprocessing.resize:
        width, height = (max(1, int(preprocessing.resize * side / short)) for side in image.size)
        image = image.resize((width, height), Image.Resampling[preprocessing.interpolation.upper()])
    if image.size == (size, size):
        return image
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def _central(image: "Image.Image", preprocessing: Preprocessing) -> "Image.Image":
    """The image without what lies so far from its middle that it would only take up memory."""
    short, long = sorted(image.size)
    if long * preprocessing.resize <= LONGEST * short:
        return image
    reach = short * (preprocessing.size // preprocessing.resize + 2)
    width, height = (min(side, reach) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


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
