"""Batches that do not divide, and launches that launch nothing, are told when recipes are read; what recipes change."""

from pathlib import Path

import pytest
from small_checkout import PROFILE, PROFILE_TEXT, RECIPE, RECIPE_TEXT, SCHEDULE, SCHEDULE_TEXT, TEXTS, write

from zoo import plan
from zoo.config import Launch
from zoo.errors import InvalidInput
from zoo.reading import library
from zoo.recipe import Train
from zoo.schedule import Optimizer, Schedule

NAME = "mobilenet_v2_lite"
CURE = "change batch_size, devices, nodes or the schedule's accumulate"
SCHEDULE_256 = Schedule(description="", epochs=30, batch_size=256, optimizer=Optimizer(lr=0.1))


def complaints(root: Path, **texts: str) -> list[str]:
    """Of a checkout whose files have further lines."""
    more = {RECIPE: texts.get("recipe", ""), SCHEDULE: texts.get("schedule", ""), PROFILE: texts.get("profile", "")}
    write(root, TEXTS | {file: TEXTS[file] + text for file, text in more.items()})
    try:
        library.load(root)
    except InvalidInput as error:
        return [str(problem) for problem in error.problems]
    return []


TORCHRUN = "launch: {launcher: torchrun, devices: 3}\n"


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({}, []),
        ({"schedule": "accumulate: 4\n"}, []),
        ({"profile": "launch: {launcher: torchrun, devices: 4, nodes: 2}\n"}, []),
        ({"profile": TORCHRUN, "recipe": "  devices: 2\n"}, []),
        (
            {"schedule": "accumulate: 3\n"},
            [f"{SCHEDULE}:6: accumulate: a batch of 8 does not divide into 3 parts; choose parts of the same size"],
        ),
        (
            {"profile": TORCHRUN},
            [
                f"{PROFILE}:7: tasks.classification.baseline: a batch of 8 does not divide into 3 devices; {CURE}",
                f"{PROFILE}:8: tasks.classification.train: a batch of 8 does not divide into 3 devices; {CURE}",
            ],
        ),
        (
            {"schedule": "accumulate: 2\n", "recipe": "  launcher: torchrun\n  devices: 2\n  nodes: 3\n"},
            [
                f"{RECIPE}:11: train.devices: a batch of 8 does not divide into 2 parts on each of 6 devices; {CURE}",
            ],
        ),
        (
            {"schedule": "accumulate: 2\n", "recipe": "  batch_size: 9\n"},
            [f"{RECIPE}:10: train.batch_size: a batch of 9 does not divide into 2 parts; {CURE}"],
        ),
        ({"schedule": "mixup: 0.2\n", "profile": TORCHRUN.replace("3", "4")}, []),
        (
            {"schedule": "mixup: 0.2\n", "recipe": "  launcher: torchrun\n  devices: 8\n"},
            [
                f"{RECIPE}:11: train.devices: a batch of 8 on 8 devices is one image each, mixed with itself; "
                "raise batch_size, or name a schedule without mixup and cutmix"
            ],
        ),
        (
            {"profile": "launch: {devices: 8}\n"},
            [f"{PROFILE}:12: launch.devices: 8 processes, but nothing launches them; add 'launcher: torchrun'"],
        ),
        (
            {"recipe": "  nodes: 2\n"},
            [f"{RECIPE}:10: train.nodes: 2 processes, but nothing launches them; add 'launcher: torchrun'"],
        ),
    ],
)
def test_a_batch_that_does_not_divide_is_refused_where_it_is_said(
    tmp_path: Path, texts: dict[str, str], expected: list[str]
) -> None:
    assert complaints(tmp_path, **texts) == expected


def test_the_place_is_the_model_s_own_schedule_where_the_profile_has_one(tmp_path: Path) -> None:
    own = f"models: {{{NAME}: {{train: odd}}}}\n{TORCHRUN.replace('3', '2')}"
    texts = TEXTS | {PROFILE: PROFILE_TEXT + own, "configs/schedules/odd.yaml": SCHEDULE_TEXT.replace("8", "9")}
    with pytest.raises(InvalidInput) as caught:
        library.load(write(tmp_path, texts))
    (problem,) = caught.value.problems
    assert problem.path == f"models.{NAME}.train"
    assert problem.fact == "a batch of 9 does not divide into 2 devices"


@pytest.mark.parametrize(
    ("train", "batch_size", "rate", "stated"),
    [
        (Train(), 256, 0.1, ""),
        (Train(batch_size=64), 64, 0.025, "0.1 at batch size 256"),
        (Train(batch_size=1024), 1024, 0.4, "0.1 at batch size 256"),
        (Train(batch_size=256), 256, 0.1, ""),
        (Train(lr=0.3), 256, 0.3, ""),
        (Train(batch_size=64, lr=0.3), 64, 0.3, ""),
    ],
)
def test_the_learning_rate_is_scaled_with_the_batch(train: Train, batch_size: int, rate: float, stated: str) -> None:
    changed = train.changed(SCHEDULE_256)
    assert changed.batch_size == batch_size
    assert changed.optimizer.lr == pytest.approx(rate)
    assert train.scaled_from(SCHEDULE_256) == stated


def test_a_recipe_changes_the_profile_s_launch_in_part() -> None:
    launch = Launch(launcher="torchrun", devices=8, nodes=2)
    assert Train().launched(launch) == launch
    assert Train(nodes=1).launched(launch) == Launch(launcher="torchrun", devices=8)
    assert Train(launcher="none", devices=1, nodes=1).launched(launch) == Launch()


def test_batch_and_launch_are_in_the_settings_of_what_trains(tmp_path: Path) -> None:
    more = "  batch_size: 16\n  launcher: torchrun\n  devices: 2\n"
    declared = library.load(write(tmp_path, TEXTS | {RECIPE: RECIPE_TEXT + more}))
    model = plan.model(declared, NAME, "demo")
    settings = {step: row.settings(model) for step, row in plan.STEPS.items()}
    assert settings["train"]["schedule"]["optimizer"]["lr"] == pytest.approx(0.2)
    assert settings["train"]["learning_rate_scaled_from"] == "0.1 at batch size 8"
    assert settings["baseline"]["schedule"]["batch_size"] == 8
    assert settings["train"]["launch"] == settings["baseline"]["launch"]
    assert settings["train"]["launch"] == {"launcher": "torchrun", "devices": 2, "nodes": 1}
    assert [step for step, seen in settings.items() if "launch" in seen] == ["baseline", "train"]
