"""Recipes and configs: what is accepted, and every kind of bad input with its file, line, path, fact and cure."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from small_checkout import (
    DATASET,
    PROFILE,
    PROFILE_TEXT,
    RECIPE,
    RECIPE_TEXT,
    SCHEDULE,
    SCHEDULE_TEXT,
    TARGET,
    TEXTS,
    write,
)

from zoo import sources
from zoo.errors import InvalidInput, MissingLibrary
from zoo.reading import library, registry, schema, strict_yaml
from zoo.sources import torchvision

ROOT = Path(__file__).parent.parent
NAME_CURE = "a name is letters, digits, '.', '_' and '-', and begins with a letter or digit"
SYNTAX_CURE = "check the indentation, the colons and the quotes of this line and the one before"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return write(tmp_path, TEXTS)


def complaints(root: Path) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        library.load(root)
    return [str(problem) for problem in caught.value.problems]


def edited(file: str, old: str, new: str) -> dict[str, str | bytes]:
    assert TEXTS[file].count(old) == 1
    return {file: TEXTS[file].replace(old, new)}


def test_a_good_checkout_loads(checkout: Path) -> None:
    loaded = library.load(checkout)
    assert loaded.recipes["mobilenet_v2_lite"].train.epochs == 3
    assert loaded.recipes["mobilenet_v2_lite"].surgery.rules == "default"
    assert loaded.files["mobilenet_v2_lite"] == checkout / RECIPE
    assert loaded.profiles["demo"].tasks["classification"].dataset == "digits"
    assert loaded.schedules["short"].optimizer.lr == 0.1
    assert loaded.datasets["digits"].parameters == {"train": 10}
    assert loaded.targets["chip"].opset.export == 18
    assert [limit.kind for limit in loaded.targets["chip"].operators["Conv"].limits] == ["allowed_windows"]


def test_the_projects_own_files_load() -> None:
    loaded = library.load(ROOT)
    assert {"mobilenet_v2_lite", "mobilenet_v3_small_lite", "mobilenet_v3_large_lite"} <= set(loaded.recipes)
    assert {"efficientnet_b0_lite", "efficientnet_b1_lite", "resnet50"} <= set(loaded.recipes)
    assert loaded.recipes["resnet50"].surgery.expect == "no_edits"
    assert loaded.profiles["demo"].starter == ("mobilenet_v2_lite", "mobilenetv3_small_100_lite", "yolov8_n_lite")
    assert loaded.profiles["full"].weights == "published"


def test_loading_imports_no_framework() -> None:
    code = (
        "import sys, pathlib; from zoo.reading import library; library.load(pathlib.Path('.')); "
        "sys.exit(', '.join({'torch', 'torchvision', 'numpy', 'mmengine', 'onnx'} & set(sys.modules)) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


# One kind of bad value in a recipe: what stands there, what to put instead, the complaint.
BAD_VALUES = [
    ("train:", "train:\n  shedule: x", ":9: train.shedule: unknown field; did you mean 'schedule'?"),
    ("target: chip\n", "", ":1: target: required field is missing; add 'target: ...'"),
    ("  model: mobilenet_v2\n", "", ":2: source.model: required field is missing; add 'model: ...'"),
    ("  model: mobilenet_v2\n", "  model:\n", ":4: source.model: required field is missing; add 'model: ...'"),
    ("  model:", "  config:", ":4: source.config: a source of torchvision has no such field; write 'model: ...'"),
    (
        "  weights: IMAGENET1K_V2",
        "  checkpoint: mine.pth",
        ":5: source.checkpoint: a source of torchvision has no such field; remove the field",
    ),
    (
        "  weights:",
        "  anchors: [[[1, 2]]]\n  weights:",
        ":5: source.anchors: a source of torchvision has no such field; remove the field",
    ),
    (
        "  epochs: 3",
        "  epochs: 3\nexport:\n  nms: true",
        ":11: export.nms: is for detection, not classification; remove it",
    ),
    ("epochs: 3", "epochs: '8'", ":9: train.epochs: should be a whole number, not '8'; remove the quotes"),
    ("epochs: 3", "epochs: 8.5", ":9: train.epochs: should be a whole number, not 8.5"),
    ("epochs: 3", "epochs: 0", ":9: train.epochs: should be greater than 0, not 0"),
    ("epochs: 3", "teacher: 1", ":9: train.teacher: should be true or false, not 1"),
    ("train:\n  epochs: 3", "train:", ":8: train: should be a mapping, not empty; remove the field or give it a value"),
    ("train:\n  epochs: 3", "train: 3", ":8: train: should be a mapping, not 3"),
    ("description: d", "description: 5", ':1: description: should be text, not 5; write "5"'),
    ("description: d", "description: [a]", ":1: description: should be text, not a list of 1"),
    ("  epochs: 3", "  schedule: ../x", f":9: train.schedule: '../x' is not a name; {NAME_CURE}"),
    ("target: chip", "target: a/b", f":7: target: 'a/b' is not a name; {NAME_CURE}"),
    ("target: chip", "target: a..b", f":7: target: 'a..b' is not a name; {NAME_CURE}"),
    ("target: chip", "target: chip\nleft: {Softmax: ' '}", ":8: left.Softmax: has no text; write some"),
    (
        "target: chip",
        "target: chip\nleft: {'*': slow}",
        ":8: left.*: would leave whatever the target refuses; name an operator or layers",
    ),
    ("target: chip", 'target: "a\\nb"', f":7: target: 'a\\nb' is not a name; {NAME_CURE}"),
    # names that do not exist
    ("target: chip", "target: chp", ":7: target: unknown target 'chp'; did you mean 'chip'?"),
    ("target: chip", "target: other", ":7: target: unknown target 'other'; known: chip"),
    ("  epochs: 3", "  schedule: shart", ":9: train.schedule: unknown schedule 'shart'; did you mean 'short'?"),
    (
        "task: classification",
        "task: clasification",
        ":6: task: unknown task 'clasification'; did you mean 'classification'?",
    ),
    (
        "model: mobilenet_v2",
        "model: mobilnet_v2",
        ":4: source.model: unknown torchvision model 'mobilnet_v2'; did you mean 'mobilenet_v2'?",
    ),
    (
        "IMAGENET1K_V2",
        "IMAGENET1K_V3",
        ":5: source.weights: torchvision/mobilenet_v2 has no weights 'IMAGENET1K_V3'; did you mean 'IMAGENET1K_V2'?",
    ),
    (
        "IMAGENET1K_V2",
        "DEFAULT",
        ":5: source.weights: torchvision/mobilenet_v2 has no weights 'DEFAULT'; known: IMAGENET1K_V1, IMAGENET1K_V2",
    ),
    (
        "model: mobilenet_v2\n  weights: IMAGENET1K_V2",
        "model: fcn_resnet50",
        ":5: task: torchvision/fcn_resnet50 is a model for segmentation, not classification; change task or model",
    ),
    # surgery
    (
        "train:\n  epochs: 3",
        "surgery:\n  rules: [silu_to_relu, silu_to_rely]",
        ":9: surgery.rules[1]: unknown rule 'silu_to_rely'; did you mean 'silu_to_relu'?",
    ),
    (
        "train:\n  epochs: 3",
        "surgery:\n  rules: silu_to_relu",
        ":9: surgery.rules: should be 'auto', 'default' or 'none' or a list, not 'silu_to_relu'; write [silu_to_relu]",
    ),
    (
        "train:\n  epochs: 3",
        "surgery:\n  rules: defalt",
        ":9: surgery.rules: should be 'auto', 'default' or 'none' or a list, not 'defalt'; did you mean 'default'?",
    ),
    ("train:\n  epochs: 3", "surgery:\n  rules: [1]", ':9: surgery.rules[0]: should be text, not 1; write "1"'),
    (
        "train:\n  epochs: 3",
        "surgery:\n  rules: []",
        ":9: surgery.rules: should be 'auto', 'default' or 'none' or a longer list, not a list of 0",
    ),
    (
        "train:\n  epochs: 3",
        "surgery:\n  expect: no_edit",
        ":9: surgery.expect: should be 'edits' or 'no_edits', not 'no_edit'; did you mean 'no_edits'?",
    ),
    (
        "train:\n  epochs: 3",
        "surgery:\n  expect: no_edits",
        ":9: surgery.expect: expects no edits, so it is not lite, but is called 'mobilenet_v2_lite'; "
        "rename the file without '_lite', or expect edits",
    ),
    # values that YAML 1.1 and 1.2 read differently, or that are no values
    ("epochs: 3", "lr: 4e-5", ":9: train.lr: YAML reads 4e-5 as text, not as a number; write 4.0e-5"),
    ("epochs: 3", "lr: 1E3", ":9: train.lr: YAML reads 1E3 as text, not as a number; write 1.0e+3"),
    ("epochs: 3", "teacher: no", ':9: train.teacher: YAML reads no as false; write false, or "no" if text is meant'),
    (
        "train:\n  epochs: 3",
        "surgery:\n  rules: [off]",
        ':9: surgery.rules[0]: YAML reads off as false; write false, or "off" if text is meant',
    ),
    (
        "epochs: 3",
        "epochs: 010",
        ":9: train.epochs: versions of YAML read 010 differently; write a decimal number without leading zeros, colons "
        'or underscores, or "010" if text is meant',
    ),
    (
        "description: d",
        "description: 2026-01-31",
        ':1: description: YAML reads 2026-01-31 as a date; write "2026-01-31"',
    ),
    ("epochs: 3", "lr: .inf", ":9: train.lr: .inf is not a finite number; write a finite one"),
    ("epochs: 3", "lr: 1.0e+999", ":9: train.lr: 1.0e+999 is not a finite number; write a finite one"),
    ("epochs: 3", "epochs: " + "9" * 5000, ":9: train.epochs: the number is too large; use at most 18 digits"),
    # YAML that is refused
    ("target: chip", "target: chip\ntarget: chip", ":8: target: duplicate key, first on line 7; remove one"),
    ("epochs: 3", "epochs: 3\n  epochs: 4", ":10: train.epochs: duplicate key, first on line 9; remove one"),
    (
        "description: d",
        "description: !!python/object/apply:os.system [id]",
        ":1: description: tag !!python/object/apply:os.system is not supported; remove it",
    ),
    ("description: d", "description: !!str d", ":1: description: tag !!str is not supported; remove it"),
    ("target: chip", "target: &a chip", ":7: target: anchors and aliases are not supported; repeat the value"),
    ("target: chip", "target: *a", ":7: target: anchors and aliases are not supported; repeat the value"),
    ("train:\n", "<<: {a: b}\ntrain:\n", ":8: merge keys are not supported; write the fields out"),
    ("train:\n", "1: 2\ntrain:\n", ":8: a key that is 1, not text; write a name"),
    ("train:\n", "? [a]\n: b\ntrain:\n", ":8: a key that is a mapping or list; write a name"),
    ("train:\n", "---\ntrain:\n", ":8: a second document; one file holds one document: remove the '---'"),
    ("description: d", "description: d\u202e", ":1: control character U+202E; remove it"),
    ("target: chip", "target: chip\x07", ":7: control character U+0007; remove it"),
    ("description: d", 'description: "\\e[2J"', ":1: description: \\x1b[2J: control character; remove it"),
    (
        "  epochs: 3",
        "\tepochs: 3",
        ":9: not YAML: found character that cannot start any token; indent with spaces, not tabs",
    ),
    (
        "description: d",
        "description: a: b",
        f":1: not YAML: mapping values are not allowed in this context; {SYNTAX_CURE}",
    ),
    ("epochs: 3", "lr: " + "[" * 10000, ":9: nested more than 20 levels deep; flatten it"),
]


@pytest.mark.parametrize(("old", "new", "complaint"), BAD_VALUES, ids=[case[2][:60] for case in BAD_VALUES])
def test_a_bad_value_in_a_recipe(checkout: Path, old: str, new: str, complaint: str) -> None:
    assert complaints(write(checkout, edited(RECIPE, old, new))) == [RECIPE + complaint]


BAD_CONFIGS = [
    (
        PROFILE,
        "dataset: digits",
        "dataset: digts",
        ":6: tasks.classification.dataset: unknown dataset 'digts'; did you mean 'digits'?",
    ),
    (
        PROFILE,
        "    baseline: short",
        "    baseline: x",
        ":7: tasks.classification.baseline: unknown schedule 'x'; known: short",
    ),
    (PROFILE, "    train: short\n", "", ":5: tasks.classification.train: required field is missing; add 'train: ...'"),
    (
        PROFILE,
        "    baseline: short\n",
        "",
        ":5: tasks.classification.baseline: required field is missing: sources are trained from scratch; "
        "add the schedule that trains them",
    ),
    (
        PROFILE,
        "weights: scratch",
        "weights: published",
        ":7: tasks.classification.baseline: a schedule for sources that come with published weights; "
        "remove it, or set weights: scratch",
    ),
    (
        PROFILE,
        "[mobilenet_v2_lite]",
        "[mobilenet_v2_lite, mobilenet_v2]",
        ":3: starter[1]: unknown recipe 'mobilenet_v2'; did you mean 'mobilenet_v2_lite'?",
    ),
    (
        PROFILE,
        "  surgery: 5",
        "  surgeri: 5",
        ":11: timeout_minutes.surgeri: unknown step 'surgeri'; did you mean 'surgery'?",
    ),
    (
        DATASET,
        "digit_scenes",
        "digit_scene",
        ":4: generator: unknown generator 'digit_scene'; did you mean 'digit_scenes'?",
    ),
    (
        DATASET,
        "  train: 10",
        "  trian: 10",
        ":6: parameters.trian: digit_scenes has no parameter 'trian'; did you mean 'train'?",
    ),
    (DATASET, "  train: 10", "  train: ten", ":6: parameters.train: should be a whole number or a number, not 'ten'"),
    (DATASET, "mean: [0.5, 0.5, 0.5]", "mean: [0.5, 0.5]", ":8: mean: item 3 is missing; add it"),
    (
        DATASET,
        "licence: none",
        "licence: none\nroot: /x",
        ":11: root: both generator and root are given; keep one of them",
    ),
    (
        DATASET,
        "generator: digit_scenes\nparameters:\n  train: 10\n",
        "",
        ":1: root: neither generator nor root is given; add the dataset's folder as 'root: ...'",
    ),
    (
        DATASET,
        "generator: digit_scenes",
        "root: /x",
        ":5: parameters: parameters without a generator; remove them",
    ),
    (SCHEDULE, "lr: 0.1", "lr: -0.1", ":5: optimizer.lr: should be greater than 0, not -0.1"),
    (SCHEDULE, "lr: 0.1", "lr: 0.1\n  typ: SGD", ":6: optimizer.typ: unknown field; did you mean 'type'?"),
    (TARGET, "export: 18", "export: 10", ":3: opset.export: should be greater than or equal to 11, not 10"),
    (TARGET, "export: 18", "export: 24", ":3: opset.export: should be less than or equal to 23, not 24"),
    (DATASET, "std: [0.5, 0.5, 0.5]", "std: [0.5, 0, 0.5]", ":9: std[1]: should be greater than 0, not 0"),
    (DATASET, "train: 10", "size: 0", ":6: parameters.size: should be a whole number, 1 or more, not 0"),
    (DATASET, "train: 10", "size: 32.5", ":6: parameters.size: should be a whole number, 1 or more, not 32.5"),
    (DATASET, "train: 10", "strokes: -1", ":6: parameters.strokes: should be a whole number, 0 or more, not -1"),
    (
        SCHEDULE,
        "lr: 0.1",
        "lr: 0.1\n  momentum: 0\n  nesterov: true",
        ":7: optimizer.nesterov: nesterov without momentum; set momentum above 0, or remove nesterov",
    ),
    (
        PROFILE,
        "    input_size: 32\n",
        "",
        ":5: tasks.classification.input_size: required field is missing: sources are trained from scratch; "
        "add the pixels of a side, such as 'input_size: 64'",
    ),
]


@pytest.mark.parametrize(("file", "old", "new", "complaint"), BAD_CONFIGS, ids=[case[3][:60] for case in BAD_CONFIGS])
def test_a_bad_value_in_a_config(checkout: Path, file: str, old: str, new: str, complaint: str) -> None:
    assert complaints(write(checkout, edited(file, old, new))) == [file + complaint]


def test_rules_are_not_named_where_no_edits_are_expected(checkout: Path) -> None:
    (checkout / RECIPE).unlink()
    file = "recipes/torchvision/mobilenet_v2.yaml"
    text = RECIPE_TEXT + "surgery:\n  expect: no_edits\n  rules: [silu_to_relu]\n"
    found = complaints(write(checkout, {file: text, PROFILE: PROFILE_TEXT.replace("v2_lite", "v2")}))
    assert found == [file + ":12: surgery.rules: rules are named where no edits are expected; remove them"]


def test_edits_are_not_expected_of_no_rules(checkout: Path) -> None:
    found = complaints(write(checkout, {RECIPE: RECIPE_TEXT + "surgery:\n  rules: none\n"}))
    assert found == [RECIPE + ":11: surgery.rules: no rules are applied, but edits are expected; set expect: no_edits"]


BAD_FILES: list[tuple[dict[str, str | bytes], list[str]]] = [
    ({RECIPE: b"description: \xff"}, [RECIPE + ":1: not UTF-8; save the file as UTF-8"]),
    ({RECIPE: "# x\n" * 20000}, [RECIPE + ":1: larger than 64 KiB; recipes and configs are short"]),
    ({RECIPE: ""}, [RECIPE + ":1: the file is not a mapping; write 'field: value' lines"]),
    ({RECIPE: "- a\n"}, [RECIPE + ":1: the file is not a mapping; write 'field: value' lines"]),
    (
        {"recipes/torchvision/mobilenet_v2.yaml": RECIPE_TEXT},
        [
            "recipes/torchvision/mobilenet_v2.yaml:1: surgery.expect: expects edits, but the name 'mobilenet_v2' does "
            "not end in '_lite'; rename it to mobilenet_v2_lite or set expect: no_edits"
        ],
    ),
    (
        {"recipes/timm/x_lite.yaml": RECIPE_TEXT},
        [
            "recipes/timm/x_lite.yaml:3: source.library: 'torchvision' in folder 'timm'; "
            "move the file to recipes/torchvision/"
        ],
    ),
    (
        {"recipes/torch/x_lite.yaml": RECIPE_TEXT.replace("library: torchvision", "library: torch")},
        ["recipes/torch/x_lite.yaml:3: source.library: unknown source library 'torch'; did you mean 'torchvision'?"],
    ),
    (
        {"recipes/timm/mobilenet_v2_lite.yaml": RECIPE_TEXT},
        [
            "recipes/torchvision/mobilenet_v2_lite.yaml:1: the name 'mobilenet_v2_lite' is taken by "
            "recipes/timm/mobilenet_v2_lite.yaml; rename one of them",
            "recipes/timm/mobilenet_v2_lite.yaml:3: source.library: 'torchvision' in folder 'timm'; "
            "move the file to recipes/torchvision/",
        ],
    ),
    (
        {"recipes/torchvision/Mobilenet_V2_lite.yaml": RECIPE_TEXT},
        [
            "recipes/torchvision/mobilenet_v2_lite.yaml:1: the name 'mobilenet_v2_lite' is taken by "
            "recipes/torchvision/Mobilenet_V2_lite.yaml; rename one of them"
        ],
    ),
    (
        {"recipes/torchvision/a\x07..b_lite.yaml": RECIPE_TEXT},
        [f"recipes/torchvision/a\\x07..b_lite.yaml:1: 'a\\x07..b_lite' is not a name; rename the file: {NAME_CURE}"],
    ),
    (
        {"recipes/torchvision/data.yaml": RECIPE_TEXT + "surgery: {expect: no_edits}\n"},
        ["recipes/torchvision/data.yaml:1: the name 'data' is reserved; rename the file"],
    ),
    (
        {"recipes/x_lite.yaml": RECIPE_TEXT},
        [
            "recipes/x_lite.yaml:1: directly in recipes/; move it into a source library's folder, such as "
            "recipes/torchvision/"
        ],
    ),
    (
        {"recipes/torchvision/x_lite.yml": RECIPE_TEXT},
        ["recipes/torchvision/x_lite.yml:1: ends in .yml, which is not read; rename it to .yaml"],
    ),
    (
        {"recipes/torchvision/more/x_lite.yaml": RECIPE_TEXT},
        ["recipes/torchvision/more:1: a folder inside a folder of files; move its files up and remove it"],
    ),
    (
        {"configs/schedule/x.yaml": SCHEDULE_TEXT},
        ["configs/schedule:1: unknown kind of config; did you mean 'schedules'?"],
    ),
    (
        {"configs/profiles/other.yaml": "description: d\nweights: scratch\ntasks: {}\n"},
        [RECIPE + ":6: task: profile 'other' has no task 'classification'; add it to configs/profiles/other.yaml"],
    ),
    (
        {
            RECIPE: RECIPE_TEXT.replace("  weights: IMAGENET1K_V2\n", ""),
            PROFILE: PROFILE_TEXT.replace("scratch", "published").replace("    baseline: short\n", ""),
        },
        [
            RECIPE + ":2: source.weights: required field is missing: profile 'demo' uses published weights; "
            "add 'weights: IMAGENET1K_V2'"
        ],
    ),
]


@pytest.mark.parametrize(("files", "expected"), BAD_FILES, ids=[case[1][0][:70] for case in BAD_FILES])
def test_a_bad_file(checkout: Path, files: dict[str, str | bytes], expected: list[str]) -> None:
    assert sorted(complaints(write(checkout, files))) == sorted(expected)


def test_everything_wrong_is_reported_at_once_sorted_by_file_and_line(checkout: Path) -> None:
    files = edited(PROFILE, "digits", "numbers") | edited(TARGET, "opset: {max: 20, export: 18}", "opset: many")
    files[RECIPE] = RECIPE_TEXT.replace("mobilenet_v2\n", "mobilenet\n").replace("epochs", "epoch").replace("chip", "q")
    files["recipes/torchvision/broken_lite.yaml"] = "a: [\n"
    found = complaints(write(checkout, files))
    assert [line.split(": ")[0:2] for line in found] == [
        ["configs/profiles/demo.yaml:6", "tasks.classification.dataset"],
        ["configs/targets/chip.yaml:3", "opset"],
        ["recipes/torchvision/broken_lite.yaml:2", "not YAML"],
        [RECIPE + ":4", "source.model"],
        [RECIPE + ":7", "target"],
        [RECIPE + ":9", "train.epoch"],
    ]


def test_a_missing_library_keeps_no_other_recipe_from_being_built(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torchvision.catalogue.cache_clear()
    monkeypatch.setattr(torchvision, "find_spec", lambda name: None)
    assert library.load(checkout).recipes
    with pytest.raises(MissingLibrary, match=r"torchvision is not installed; pip install 'lite-zoo\[torchvision\]'"):
        torchvision.catalogue()


@pytest.mark.parametrize("absent", ["timm", "mmyolo"])
def test_the_projects_own_files_load_without_an_extra(absent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = sources.find(absent)

    def catalogue() -> None:
        raise MissingLibrary(f"{absent} is not installed")

    monkeypatch.setattr(source, "catalogue", catalogue)
    assert "mobilenet_v2_lite" in library.load(ROOT).recipes


def test_a_folder_that_is_no_checkout(tmp_path: Path) -> None:
    cure = "no such folder; run this in the checkout's root"
    assert complaints(tmp_path) == [f"configs:1: {cure}", f"recipes:1: {cure}"]


def _fifo(file: Path) -> None:
    os.mkfifo(file)


@pytest.mark.parametrize("make", [Path.mkdir, _fifo, lambda file: file.symlink_to("nowhere")])
def test_what_is_not_a_file(checkout: Path, make: Callable[[Path], None]) -> None:
    make(checkout / "recipes/torchvision/x_lite.yaml")
    assert complaints(checkout) == ["recipes/torchvision/x_lite.yaml:1: not a regular file; remove it"]


def test_an_alias_bomb_is_refused_at_once(checkout: Path) -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    found = complaints(write(checkout, {RECIPE: "\n".join(levels)}))
    assert found[0] == RECIPE + ":1: a0: anchors and aliases are not supported; repeat the value"
    assert len(found) == strict_yaml.MAX_PROBLEMS


def test_hidden_files_and_a_byte_order_mark_are_no_matter(checkout: Path) -> None:
    write(checkout, {"recipes/torchvision/.#x.yaml": "[", RECIPE: b"\xef\xbb\xbf" + RECIPE_TEXT.encode()})
    write(checkout, {SCHEDULE: SCHEDULE_TEXT.replace("\n", "\r\n"), "recipes/torchvision/README.md": "words"})
    assert library.load(checkout).schedules["short"].epochs == 1


def test_the_python_parser_agrees_where_the_c_one_is_missing(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = strict_yaml.parse(PROFILE_TEXT, PROFILE)
    monkeypatch.setattr(strict_yaml, "Loader", yaml.SafeLoader)
    assert strict_yaml.parse(PROFILE_TEXT, PROFILE) == expected
    for text in ("[" * 10000, "{a: " * 10000, "- " * 10000, "\x00", "a: !x b", "a: *b", "? "):
        with pytest.raises(InvalidInput):
            strict_yaml.parse(text, "f.yaml")


def test_plain_values_that_all_of_yaml_agrees_on() -> None:
    text = (
        "a: 1\nb: -2.5\nc: 1.0e-3\nd: true\ne: null\nf:\ng: ~\nh: x y\ni: '010'\nj: 0x1F\nk: .5\nl: |\n  two\n  lines\n"
    )
    expected = [1, -2.5, 0.001, True, None, None, None, "x y", "010", 31, 0.5, "two\nlines\n"]
    assert list(strict_yaml.parse(text, "f.yaml").data.values()) == expected


def test_names_by_folder_and_by_class() -> None:
    rules = {"relu6_to_relu", "silu_to_relu", "hardswish_to_relu", "squeeze_excite", "not_inplace", "remove_identity"}
    assert rules <= registry.rules()
    assert "torchvision" in registry.modules("zoo.sources")
    assert "digit_scenes" in registry.modules("zoo.datasets")
    assert registry.modules("zoo.nowhere") == frozenset()
    assert {"train", "val", "size", "seed"} <= set(registry.keyword_arguments("zoo.datasets.digit_scenes", "generate"))


def test_rule_names_are_those_of_the_surgery_library() -> None:
    import surgery

    assert registry.rules() == set(surgery.rules())


def test_schemas_are_current() -> None:
    written = {file.name: file.read_text(encoding="utf-8") for file in (ROOT / schema.FOLDER).iterdir()}
    assert written == schema.schemas(), "run `python -m zoo.reading.schema`"


def test_each_file_names_its_schema() -> None:
    files = [*ROOT.glob("recipes/*/*.yaml"), *ROOT.glob("configs/*/*.yaml")]
    assert len(files) >= 14
    for file in files:
        comment = file.read_text(encoding="utf-8").splitlines()[0]
        assert comment.startswith("# yaml-language-server: $schema="), file
        named = (file.parent / comment.partition("=")[2]).resolve()
        kind = "recipe" if file.parent.parent.name == "recipes" else file.parent.name.removesuffix("s")
        assert named == ROOT / schema.FOLDER / f"{kind}.schema.json", file
