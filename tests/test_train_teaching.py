"""The train step: what the source taught stands in its metrics, and is as the recipe says."""

import json
from typing import Any

import pytest
from small_build import ORIGIN, SmallBuild, prepare

from zoo.config import Launch
from zoo.errors import StepError
from zoo.rebuild import lite_model, read_plan
from zoo.schedule import Distillation, Optimizer, Schedule
from zoo.source_model import load_weights
from zoo.steps import train as step
from zoo.training import stages as stage_search

SCHEDULE = Schedule(description="test", epochs=2, batch_size=5, optimizer=Optimizer(lr=0.01), anneal_epochs=1.5)
FEATURES = Distillation(weight=0.5, temperature=2.0, features=1.0)
STAGES = ["features.0", "features.1", "features.3", "features.8"]  # the last of all is one position for 32 pixels


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> SmallBuild:
    return prepare(tmp_path_factory.mktemp("build"))


def settings(schedule: Schedule, *, teacher: bool = True) -> dict[str, Any]:
    launch = Launch().model_dump(mode="json")
    own = {"schedule": schedule.model_dump(mode="json"), "teacher": teacher}
    return {**own, "launch": launch, "learning_rate_scaled_from": None}


def trained(build: SmallBuild, schedule: Schedule, *, teacher: bool = True) -> dict[str, Any]:
    """The metrics of a training; its weights are the plan's."""
    step.run(build.job("train", settings(schedule, teacher=teacher)))
    plan = read_plan(build.folder("surgery") / "plan.json")
    load_weights(lite_model(ORIGIN, plan), build.folder("train") / "model.safetensors")
    assert not (build.folder("train") / "partial").exists()
    metrics: dict[str, Any] = json.loads((build.folder("train") / "metrics.json").read_bytes())
    return metrics


def replaced(build: SmallBuild) -> list[str]:
    """The sites of the activations that became ReLU."""
    edits = read_plan(build.folder("surgery") / "plan.json").edits
    return [edit.site for edit in edits if edit.rule == "hardswish_to_relu"]


def test_logits_features_and_annealing_are_all_told(build: SmallBuild) -> None:
    taught = trained(build, SCHEDULE.model_copy(update={"distillation": FEATURES}))["teaching"]
    assert taught["distillation"] == {"weight": 0.5, "temperature": 2.0, "by_confidence": False, "features": 1.0}
    assert taught["stages"] == STAGES
    assert taught["annealing"] == {"epochs": 1.5, "annealed": replaced(build), "left": {}}
    assert len(replaced(build)) == 19


def test_without_a_teacher_neither_logits_nor_features_are_used(
    build: SmallBuild, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_search, "common_stages", None)  # is not asked
    schedule = SCHEDULE.model_copy(update={"distillation": FEATURES, "epochs": 1, "anneal_epochs": 0.0})
    metrics = trained(build, schedule, teacher=False)
    assert metrics["teaching"] == {"distillation": None, "stages": [], "annealing": None}
    assert metrics["trained_on"] == "speckles, fine-tuned from the source's weights"


def test_activations_are_annealed_without_a_teacher_too(build: SmallBuild) -> None:
    taught = trained(build, SCHEDULE.model_copy(update={"anneal_epochs": 1.0}), teacher=False)["teaching"]
    assert taught["distillation"] is None
    assert taught["annealing"]["annealed"] == replaced(build)


def test_a_source_without_a_common_stage_stops_the_step(build: SmallBuild, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_search, "BACKBONE", "classifier")  # which has none
    schedule = SCHEDULE.model_copy(update={"distillation": FEATURES, "epochs": 1})
    with pytest.raises(StepError, match=r"^mobilenet_v3_small_lite: no stage of the source and of the lite model"):
        step.run(build.job("train", settings(schedule)))


def test_one_training_differs_from_another_by_what_it_is_taught(build: SmallBuild) -> None:
    plain = SCHEDULE.model_copy(update={"distillation": None, "anneal_epochs": 0.0, "epochs": 1})
    by_features = plain.model_copy(update={"distillation": FEATURES.model_copy(update={"weight": 0.0})})
    annealed = plain.model_copy(update={"anneal_epochs": 1.0})
    weights = build.folder("train") / "model.safetensors"
    made = []
    for schedule in (plain, plain, by_features, annealed):
        trained(build, schedule)
        made.append(weights.read_bytes())
    assert made[0] == made[1]
    assert len(set(made)) == 3
