"""Targets that extend one another: what a whole target holds, and every way in which it cannot be made."""

from pathlib import Path

import pytest
from small_checkout import TEXTS, write

from zoo.errors import InvalidInput, UnknownName
from zoo.reading import library
from zoo.targets.reading import names, read
from zoo.targets.target import Target

CHIP = """\
description: the chip
sources: [{title: its manual, version: "1"}]
opset: {max: 20, export: 18}
ir_version: 8
versions: {compiler: "1"}
devices:
  small: {aliases: [S]}
  large: {}
operators:
  Conv:
    limits: [{kind: rank, max: 4}]
    cost: slow
  Sin, Cos: {layer: Wave}
  Tan: {}
patterns:
  silu: {cost: slow}
unchecked: [bits]
"""
NEXT = """\
description: the next chip
extends: chip
removed: [Sin, silu, large]
sources: [{title: its next manual}, {title: its manual, version: "1"}]
opset: {max: 21, export: 18}
devices: {huge: {}}
operators:
  Conv: {limits: [{kind: rank, max: 6}]}
  Relu: {}
"""


def folder(root: Path, **targets: str) -> Path:
    """A checkout with these targets in configs/targets/."""
    return write(root, TEXTS | {f"configs/targets/{name}.yaml": text for name, text in targets.items()})


def complaints(root: Path) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        library.load(root)
    return [str(problem).removeprefix("configs/targets/") for problem in caught.value.problems]


def test_what_is_said_takes_the_place_of_what_is_extended_key_by_key(tmp_path: Path) -> None:
    targets = library.load(folder(tmp_path, chip=CHIP, next=NEXT)).targets
    chip, following = targets["chip"], targets["next"]
    assert list(chip.operators) == ["Conv", "Sin", "Cos", "Tan"]
    assert set(following.operators) == {"Conv", "Cos", "Tan", "Relu"}
    conv = following.operators["Conv"]
    assert [limit.model_dump(exclude_defaults=True) for limit in conv.limits] == [{"kind": "rank", "max": 6}]
    assert conv.cost == ""  # an operator is taken whole or not at all
    assert following.operators["Cos"].layer == "Wave"
    assert (set(following.devices), following.patterns) == ({"small", "huge"}, {})
    assert (following.opset.max, following.ir_version, following.unchecked) == (21, 8, ("bits",))
    assert following.versions == {"compiler": "1"}
    assert following.description == "the next chip"
    assert [cited.title for cited in following.sources] == ["its next manual", "its manual"]


def test_a_chain_is_followed_in_whatever_order_files_are_read(tmp_path: Path) -> None:
    first = "description: d\nsources: [{title: s}]\nextends: next\noperators: {Tan: {layer: T}}\n"
    targets = library.load(folder(tmp_path, a=first, chip=CHIP, next=NEXT)).targets
    assert targets["a"].operators == {**targets["next"].operators, "Tan": targets["a"].operators["Tan"]}
    assert targets["a"].opset.max == 21
    assert [cited.title for cited in targets["a"].sources] == ["s", "its next manual", "its manual"]


# One target more, and what is wrong with it.
WRONG = [
    (
        NEXT.replace("extends: chip", "extends: chips"),
        ["next.yaml:2: extends: unknown target 'chips'; did you mean 'chip'?"],
    ),
    (
        NEXT.replace("extends: chip", "extends: nothing"),
        ["next.yaml:2: extends: unknown target 'nothing'; known: chip"],
    ),
    (NEXT.replace("extends: chip", "extends: [chip]"), ["next.yaml:2: extends: should be text, not a list of 1"]),
    (NEXT.replace("extends: chip\n", ""), ["next.yaml:2: removed: stands beside no 'extends'; add 'extends: ...'"]),
    (NEXT.replace("[Sin,", "[Sun,"), ["next.yaml:3: removed[0]: chip has no 'Sun'; did you mean 'Sin'?"]),
    (
        NEXT.replace("[Sin, silu,", "[Sin, Conv,"),
        ["next.yaml:3: removed[1]: 'Conv' is removed and listed; keep one of them"],
    ),
    (
        NEXT.replace("  Relu: {}", "  Relu: {fast: true}"),
        ["next.yaml:9: operators.Relu.fast: unknown field; known: cost, layer, limits, note, status"],
    ),
    (
        NEXT.replace('sources: [{title: its next manual}, {title: its manual, version: "1"}]\n', "sources: []\n"),
        ["next.yaml:4: sources: should be a longer list, not a list of 0"],
    ),
    (
        NEXT.replace("huge: {}", "huge: {aliases: [S]}"),
        ["next.yaml:6: devices.huge.aliases[0]: 'S' is taken by small; remove one"],
    ),
    (
        NEXT.replace("huge: {}", "huge: {not_accelerated: [Sin], costly: {silu: slow}}"),
        [
            "next.yaml:6: devices.huge.costly.silu: the target lists no 'silu'; known: Conv, Cos, Relu, Tan",
            "next.yaml:6: devices.huge.not_accelerated[0]: the target lists no 'Sin'; known: Conv, Cos, Relu, Tan",
        ],
    ),
    (
        NEXT.replace("max: 6}", "max: 6, devices: [large]}"),
        ["next.yaml:8: operators.Conv.limits[0].devices[0]: unknown device 'large'; known: huge, small"],
    ),
    (NEXT + "patterns: {sliu: {}}\n", ["next.yaml:10: patterns.sliu: unknown pattern 'sliu'; did you mean 'silu'?"]),
    (
        NEXT.replace("Relu: {}", "Conv2D, Gemm2: {}"),
        [
            "next.yaml:9: operators.Conv2D: ONNX has no operator 'Conv2D'; did you mean 'Conv'?",
            "next.yaml:9: operators.Gemm2: ONNX has no operator 'Gemm2'; did you mean 'Gemm'?",
        ],
    ),
    (
        NEXT + "  Resize, Upsample: {limits: [{kind: attribute_in, allowed: {moed: [linear], antialias: [0]}}]}\n",
        [
            "next.yaml:10: operators.Resize.limits[0].allowed.moed: Resize or Upsample has no attribute 'moed'; "
            "did you mean 'mode'?"
        ],
    ),
    (
        NEXT + "  ScatterND: {limits: [{kind: attribute_not_in, forbidden: {q: [mul]}}]}\n",
        ["next.yaml:10: operators.ScatterND.limits[0].forbidden.q: ScatterND has no attribute 'q'; known: reduction"],
    ),
    (
        NEXT.replace("export: 18", "export: 22"),
        ["next.yaml:5: opset.export: 22, but the device reads up to 21; lower it"],
    ),
    (NEXT + "  Cos, Relu: {}\n", ["next.yaml:10: operators.Relu: listed twice, first on line 9; remove one"]),
    (NEXT + "  Exp, Log: {note: 3}\n", ['next.yaml:10: operators.Exp.note: should be text, not 3; write "3"']),
]


@pytest.mark.parametrize(("text", "expected"), WRONG, ids=[case[1][0][:70] for case in WRONG])
def test_a_wrong_target(tmp_path: Path, text: str, expected: list[str]) -> None:
    assert complaints(folder(tmp_path, chip=CHIP, next=text)) == expected


def test_a_cycle_is_told_at_each_of_its_targets(tmp_path: Path) -> None:
    root = folder(
        tmp_path, chip=CHIP + "extends: next\n", next=NEXT, outside=NEXT.replace("extends: chip", "extends: next")
    )
    assert complaints(root) == [
        "chip.yaml:18: extends: extends itself: chip -> next -> chip; remove one 'extends' of these",
        "next.yaml:2: extends: extends itself: next -> chip -> next; remove one 'extends' of these",
    ]


@pytest.mark.parametrize(
    ("chip", "complaint"),
    [
        (
            CHIP.replace("  Tan: {}", "  Tan: {limits: 3}"),
            "chip.yaml:14: operators.Tan.limits: should be a list, not 3",
        ),
        (
            CHIP.replace("{aliases: [S]}", "{costly: {Exp: slow}}"),
            "chip.yaml:7: devices.small.costly.Exp: the target lists",
        ),
        ("a: [\n", "chip.yaml:2: not YAML"),
    ],
)
def test_what_is_wrong_with_an_extended_target_is_told_once(tmp_path: Path, chip: str, complaint: str) -> None:
    (found,) = complaints(folder(tmp_path, chip=chip, next=NEXT, last=NEXT.replace("extends: chip", "extends: next")))
    assert found.startswith(complaint)


def test_one_target_is_read_by_name_or_path(tmp_path: Path) -> None:
    root = folder(tmp_path, chip=CHIP, next=NEXT)
    whole = library.load(root).targets["next"]
    assert read("next", root) == read(str(root / "configs/targets/next.yaml")) == whole
    assert {"chip", "next", "tidl-9.1"} <= set(names(root))
    assert read("tidl-9.1", root) == read("tidl-9.1")  # those that come with the package are found everywhere


def test_a_file_of_ones_own_extends_what_comes_with_the_package(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("description: d\nsources: [{title: s}]\nextends: tidl-11.2\nremoved: [Conv]\n")
    mine, theirs = read(str(file)), read("tidl-11.2")
    assert set(theirs.operators) - set(mine.operators) == {"Conv"}
    assert isinstance(mine, Target)


def test_a_target_that_cannot_be_read(tmp_path: Path) -> None:
    root = folder(tmp_path, chip=CHIP, next=NEXT.replace("[Sin,", "[Sun,"))
    with pytest.raises(UnknownName, match=r"target chop: there is none of that name; did you mean 'chip'\?"):
        read("chop", root)
    with pytest.raises(UnknownName, match=r"target a/b\.yaml: no such file"):
        read("a/b.yaml", root)
    with pytest.raises(InvalidInput, match=r"next\.yaml:3: removed\[0\]: chip has no 'Sun'; did you mean 'Sin'"):
        read("next", root)


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ("device: medium", ":10: device: chip has no device 'medium'; known: S, large, small"),
        ("device: LARGE", ":10: device: chip has no device 'LARGE'; did you mean 'large'?"),
        (
            "export: {opset: 21}",
            ":10: export.opset: 21, but chip reads up to 20; write 20 or less, or remove the field",
        ),
    ],
)
def test_a_recipe_that_asks_what_its_target_does_not_have(tmp_path: Path, more: str, complaint: str) -> None:
    root = folder(tmp_path, chip=CHIP)
    file = root / "recipes/torchvision/mobilenet_v2_lite.yaml"
    text = file.read_text()
    file.write_text(text + "device: S\nexport: {opset: 20}\n")
    assert library.load(root).recipes["mobilenet_v2_lite"].device == "S"
    file.write_text(text + more + "\n")
    assert complaints(root) == [f"recipes/torchvision/mobilenet_v2_lite.yaml{complaint}"]


def test_a_file_anywhere_is_named_by_its_whole_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("description: [\n")
    with pytest.raises(InvalidInput) as caught:
        read(str(file))
    assert [problem.file for problem in caught.value.problems] == [str(file)]
