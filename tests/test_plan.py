"""The plan: what enters a step's key, and what does not."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import TARGET, Checkout

from zoo import plan
from zoo.building import code_version, cores
from zoo.config import Dataset
from zoo.errors import UnknownName
from zoo.plan import STEPS
from zoo.reading import library
from zoo.steps.surgery import EXPLANATION

NAME = "mobilenet_v2_lite"


def settings(checkout: Checkout) -> dict[str, str]:
    """Every step's settings as text."""
    model = plan.model(library.load(checkout.root), NAME, "demo")
    found = {step: json.dumps(row.settings(model), sort_keys=True) for step, row in STEPS.items()}
    return found | {"data": json.dumps(plan.data_settings("digits", model.dataset), sort_keys=True)}


def changed(checkout: Checkout, *edit: str) -> set[str]:
    """The steps whose settings an edit changes."""
    before = settings(checkout)
    checkout.edit(*edit)
    after = settings(checkout)
    return {step for step in before if before[step] != after[step]}


RECIPE = f"recipes/torchvision/{NAME}.yaml"


@pytest.mark.parametrize(
    ("edit", "steps"),
    [
        (("configs/schedules/finetune.yaml", "lr: 0.01", "lr: 0.02"), {"train"}),
        (("configs/schedules/finetune.yaml", "description: short", "description: long"), set()),
        (("configs/schedules/finetune.yaml", "epochs: 1", "epochs: 2"), {"train"}),
        (("configs/schedules/finetune.yaml", "batch_size: 8", "batch_size: 4"), {"train", "surgery"}),
        (("configs/schedules/finetune.yaml", "epochs: 1", "epochs: 1\nreconstruction_steps: 5"), {"surgery"}),
        (("configs/schedules/scratch.yaml", "epochs: 2", "epochs: 3"), {"baseline"}),
        (("configs/datasets/digits.yaml", "description: nothing", "description: digits"), set()),
        (("configs/datasets/digits.yaml", "licence: none", "licence: CC0"), {"release"}),
        (("configs/datasets/digits.yaml", "num_classes: 10", "num_classes: 9"), {"data", "baseline"}),
        (("configs/targets/device.yaml", "description: any device", "description: one"), set()),
        (("configs/targets/device.yaml", "export: 18", "export: 19"), {"check", "export", "release"}),
        (("configs/targets/device.yaml", "kernel_max: 7", "kernel_max: 5"), {"check", "release"}),
        (("configs/targets/device.yaml", "title: nowhere", "title: somewhere"), set()),
        (("configs/targets/device.yaml", "operators:", "ir_version: 9\noperators:"), {"check", "export", "release"}),
        ((RECIPE, "description: a model", "description: the model"), {"release"}),
        ((RECIPE, "task: class", "train: {lr: 0.5}\ntask: class"), {"train", "release"}),
        ((RECIPE, "task: class", "train: {teacher: false}\ntask: class"), {"train", "release"}),
        ((RECIPE, "task: class", "export: {dynamic_batch: true}\ntask: class"), {"check", "export", "release"}),
        ((RECIPE, "task: class", "accept: {lost_at_most: 0.02, at_least: {demo: 0.8}}\ntask: class"), {"release"}),
        ((RECIPE, "task: class", "surgery: {warm_start: {gates: false}}\ntask: class"), {"surgery", "release"}),
        (
            (RECIPE, "task: class", "surgery: {warm_start: {reconstruction_steps: 5}}\ntask: class"),
            {"surgery", "release"},
        ),
        ((RECIPE, "task: class", "left: {Softmax: it is small}\ntask: class"), {"check", "release"}),
        ((RECIPE, "task: class", "# a comment\ntask: class"), set()),
    ],
)
def test_an_edit_changes_the_settings_of_the_steps_it_is_for(
    checkout: Checkout, edit: tuple[str, str, str], steps: set[str]
) -> None:
    assert changed(checkout, *edit) == steps


def test_another_target_makes_releases_say_more_and_trains_nothing(checkout: Checkout) -> None:
    before = settings(checkout)
    (checkout.root / "configs/targets/other.yaml").write_text(TARGET)
    after = settings(checkout)
    assert {step for step in before if before[step] != after[step]} == {"release"}


def test_surgery_sees_the_target_where_that_chooses_the_rules(checkout: Checkout) -> None:
    place = "configs/targets/device.yaml"
    assert "surgery" not in changed(checkout, place, "kernel_max: 7", "kernel_max: 6")
    assert "surgery" in changed(checkout, RECIPE, "task: class", "surgery: auto\ntask: class")
    assert "surgery" in changed(checkout, place, "kernel_max: 6", "kernel_max: 5")


@pytest.mark.parametrize("file", [EXPLANATION, "metrics.json", "report.json", "curve.jsonl"])
def test_what_steps_tell_trains_nothing_and_is_released(file: str) -> None:
    """Why rules were chosen, and how long a step took: the same weights are not trained again for that."""
    assert {name for name, step in plan.STEPS.items() if file not in step.passes_over} == {"release"}


def test_another_checkpoint_in_the_same_place_is_seen(tmp_path: Path) -> None:
    """Where the profile uses it; elsewhere it does not matter what is there."""
    declared = library.load(Path(__file__).parents[1])
    row = plan.model(declared, "yolox_nano_lite", "full")
    source = row.recipe.source.model_copy(update={"checkpoint": str(tmp_path / "mine.pth")})

    def seen(profile: str) -> object:
        recipe = row.recipe.model_copy(update={"source": source})
        return STEPS["baseline"].settings(plan.Model(row.name, recipe, profile, declared))

    missing, elsewhere = seen("full"), seen("demo")
    (tmp_path / "mine.pth").write_bytes(b"one")
    first = seen("full")
    assert seen("full") == first != missing
    (tmp_path / "mine.pth").write_bytes(b"other")
    assert seen("full") != first
    assert seen("demo") == elsewhere


def test_the_schedules_that_a_profile_has_for_one_model(checkout: Checkout) -> None:
    place = "configs/profiles/demo.yaml"
    assert changed(checkout, place, "weights:", f"models: {{{NAME}: {{baseline: finetune}}}}\nweights:") == {
        *("baseline", "release"),
    }
    assert changed(checkout, place, "baseline: finetune", "train: scratch") == {"baseline", "train", "release"}


def test_a_recipe_overrides_its_schedule(checkout: Checkout) -> None:
    checkout.edit(RECIPE, "task: class", "train: {schedule: scratch, epochs: 7, lr: 0.5}\ntask: class")
    schedule = plan.model(library.load(checkout.root), NAME, "demo").schedule
    assert (schedule.epochs, schedule.optimizer.lr, schedule.batch_size) == (7, 0.5, 8)


def test_steps_read_only_what_is_done_before_them() -> None:
    done = {"data"}
    for step, row in STEPS.items():
        assert set(row.after) <= done
        assert set(row.reads) <= done
        done.add(step)


def test_timeouts_come_from_the_profile(checkout: Checkout) -> None:
    declared = library.load(checkout.root)
    assert plan.timeout_minutes(declared, "demo", "train") == plan.TIMEOUT_MINUTES
    checkout.edit("configs/profiles/demo.yaml", "weights:", "timeout_minutes: {default: 3, train: 5}\nweights:")
    declared = library.load(checkout.root)
    assert [plan.timeout_minutes(declared, "demo", step) for step in ("train", "check")] == [5, 3]


def test_an_unknown_profile_is_refused_with_the_near_one(checkout: Checkout) -> None:
    with pytest.raises(UnknownName, match="did you mean 'demo'"):
        plan.check_profile(library.load(checkout.root), "dmo")


MODULES = {
    "zoo/__init__.py": "from zoo import consumer",
    "zoo/consumer.py": "import torch",
    "zoo/errors.py": "class ZooError(Exception): pass",
    "zoo/steps/train.py": "from zoo import sources\nfrom zoo.errors import ZooError\nfrom ..loop import run\n"
    "from zoo.schedule import Schedule\n",
    "zoo/schedule.py": "class Schedule: pass",
    "zoo/loop.py": "def run():\n    '''run'''\n    import mmengine.runner, PIL.Image\n    from surgery import lite",
    "zoo/sources/__init__.py": "import importlib",
    "zoo/sources/torchvision.py": "def build():\n    import torchvision",
    "zoo/sources/timm.py": "import timm",
    "zoo/unused.py": "import onnx",
    "surgery/__init__.py": "from torch import nn",
    "surgery/rules/activation.py": "x = 1",
}


@pytest.fixture
def version(tmp_path: Path) -> Callable[[], code_version.Version]:
    """The version of a small tree's train step."""
    for name, text in MODULES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    def of_train() -> code_version.Version:
        return code_version.Tree((tmp_path,)).version("zoo.steps.train", (("zoo.sources", "torchvision"),))

    return of_train


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("zoo/loop.py", "def run():  # now\n\n    '''Other words.'''\n    import mmengine.runner, PIL.Image\n"
        "    from surgery import lite"),
        ("zoo/errors.py", "class ZooError(Exception): x = 1"),
        ("zoo/schedule.py", "class Schedule: x = 1"),
        ("zoo/__init__.py", "x = 1"),
        ("zoo/consumer.py", "x = 1"),
        ("zoo/unused.py", "x = 1"),
        ("zoo/sources/timm.py", "x = 1"),
    ],
)  # fmt: skip
def test_what_does_not_change_the_code(
    tmp_path: Path, version: Callable[[], code_version.Version], file: str, text: str
) -> None:
    before = version()
    (tmp_path / file).write_text(text)
    assert version() == before


@pytest.mark.parametrize(
    "file",
    [
        "zoo/steps/train.py",
        "zoo/loop.py",
        "zoo/sources/__init__.py",
        "zoo/sources/torchvision.py",
        "surgery/__init__.py",
        "surgery/rules/activation.py",
    ],
)
def test_what_changes_the_code(tmp_path: Path, version: Callable[[], code_version.Version], file: str) -> None:
    before = version()
    (tmp_path / file).write_text(MODULES[file] + "\ny = 2\n")
    assert version().code != before.code


def test_what_is_found_by_folder_changes_the_code_of_what_finds_it(tmp_path: Path) -> None:
    files = {
        "zoo/steps/check.py": "from zoo.linting import recognising",
        "zoo/linting/recognising.py": "",
        "zoo/linting/patterns/silu.py": "x = 1",
        "zoo/linting/formats/table.py": "x = 1",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    def code() -> str:
        return code_version.Tree((tmp_path,)).version("zoo.steps.check").code

    before = code()
    (tmp_path / "zoo/linting/formats/table.py").write_text("x = 2")
    assert code() == before
    (tmp_path / "zoo/linting/patterns/silu.py").write_text("x = 2")
    changed = code()
    (tmp_path / "zoo/linting/patterns/gelu.py").write_text("x = 1")
    assert len({before, changed, code()}) == 3


def test_modules_that_find_others_and_their_folders_are_there() -> None:
    root = Path(code_version.__file__).parents[2]
    for module, folder in code_version.FINDS.items():
        assert len(list((root / folder).glob("*.py"))) > 3
        path = root / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def test_memory_spares_reading_and_never_lies(tmp_path: Path, version: Callable[[], code_version.Version]) -> None:
    memory = tmp_path / "code.json"
    used = (("zoo.sources", "torchvision"),)

    def remembered() -> str:
        tree = code_version.Tree((tmp_path,), memory=memory)
        found = tree.version("zoo.steps.train", used).code
        tree.remember()
        return found

    first = version().code
    assert [remembered(), remembered()] == [first, first]
    assert len(json.loads(memory.read_text())) > 3
    (tmp_path / "zoo/steps/train.py").write_text("from zoo import sources\nCHANGED = 1\n")
    assert remembered() == version().code != first
    whole = memory.read_text()
    for digest in ("null", "3", '"\\ud800"'):
        memory.write_text(re.sub(r'"[0-9a-f]{64}"', lambda _, d=digest: d, whole))
        assert remembered() == version().code
    for damage in ('{"x": ["y", [[3]]]}', "", "[]", "{", '{"x": 1}', '{"x": [1, 2]}', "\0"):
        memory.write_text(damage)
        assert remembered() == version().code


def test_only_libraries_that_are_reached_count(version: Callable[[], code_version.Version]) -> None:
    assert set(version().libraries) == {"mmengine", "pillow", "torch", "torchvision"}


def test_the_real_steps_are_found() -> None:
    tree = code_version.Tree((Path(code_version.__file__).parents[2],))
    used = (("zoo.sources", "torchvision"), ("zoo.tasks", "classification"), ("zoo.datasets", "digit_scenes"))
    libraries = {step: set(tree.version(f"zoo.steps.{step}", used).libraries) for step in ("data", *STEPS)}
    assert "scikit-learn" in libraries["data"]
    assert {"torch", "torchvision", "mmengine"} <= libraries["train"]
    assert {"onnx", "onnxruntime"} <= libraries["export"]
    assert "onnx" not in libraries["train"]
    assert libraries["index"] == set()


@pytest.mark.parametrize(("steps", "available", "each"), [(1, 2, 2), (2, 2, 1), (3, 2, 1), (2, 16, 8), (3, 16, 5)])
def test_steps_share_the_cores(monkeypatch: pytest.MonkeyPatch, steps: int, available: int, each: int) -> None:
    monkeypatch.setattr(cores, "available", lambda: available)
    assert cores.per_step(steps) == each


@pytest.mark.parametrize(
    ("text", "limit"), [("max 100000", None), ("150000 100000", 1), ("400000 100000", 4), ("", None)]
)
def test_a_control_group_limits_the_cores(tmp_path: Path, text: str, limit: int | None) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert cores._cgroup_limit(tmp_path / "cpu.max") == limit


def test_a_dataset_of_the_users_is_known_by_its_folder_and_its_folders_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one/train/cat").mkdir(parents=True)
    (tmp_path / "two/train/cat").mkdir(parents=True)
    dataset = Dataset(
        description="d",
        task="classification",
        layout="imagefolder",
        root="$PICTURES",
        num_classes=1,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        licence="none",
    )

    def seen(folder: str) -> object:
        monkeypatch.setenv("PICTURES", str(tmp_path / folder))
        return plan.data_settings("pictures", dataset)["folder"]

    first = seen("one")
    assert seen("one") == first != seen("two")
    os.utime(tmp_path / "one/train/cat", ns=(1, 1))  # as adding an image does
    assert seen("one") != first
