"""COCO's layout: boxes, and entries of annotation files that cannot be used."""

from pathlib import Path

import pytest
from small_datasets import SIZE, coco_content, coco_tree, message, picture, summarise, write_json

from zoo.layouts import coco


def test_coco_s_objects(tmp_path: Path) -> None:
    root = coco_tree(tmp_path)
    summary = summarise("coco", root)
    assert summary.labels == ("person", "toothbrush")
    images = coco.images(root, summary, "train")
    assert images == coco.Images(
        files=tuple(root / "train2017" / f"{index:012d}.jpg" for index in range(3)),
        ids=(100, 101, 102),
        sizes=(SIZE, SIZE, SIZE),
        boxes=(((1.5, 2.0, 4.5, 6.25), (0.0, 0.0, 1.6, 7.0)), ((0.0, 0.0, 9.0, 7.0),), ()),
        classes=((1, 0), (0,), ()),
        crowds=((False, False), (True,), ()),
        categories=(1, 90),
        annotations=root / "annotations" / "instances_train2017.json",
    )


WRONG = {
    "an unknown image": ({"image_id": 7}, "image 7 is unknown"),
    "no image": ({"image_id": None}, "image None is unknown"),
    "an unknown category": ({"category_id": 2}, "category 2 is unknown"),
    "no width": ({"bbox": [1, 1, 0, 3]}, "a box without area"),
    "a negative height": ({"bbox": [1, 1, 3, -1]}, "a box without area"),
    "outside": ({"bbox": [8, 5, 4, 2]}, "a box outside the image of 9x7"),
    "just outside": ({"bbox": [9.2, 5, 0.5, 2]}, "a box outside the image of 9x7"),
    "three numbers": ({"bbox": [1, 2, 3]}, "bbox is not four numbers"),
    "text": ({"bbox": [1, 2, 3, "4"]}, "bbox is not four numbers"),
    "not a number": ({"bbox": [1, 2, float("nan"), 4]}, "bbox is not four numbers"),
    "no box": ({"bbox": None}, "bbox is not four numbers"),
    "beyond floats": ({"bbox": [1, 2, 10**400, 4]}, "bbox is not four numbers"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_an_annotation_that_cannot_be_meant_is_named_or_left_out(kind: str, tmp_path: Path) -> None:
    changes, fact = WRONG[kind]
    root, content = coco_tree(tmp_path), coco_content(3)
    content["annotations"].append(dict(content["annotations"][0], id=4) | changes)
    write_json(root, "train2017", content)
    refused = message("coco", root)
    assert "annotations/instances_train2017.json: annotations[3]: " in refused
    assert fact in refused
    summary = summarise("coco", root, corrupt="skip")
    assert summary.skipped == ("annotations/instances_train2017.json: annotations[3]",)
    assert [len(boxes) for boxes in coco.images(root, summary, "train").boxes] == [2, 1, 0]


def test_everything_wrong_with_images_is_said_at_once_or_left_out(tmp_path: Path) -> None:
    root, content = coco_tree(tmp_path), coco_content(3)
    content["images"] += [
        {"id": 100, "file_name": "000000000002.jpg", "width": 9, "height": 7},
        {"id": 200, "file_name": "gone.jpg", "width": 9, "height": 7},
        {"file_name": "000000000002.jpg"},
        {"id": 201, "file_name": "000000000002.jpg", "width": 0, "height": 7},
        {"id": 202, "file_name": "000000000002.jpg", "width": 10**400, "height": 7},
        {"id": 10**30, "file_name": "000000000002.jpg", "width": 9, "height": 7},
    ]
    content["annotations"].append({"id": 9, "image_id": 200, "category_id": 1, "bbox": [0, 0, 2, 2]})
    content["images"][2]["width"] = 8
    write_json(root, "train2017", content)
    refused = message("coco", root)
    for fact in ("images[3]: 000000000002.jpg: image id 100 is taken", "gone.jpg is missing", "and 4 more such"):
        assert fact in refused
    summary = summarise("coco", root, corrupt="skip")
    places = [f"annotations/instances_train2017.json: images[{index}]" for index in range(3, 9)]
    assert summary.skipped == (*places, "train2017/000000000002.jpg")
    assert coco.images(root, summary, "train").ids == (100, 101)


def test_an_image_of_another_size_than_its_annotations_say(tmp_path: Path) -> None:
    root = coco_tree(tmp_path)
    picture(root / "val2017" / "000000000000.jpg", size=(7, 9))
    assert "val2017/000000000000.jpg: is 7x9, but 9x7 in its annotations" in message("coco", root)


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ('{"images": [', "not an annotation file that can be read: Expecting value"),
        ("\ufffe\udcff", "not an annotation file that can be read"),
        ("[]", "no list of images, annotations, categories"),
        ('{"images": [], "annotations": {}, "categories": []}', "no list of annotations"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', "or a name"),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}',
            "lack a whole number of their own as id, or a name",
        ),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}',
            "two categories are named 'a'",
        ),
    ],
)
@pytest.mark.parametrize("corrupt", ["refuse", "skip"])
def test_a_corrupt_annotation_file_is_named_whatever_the_config_says(
    text: str, fact: str, corrupt: str, tmp_path: Path
) -> None:
    root = coco_tree(tmp_path)
    file = root / "annotations" / "instances_val2017.json"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    refused = message("coco", root, corrupt=corrupt)
    assert str(file) in refused
    assert fact in refused


def test_an_empty_class_is_refused_unless_skipping_is_allowed(tmp_path: Path) -> None:
    root, content = coco_tree(tmp_path), coco_content(3)
    del content["annotations"][0]
    write_json(root, "train2017", content)
    assert "train has no box of toothbrush (corrupt: skip in its config allows that)" in message("coco", root)
    summary = summarise("coco", root, corrupt="skip")
    assert (summary.labels, summary.skipped) == (("person", "toothbrush"), ())


def test_something_must_be_there_to_learn(tmp_path: Path) -> None:
    root = coco_tree(tmp_path)
    write_json(root, "train2017", coco_content(3) | {"annotations": []})
    for corrupt in ("refuse", "skip"):
        assert "train has no box;" in message("coco", root, corrupt=corrupt)


def test_a_class_may_be_empty_in_validation(tmp_path: Path) -> None:
    root, content = coco_tree(tmp_path), coco_content(2)
    del content["annotations"][0]
    write_json(root, "val2017", content)
    assert summarise("coco", root).counts == {"train": 3, "val": 2}


def test_categories_are_as_many_as_the_config_says_and_the_same_in_both_splits(tmp_path: Path) -> None:
    root, content = coco_tree(tmp_path), coco_content(2)
    assert "2 categories, expected 3" in message("coco", root, num_classes=3)
    content["categories"][0]["name"] = "comb"
    write_json(root, "val2017", content)
    assert "the annotations of train and val differ in their categories" in message("coco", root)
