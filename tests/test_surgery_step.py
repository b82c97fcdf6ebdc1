"""The surgery step where the target decides of the rules: what it leaves, and that it goes on to the check."""

import contextlib
import json
from typing import Any, Self

import pytest
import torch
import yaml
from small_build import EXPORT, NAME, ORIGIN, SmallBuild, prepare

from surgery import SurgeryError
from surgery.reconstruction.reconstruct import Reconstruction
from zoo import atomic
from zoo.errors import StepError
from zoo.rebuild import lite_model, read_plan
from zoo.recipe import Surgery, as_json
from zoo.source_model import load_weights, source_model
from zoo.steps import surgery as step
from zoo.targets import reading
from zoo.targets.identity import digest
from zoo.training import learner
from zoo.training.accelerated import accelerated

# Hardswish in parts and plain depthwise convolutions, but no product of two activations of different shapes.
PARTS = """\
description: a device for tests
sources: [{title: nowhere}]
opset: {max: 18, export: 18}
operators:
  Conv, Relu, Add, Flatten, Reshape, Gemm, HardSigmoid, GlobalAveragePool, Pad: {}
  Mul: {limits: [{kind: broadcast_in, axes: []}]}
"""


def settings(build: SmallBuild, surgery: Any, target: str = "parts") -> dict[str, Any]:
    about = {"target_name": target, "target_sha256": digest(reading.read(target, build.root)), "device": ""}
    written = {"export": EXPORT, "opset": 18, "ir_version": None, "left": {}}
    chosen = as_json(Surgery.model_validate(surgery))
    return {"surgery": chosen | {"calibration_batches": 2}, "batch_size": 4, "seed": 0, **about, **written}


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> SmallBuild:
    made = prepare(tmp_path_factory.mktemp("build"))
    atomic.write_text(made.root / "configs" / "targets" / "parts.yaml", PARTS)
    return made


@pytest.mark.slow
def test_auto_leaves_an_explanation_beside_a_plan_that_the_check_takes(build: SmallBuild) -> None:
    result = step.run(build.job("surgery", settings(build, "auto")))
    folder = build.folder("surgery")
    assert {file.name for file in result.outputs} == {
        *("plan.json", "report.json", "initial.safetensors", "metrics.json"),
        step.EXPLANATION,
    }
    told = json.loads((folder / step.EXPLANATION).read_bytes())
    chosen = {choice["rule"]: choice["sites"] for choice in told["choices"]}
    # Of an input this small the last plane is one pixel, whose memory the exporter gathers unless it is a mean.
    assert set(chosen) == {"squeeze_excite", "spell_out_hardswish"}
    assert (told["clean"], told["left"], told["target"]) == (True, [], "parts")
    assert told["before"]["node_share"] < told["after"]["node_share"] == 1
    plan = read_plan(folder / "plan.json")
    assert {edit.rule for edit in plan.edits} == set(told["rules"])
    load_weights(lite_model(ORIGIN, plan), folder / "initial.safetensors")
    about = {"target_name": "parts", "target_sha256": settings(build, "auto")["target_sha256"]}
    assert all(finding["severity"] != "error" for finding in build.check("embedded", **about)["findings"])


@pytest.mark.slow
def test_what_the_target_takes_as_it_is_is_not_called_lite(build: SmallBuild) -> None:
    everything = PARTS.replace("  Mul: {limits: [{kind: broadcast_in, axes: []}]}", "  Mul, HardSwish, Gather: {}")
    atomic.write_text(build.root / "configs" / "targets" / "everything.yaml", everything)
    with pytest.raises(StepError, match=f"{NAME}: surgery found nothing to replace; write .*rules: auto, "):
        step.run(build.job("surgery", settings(build, "auto", "everything")))


def test_other_rules_leave_no_explanation_and_see_no_target(build: SmallBuild) -> None:
    alone = settings(build, ["hardswish_to_relu"])
    seen = {key: alone[key] for key in ("surgery", "batch_size", "seed")}
    result = step.run(build.job("surgery", seen))
    assert step.EXPLANATION not in {file.name for file in result.outputs}
    plan = read_plan(build.folder("surgery") / "plan.json")
    assert {edit.rule for edit in plan.edits} == {"hardswish_to_relu"}


@pytest.mark.parametrize("gates", [True, False])
def test_a_recipe_switches_parts_of_the_warm_start_off(build: SmallBuild, gates: bool) -> None:
    chosen = {"rules": ["squeeze_excite"], "warm_start": {"gates": gates, "statistics": False}}
    step.run(build.job("surgery", settings(build, chosen)))
    folder = build.folder("surgery")
    started = json.loads((folder / "report.json").read_bytes())["warm_start"]
    assert (started["gates"], started["norms"], started["statistics"]) == (gates, True, False)
    plan = read_plan(folder / "plan.json")
    assert any(edit.action.endswith("-> mean gate") for edit in plan.edits) == gates
    load_weights(lite_model(ORIGIN, plan), folder / "initial.safetensors")


@pytest.mark.parametrize("refit", [True, False])
def test_folded_weights_end_at_their_length_and_statistics_fit(build: SmallBuild, refit: bool) -> None:
    chosen = {"rules": ["squeeze_excite", "fold_channel_scale"], "warm_start": {"refit": refit}}
    step.run(build.job("surgery", settings(build, chosen)))
    folder = build.folder("surgery")
    told = json.loads((folder / "report.json").read_bytes())["lengths"]
    folded = [*told["layers"], *(name for name, _ in told["left"])]
    assert len(folded) == 6  # of nine; the others' maps are one pixel here, and their gates products of a kind
    assert len(told["layers"]) >= 4 if refit else told["left"] == []  # what is fitted may have become longer
    lite = lite_model(ORIGIN, read_plan(folder / "plan.json"))
    load_weights(lite, folder / "initial.safetensors")
    source = source_model(ORIGIN)
    load_weights(source, build.folder("baseline") / "source.safetensors")
    for name in told["layers"]:
        lengths = [each.get_submodule(name).weight.norm().item() for each in (lite, source)]
        assert lengths[0] == pytest.approx(lengths[1], rel=1e-5), name


def test_a_reconstruction_holds_no_more_images_than_memory_has(
    build: SmallBuild, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []

    def noted(lite: Any, source: Any, batches: Any, steps: int, **_: Any) -> Reconstruction:
        counts.append(len(list(batches)))
        return Reconstruction((), steps, 0, 0.0)

    monkeypatch.setattr(step.surgery, "reconstruct", noted)
    chosen = {"rules": ["squeeze_excite"], "warm_start": {"refit": False, "reconstruction_steps": 5}}
    for held in (step.HELD, 2 * 2 * 3 * 32**2, 1):  # all 5 batches of 2 images, 2 of them, never less than one
        monkeypatch.setattr(step, "HELD", held)
        step.run(build.job("surgery", settings(build, chosen) | {"batch_size": 2}))
    assert counts == [5, 2, 1]
    told = json.loads((build.folder("surgery") / "report.json").read_bytes())
    assert told["warm_start"]["reconstruction"] == {"blocks": 0, "steps": 5, "images": 0}


def test_a_reconstruction_runs_where_a_training_would_on_few_images_at_once(
    build: SmallBuild, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []

    class Somewhere(torch.nn.Module):
        def to(self, where: object) -> Self:  # type: ignore[override]
            seen.append(where)
            return self

        def cpu(self) -> Self:
            seen.append("cpu")
            return self

    monkeypatch.setattr(learner, "accelerator", lambda: "there")
    with contextlib.suppress(SurgeryError), accelerated(Somewhere(), Somewhere()) as where:
        assert where == "there"
        raise SurgeryError("it fails")
    assert seen == ["there", "there", "cpu", "cpu"]

    asked: list[str] = []
    monkeypatch.setattr(learner, "accelerator", lambda: asked.append("") or torch.device("cpu"))  # type: ignore[func-returns-value]
    monkeypatch.setattr(step, "AT_ONCE", 3)
    chosen = {"rules": ["squeeze_excite"], "warm_start": {"reconstruction_steps": 2}}
    reports = []
    for _ in range(2):
        step.run(build.job("surgery", settings(build, chosen) | {"batch_size": 8}))
        reports.append((build.folder("surgery") / "report.json").read_bytes())
    assert reports[0] == reports[1]  # it does not say how long it took
    assert len(asked) == 2 * 2  # to be reconstructed, and to be evaluated
    told = json.loads(reports[0])
    assert told["warm_start"]["reconstruction"] == {
        "blocks": len(told["reconstruction"]["blocks"]),
        "steps": 2,
        "images": 6,
    }
    metrics = json.loads((build.folder("surgery") / "metrics.json").read_bytes())
    assert metrics["trained_on"].endswith(" without labels, blocks fitted to the source's in 2 steps")
    assert metrics["seconds"] > 0


def test_a_reconstruction_that_fails_says_how_to_do_without(build: SmallBuild, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any, **__: Any) -> None:
        raise SurgeryError("reconstruct: the error is nan in step 2; lower lr, 0.001")

    monkeypatch.setattr(step.surgery, "reconstruct", failing)
    chosen = {"rules": ["squeeze_excite"], "warm_start": {"reconstruction_steps": 5}}
    with pytest.raises(
        StepError, match=r"in step 2; .*can do without: surgery: \{warm_start: \{.*reconstruction_steps: 0"
    ):
        step.run(build.job("surgery", settings(build, chosen)))
    done = yaml.safe_load(step.WITHOUT)["surgery"]
    step.run(build.job("surgery", settings(build, chosen | done)))


def test_a_target_that_changed_since_is_refused(build: SmallBuild) -> None:
    with pytest.raises(StepError, match="was changed while the build ran"):
        step.run(build.job("surgery", settings(build, "auto") | {"target_sha256": "0" * 64}))
