"""Augmentation policies and random erasing: what they change, and what their random numbers depend on."""

import random
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from zoo.config import Preprocessing
from zoo.layouts.imagefolder import Images
from zoo.schedule import Optimizer, Schedule
from zoo.training.images import ImageSet, Samples, training_loader
from zoo.training.policies import CLASSES, altered
from zoo.training.seeding import seeded

SIZE = 16
PREPROCESSING = Preprocessing(resize=SIZE, size=SIZE, mean=(0.2, 0.4, 0.6), std=(0.5, 0.5, 0.5))
MEAN_COLOUR = torch.tensor([51, 102, 153], dtype=torch.uint8)


def schedule(**changes: object) -> Schedule:
    return Schedule.model_validate(
        {"description": "test", "epochs": 1, "batch_size": 4, "optimizer": Optimizer(lr=0.1), **changes}
    )


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    folder = tmp_path_factory.mktemp("images")
    files = []
    for index in range(8):
        files.append(folder / f"{index}.png")
        pixels = bytes(random.Random(index).choices(range(256), k=3 * SIZE * SIZE))
        Image.frombytes("RGB", (SIZE, SIZE), pixels).save(files[-1])
    return Images(tuple(files), tuple(range(8)))


def samples(images: Images, seed: int = 0, **changes: object) -> Samples:
    return altered(ImageSet(images, PREPROCESSING, "none", seed), schedule(**changes), PREPROCESSING)


def epoch(samples: Samples, number: int, workers: int = 0) -> Tensor:
    """The pixels of one epoch, in the order of their classes."""
    samples.kept = None  # as for a set that is too large to keep, which loading processes read
    loader = training_loader(samples, 4, workers)
    loader.sampler.set_epoch(number)  # type: ignore[attr-defined]
    batches = [*loader]
    pixels, classes = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return pixels[classes.argsort()]


def test_a_schedule_without_policy_leaves_the_set_alone(images: Images) -> None:
    plain = ImageSet(images, PREPROCESSING)
    assert altered(plain, schedule(), PREPROCESSING) is plain


def test_every_policy_of_the_schema_is_there() -> None:
    (values,) = (field.annotation.__args__ for name, field in Schedule.model_fields.items() if name == "policy")  # type: ignore[union-attr]
    assert {"none", *CLASSES} == set(values)
    assert len(CLASSES) == 3


@pytest.mark.parametrize("policy", sorted(CLASSES))
def test_a_policy_changes_images_and_is_torchvision_s(images: Images, policy: str) -> None:
    from torchvision.transforms import v2

    found = epoch(samples(images, policy=policy), 0)
    plain = epoch(samples(images), 0)
    assert found.shape == plain.shape
    assert found.dtype == torch.uint8
    assert not torch.equal(found, plain)
    with seeded(0, 0, 5):
        theirs = getattr(v2, CLASSES[policy])(interpolation=v2.InterpolationMode.BILINEAR)(plain[5])
    assert torch.equal(found[5], theirs)


def test_what_is_erased_is_a_rectangle_of_the_mean_colour(images: Images) -> None:
    found, plain = epoch(samples(images, random_erasing=1.0), 0), epoch(samples(images), 0)
    for after, before in zip(found, plain, strict=True):
        rows, columns = (after != before).any(0).nonzero(as_tuple=True)
        top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
        assert 0 < (bottom - top) * (right - left) < SIZE * SIZE / 2
        part = after[:, top:bottom, left:right]
        assert torch.equal(part, MEAN_COLOUR[:, None, None].expand_as(part))
        restored = after.clone()
        restored[:, top:bottom, left:right] = before[:, top:bottom, left:right]
        assert torch.equal(restored, before)


def test_as_many_images_are_erased_as_the_schedule_says(images: Images) -> None:
    several = samples(images, random_erasing=0.25)
    plain = samples(images)
    erased = sum(not torch.equal(several[e, i][0], plain[e, i][0]) for e in range(50) for i in range(8))
    assert 60 <= erased <= 140  # of 400; 8.7 is a deviation


def test_what_is_drawn_depends_on_seed_epoch_and_index_alone(images: Images) -> None:
    options = {"policy": "trivialaugment", "random_erasing": 0.5}
    first = epoch(samples(images, **options), 3)
    torch.manual_seed(1234)
    assert torch.equal(epoch(samples(images, **options), 3), first)
    assert torch.equal(epoch(samples(images, **options), 3, workers=2), first)
    assert not torch.equal(epoch(samples(images, **options), 4), first)
    assert not torch.equal(epoch(samples(images, seed=1, **options), 3), first)


def test_no_other_random_state_is_disturbed(images: Images) -> None:
    before, of_python = torch.random.get_rng_state(), random.getstate()
    several = samples(images, policy="randaugment", random_erasing=1.0)
    assert [several[0, index][1] for index in range(8)] == list(range(8))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert random.getstate() == of_python


def test_the_generator_goes_on_as_before_after_an_error() -> None:
    before = torch.random.get_rng_state()

    def fail() -> None:
        with seeded("a"):
            torch.rand(3)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_keys_that_differ_draw_differently() -> None:
    drawn = []
    for key in [(0, 1, 12), (0, 11, 2), (0, 1, 1, 2), (0, 1, 12, "batch")]:
        with seeded(*key):
            drawn.append(torch.rand(()).item())
    assert len(set(drawn)) == 4


def test_images_that_are_kept_stay_as_they_are(images: Images) -> None:
    plain = ImageSet(images, PREPROCESSING)
    before = [plain[0, index][0].clone() for index in range(8)]
    for policy in sorted(CLASSES):
        several = altered(plain, schedule(policy=policy, random_erasing=1.0), PREPROCESSING)
        assert several.kept is plain.kept
        assert any(not torch.equal(several[0, index][0], before[index]) for index in range(8))
    assert len(plain.kept or {}) == 8
    assert all(torch.equal(plain[0, index][0], pixels) for index, pixels in enumerate(before))


def test_a_damaged_image_is_still_named(tmp_path: Path) -> None:
    from zoo.errors import DatasetError

    (tmp_path / "damaged.png").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"damaged\.png: "):
        samples(Images((tmp_path / "damaged.png",), (0,)), policy="autoaugment")[0, 0]
