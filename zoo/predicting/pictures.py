"""What was found in an image, drawn: names in a bar, half-transparent masks, boxes. Needs Pillow and numpy only.

Every function takes an RGB image, leaves it as it is, and enlarges a copy of a small one by a whole factor first, so
that text can be read. The same arguments always give the same pixels; a class has one colour in all pictures.
"""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from zoo.predicting.predictions import UNSEEN, label, printable

READABLE = 320  # pixels of the long side from which nothing is enlarged
BAR, INK = (24, 24, 24), (255, 255, 255)
LETTERS = 48  # of one line; longer ones are cut
BACKGROUND = 0  # the class that masks leave clear
HUES, STEP, TURN = 12, 5, 0.42  # steps and turns, of the circle of hues, that keep the first 80 colours well apart
TONES = ((0.85, 1.0), (1.0, 0.65), (0.5, 0.95), (0.7, 0.8), (1.0, 0.45), (0.35, 0.8), (0.55, 0.6))  # saturation, value

Colour = tuple[int, int, int]
Array = np.ndarray[Any, Any]


def colour(index: int) -> Colour:
    """The colour of a class, another one for each of the first 256."""
    turn = index // HUES
    saturation, value = TONES[turn % len(TONES)]
    red, green, blue = colorsys.hsv_to_rgb((index * STEP / HUES + turn * TURN) % 1, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def draw_label(image: Image.Image, lines: Sequence[str]) -> Image.Image:
    """The image with a bar below it that holds the lines."""
    return _with_bar(_enlarged(image), [_Line(text) for text in lines])


def draw_mask(image: Image.Image, classes: Array, labels: Sequence[str]) -> Image.Image:
    """The image half covered by the colours of ``classes`` (H, W) of uint8, and a legend of those that are there.

    Background, class 0, and pixels of 255, which nobody looked at, stay clear. Raises ValueError where the mask is not
    of the image's size.
    """
    if classes.shape != (image.height, image.width):
        raise ValueError(f"a mask {classes.shape} for an image {(image.height, image.width)}")
    shown = [int(index) for index in np.unique(classes) if index not in (BACKGROUND, UNSEEN)]
    pixels = np.array(image.convert("RGB"), dtype=np.uint16)
    for index in shown:
        inside = classes == index
        pixels[inside] = (pixels[inside] + np.array(colour(index), dtype=np.uint16) + 1) // 2
    covered = Image.fromarray(pixels.astype(np.uint8))
    return _with_bar(_enlarged(covered), [_Line(label(labels, index), colour(index)) for index in shown])


def draw_boxes(image: Image.Image, boxes: Array, scores: Array, classes: Array, labels: Sequence[str]) -> Image.Image:
    """The image with a frame around each box, and its score and class in a tag; the surest on top.

    ``boxes`` (K, 4) are left, top, right, bottom in the image's pixels, ``scores`` (K,) 0 to 1, ``classes`` (K,)
    indices of ``labels``. What leads out of the image is cut.
    """
    picture = _enlarged(image)
    scale = picture.width / image.width
    draw, font = ImageDraw.Draw(picture), _font(picture)
    for number in np.argsort(scores, kind="stable"):
        index = int(classes[number])
        text = f"{float(scores[number]) * 100:.0f} % {_shortened(label(labels, index))}"
        frame = _inside(boxes[number] * scale, picture)
        draw.rectangle(frame, outline=colour(index), width=max(2, round(font.size / 8)))
        _tag(draw, frame, text, colour(index), font, picture)
    return picture


@dataclass(frozen=True)
class _Line:
    """One line of a bar, after a square of its colour where it has one."""

    text: str
    colour: Colour | None = None


def _enlarged(image: Image.Image) -> Image.Image:
    """A copy, every pixel a square of pixels where the image is small."""
    factor = max(1, -(-READABLE // max(image.size)))
    return image.convert("RGB").resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def _font(picture: Image.Image) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(max(14, max(picture.size) // 40))
    assert isinstance(font, ImageFont.FreeTypeFont)  # of Pillow itself; the other kind is for builds without FreeType
    return font


def _with_bar(picture: Image.Image, lines: Sequence[_Line]) -> Image.Image:
    """The picture on a page with a bar below; the page is wider where a line is."""
    if not lines:
        return picture
    font = _font(picture)
    texts = [_shortened(line.text) for line in lines]
    height, margin = round(font.size * 1.4), round(font.size / 2)
    starts = [margin + (height if line.colour else 0) for line in lines]
    ends = [start + round(font.getlength(text)) + margin for start, text in zip(starts, texts, strict=True)]
    page = Image.new("RGB", (max(picture.width, *ends), picture.height + height * len(lines) + margin), BAR)
    page.paste(picture, ((page.width - picture.width) // 2, 0))
    draw = ImageDraw.Draw(page)
    for number, (line, start, text) in enumerate(zip(lines, starts, texts, strict=True)):
        top = picture.height + margin // 2 + number * height
        if line.colour:
            draw.rectangle((margin, top + height // 6, margin + height * 2 // 3, top + height * 5 // 6), line.colour)
        draw.text((start, top + height // 2), text, INK, font, anchor="lm")
    return page


def _tag(
    draw: ImageDraw.ImageDraw,
    frame: tuple[int, int, int, int],
    text: str,
    fill: Colour,
    font: ImageFont.FreeTypeFont,
    picture: Image.Image,
) -> None:
    """Text on the colour of its frame: above it where there is room, else in it, and never outside the picture."""
    width, height = round(font.getlength(text)) + round(font.size / 2), round(font.size * 1.3)
    left = max(0, min(frame[0], picture.width - width))
    top = frame[1] - height if frame[1] >= height else frame[1]
    draw.rectangle((left, top, left + width, top + height), fill)
    brightness = (299 * fill[0] + 587 * fill[1] + 114 * fill[2]) / 1000  # luma of ITU-R BT.601
    draw.text((left + width / 2, top + height / 2), text, (0, 0, 0) if brightness > 127 else INK, font, anchor="mm")


def _inside(box: Array, picture: Image.Image) -> tuple[int, int, int, int]:
    """A box in whole pixels of the picture, its corners in order."""
    left, right = sorted(round(min(max(float(x), 0), picture.width - 1)) for x in (box[0], box[2]))
    top, bottom = sorted(round(min(max(float(y), 0), picture.height - 1)) for y in (box[1], box[3]))
    return left, top, right, bottom


def _shortened(text: str) -> str:
    shown = printable(text)
    return shown if len(shown) <= LETTERS else shown[: LETTERS - 1] + "…"
