"""Mixup and cutmix: shares of classes, pixels, what random numbers depend on, losses, resume."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from zoo.config import Preprocessing
from zoo.layouts.imagefolder import Images
from zoo.schedule import Distillation, Optimizer, Schedule
from zoo.tasks.classification import ClassificationLoss
from zoo.training.images import ImageSet, Samples, training_loader
from zoo.training.mixing import mixed
from zoo.training.policies import altered
from zoo.training.runner import train

SIZE, CLASSES, COUNT = 8, 4, 16
PREPROCESSING = Preprocessing(resize=SIZE, size=SIZE, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


def schedule(**changes: object) -> Schedule:
    return Schedule.model_validate(
        {"description": "test", "epochs": 3, "batch_size": 8, "optimizer": Optimizer(lr=0.05), **changes}
    )


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    """Of one grey each: 20 times the class."""
    folder = tmp_path_factory.mktemp("images")
    files = [folder / f"{index:02d}.png" for index in range(COUNT)]
    for index, file in enumerate(files):
        Image.new("RGB", (SIZE, SIZE), (60 * (index % CLASSES),) * 3).save(file)
    return Images(tuple(files), tuple(index % CLASSES for index in range(COUNT)))


def samples(images: Images, seed: int = 0, **changes: object) -> Samples:
    return mixed(ImageSet(images, PREPROCESSING, "none", seed), schedule(**changes), CLASSES)


def epoch(samples: Samples, number: int, workers: int = 0) -> list[tuple[Tensor, Tensor]]:
    samples.kept = None  # as for a set that is too large to keep, which loading processes read
    loader = training_loader(samples, 8, workers)
    loader.sampler.set_epoch(number)  # type: ignore[attr-defined]
    return [*loader]


def same(one: list[tuple[Tensor, Tensor]], other: list[tuple[Tensor, Tensor]]) -> bool:
    return all(
        torch.equal(a, b) for left, right in zip(one, other, strict=True) for a, b in zip(left, right, strict=True)
    )


def test_a_schedule_without_mixing_leaves_the_set_alone(images: Images) -> None:
    plain = ImageSet(images, PREPROCESSING)
    assert mixed(plain, schedule(), CLASSES) is plain


@pytest.mark.parametrize("ways", [{"mixup": 0.2}, {"cutmix": 1.0}, {"mixup": 0.2, "cutmix": 1.0}])
def test_shares_are_of_the_classes_and_sum_to_one(images: Images, ways: dict[str, float]) -> None:
    batches = [batch for number in range(10) for batch in epoch(samples(images, **ways), number)]
    assert len(batches) == 20
    for pixels, shares in batches:
        assert pixels.shape == (8, 3, SIZE, SIZE)
        assert pixels.dtype == torch.uint8
        assert pixels.is_contiguous(memory_format=torch.channels_last)
        assert shares.shape == (8, CLASSES)
        torch.testing.assert_close(shares.sum(1), torch.ones(8))
        assert ((shares > 0).sum(1) <= 2).all()


def test_what_is_blended_has_the_classes_shares(images: Images) -> None:
    """A grey of 60 times the class: the mean of the blend is 60 times the mean class, but for rounding."""
    for number in range(5):
        for pixels, shares in epoch(samples(images, mixup=1.0), number):
            expected = 60 * shares @ torch.arange(CLASSES, dtype=torch.float32)
            assert (pixels.float() - expected[:, None, None, None]).abs().max() <= 0.5 + 1e-4
            assert len({tuple(sorted(row.tolist())) for row in pixels.flatten(1)}) > 1


def test_the_share_is_the_area_that_is_not_pasted(images: Images) -> None:
    pasted = 0
    for number in range(5):
        for pixels, shares in epoch(samples(images, cutmix=1.0), number):
            for image, share in zip(pixels[:, 0], shares, strict=True):
                greys, counts = image.unique(return_counts=True)
                assert (greys % 60 == 0).all()  # pasted, not blended
                found = torch.zeros(CLASSES).index_add(0, greys.long() // 60, counts / SIZE**2)
                torch.testing.assert_close(found, share)
                pasted += len(greys) == 2
    assert pasted > 10


def test_with_both_each_batch_draws_one_of_the_two(images: Images) -> None:
    kinds = [
        bool((pixels % 60 == 0).all())  # blended greys are no whole multiple
        for number in range(20)
        for pixels, _ in epoch(samples(images, mixup=1.0, cutmix=1.0), number)
    ]
    assert 10 <= sum(kinds) <= 30  # of 40


def test_what_is_drawn_depends_on_seed_epoch_and_first_index_alone(images: Images) -> None:
    ways = {"mixup": 0.2, "cutmix": 1.0}
    first = epoch(samples(images, **ways), 2)
    torch.manual_seed(1234)
    before = torch.random.get_rng_state()
    assert same(epoch(samples(images, **ways), 2, workers=2), first)
    again = samples(images, **ways)
    again.kept = None
    loader = training_loader(again, 8, 0)
    loader.sampler.set_epoch(2)  # type: ignore[attr-defined]
    iterator = iter(loader)  # a loader draws one number for its processes
    before = torch.random.get_rng_state()
    assert same([*iterator], first)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not same(epoch(samples(images, **ways), 3), first)
    assert not same(epoch(samples(images, seed=1, **ways), 2), first)


def test_a_single_image_is_labelled_by_shares_too(images: Images) -> None:
    pixels, shares = samples(images, mixup=0.5)[0, 3]
    assert shares.tolist() == [0, 0, 0, 1]
    assert (pixels == 180).all()


class Linear(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, CLASSES))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_shares_is_the_loss_of_each_class_by_its_share(smoothing: float) -> None:
    model, pixels = Linear(), torch.randint(0, 256, (6, 3, SIZE, SIZE), dtype=torch.uint8)
    loss = ClassificationLoss(PREPROCESSING, smoothing)
    first, second = torch.arange(6) % CLASSES, torch.arange(1, 7) % CLASSES
    shares = 0.7 * F.one_hot(first, CLASSES) + 0.3 * F.one_hot(second, CLASSES)
    expected = 0.7 * loss(model, (pixels, first)) + 0.3 * loss(model, (pixels, second))
    torch.testing.assert_close(loss(model, (pixels, shares)), expected)
    torch.testing.assert_close(loss(model, (pixels, F.one_hot(first, CLASSES).float())), loss(model, (pixels, first)))


def test_the_teacher_s_term_beside_shares_is_unchanged() -> None:
    model, teacher, pixels = Linear(), Linear(), torch.randint(0, 256, (6, 3, SIZE, SIZE), dtype=torch.uint8)
    taught = ClassificationLoss(PREPROCESSING, 0.1, Distillation(weight=0.4), teacher)
    alone = ClassificationLoss(PREPROCESSING, 0.1)
    shares = torch.rand(6, CLASSES).softmax(1)
    terms = [
        taught(model, (pixels, labels)) - 0.6 * alone(model, (pixels, labels))
        for labels in (shares, torch.arange(6) % CLASSES)
    ]
    torch.testing.assert_close(terms[0], terms[1])
    assert terms[0].item() > 0


class Killed(BaseException):
    """In place of a SIGKILL: nothing of ours catches it."""


def killed_after(epochs: int) -> Callable[[nn.Module], float]:
    calls = iter(range(epochs))

    def evaluate(model: nn.Module) -> float:
        if next(calls, None) is None:
            raise Killed
        return 0.5

    return evaluate


@pytest.mark.parametrize("workers", [0, 2])
def test_a_training_that_was_killed_ends_with_the_same_weights(images: Images, tmp_path: Path, workers: int) -> None:
    plan = schedule(policy="trivialaugment", random_erasing=0.5, mixup=0.2, cutmix=1.0, label_smoothing=0.1)

    def fit(name: str, evaluate: Callable[[nn.Module], float] = lambda model: 0.5) -> nn.Module:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(3 * SIZE * SIZE, CLASSES))
        several = altered(ImageSet(images, PREPROCESSING, "shift", plan.seed), plan, PREPROCESSING)
        several.kept = None
        loader = training_loader(mixed(several, plan, CLASSES), plan.batch_size, workers)
        loss = ClassificationLoss(PREPROCESSING, plan.label_smoothing)
        train(model, loss, loader, evaluate, plan, metric="top1", name="x", folder=tmp_path / name, key="k" * 64)
        return model

    whole = fit("whole")
    with pytest.raises(Killed):
        fit("resumed", killed_after(1))
    resumed = fit("resumed")
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
