"""What is refused of schedules when the files are read: what they say, and for which task they are named."""

from pathlib import Path

import pytest
from small_checkout import PROFILE, PROFILE_TEXT, RECIPE, SCHEDULE, SCHEDULE_TEXT, TEXTS, write

from zoo.errors import InvalidInput
from zoo.reading import library
from zoo.reading.schedule_references import TASKS
from zoo.schedule import Distillation, Schedule

CROPPED = SCHEDULE_TEXT + "augmentation: crop_flip\n"
VALUES = {
    "label_smoothing": "0.1",
    "crop": "16",
    "base": "20",
    "policy": "randaugment",
    "random_erasing": "0.1",
    "mixup": "0.2",
    "cutmix": "1.0",
    "distillation.by_confidence": "true",
}


def written(option: str) -> str:
    """The option as a line of YAML, an inner one in its braces."""
    *around, last = option.split(".")
    text = f"{last}: {VALUES[option]}"
    for name in reversed(around):
        text = f"{name}: {{{text}}}"
    return text + "\n"


def complaints(root: Path) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        library.load(root)
    return [str(problem) for problem in caught.value.problems]


def other_task(task: str, schedule: str) -> dict[str, str]:
    """A profile whose second task uses the schedule ``other``."""
    layout = {"detection": "coco", "segmentation": "label_pngs"}[task]
    dataset = TEXTS["configs/datasets/digits.yaml"].replace("classification", task).replace("imagefolder", layout)
    dataset = dataset.replace("digit_scenes", f"digit_scenes_{task}")
    labels = "labels: [a, b, c, d, e, f, g, h, i, j]\n" if task == "segmentation" else ""
    entry = f"  {task}: {{dataset: others, baseline: other, train: other, input_size: 32}}\n"
    profile = PROFILE_TEXT.replace("timeout_minutes:", f"{entry}timeout_minutes:")
    return {
        "configs/datasets/others.yaml": dataset + labels,
        "configs/schedules/other.yaml": schedule,
        PROFILE: profile,
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            SCHEDULE_TEXT.replace("lr: 0.1", "lr: 0.1\n  nesterov: true\n  momentum: 0.0"),
            "6: optimizer.nesterov: nesterov without momentum; set momentum above 0, or remove nesterov",
        ),
        (
            SCHEDULE_TEXT.replace("lr: 0.1", "lr: 0.1\n  nesterov: true\n  type: AdamW"),
            "6: optimizer.nesterov: AdamW has no nesterov; remove it, or set type: SGD",
        ),
        (
            SCHEDULE_TEXT + "decay: {shape: linear, power: 2.0}\n",
            "6: decay.power: is of poly alone; remove it, or set shape: poly",
        ),
        (
            SCHEDULE_TEXT + "decay:\n  flat: 0.5\n  floor: 0.5\n",
            "6: decay: flat and floor are 1 of the training, which leaves no decay; let them be less than 1 together",
        ),
        (
            SCHEDULE_TEXT + "crop: 16\naugmentation: shift\n",
            "6: crop: is of crop_flip alone; remove it, or set augmentation: crop_flip",
        ),
        (
            SCHEDULE_TEXT.replace("batch_size: 8", "batch_size: 1") + "mixup: 0.2\n",
            "6: mixup: in batches of one, each image would be mixed with itself; set a larger batch_size, or remove it",
        ),
    ],
)
def test_what_no_training_could_do(tmp_path: Path, text: str, expected: str) -> None:
    assert complaints(write(tmp_path, TEXTS | {SCHEDULE: text})) == [f"{SCHEDULE}:{expected}"]


@pytest.mark.parametrize(
    "text",
    [
        CROPPED + "crop: 16\nmixup: 0.2\ncutmix: 1.0\npolicy: autoaugment\nrandom_erasing: 0.1\nlabel_smoothing: 0.1\n",
        SCHEDULE_TEXT + "decay: {shape: poly, power: 2.0, flat: 0.5, floor: 0.49, final: 0.1}\n",
        SCHEDULE_TEXT + "policy: none\nmixup: 0\nrandom_erasing: 0.0\n",
    ],
)
def test_what_a_classifier_can_use_is_read(tmp_path: Path, text: str) -> None:
    assert library.load(write(tmp_path, TEXTS | {SCHEDULE: text})).schedules["short"].epochs == 1


def test_options_of_some_tasks_are_those_of_the_schema() -> None:
    assert set(TASKS) == set(VALUES)
    inner = {f"distillation.{name}" for name in Distillation.model_fields}
    assert set(TASKS) < set(Schedule.model_fields) | inner


@pytest.mark.parametrize("task", ["detection", "segmentation"])
@pytest.mark.parametrize("option", sorted(VALUES))
def test_an_option_that_the_task_has_not_is_refused_where_the_schedule_is_named(
    tmp_path: Path, task: str, option: str
) -> None:
    root = write(tmp_path, TEXTS | other_task(task, CROPPED + written(option)))
    if task in TASKS[option]:
        assert library.load(root).schedules["other"].epochs == 1
        return
    fact = f"'other' has {option}, which {task} does not use"
    cure = "name another, or remove it from configs/schedules/other.yaml"
    places = [f"{PROFILE}:10: tasks.{task}.{part}" for part in ("baseline", "train")]
    assert complaints(root) == [f"{place}: {fact}; {cure}" for place in places]


def test_several_options_are_one_problem(tmp_path: Path) -> None:
    text = SCHEDULE_TEXT + "mixup: 0.2\ncutmix: 1.0\n"
    found = complaints(write(tmp_path, TEXTS | other_task("detection", text)))
    assert len(found) == 2
    assert "'other' has mixup and cutmix, which detection does not use; name another, or remove them" in found[0]


def test_a_recipe_and_a_profile_s_own_model_are_asked_too(tmp_path: Path) -> None:
    files = dict(TEXTS)
    files["configs/schedules/based.yaml"] = CROPPED + "base: 20\n"
    files[RECIPE] = files[RECIPE].replace("  epochs: 3", "  schedule: based")
    files[PROFILE] = PROFILE_TEXT + "models:\n  mobilenet_v2_lite: {baseline: based}\n"
    fact = "'based' has base, which classification does not use"
    cure = "name another, or remove it from configs/schedules/based.yaml"
    assert complaints(write(tmp_path, files)) == [
        f"{PROFILE}:13: models.mobilenet_v2_lite.baseline: {fact}; {cure}",
        f"{RECIPE}:9: train.schedule: {fact}; {cure}",
    ]
