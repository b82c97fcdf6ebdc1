"""The size of what is trained on, where the schedule says another than the model's input."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.config import Preprocessing
from zoo.layouts.imagefolder import Images
from zoo.schedule import Optimizer, Schedule
from zoo.segmentation.augmentation import SCALES, scale_crop_flip
from zoo.training.crops import cropped_input
from zoo.training.images import ImageSet

LETTERBOX = Preprocessing(geometry="letterbox", resize=64, size=64, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def schedule(**changes: object) -> Schedule:
    settings = {"description": "test", "epochs": 1, "batch_size": 4, "optimizer": Optimizer(lr=0.1)}
    return Schedule.model_validate(settings | {"augmentation": "crop_flip"} | changes)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (64, 64)),
        ({"crop": 48}, (64, 48)),
        ({"base": 52}, (52, 64)),
        ({"base": 52, "crop": 48}, (52, 48)),
        ({"base": 52, "crop": 48, "augmentation": "none"}, (64, 64)),
    ],
)
def test_sizes_are_the_input_s_but_for_those_that_are_given(changes: dict[str, object], expected: object) -> None:
    found = cropped_input(LETTERBOX, schedule(**changes))
    assert (found.resize, found.size) == expected
    assert found.model_copy(update={"resize": 64, "size": 64}) == LETTERBOX


def test_a_classifier_s_crops_are_of_that_size(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    given = cropped_input(LETTERBOX.model_copy(update={"geometry": "crop"}), schedule(crop=24))
    pixels, label = ImageSet(Images((tmp_path / "a.png",), (3,)), given, "crop_flip")[0, 0]
    assert (tuple(pixels.shape), label) == ((3, 24, 24), 3)


def test_a_segmenter_s_scale_is_of_the_base() -> None:
    """In an image whose columns are labelled by their number, how far the labels go is the crop over the scale."""
    image = Image.new("RGB", (200, 100))
    labels = np.arange(200, dtype=np.uint8)[None].repeat(100, 0)
    given = cropped_input(LETTERBOX, schedule(base=100, crop=48))
    widths = []
    for seed in range(40):
        pixels, classes = scale_crop_flip(image, labels, given, random.Random(seed))
        assert pixels.shape == (3, 48, 48)
        assert classes.shape == (48, 48)
        row = classes[24].int()
        widths.append(int((row.max() - row.min()) + 1))
    assert min(widths) >= 48 / SCALES[1] - 2
    assert max(widths) <= 48 / SCALES[0] + 2
    assert min(widths) < 30 < 80 < max(widths)
    assert torch.equal(*(scale_crop_flip(image, labels, given, random.Random(5))[1] for _ in range(2)))
