"""Bad copies of datasets in every layout: missing, empty, half-copied, more than there is."""

from pathlib import Path

import pytest
from small_datasets import TREES, config, cut, message, summarise

from zoo.data.summary import expanded_root
from zoo.errors import DatasetError
from zoo.layouts import find

WHOLE = {"train": 3, "val": 2}


def first_image(layout: str, root: Path) -> Path:
    return find(layout).contents(config(layout), root).samples["train"][0].image


@pytest.mark.parametrize("layout", TREES)
def test_a_folder_that_is_not_there(layout: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nowhere: no such folder; put tiny there or change root in configs"):
        expanded_root("tiny", config(layout, root=str(tmp_path / "nowhere")))


@pytest.mark.parametrize("layout", TREES)
def test_an_empty_folder(layout: str, tmp_path: Path) -> None:
    refused = message(layout, tmp_path, expected=WHOLE)
    assert refused.startswith(f"{tmp_path}: not a whole tiny: ")
    assert "missing" in refused
    assert "half-copied" not in refused
    assert refused.endswith("see the homepage in its config")


@pytest.mark.parametrize("layout", TREES)
def test_as_many_images_as_expected(layout: str, tmp_path: Path) -> None:
    root = TREES[layout](tmp_path)
    assert summarise(layout, root, expected=WHOLE).counts == WHOLE
    assert summarise(layout, root, expected={"train": (9, 3)}).counts == WHOLE


@pytest.mark.parametrize("layout", TREES)
def test_half_copied_is_an_error_with_the_numbers(layout: str, tmp_path: Path) -> None:
    root = TREES[layout](tmp_path)
    refused = message(layout, root, expected={"train": 4, "val": (5, 6)})
    assert "train is half-copied: 3 images of 4, val is half-copied: 2 images of 5; copy what is missing, or" in refused
    assert "correct expected in configs/datasets/tiny.yaml; expected " in refused


@pytest.mark.parametrize("layout", TREES)
def test_more_than_there_is_is_an_error_with_the_numbers(layout: str, tmp_path: Path) -> None:
    root = TREES[layout](tmp_path)
    refused = message(layout, root, expected={"train": 1, "val": (1, 2)})
    assert "train has 3 images, 2 more than the 1 that there are" in refused
    assert "val has" not in refused


@pytest.mark.parametrize("layout", TREES)
def test_an_image_that_is_skipped_is_there_all_the_same(layout: str, tmp_path: Path) -> None:
    root = TREES[layout](tmp_path)
    cut(first_image(layout, root))
    assert summarise(layout, root, expected=WHOLE, corrupt="skip").counts == {"train": 2, "val": 2}
