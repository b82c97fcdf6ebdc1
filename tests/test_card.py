"""What a release's card and the table of a zoo say, whatever the task: the metric, the input, the further files."""

import json
from typing import Any

import pytest
from small_build import NAME, SIZE, SmallBuild

from zoo.releases import release, results
from zoo.releases.card import card
from zoo.releases.manifest import Manifest


def released(build: SmallBuild) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((build.zoo / "models" / NAME / "v1" / "release.json").read_bytes())
    return content


def manifest(fields: dict[str, Any]) -> Manifest:
    return release.parse(json.dumps(fields).encode(), "here")


def use(fields: dict[str, Any]) -> str:
    return card(manifest(fields)).partition("\n## Use\n\n")[2].partition("\n\n## ")[0]


def test_a_card_says_how_to_use_a_model_that_crops(small_build: SmallBuild) -> None:
    text = use(released(small_build))
    assert f'zoo.load("{NAME}", version=1)' in text
    assert f"`zoo predict {NAME} IMAGE -o out.png`" in text
    assert f"Input: RGB, NCHW, float32; short side resized to {SIZE} (bilinear), centre crop of 32 x 32; scaled" in text
    assert "less the mean (0.485, 0.456, 0.406), over the deviation (0.229, 0.224, 0.225) of red, green, blue." in text
    assert "Output: The model and the ONNX file return one score for each class, before softmax" in text
    assert "Classes: 10, in the order of the labels in `plan.json`." in text
    assert "Further files" not in text


def test_a_card_says_how_to_use_a_model_with_a_letterbox_and_further_files(small_build: SmallBuild) -> None:
    fields = released(small_build)
    fields["origin"]["preprocessing"] |= {"geometry": "letterbox", "channels": "BGR"}
    fields["files"]["detection_head"] = {"path": "detection_head.json", "sha256": "0" * 64, "size": 1}
    fields["files"]["arch"] = {"path": "arch.prototxt", "sha256": "0" * 64, "size": 1}
    text = use(fields)
    assert "Input: BGR, NCHW, float32; long side resized to 32 (bilinear), in the middle of a square of 32 x 32" in text
    assert "that is grey (114 of 255) elsewhere; scaled to [0, 1]" in text
    assert "crop" not in text
    assert text.endswith("for those who run the ONNX file: `arch.prototxt`, `detection_head.json`.")


def target(fields: dict[str, Any]) -> str:
    return card(manifest(fields)).partition("\n## Target\n\n")[2].partition("\n\n## ")[0]


def test_a_card_tells_what_is_not_refused_from_what_is_accelerated(small_build: SmallBuild) -> None:
    fields = released(small_build)
    fields["lint"] |= {"accelerated_nodes": fields["lint"]["nodes"] - 2, "warnings": 1, "costs": 2}
    text = target(fields)
    assert "; 1 warning, 2 costs in speed or exactness." in text
    assert "Nothing is refused; of 2 nodes the ONNX file does not tell." in text
    assert "left to the host" not in text


def test_a_card_says_what_the_target_accelerates(small_build: SmallBuild) -> None:
    fields = released(small_build)
    lint = fields["lint"]
    nodes, found = lint["nodes"], lint["targets"]["bare"]
    text = target(fields)
    assert text.startswith(f"`embedded` accelerates {nodes} of {nodes} nodes (100.0 %) and 100.0 % of the multiply-")
    assert "in 1 accelerated subgraph; 0 warnings, 0 costs in speed or exactness." in text
    assert "Nothing is left to the host." in text
    shares = [f"{found[share] * 100:.1f} %" for share in ("node_share", "mac_share")]
    assert f"| `bare` | no | {shares[0]} | {shares[1]} | {found['subgraphs']} |" in text
    assert "by design" not in text
    fields["onnx"]["host"] = ["a", "b"]
    assert "the host does by design: all behind 2 tensors, which `release.json` names" in target(fields)
    assert "| `embedded` |" not in text


def test_a_card_says_what_is_left_and_why(small_build: SmallBuild) -> None:
    fields = released(small_build)
    softmax = {"op": "Softmax", "fact": "not accelerated", "nodes": 2, "module": "attn", "why": "it is small"}
    whole = {"op": "", "fact": "9 subgraphs", "nodes": 1, "module": "", "why": ""}
    fields["lint"] |= {"device": "AM62A", "subgraphs": 9, "max_subgraphs": 4, "left": [softmax, whole], "targets": {}}
    text = target(fields)
    assert text.startswith("`embedded`, device `AM62A`, accelerates ")
    assert "in 9 accelerated subgraphs, of which its runtime takes 4;" in text
    assert "| Softmax | 2 | `attn` | not accelerated | it is small |" in text
    assert "| the model | 1 |  | 9 subgraphs | no reason is given |" in text
    assert "other target" not in text


def test_a_card_says_where_the_choice_of_rules_is_explained(small_build: SmallBuild) -> None:
    fields = released(small_build)
    assert "explanation.json" not in card(manifest(fields))
    fields["files"]["explanation"] = {"path": "explanation.json", "sha256": "0" * 64, "size": 1}
    text = card(manifest(fields))
    assert "what no rule removes, is in `explanation.json`." in text
    assert "explanation.json" not in use(fields)


def test_a_card_of_a_release_from_before_lints_has_no_word_of_it(small_build: SmallBuild) -> None:
    text = card(manifest({key: value for key, value in released(small_build).items() if key != "lint"}))
    assert "\n## Target\n" not in text


def with_headline(fields: dict[str, Any], name: str, headline: str, dataset: str, value: float) -> dict[str, Any]:
    """The same release as if another task had made it."""
    accuracy = json.loads(json.dumps(fields["accuracy"])) | {"headline": headline}
    for stage in ("source", "after_surgery", "lite"):
        accuracy[stage] |= {"metrics": {headline: value}, "dataset": dataset}
    return fields | {"name": name, "accuracy": accuracy}


@pytest.mark.parametrize(("headline", "spelt"), [("top1", "top-1"), ("miou", "mIoU"), ("map", "mAP"), ("ssim", "ssim")])
def test_a_card_names_the_metric_of_its_task(small_build: SmallBuild, headline: str, spelt: str) -> None:
    text = card(manifest(with_headline(released(small_build), "a_lite", headline, "scenes", 0.25)))
    assert f"| a_lite | {spelt} | 25.0 % (3 ep.) | 25.0 % | 25.0 % (2 ep.) |" in text
    assert f"The metric is {spelt} on `scenes` (8 validation images, digest `dddddddddddd`)" in text


def test_a_table_of_several_tasks_says_what_each_figure_is(small_build: SmallBuild) -> None:
    fields = released(small_build)
    manifests = [
        manifest(with_headline(fields, f"{headline}_{number}", headline, dataset, 0.5))
        for headline, dataset in (("top1", "digits"), ("miou", "masks"), ("map", "boxes"))
        for number in range(2)
    ]
    rows = [results.cells(each) for each in manifests]
    assert results.HEADER[:5] == ("model", "metric", "before surgery", "after surgery", "fine-tuned")
    assert [row[1] for row in rows] == ["top-1", "top-1", "mIoU", "mIoU", "mAP", "mAP"]
    assert {len(row) for row in rows} == {len(results.HEADER)}
    notes = results.footnote(manifests).splitlines()
    assert [note.partition(",")[0] for note in notes if "validation images" in note] == [
        "top-1: on digits", "mIoU: on masks", "mAP: on boxes",
    ]  # fmt: skip
    assert sum("It is a stand-in" in note for note in notes) == 3
