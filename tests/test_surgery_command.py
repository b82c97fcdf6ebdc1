"""`zoo surgery`: what it prints and writes, and how it ends."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lint_models import zoo

import surgery
from surgery import Plan
from zoo.choosing import dry_run
from zoo.choosing.explanation import Choice, Explanation, Left
from zoo.linting.report import Finding, Summary
from zoo.sources import torchvision

REMOVED = Finding("error", "node", "HardSwish", "features.0.2", "operator", "HardSwish is not accelerated")
SUMMARY = Summary(2, 1, 10, 10, (), 16)
CLEAN = Explanation(
    target="tidl-9.1",
    device="",
    choices=(Choice("hardswish_to_relu", ("features.0.2",), "same_shape", "of similar shape", (REMOVED,)),),
    followed=(),
    dropped=(),
    left=(),
    rounds=1,
    before=SUMMARY,
    after=SUMMARY,
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, without recipes."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("left", "code"), [((), 0), ((Left(REMOVED, "no rule removes hardswish here"),), 1)])
def test_a_dry_run_prints_the_reasons_and_writes_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, left: tuple[Left, ...], code: int
) -> None:
    asked: list[Any] = []

    def explain(*arguments: Any, **more: Any) -> Explanation:
        asked.append((arguments, more))
        return replace(CLEAN, left=left)

    monkeypatch.setattr(dry_run, "explain", explain)
    options = ("--target", "tidl-9.1", "--device", "AM62A", "--size", "64", "--dry-run")
    done = zoo("surgery", "torchvision/x", *options)
    assert (done.exit_code, done.stderr) == (code, "")
    assert done.stdout == replace(CLEAN, left=left).as_text() + "\n"
    assert asked == [(("torchvision/x", "tidl-9.1", "AM62A"), {"root": None, "size": 64})]
    found = json.loads(zoo("surgery", "torchvision/x", *options, "--json").stdout)
    assert (found["clean"], found["rules"]) == (not left, ["hardswish_to_relu"])
    assert list(folder.iterdir()) == []


def test_recipes_of_the_checkout_are_known_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "recipes").mkdir()
    asked = []
    monkeypatch.setattr(dry_run, "explain", lambda *arguments, root, **_: asked.append(root) or CLEAN)
    assert zoo("surgery", "x_lite", "--dry-run").exit_code == 0
    assert asked == [folder]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("x", "--target", "tidl-9.1"), "give either --dry-run, which writes nothing, or -o FOLDER"),
        (("x", "--target", "tidl-9.1", "--dry-run", "-o", "out"), "give either --dry-run"),
        (("x", "--target", "tidl-9.1", "-o", "file"), "file: is a file; name a folder"),
        (("x", "--target", "tidl-9.1", "-o", "no/where"), "there is no folder no; make it"),
        (("x", "--target", "tidl-9.1", "--dry-run"), "x: no recipe of that name, and no library/model"),
        (("torch/x", "--target", "tidl-9.1", "--dry-run"), "unknown source library 'torch'"),
        (("torchvision/resnet81", "--target", "tidl-9.1", "--dry-run"), "torchvision has no model 'resnet81'"),
        (("torchvision/ ", "--target", "tidl-9.1", "--dry-run"), "torchvision has no model ' '"),
        (("torchvision/../x", "--target", "tidl-9.1", "--dry-run"), "torchvision has no model '../x'"),
        (("torchvision/a\nb", "--target", "tidl-9.1", "--dry-run"), "torchvision has no model 'a"),
        (("timm/hf_hub:evil/x", "--target", "tidl-9.1", "--dry-run"), "timm has no model 'hf_hub:evil/x'"),
        (("mmyolo/../../../etc/passwd", "--target", "tidl-9.1", "--dry-run"), "mmyolo has no model '../../../etc/"),
        (("torchvision/r3d_18", "--target", "tidl-9.1", "--dry-run"), "a model for video classification, which no"),
        (("torchvision/raft_small", "--target", "tidl-9.1", "--dry-run"), "a model for optical flow, which no task"),
        (
            ("torchvision/fasterrcnn_resnet50_fpn", "--target", "tidl-9.1", "--dry-run"),
            "for detection of listed images, which no task covers; known: classification, detection, segmentation",
        ),
        (("torchvision/resnet18", "--dry-run"), "a target has to be named; add --target"),
        (("torchvision/resnet18", "--target", "tidl-9,1", "--dry-run"), "did you mean 'tidl-9.1'?"),
    ],
)
def test_bad_input_exits_2(folder: Path, arguments: tuple[str, ...], message: str) -> None:
    (folder / "file").touch()
    done = zoo("surgery", *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr
    if done.stderr.startswith("zoo: "):
        assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_the_plan_that_is_written_makes_the_lite_model(folder: Path) -> None:
    done = zoo("surgery", "torchvision/resnet18", "--target", "tidl-9.1", "--size", "32", "-o", "made")
    assert done.exit_code == 0, done.output
    assert sorted(file.name for file in (folder / "made").iterdir()) == ["explanation.json", "plan.json", "report.json"]
    explanation = json.loads((folder / "made" / "explanation.json").read_bytes())
    (choice,) = explanation["choices"]
    assert choice["sites"] == ["conv1"]  # 7x7 with a stride of 2
    plan = Plan.from_json(json.loads((folder / "made" / "plan.json").read_bytes()))
    source = torchvision.build("resnet18", num_classes=1000).eval()
    lite = surgery.replay(source, plan)
    assert {edit.rule for edit in plan.edits} >= {choice["rule"]}
    assert lite(torch.zeros(1, 3, 32, 32)).shape == (1, 1000)
    assert surgery.fingerprint(lite) != surgery.fingerprint(source)
