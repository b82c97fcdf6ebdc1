"""Classification: preprocessing, decoding, batches, metric, loss, and the steps that train, on tiny data."""

import copy
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import surgery
from zoo import tasks
from zoo.config import Dataset, Evaluation, Launch, Preprocessing
from zoo.data.summary import read_summary
from zoo.errors import DatasetError, StepError, UnknownName
from zoo.job import Job
from zoo.layouts import imagefolder
from zoo.origin import Origin
from zoo.preprocess import Transform, cropped, to_rgb
from zoo.schedule import Distillation, Optimizer, Schedule
from zoo.source_model import load_weights, save_weights, source_model
from zoo.steps import baseline, data, train
from zoo.tasks import classification
from zoo.training.images import decoded

SMALL = Preprocessing(resize=32, size=32, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
MEAN, STD = (torch.tensor(values).view(3, 1, 1) for values in (SMALL.mean, SMALL.std))
DATASET = Dataset(
    description="test",
    task="classification",
    layout="imagefolder",
    generator="digit_scenes",
    parameters={"train": 40, "val": 20, "size": 32},
    num_classes=10,
    mean=SMALL.mean,
    std=SMALL.std,
    licence="none",
)
LAUNCH = Launch().model_dump(mode="json")
SCHEDULE = Schedule(
    description="test",
    epochs=1,
    batch_size=16,
    optimizer=Optimizer(lr=0.01),
    label_smoothing=0.1,
    ema_decay=0.9,
    augmentation="shift",
)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    data.run(job("data", folder, {"dataset": DATASET.model_dump(mode="json"), "name": "digits"}, {}))
    return folder


def job(step: str, folder: Path, settings: dict[str, Any], upstream: dict[str, Path]) -> Job:
    return Job(step, "small_lite", "demo", folder, folder.parent, settings, upstream, "0" * 64)


def ramp(mode: str) -> Image.Image:
    return Image.linear_gradient("L").resize((40, 40)).convert(mode)


def test_preprocessing_is_what_torchvision_does() -> None:
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as F

    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (61, 47, 3), dtype=np.uint8))
    for interpolation in ("bilinear", "bicubic", "nearest"):
        ours = Preprocessing(resize=40, size=33, interpolation=interpolation, mean=SMALL.mean, std=SMALL.std)
        resized = F.resize(image, [40], InterpolationMode(interpolation))
        theirs = F.normalize(F.to_tensor(F.center_crop(resized, [33])), list(SMALL.mean), list(SMALL.std))
        torch.testing.assert_close(Transform(ours)(image), theirs)


def test_an_image_of_the_right_size_is_not_resampled() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    expected = (torch.from_numpy(pixels).permute(2, 0, 1) / 255 - MEAN) / STD
    torch.testing.assert_close(Transform(SMALL)(pixels), expected)


def test_an_image_smaller_than_the_crop_is_framed_in_black() -> None:
    frame = Preprocessing(resize=4, size=8, mean=SMALL.mean, std=SMALL.std)
    image = cropped(Image.new("RGB", (4, 4), "white"), frame)
    assert image.size == (8, 8)
    assert (image.getpixel((0, 0)), image.getpixel((4, 4))) == ((0, 0, 0), (255, 255, 255))


@pytest.mark.parametrize("resize", [32, 36])
@pytest.mark.parametrize("upright", [False, True])
def test_of_a_line_of_pixels_only_the_middle_is_enlarged(resize: int, upright: bool) -> None:
    how = Preprocessing(resize=resize, size=32, mean=SMALL.mean, std=SMALL.std)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 400_000, 3), dtype=np.uint8)
    line = Image.fromarray(pixels.transpose(1, 0, 2).copy() if upright else pixels)
    middle = line.crop((0, 199_800, 2, 200_200) if upright else (199_800, 0, 200_200, 2))
    found = cropped(line, how)
    assert found.size == (32, 32)
    assert np.array_equal(np.asarray(found), np.asarray(cropped(middle, how)))


def sixteen_bit() -> Image.Image:
    return Image.fromarray((np.asarray(ramp("L")).astype(np.uint16) * 257).astype(np.uint16))


@pytest.mark.parametrize(
    "image",
    [
        ramp("L"),
        ramp("RGB"),
        ramp("RGBA"),
        ramp("LA"),
        ramp("RGB").quantize(256),
        ramp("L").convert("I"),
        sixteen_bit(),
    ],
    ids=["grey", "rgb", "rgba", "grey+alpha", "palette", "32 bits", "16 bits"],
)
def test_every_kind_of_image_becomes_the_same_rgb(image: Image.Image) -> None:
    if image.mode == "I":
        image = image.point(lambda grey: grey * 257)
    rgb = to_rgb(image)
    assert rgb.mode == "RGB"
    difference = np.asarray(rgb).astype(int) - np.asarray(ramp("RGB")).astype(int)
    assert abs(difference).max() <= 1


def test_transparency_is_laid_on_white_and_floats_are_refused() -> None:
    assert to_rgb(Image.new("RGBA", (2, 2), (0, 0, 0, 0))).getpixel((0, 0)) == (255, 255, 255)
    with pytest.raises(ValueError, match="range is not known"):
        to_rgb(Image.new("F", (2, 2)))


def png(cut: int | None = None) -> bytes:
    stream = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(stream, "PNG")
    return stream.getvalue()[:cut]


@pytest.mark.parametrize("content", [b"", b"not an image", png(100), png(2000)], ids=["empty", "text", "head", "cut"])
def test_a_damaged_image_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "damaged.png"
    file.write_bytes(content)
    with pytest.raises(DatasetError, match=r"damaged\.png: not an image that can be decoded: .*; replace or remove it"):
        decoded(file)


def test_validation_calibration_and_consumer_prepare_alike(digits: Path) -> None:
    inputs, labels = next(classification.validation_batches(digits, SMALL, batch_size=3))
    summary = read_summary(digits)
    files = imagefolder.images(digits, summary, "val").files
    with Image.open(files[2]) as image:
        assert torch.equal(Transform(SMALL)(image), inputs[2])
    assert labels.tolist() == [0, 0, 1]
    assert inputs.is_contiguous(memory_format=torch.channels_last)
    prepared = [Transform(SMALL)(Image.open(file)) for file in imagefolder.images(digits, summary, "train").files]
    (calibration,) = classification.calibration_batches(digits, SMALL, batch_size=4, count=1, seed=0)
    assert all(any(torch.equal(each, one) for one in prepared) for each in calibration)


def test_calibration_is_drawn_by_seed_and_at_most_all_images(digits: Path) -> None:
    def drawn(seed: int, count: int = 1) -> list[Tensor]:
        return list(classification.calibration_batches(digits, SMALL, batch_size=8, count=count, seed=seed))

    assert torch.equal(drawn(0)[0], drawn(0)[0])
    assert not torch.equal(drawn(0)[0], drawn(1)[0])
    assert [len(batch) for batch in drawn(0, count=100)] == [8] * 5


class Answer(nn.Module):
    """Always the same scores: the best is class 3, class 7 is among the first five."""

    def __init__(self, scores: list[float]) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.tensor(scores, dtype=torch.float32))

    def forward(self, inputs: Tensor) -> Tensor:
        assert not self.training
        return self.scores.expand(len(inputs), -1)


def test_accuracy_is_counted_on_every_validation_image(digits: Path) -> None:
    model = Answer([0, 1, 2, 9, 3, 0, 0, 8, 0, 0]).train()
    metrics = classification.evaluate(model, digits, SMALL)
    assert metrics == {
        "top1": 0.1,
        "top5": 0.5,
        "images": 20,
        "dataset": "digits",
        "dataset_digest": read_summary(digits).digest,
    }
    assert model.training


class Auxiliary(nn.Module):
    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor, None]:
        logits = inputs.mean((2, 3))
        return logits, 2 * logits, None


def test_loss_of_labels_auxiliary_classifiers_and_teacher() -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (5, 3, 4, 4), dtype=torch.uint8, generator=generator)
    labels = torch.tensor([0, 1, 2, 0, 1])
    logits = ((pixels / 255 - MEAN) / STD).mean((2, 3))
    cross_entropy: Callable[..., Tensor] = nn.functional.cross_entropy
    alone = classification.ClassificationLoss(SMALL, 0.1)(Auxiliary(), (pixels, labels))
    expected = cross_entropy(logits, labels, label_smoothing=0.1) + 0.4 * cross_entropy(
        2 * logits, labels, label_smoothing=0.1
    )
    torch.testing.assert_close(alone, expected)

    distillation = Distillation(weight=0.25, temperature=2.0)
    taught = classification.ClassificationLoss(SMALL, 0.1, distillation, Auxiliary())
    torch.testing.assert_close(taught(Auxiliary(), (pixels, labels)), 0.75 * expected)  # teacher and student agree

    class Constant(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return torch.zeros(len(inputs), 3)

    against = classification.ClassificationLoss(SMALL, 0.1, distillation, Constant())
    probabilities = (logits / 2).softmax(1)
    divergence = (-(probabilities.log().mean(1)) - torch.log(torch.tensor(3.0))).mean()  # KL(uniform || student)
    torch.testing.assert_close(against(Auxiliary(), (pixels, labels)), 0.75 * expected + 0.25 * 4 * divergence)


@pytest.mark.parametrize("mixed", [False, True])
def test_a_source_teaches_an_image_as_far_as_it_is_sure_of_its_class(mixed: bool) -> None:
    class Answers(nn.Module):
        """The logits that it was given."""

        def __init__(self, *rows: tuple[float, float, float]) -> None:
            super().__init__()
            self.logits = torch.tensor(rows)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.logits

    pixels, labels = torch.zeros(3, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 1, 2])
    shares = torch.tensor([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.2, 0.0, 0.8]])
    student = Answers((1.0, 0.5, -1.0), (0.3, 0.2, 0.1), (0.0, 0.0, 2.0))
    teacher = Answers((90.0, 0.0, 0.0), (90.0, 0.0, 0.0), (0.0, 0.0, 0.0))  # right, wrong, and without an idea
    given = (pixels, shares if mixed else labels)
    trusts = torch.tensor([0.5, 0.0, 1 / 3]) if mixed else torch.tensor([1.0, 0.0, 1 / 3])
    distillation = Distillation(weight=0.4, temperature=2.0, by_confidence=True)
    loss = classification.ClassificationLoss(SMALL, 0.1, distillation, teacher)(student, given)

    expected = []
    for row, trust in enumerate(trusts):
        weight = 0.4 * trust
        by_label = nn.functional.cross_entropy(student.logits[[row]], given[1][[row]], label_smoothing=0.1)
        said, asked = ((each.logits[row] / 2).softmax(0) for each in (teacher, student))
        divergence = (torch.special.xlogy(said, said) - said * asked.log()).sum()
        expected.append((1 - weight) * by_label + weight * 4 * divergence)
    torch.testing.assert_close(loss, torch.stack(expected).mean())


def test_an_unknown_task_suggests_the_near_one() -> None:
    with pytest.raises(UnknownName, match="did you mean 'classification'"):
        tasks.find("clasification")


def baseline_settings(**changes: Any) -> dict[str, Any]:
    return {
        "source": {"library": "torchvision", "model": "mobilenet_v3_small", "weights": None},
        "task": "classification",
        "dataset": DATASET.model_dump(mode="json"),
        "dataset_name": "digits",
        "weights": "scratch",
        "input_size": 32,
        "schedule": SCHEDULE.model_dump(mode="json"),
        "launch": LAUNCH,
    } | changes


def test_baseline_surgery_and_fine_tuning_for_an_epoch_each(digits: Path, tmp_path: Path) -> None:
    folders = {step: tmp_path / step for step in ("baseline", "surgery", "train")} | {"data": digits}
    for step in ("baseline", "surgery", "train"):
        folders[step].mkdir()
    result = baseline.run(job("baseline", folders["baseline"], baseline_settings(), {"data": digits}))
    assert all(file.is_file() for file in result.outputs)
    assert not (folders["baseline"] / "partial").exists()
    origin = Origin.model_validate_json((folders["baseline"] / "source.json").read_text())
    assert (origin.weights, origin.num_classes, origin.preprocessing) == (None, 10, SMALL)
    assert origin.measured_as == "the size that profile demo has, as dataset digits states no evaluation"
    metrics = json.loads((folders["baseline"] / "metrics.json").read_text())
    assert (metrics["epochs"], metrics["images"], metrics["trained_on"]) == (1, 20, "digits, from scratch")
    source = source_model(origin)
    load_weights(source, folders["baseline"] / "source.safetensors")

    again = copy.deepcopy(source)  # BatchNorm's statistics are those of training images, not what training left behind
    inputs = classification.calibration_batches(digits, SMALL, 16, classification.STATISTICS_BATCHES, SCHEDULE.seed)
    surgery.reestimate_batchnorm(again, inputs)
    for name, statistic in source.named_buffers():
        torch.testing.assert_close(again.get_buffer(name), statistic)

    batches = list(classification.calibration_batches(digits, SMALL, batch_size=8, count=2, seed=0))
    lite, report = surgery.lite(source, example_inputs=(batches[0][:1],), calibration=batches)
    assert report.is_lite
    (folders["surgery"] / "plan.json").write_text(json.dumps(report.plan.to_json()))
    save_weights(lite, folders["surgery"] / "initial.safetensors")

    own = {"schedule": SCHEDULE.model_dump(mode="json"), "teacher": True}
    settings = {**own, "launch": LAUNCH, "learning_rate_scaled_from": ""}
    result = train.run(job("train", folders["train"], settings, folders))
    assert all(file.is_file() for file in result.outputs)
    assert result.summary["epochs"] == 1
    assert not (folders["train"] / "partial").exists()
    metrics = json.loads((folders["train"] / "metrics.json").read_text())
    assert metrics["trained_on"] == "digits, fine-tuned from the source's weights, the source as teacher"
    assert len((folders["train"] / "curve.jsonl").read_text().splitlines()) == 1


def test_a_model_without_edits_keeps_the_source_s_weights(digits: Path, tmp_path: Path) -> None:
    origin = Origin.model_validate(
        {
            "library": "torchvision",
            "library_version": "0",
            "model": "resnet18",
            "weights": None,
            "task": "classification",
            "num_classes": 10,
            "labels": list("0123456789"),
            "preprocessing": SMALL.model_dump(),
            "licences": {"code": "none", "weights": "none"},
        }
    )
    model = source_model(origin)
    plan = surgery.Plan(surgery.fingerprint(model), surgery.fingerprint(model), ())
    (tmp_path / "source.json").write_text(origin.model_dump_json())
    (tmp_path / "metrics.json").write_text('{"top1": 0.1}')
    (tmp_path / "plan.json").write_text(json.dumps(plan.to_json()))
    save_weights(model, tmp_path / "initial.safetensors")
    folder = tmp_path / "train"
    folder.mkdir()
    upstream = {"data": digits, "baseline": tmp_path, "surgery": tmp_path}
    settings = {"schedule": SCHEDULE.model_dump(mode="json"), "teacher": True}
    result = train.run(job("train", folder, settings, upstream))
    assert result.summary["epochs"] == 0
    assert (folder / "curve.jsonl").read_text() == ""
    kept = source_model(origin)
    load_weights(kept, folder / "model.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), kept.parameters(), strict=True))


def test_published_weights_of_other_classes_are_refused(digits: Path, tmp_path: Path) -> None:
    source = {"library": "torchvision", "model": "mobilenet_v3_small", "weights": "IMAGENET1K_V1"}
    settings = baseline_settings(source=source, weights="published", schedule=None, input_size=None)
    with pytest.raises(DatasetError, match=r"digits: 10 classes, but weights IMAGENET1K_V1 .* know 1000"):
        baseline.run(job("baseline", tmp_path, settings, {"data": digits}))


def test_published_weights_are_loaded_and_not_trained(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoo.sources import torchvision

    model = torchvision.build("resnet18", num_classes=10)
    monkeypatch.setattr(torchvision, "published", lambda name, weights, image_size: model.state_dict())
    monkeypatch.setattr(torchvision, "labels", lambda name, weights: tuple("0123456789"))
    source = {"library": "torchvision", "model": "resnet18", "weights": "IMAGENET1K_V1"}
    evaluated = DATASET.model_copy(update={"evaluation": Evaluation(resize=40, size=32)})  # which is not how these are
    settings = baseline_settings(
        source=source, weights="published", schedule=None, input_size=None, dataset=evaluated.model_dump(mode="json")
    )
    result = baseline.run(job("baseline", tmp_path, settings, {"data": digits}))
    assert result.summary["epochs"] == 0
    origin = Origin.model_validate_json((tmp_path / "source.json").read_text())
    assert (origin.weights, origin.preprocessing.resize, origin.preprocessing.size) == ("IMAGENET1K_V1", 256, 224)
    assert origin.measured_as == "how torchvision evaluates its weights IMAGENET1K_V1"
    loaded = source_model(origin)
    load_weights(loaded, tmp_path / "source.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), loaded.parameters(), strict=True))


@pytest.mark.parametrize(
    ("changes", "cure"),
    [
        ({"input_size": None}, "give input_size and baseline"),
        ({"weights": "published", "schedule": None}, "add source.weights to the recipe"),
    ],
)
def test_what_a_baseline_lacks_is_said(digits: Path, tmp_path: Path, changes: dict[str, Any], cure: str) -> None:
    with pytest.raises(StepError, match=cure):
        baseline.run(job("baseline", tmp_path, baseline_settings(**changes), {"data": digits}))
