"""What configs of datasets may say, and what the project's own do."""

from pathlib import Path

import pytest
import small_checkout
import yaml
from small_datasets import config

from zoo import layouts, plan
from zoo.config import Dataset, Evaluation
from zoo.errors import InvalidInput
from zoo.reading import library


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"layout: imagefolder": "layout: image_folder"},
            ":3: layout: unknown layout 'image_folder'; did you mean 'ima",
        ),
        (
            {"layout: imagefolder": "layout: coco"},
            ":3: layout: 'coco' holds labels for detection, not classification; for classification: imagefolder",
        ),
        (
            {"layout: imagefolder": "layout: imagefolder\nlabels: [a, b]"},
            ":4: labels: 'imagefolder' takes the classes' names from its files; remove them",
        ),
        (
            {"task: classification\nlayout: imagefolder": "task: segmentation\nlayout: voc"},
            ":1: labels: required field is missing: 'voc' does not name its classes; add 'labels: [...]'",
        ),
        (
            {"task: classification\nlayout: imagefolder": "task: segmentation\nlayout: voc\nlabels: [a, b]"},
            ":4: labels: 2 names for 10 classes; name every class once",
        ),
        (
            {
                "task: classification\nlayout: imagefolder": "task: segmentation\nlayout: voc\nlabels: "
                "[a, b, c, d, e, f, g, h, i, b]"
            },
            ":4: labels: two classes are named 'b'; name every class once",
        ),
    ],
)
def test_a_layout_that_does_not_fit_is_one_problem(changes: dict[str, str], complaint: str, tmp_path: Path) -> None:
    (old, new), text = *changes.items(), small_checkout.DATASET_TEXT
    assert text.count(old) == 1
    # A dataset that no profile uses, so that nothing else is wrong.
    files = small_checkout.TEXTS | {"configs/datasets/other.yaml": text.replace(old, new)}
    with pytest.raises(InvalidInput) as caught:
        library.load(small_checkout.write(tmp_path, files))
    (problem,) = caught.value.problems
    assert str(problem).startswith(f"configs/datasets/other.yaml{complaint}")


OTHER = "configs/datasets/other.yaml"
COPIED = small_checkout.DATASET_TEXT.replace("generator: digit_scenes\nparameters:\n  train: 10\n", "root: $OTHER\n")


def complaints(text: str, folder: Path) -> list[str]:
    """Of a dataset that no profile uses, so that nothing else is wrong."""
    with pytest.raises(InvalidInput) as caught:
        library.load(small_checkout.write(folder, small_checkout.TEXTS | {OTHER: text}))
    return [str(problem) for problem in caught.value.problems]


def test_what_a_copy_is_compared_with_and_measured_as(tmp_path: Path) -> None:
    text = f"{COPIED}expected: {{train: [3, 4], val: 2}}\nevaluation: {{resize: 256, size: 224}}\n"
    files = small_checkout.TEXTS | {OTHER: f"{text}files_digest: {'0a' * 32}\n"}
    found = library.load(small_checkout.write(tmp_path, files)).datasets["other"]
    assert found.expected == {"train": (3, 4), "val": 2}
    assert found.evaluation == Evaluation(resize=256, size=224, interpolation="bilinear")


@pytest.mark.parametrize(
    ("added", "complaint"),
    [
        ("expected: {train: 0}", "expected.train: "),
        ("expected: {train: []}", "expected.train: "),
        ("expected: {test: 3}", "expected.test"),
        ("files_digest: abc", "files_digest: "),
        ("evaluation: {resize: 256}", "evaluation.size: required field is missing"),
        (
            "evaluation: {resize: 200, size: 224}",
            "evaluation.resize: is less than the crop's size 224; set 224",
        ),
        ("evaluation: {size: 224, crop: 3}", "evaluation.crop: unknown field"),
    ],
)
def test_expectations_and_evaluations_that_cannot_be_meant(added: str, complaint: str, tmp_path: Path) -> None:
    (problem,) = complaints(f"{COPIED}{added}\n", tmp_path)
    assert problem.startswith(f"{OTHER}:{len(COPIED.splitlines()) + 1}: {complaint}")


def test_what_is_generated_is_compared_with_nothing(tmp_path: Path) -> None:
    text = f"{small_checkout.DATASET_TEXT}expected: {{train: 10}}\nfiles_digest: '{'0' * 64}'\n"
    assert [problem.partition(": ")[2] for problem in complaints(text, tmp_path)] == [
        f"{field}: is for data that is copied; a generator makes what it is told; remove it"
        for field in ("expected", "files_digest")
    ]


@pytest.mark.parametrize("digest", ["abc", "A" * 64, "g" * 64, "a" * 65])
def test_a_digest_that_is_none(digest: str, tmp_path: Path) -> None:
    (problem,) = complaints(f"{COPIED}files_digest: {digest}\n", tmp_path)
    assert problem.endswith(
        "files_digest: is no SHA-256 of 64 digits, 0 to 9 and a to f; copy what `zoo data check` prints"
    )


def test_only_classifiers_see_a_crop(tmp_path: Path) -> None:
    text = COPIED.replace("task: classification\nlayout: imagefolder", "task: detection\nlayout: coco")
    (problem,) = complaints(f"{text}evaluation: {{resize: 700, size: 640}}\n", tmp_path)
    assert problem.endswith("images for detection are not cropped: their long side is resized to size; remove it")


def test_a_profile_from_scratch_takes_its_size_from_the_dataset(tmp_path: Path) -> None:
    profile = small_checkout.PROFILE_TEXT.replace("    input_size: 32\n", "")
    dataset = f"{small_checkout.DATASET_TEXT}evaluation: {{size: 24}}\n"
    files = small_checkout.TEXTS | {small_checkout.PROFILE: profile, small_checkout.DATASET: dataset}
    assert library.load(small_checkout.write(tmp_path / "a", files)).profiles["demo"].tasks["classification"]
    with pytest.raises(InvalidInput, match="input_size: required field is missing"):
        library.load(
            small_checkout.write(tmp_path / "b", files | {small_checkout.DATASET: small_checkout.DATASET_TEXT})
        )


def test_what_is_compared_or_read_by_people_alone_trains_nothing_again() -> None:
    before = config("imagefolder")
    after = before.model_copy(update={"files_digest": "0" * 64})
    assert plan.data_settings("tiny", after) == plan.data_settings("tiny", before)
    measured = before.model_copy(update={"evaluation": Evaluation(size=24)})
    assert plan.data_settings("tiny", measured) == plan.data_settings("tiny", before)
    counted = before.model_copy(update={"expected": {"train": 3}})
    assert plan.data_settings("tiny", counted) != plan.data_settings("tiny", before)


def test_the_projects_own_datasets_say_what_their_layouts_need() -> None:
    files = sorted((Path(__file__).parents[1] / "configs" / "datasets").glob("*.yaml"))
    found = {file.stem: Dataset.model_validate(yaml.safe_load(file.read_text())) for file in files}
    assert {"digit_scenes_segmentation", "digit_scenes_detection", "voc2012", "coco2017", "coco_stuff"} <= set(found)
    for dataset in found.values():
        layout = layouts.find(dataset.layout)
        assert dataset.task == layout.TASK
        assert len(dataset.labels) == (0 if layout.NAMES_CLASSES else dataset.num_classes)
        assert len(set(dataset.labels)) == len(dataset.labels)
        assert dataset.homepage
        assert dataset.licence
        assert (dataset.generator is None) == bool(dataset.expected) == bool(dataset.evaluation)
