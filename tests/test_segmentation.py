"""Segmentation: label maps in the letterbox, metric, loss, training and what is deployed, on miniature datasets."""

import json
import random
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from PIL import Image
from torch import Tensor, nn

import surgery
import zoo
from zoo import layouts, plan, tasks
from zoo.config import Dataset, Preprocessing, ProfileTask
from zoo.data import judging
from zoo.data.label_maps import IGNORED
from zoo.data.summary import SUMMARY, read_summary
from zoo.errors import DatasetError
from zoo.job import Job
from zoo.onnx import exporting, parity
from zoo.onnx.session import Session
from zoo.origin import Licences, Origin
from zoo.preprocess import GREY, Transform, letterboxed, normalised, to_pixels, to_rgb
from zoo.reading import library
from zoo.recipe import Accept, Export
from zoo.schedule import Distillation, Optimizer, Schedule
from zoo.segmentation.augmentation import scale_crop_flip, shift
from zoo.segmentation.deployed import Segmenter, without_auxiliary
from zoo.segmentation.loss import SegmentationLoss
from zoo.segmentation.metric import class_iou, confusion, mean_iou, pixel_accuracy
from zoo.segmentation.placing import placed, taken_back
from zoo.source_model import load_weights, save_weights
from zoo.sources import torchvision
from zoo.tasks import segmentation

REPOSITORY = Path(__file__).parents[1]
SIZE = 32
SMALL = Preprocessing(geometry="letterbox", resize=SIZE, size=SIZE, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
LABELS = ("background", "left", "right")
ORIGIN = Origin(
    library="torchvision",
    library_version="0",
    model="lraspp_mobilenet_v3_large",
    weights=None,
    task="segmentation",
    num_classes=3,
    labels=LABELS,
    preprocessing=SMALL,
    licences=Licences(code="none", weights="none"),
)
SCHEDULE = Schedule(
    description="test",
    epochs=1,
    batch_size=4,
    optimizer=Optimizer(lr=0.01),
    label_smoothing=0.1,
    ema_decay=0.5,
    augmentation="shift",
)


def config(layout: str) -> Dataset:
    return Dataset(
        description="test",
        task="segmentation",
        layout=layout,
        num_classes=3,
        labels=LABELS,
        mean=SMALL.mean,
        std=SMALL.std,
        licence="none",
    )


def scene(index: int) -> tuple[Image.Image, Image.Image]:
    """An image and its label map, of another size and kind each: colour, grey, 16 bits; 255 around the middle."""
    width, height = 33 + 2 * index, 47 - 3 * index
    grey = np.random.default_rng(index).integers(0, 256, (height, width), dtype=np.uint8)
    image = Image.fromarray(grey)
    if index % 3 == 0:
        image = Image.merge("RGB", (image, image.rotate(180), image))
    elif index % 3 == 1:
        image = Image.fromarray(grey.astype(np.uint16) * 257)
    labels = np.zeros((height, width), np.uint8)
    labels[height // 4 :, : width // 2] = 1
    labels[: height // 2, width // 2 + 2 :] = 2
    labels[:, width // 2 : width // 2 + 2] = IGNORED
    picture = Image.fromarray(labels)
    picture.putpalette([value for value in range(256) for _ in range(3)])
    return image, picture


def summarised(layout: str, root: Path) -> Path:
    summary = judging.summarise("miniature", config(layout), root, inside=True)
    (root / SUMMARY).write_text(summary.model_dump_json())
    return root


def label_pngs(root: Path) -> Path:
    for split, indices in {"train": range(8), "val": range(8, 13)}.items():
        for index in indices:
            for kind, picture in zip(("images", "labels"), scene(index), strict=True):
                (root / kind / split).mkdir(parents=True, exist_ok=True)
                picture.save(root / kind / split / f"{index:02d}.png")
    return summarised("label_pngs", root)


def voc(root: Path) -> Path:
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for split, indices in {"train": range(3), "val": range(3, 5)}.items():
        for index in indices:
            image, labels = scene(3 * index)
            image.save(root / "JPEGImages" / f"{index}.jpg", quality=95)
            labels.save(root / "SegmentationClass" / f"{index}.png")
        (root / "ImageSets/Segmentation" / f"{split}.txt").write_text("".join(f"{index}\n" for index in indices))
    return summarised("voc", root)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return label_pngs(tmp_path_factory.mktemp("label_pngs"))


@pytest.fixture(scope="module")
def voc_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return voc(tmp_path_factory.mktemp("voc"))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Pixelwise(nn.Module):
    """Three logits from a pixel's own colour and, in a dict as torchvision's, those of an auxiliary head."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)
        self.aux_classifier = nn.Conv2d(3, 3, 1)

    def forward(self, inputs: Tensor) -> "OrderedDict[str, Tensor]":
        return OrderedDict(out=self.layer(inputs), aux=self.aux_classifier(inputs))


class Constant(nn.Module):
    """Everything is of one class; a parameter says where it is."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.eye(3)[index])

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        assert not self.training
        return {"out": self.logits.view(1, 3, 1, 1).expand(len(inputs), 3, *inputs.shape[2:])}


# Label maps in the letterbox


@settings(deadline=None, max_examples=50)
@given(width=st.integers(1, 90), height=st.integers(1, 90), size=st.sampled_from([7, 32, 96]))
def test_labels_lie_where_their_image_lies(width: int, height: int, size: int) -> None:
    how = SMALL.model_copy(update={"size": size, "resize": size, "interpolation": "nearest"})
    labels = np.random.default_rng(width * height).integers(0, 100, (height, width), dtype=np.uint8)
    pixels = to_pixels(letterboxed(Image.fromarray(labels).convert("RGB"), how))[0]
    found = placed(labels, how)
    inside = found != IGNORED
    assert torch.equal(found[inside], pixels[inside])
    assert bool((pixels[~inside] == GREY).all())
    assert int(inside.sum()) == max(1, round(width * size / max(width, height))) * max(
        1, round(height * size / max(width, height))
    )


@given(width=st.integers(1, 90), height=st.integers(1, 90))
@settings(deadline=None, max_examples=50)
def test_what_is_placed_is_taken_back(width: int, height: int) -> None:
    large = SMALL.model_copy(update={"size": 180, "resize": 180})  # at least twice each image: no pixel is lost
    labels = np.random.default_rng(width * height).integers(0, 21, (height, width), dtype=np.uint8)
    assert np.array_equal(taken_back(placed(labels, large).numpy(), width, height, large), labels)


def test_labels_are_placed_in_letterboxes_alone() -> None:
    with pytest.raises(ValueError, match="in a letterbox, not by 'crop'"):
        placed(np.zeros((4, 4), np.uint8), SMALL.model_copy(update={"geometry": "crop"}))


# The metric


def slow_metrics(truth: list[int], found: list[int], num_classes: int) -> tuple[dict[int, float], float]:
    """Sets of pixels, class by class."""
    counted = [place for place, label in enumerate(truth) if label != IGNORED]
    each = {}
    for label in range(num_classes):
        is_true = {place for place in counted if truth[place] == label}
        is_found = {place for place in counted if found[place] == label}
        if is_true | is_found:
            each[label] = len(is_true & is_found) / len(is_true | is_found)
    return each, sum(truth[place] == found[place] for place in counted) / len(counted)


@settings(deadline=None)
@given(st.data())
def test_the_metric_is_that_of_a_slow_reference(data: st.DataObject) -> None:
    num_classes = data.draw(st.integers(1, 6))
    classes = st.integers(0, num_classes - 1)
    pairs = data.draw(st.lists(st.tuples(st.one_of(classes, st.just(IGNORED)), classes), min_size=1, max_size=40))
    truth, found = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    cut = data.draw(st.integers(0, len(pairs)))
    matrix = sum(  # of two images
        (
            confusion(torch.tensor(truth[part], dtype=torch.uint8), torch.tensor(found[part]), num_classes)
            for part in (slice(cut), slice(cut, None))
        ),
        torch.zeros(num_classes, num_classes, dtype=torch.int64),
    )
    assert int(matrix.sum()) == sum(label != IGNORED for label in truth)
    if not matrix.sum():
        assert np.isnan([mean_iou(matrix), pixel_accuracy(matrix)]).all()
        return
    expected, accuracy = slow_metrics(truth, found, num_classes)
    each = {label: iou for label, iou in enumerate(class_iou(matrix).tolist()) if iou == iou}
    assert each == pytest.approx(expected)
    assert mean_iou(matrix) == pytest.approx(sum(expected.values()) / len(expected))
    assert pixel_accuracy(matrix) == pytest.approx(accuracy)


def test_a_class_that_is_only_predicted_counts_and_one_that_is_absent_does_not() -> None:
    matrix = confusion(torch.tensor([0, 0, 0, 0]), torch.tensor([0, 0, 0, 1]), 3)
    assert class_iou(matrix)[:2].tolist() == [0.75, 0.0]
    assert mean_iou(matrix) == 0.375


def test_all_of_validation_is_evaluated_as_one(data: Path, voc_data: Path) -> None:
    for folder, layout, count in ((data, "label_pngs", 5), (voc_data, "voc", 2)):
        summary = read_summary(folder)
        files = layouts.find(layout).images(folder, summary, "val").labels
        truth = torch.cat([placed(np.array(Image.open(file)), SMALL).flatten() for file in files])
        matrix = confusion(truth, torch.ones(len(truth), dtype=torch.int64), 3)
        model = Constant(1).train()
        metrics = segmentation.evaluate(model, folder, SMALL)
        assert model.training
        assert metrics == {
            "miou": pytest.approx(float(matrix[1, 1] / matrix.sum()) / 3),
            "pixel_accuracy": pytest.approx(float(matrix[1, 1] / matrix.sum())),
            "images": count,
            "dataset": "miniature",
            "dataset_digest": summary.digest,
            "iou/background": 0.0,
            "iou/left": pytest.approx(float(matrix[1, 1] / matrix.sum())),
            "iou/right": 0.0,
        }


def test_a_validation_set_without_a_labelled_pixel_is_refused(tmp_path: Path) -> None:
    folder = label_pngs(tmp_path)
    for file in (folder / "labels" / "val").iterdir():
        with Image.open(file) as labels:
            Image.new("L", labels.size, IGNORED).save(file)
    with pytest.raises(DatasetError, match=r"no pixel of the validation images is labelled; .*"):
        segmentation.evaluate(Constant(0), folder, SMALL)


# Images and labels on disk


def test_every_kind_of_image_is_prepared_as_the_consumer_does(data: Path) -> None:
    sample = segmentation.validation_sample(data, SMALL, 5)
    files = sorted((data / "images" / "val").iterdir())
    modes = set()
    for inputs, file in zip(sample, files, strict=True):
        with Image.open(file) as image:
            modes.add(image.mode)
            assert torch.equal(Transform(SMALL)(image), inputs)
    assert modes == {"RGB", "L", "I;16"}
    assert len(segmentation.validation_sample(data, SMALL, 2)) == 2


def test_calibration_is_drawn_by_seed_and_at_most_all_images(data: Path) -> None:
    def drawn(seed: int, count: int = 1) -> list[Tensor]:
        return list(segmentation.calibration_batches(data, SMALL, batch_size=3, count=count, seed=seed))

    assert torch.equal(drawn(0)[0], drawn(0)[0])
    assert not torch.equal(drawn(0)[0], drawn(1)[0])
    assert [len(batch) for batch in drawn(0, count=100)] == [3, 3, 2]


@pytest.mark.parametrize(
    ("damage", "fact"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:60]), "not an image that can be decoded"),
        (lambda file: Image.new("RGB", (49, 23)).save(file), "an image of mode RGB where labels are"),
        (lambda file: Image.new("L", (49, 23), 3).save(file), "label 3 where there are 3 classes"),
        (lambda file: Image.new("L", (9, 7)).save(file), "9x7 where its image is 49x23"),
    ],
    ids=["cut", "colour", "unknown class", "size"],
)
def test_a_label_map_that_cannot_be_used_is_named(tmp_path: Path, damage: Any, fact: str) -> None:
    folder = label_pngs(tmp_path)
    file = folder / "labels" / "val" / "08.png"
    damage(file)
    with pytest.raises(DatasetError, match=rf"08\.png: {fact}") as caught:
        segmentation.evaluate(Constant(0), folder, SMALL)
    assert "\n" not in str(caught.value)


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    folder = label_pngs(tmp_path)
    (folder / "images" / "val" / "09.png").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"images/val/09\.png: not an image that can be decoded"):
        segmentation.evaluate(Constant(0), folder, SMALL)


# Augmentation


def test_a_shift_moves_image_and_labels_alike() -> None:
    values = torch.arange(24 * 24, dtype=torch.uint8).view(1, 24, 24)
    moved = set()
    for seed in range(20):
        pixels, labels = shift(values.expand(3, -1, -1), values[0], random.Random(seed))
        assert torch.equal(pixels, labels.expand(3, -1, -1))
        moved.add(bytes(labels.numpy().tobytes()))
    assert len(moved) > 3


@pytest.mark.parametrize("size", [(40, 23), (17, 90), (32, 32)])
def test_a_crop_is_the_same_of_image_and_labels(size: tuple[int, int]) -> None:
    labels = np.random.default_rng(0).integers(0, 100, size[::-1], dtype=np.uint8)
    nearest = SMALL.model_copy(update={"interpolation": "nearest"})
    image = Image.fromarray(labels).convert("RGB")
    found = set()
    for seed in range(30):
        pixels, classes = scale_crop_flip(image, labels, nearest, random.Random(seed))
        assert pixels.shape == (3, SIZE, SIZE)
        inside = classes != IGNORED
        assert torch.equal(pixels[0][inside], classes[inside])
        assert bool((pixels[:, ~inside] == GREY).all())
        found.add(int(inside.sum()))
    assert max(found) == SIZE**2  # enlarged, it fills the square
    assert min(found) < SIZE**2  # made smaller, it does not


def test_augmentation_depends_on_seed_epoch_and_index_alone(data: Path) -> None:
    for augmentation in ("shift", "crop_flip"):
        schedule = SCHEDULE.model_copy(update={"augmentation": augmentation})
        one, other = (segmentation._images(data, "train", SMALL, schedule) for _ in range(2))
        random.seed(1)
        first = [one[(epoch, 3)] for epoch in range(6)]
        random.seed(2)
        again = [other[(epoch, 3)] for epoch in reversed(range(6))][::-1]
        for (pixels, labels), (pixels_again, labels_again) in zip(first, again, strict=True):
            assert torch.equal(pixels, pixels_again)
            assert torch.equal(labels, labels_again)
        assert len({bytes(labels.numpy().tobytes()) for _, labels in first}) > 1


# The loss


def test_loss_of_labels_auxiliary_head_and_teacher_leaves_out_what_is_ignored() -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (2, 3, 5, 5), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 3, (2, 5, 5), dtype=torch.uint8, generator=generator)
    labels[:, 2] = IGNORED
    torch.manual_seed(0)
    model, teacher = Pixelwise(), Pixelwise()
    inputs = normalised(pixels, SMALL)

    def flat(logits: Tensor) -> Tensor:
        return logits.permute(0, 2, 3, 1)[labels != IGNORED]

    given_labels = labels[labels != IGNORED].long()
    expected = nn.functional.cross_entropy(flat(model(inputs)["out"]), given_labels, label_smoothing=0.1)
    expected = expected + 0.5 * nn.functional.cross_entropy(
        flat(model(inputs)["aux"]), given_labels, label_smoothing=0.1
    )
    torch.testing.assert_close(SegmentationLoss(SMALL, 0.1)(model, (pixels, labels)), expected)

    said, asked = ((flat(each(inputs)["out"]) / 2).softmax(1) for each in (teacher, model))
    divergence = (said * (said.log() - asked.log())).sum(1).mean()
    taught = SegmentationLoss(SMALL, 0.1, Distillation(weight=0.25, temperature=2.0), teacher)
    torch.testing.assert_close(taught(model, (pixels, labels)), 0.75 * expected + 0.25 * 4 * divergence)


def test_a_batch_of_ignored_pixels_has_no_loss_and_no_gradient() -> None:
    model = Pixelwise()
    objective = SegmentationLoss(SMALL, 0.1, Distillation(), Pixelwise())
    pixels = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    loss = objective(model, (pixels, torch.full((1, 4, 4), IGNORED, dtype=torch.uint8)))
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(bool((parameter.grad == 0).all()) for parameter in model.parameters() if parameter.grad is not None)


# Training


def test_training_for_two_iterations_with_a_teacher_learns_and_can_be_repeated(data: Path, tmp_path: Path) -> None:
    def trained(folder: str) -> nn.Module:
        torch.manual_seed(0)
        model, teacher = Learnt(), Learnt()
        result = segmentation.fit(
            model, data, SMALL, SCHEDULE, name="small", folder=tmp_path / folder, key="k" * 64, teacher=teacher
        )
        assert result.epochs == 1
        row = json.loads((tmp_path / folder / "curve.jsonl").read_text())
        assert 0 <= row["miou"] <= 1
        return model

    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    one, other = trained("one"), trained("other")
    torch.manual_seed(0)
    before = Learnt()
    assert not torch.equal(one.state_dict()["head.weight"], before.state_dict()["head.weight"])
    assert not torch.equal(one.state_dict()["aux_classifier.weight"], before.state_dict()["aux_classifier.weight"])
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name

    statistics = [value.clone() for value in one.norm.buffers()]  # those of training images as they are
    inputs = segmentation.calibration_batches(data, SMALL, 4, segmentation.STATISTICS_BATCHES, SCHEDULE.seed)
    surgery.reestimate_batchnorm(one, inputs)
    for value, expected in zip(one.norm.buffers(), statistics, strict=True):
        torch.testing.assert_close(value, expected)


class Learnt(nn.Module):
    """BatchNorm, a head and an auxiliary head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.head, self.aux_classifier = nn.Conv2d(4, 3, 1), nn.Conv2d(4, 3, 1)

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        features = self.norm(self.stem(inputs)).relu()
        return {"out": self.head(features), "aux": self.aux_classifier(features)}


def test_training_reads_voc_with_scaled_crops(voc_data: Path, tmp_path: Path) -> None:
    schedule = SCHEDULE.model_copy(update={"augmentation": "crop_flip", "batch_size": 2, "distillation": None})
    model = Learnt()
    before = model.head.weight.detach().clone()
    segmentation.fit(model, voc_data, SMALL, schedule, name="small", folder=tmp_path, key="k" * 64)
    assert not torch.equal(model.head.weight, before)


def test_an_unreadable_label_map_ends_a_training_with_its_name(tmp_path: Path) -> None:
    folder = label_pngs(tmp_path / "data")
    (folder / "labels" / "train" / "05.png").write_bytes(b"no image")
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(DatasetError, match=r"labels/train/05\.png: not an image that can be decoded"):
        segmentation.fit(Learnt(), folder, SMALL, SCHEDULE, name="small", folder=out, key="k" * 64)


# What is deployed, loaded and drawn


@pytest.fixture(scope="module")
def lite_models() -> dict[str, nn.Module]:
    """Both kinds of torchvision's, one with an auxiliary head."""
    torch.manual_seed(0)
    images = torch.rand(2, 3, SIZE, SIZE)
    lite = {}
    for name in ("lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large"):
        source = torchvision.build(name, num_classes=3).eval()
        lite[name], report = surgery.lite(source, example_inputs=(images[:1],), calibration=[images])
        assert report.by_rule()["resize_by_factor"] == 2
    return {name: model.eval() for name, model in lite.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large"])
def test_the_onnx_has_no_auxiliary_head_and_resizes_by_whole_factors(
    lite_models: dict[str, nn.Module], name: str
) -> None:
    model = lite_models[name]
    images = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    deployed = segmentation.deployable(model, ORIGIN, Export())
    exported = exporting.export(deployed, images[:1], opset=18, outputs=segmentation.outputs(Export()))
    assert [output.name for output in exported.graph.output] == ["logits"]
    assert parity.compare(deployed, exported, images).relative < 1e-3
    torch.testing.assert_close(deployed(images), model(images)["out"])
    paths = [entry.value for node in exported.graph.node for entry in node.metadata_props]
    assert paths
    assert not [path for path in paths if "aux_classifier" in path]
    constants = {each.name: numpy_helper.to_array(each) for each in exported.graph.initializer}
    resizes = [node for node in exported.graph.node if node.op_type == "Resize"]
    assert len(resizes) == 2
    for node in resizes:
        scales = constants[node.input[2]]
        assert len(node.input) == 3  # no computed size
        assert scales.tolist() == [1, 1, *scales[2:].round().tolist()]


def test_argmax_in_the_graph_is_each_pixel_s_class() -> None:
    settings = Export(argmax=True)
    images = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    model = Pixelwise()
    deployed = segmentation.deployable(model, ORIGIN, settings)
    exported = exporting.export(deployed, images, opset=18, outputs=segmentation.outputs(settings))
    (output,) = exported.graph.output
    assert (output.name, output.type.tensor_type.elem_type) == ("classes", onnx.TensorProto.INT64)
    (found,) = Session(exported).run_each(images)
    assert found.shape == (1, SIZE, SIZE)
    logits = segmentation.deployable(model, ORIGIN, Export())(images)
    assert logits.argmax(1).unique().numel() > 1
    assert float((found == logits.argmax(1)).float().mean()) > 0.999


def test_the_auxiliary_head_is_left_out_of_a_copy() -> None:
    model = Pixelwise()
    slim = without_auxiliary(model)
    assert sum(p.numel() for p in slim.parameters()) == sum(p.numel() for p in model.layer.parameters())
    assert isinstance(model.aux_classifier, nn.Conv2d)
    images = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(Segmenter(slim)(images), Segmenter(model)(images))


def test_what_is_loaded_gives_logits_and_the_same_metric(data: Path) -> None:
    torch.manual_seed(0)
    model = Pixelwise()
    loaded = segmentation.loadable(model, ORIGIN)
    assert not loaded.training
    assert loaded.network is model
    assert loaded(segmentation.validation_sample(data, SMALL, 2)).shape == (2, 3, SIZE, SIZE)
    assert segmentation.evaluate(loaded, data, SMALL) == segmentation.evaluate(model, data, SMALL)
    assert segmentation.descriptions(model, ORIGIN, Export(), onnx.ModelProto()) == {}


class Bright(nn.Module):
    """Class 2 where it is bright, else class 0."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        bright = inputs.mean(1) * self.weight
        return {"out": torch.stack([-bright, torch.full_like(bright, -9), bright], 1)}


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [(90, 51), (31, 75)])
def test_what_is_predicted_is_where_it_is_in_the_image(size: tuple[int, int], kind: Any) -> None:
    width, height = size
    grey = np.zeros((height, width), kind)
    grey[:, width // 2 :] = np.iinfo(kind).max
    model = segmentation.loadable(Bright(), ORIGIN)
    picture = to_rgb(Image.fromarray(grey))
    found = segmentation.predicted(picture, model, ORIGIN)
    assert found.classes.shape == (height, width)
    assert np.all(found.classes[:, : width // 2 - 4] == 0)
    assert np.all(found.classes[:, width // 2 + 4 :] == 2)
    assert [finding.label for finding in found.findings()] == sorted(
        ("background", "right"), key=lambda label: -float((found.classes == LABELS.index(label)).mean())
    )
    assert found.drawn(picture).width >= width


# The task and its source


def test_the_task_offers_what_every_task_does() -> None:
    protocol = {name for name in vars(tasks.Task) | tasks.Task.__annotations__ if not name.startswith("_")}
    assert len(protocol) >= 11
    assert not {name for name in protocol if not hasattr(tasks.find("segmentation"), name)}
    assert (segmentation.METRIC, segmentation.GEOMETRY) == ("miou", "letterbox")


SEGMENTERS = [name for name, entry in torchvision.catalogue().items() if entry.task == "segmentation"]


@pytest.mark.parametrize("name", SEGMENTERS)
def test_every_segmenter_builds_with_its_auxiliary_head(name: str) -> None:
    assert len(SEGMENTERS) >= 6
    with torch.device("meta"):
        network = torchvision.build(name, num_classes=7)
        output = network.eval()(torch.zeros(1, 3, 64, 64))
    assert {key: tuple(each.shape) for key, each in output.items()} == dict.fromkeys(
        ["out"] if name.startswith("lraspp") else ["out", "aux"], (1, 7, 64, 64)
    )


@pytest.mark.parametrize("name", SEGMENTERS)
def test_what_published_segmenters_say_of_themselves(name: str) -> None:
    (weights,) = torchvision.catalogue()[name].weights
    labels = torchvision.labels(name, weights)
    assert len(labels) == 21
    assert labels[0] == "__background__"
    how = torchvision.preprocessing(name, weights)
    assert (how.geometry, how.resize, how.size, how.interpolation) == ("letterbox", 520, 520, "bilinear")
    assert "COCO" in torchvision.licences(name, weights).weights


def test_published_weights_hold_the_auxiliary_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    from torchvision import models

    network = torchvision.build("deeplabv3_mobilenet_v3_large", num_classes=21)
    torch.save(network.state_dict(), tmp_path / "state.pt")
    content = (tmp_path / "state.pt").read_bytes()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub" / "checkpoints" / f"deeplab-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    member = models.get_model_weights("deeplabv3_mobilenet_v3_large")["COCO_WITH_VOC_LABELS_V1"]
    monkeypatch.setattr(member.value, "url", f"http://127.0.0.1:9/{file.name}")
    state = torchvision.published("deeplabv3_mobilenet_v3_large", "COCO_WITH_VOC_LABELS_V1")
    assert "aux_classifier.4.bias" in state
    torchvision.build("deeplabv3_mobilenet_v3_large", num_classes=21).load_state_dict(state, strict=True)


def test_a_lite_segmenter_s_weights_come_back(lite_models: dict[str, nn.Module], tmp_path: Path) -> None:
    model = lite_models["deeplabv3_mobilenet_v3_large"]
    save_weights(model, tmp_path / "model.safetensors")
    again = torchvision.build("deeplabv3_mobilenet_v3_large", num_classes=3)
    again, _ = surgery.lite(again.eval(), example_inputs=(torch.rand(1, 3, SIZE, SIZE),))
    load_weights(again, tmp_path / "model.safetensors")
    images = torch.rand(1, 3, SIZE, SIZE)
    assert torch.equal(again.eval()(images)["out"], model(images)["out"])


def read_yaml(file: str) -> Any:
    return yaml.safe_load((REPOSITORY / file).read_text(encoding="utf-8"))


def planned(name: str) -> dict[str, dict[str, Any]]:
    """What the plan tells each step of a recipe on the miniature data."""
    found = library.load(REPOSITORY)
    schedules = {"short": SCHEDULE, "taught": SCHEDULE.model_copy(update={"distillation": Distillation()})}
    task = ProfileTask(dataset="miniature", input_size=SIZE, baseline="short", train="taught")
    profile = found.profiles["demo"].model_copy(update={"tasks": {"segmentation": task}, "models": {}})
    recipe = found.recipes[name].model_copy(update={"accept": Accept()})  # an epoch on a few images wins nothing back
    small = replace(
        found,
        recipes={"small_lite": recipe},
        datasets={"miniature": config("label_pngs")},
        schedules=schedules,
        profiles={"demo": profile},
    )
    model = plan.model(small, "small_lite", "demo")
    return {step: row.settings(model) for step, row in plan.STEPS.items()}


@pytest.mark.slow
def test_a_segmenter_passes_every_step_and_loads_with_its_published_metric(data: Path, tmp_path: Path) -> None:
    settings = planned("lraspp_mobilenet_v3_large_lite")
    upstream = {"data": data}
    for step, given_settings in settings.items():
        folder = tmp_path / "small_lite" / step
        folder.mkdir(parents=True)
        job = Job(step, "small_lite", "demo", folder, tmp_path, given_settings, dict(upstream), "0" * 64)
        import_module(f"zoo.steps.{step}").run(job)
        upstream[step] = folder
    release = zoo.get("small_lite", index=tmp_path / "zoo")
    published = release.manifest.accuracy.lite.metrics
    assert {"miou", "pixel_accuracy"} < set(published)
    model = release.load()
    measured = segmentation.evaluate(model, data, SMALL)
    assert {name: measured[name] for name in published} == published
    assert json.loads((upstream["check"] / "findings.json").read_text())["findings"] == []
    costs = release.manifest.costs
    assert costs.lite.macs < costs.source.macs
