"""How a release's models were trained, as its manifest, card and table tell it; older releases that do not."""

import json
from typing import Any

import pytest
from click.testing import CliRunner
from small_build import NAME, SmallBuild

from zoo import atomic
from zoo.cli import main
from zoo.durations import duration
from zoo.releases import release, results
from zoo.releases.manifest import Manifest
from zoo.releases.training import started, stated, trained

TRAINING = {
    "batch_size": 64,
    "learning_rate": 0.1,
    "precision": "float32",
    "channels_last": True,
    "compiled": False,
    "devices": 1,
}
TEACHING = {
    "distillation": {"weight": 0.5, "temperature": 2.0, "features": 0.0},
    "stages": ["a", "b"],
    "annealing": None,
}


def released(build: SmallBuild, version: int = 1) -> tuple[dict[str, Any], str]:
    """release.json and the card of a version."""
    folder = build.zoo / "models" / NAME / f"v{version}"
    return json.loads((folder / "release.json").read_bytes()), (folder / "card.md").read_text()


def parsed(fields: dict[str, Any]) -> Manifest:
    return release.parse(json.dumps(fields).encode(), "here")


def state(build: SmallBuild, step: str, **more: Any) -> None:
    """Let a step's metrics say more."""
    file = build.folder(step) / "metrics.json"
    atomic.write_json(file, json.loads(file.read_bytes()) | more)


def test_what_a_training_states_is_no_metric(own_build: SmallBuild) -> None:
    state(
        own_build, "train", top1=0.88, **TRAINING, learning_rate_scaled_from="0.05 at batch size 32", teaching=TEACHING
    )
    state(own_build, "baseline", **TRAINING)
    assert own_build.release()["version"] == 2
    fields, card = released(own_build, 2)
    source, after, lite = (fields["accuracy"][stage] for stage in ("source", "after_surgery", "lite"))
    assert [set(stage["metrics"]) for stage in (source, after, lite)] == [{"top1", "top5"}] * 3
    scaled = {"learning_rate_scaled_from": "0.05 at batch size 32", "teaching": TEACHING}
    assert (source["training"], after["training"], lite["training"]) == (TRAINING, {}, TRAINING | scaled)
    assert (source["schedule"], after["schedule"], lite["schedule"]) == ("scratch", "", "finetune")
    numerics = "batch size 64, channels last, learning rate 0.1"
    assert f"- source: speckles; 3 epochs in 1.5 s by schedule scratch ({numerics}, precision float32)\n" in card
    teaching = "teaching (distillation (temperature 2, weight 0.5), stages (a, b))"
    its_own = f"{numerics}, learning rate scaled from 0.05 at batch size 32, precision float32, {teaching}"
    assert f"- final: speckles; 2 epochs in 1.5 s by schedule finetune ({its_own})\n" in card


def test_a_class_that_one_stage_alone_finds_is_a_metric_of_it(own_build: SmallBuild) -> None:
    state(own_build, "train", **TRAINING, **{"iou/cat": 0.25})
    state(own_build, "surgery", **{"iou/dog": 0.5})
    own_build.release()
    accuracy = released(own_build, 2)[0]["accuracy"]
    assert accuracy["lite"]["training"] == TRAINING
    found = [{name for name in accuracy[stage]["metrics"] if "/" in name} for stage in ("after_surgery", "lite")]
    assert found == [{"iou/dog"}, {"iou/cat"}]


def test_how_a_training_is_described_makes_no_version(own_build: SmallBuild) -> None:
    state(own_build, "train", **TRAINING)
    assert own_build.release(schedules={"source": "a", "lite": "b"})["new"] is False


def test_the_warm_start_is_in_the_release(own_build: SmallBuild) -> None:
    fields, card = released(own_build)
    assert (
        fields["surgery"]["warm_start"]
        == json.loads((own_build.folder("surgery") / "report.json").read_bytes())["warm_start"]
    )
    assert fields["surgery"]["warm_start"]["gates"] is True
    assert "The warm start, from training images without labels: gates, norms, statistics" in card
    assert (
        started({"gates": True, "norms": False, "statistics": True, "steps": 0})
        == "gates, statistics; without norms, steps"
    )
    assert started({"gates": False, "steps": 200}) == "steps 200; without gates"
    assert started({"gates": False}) == "nothing; without gates"


def test_a_reconstruction_is_in_card_and_table_and_no_training_of_epochs(own_build: SmallBuild) -> None:
    words = "speckles without labels, blocks fitted to the source's in 150 steps"
    state(own_build, "surgery", trained_on=words, seconds=13.2)
    report = own_build.folder("surgery") / "report.json"
    done = {"gates": True, "refit": False, "reconstruction": {"blocks": 18, "steps": 150, "images": 4800}}
    atomic.write_json(report, json.loads(report.read_bytes()) | {"warm_start": done})
    own_build.release(description="other")
    fields, card = released(own_build, 2)
    assert f"- after surgery: {words} in 13 s\n" in card
    assert "labels: gates, reconstruction (blocks 18, images 4800, steps 150); without refit." in card
    row = results.cells(parsed(fields))
    assert row[results.HEADER.index("training time")] == "1.5 s -> 15 s"  # 1.5 of its training and 13.2 before
    assert "ep." not in row[results.HEADER.index("after surgery")]


def test_long_lists_are_counted() -> None:
    assert (
        stated(
            {
                "sites": [str(n) for n in range(9)],
                "none": [],
                "parts": 1,
                "weight": 1.0,
                "off": {"a": None},
                "rate": 1e-5,
            }
        )
        == "sites (9), weight 1, rate 1e-05"
    )


def test_the_table_has_the_wall_time_of_both_trainings(small_build: SmallBuild) -> None:
    fields, _ = released(small_build)
    column = results.HEADER.index("training time")
    fields["accuracy"]["source"]["seconds"], fields["accuracy"]["lite"]["seconds"] = 252.3, 9000.0
    assert results.cells(parsed(fields))[column] == "252 s -> 2.5 h"
    fields["accuracy"]["source"] |= {"epochs": 0, "seconds": 0.0, "trained_on": "published weights X, not trained here"}
    assert results.cells(parsed(fields))[column] == "none -> 2.5 h"
    assert trained(parsed(fields).accuracy.source) == "published weights X, not trained here"


def test_the_table_says_on_which_size_of_images_a_row_was_measured(small_build: SmallBuild) -> None:
    fields, _ = released(small_build)
    fields["origin"]["preprocessing"] |= {"resize": 40, "size": 32}
    assert results.cells(parsed(fields))[results.HEADER.index("input (px)")] == "32"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0.04, "0.0 s"), (9.9, "9.9 s"), (52, "52 s"), (599, "599 s"), (600, "10 min"), (7000, "117 min")),
        *((9000, "2.5 h"), (150_000, "41.7 h"), (216_000, "2.5 days")),
    ],
)
def test_durations_are_as_people_write_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_release_from_before_trainings_were_described_is_read_and_shown(own_build: SmallBuild) -> None:
    fields, _ = released(own_build)
    for stage in ("source", "after_surgery", "lite"):
        del fields["accuracy"][stage]["schedule"], fields["accuracy"][stage]["training"]
        fields["accuracy"][stage]["seconds"] = None
    del fields["surgery"]["warm_start"]
    before = parsed(fields)
    assert results.cells(before)[results.HEADER.index("training time")] == "unknown -> unknown"
    assert trained(before.accuracy.lite) == "speckles; 2 epochs"


def test_show_tells_trainings_warm_start_and_bound(own_build: SmallBuild) -> None:
    own_build.release(accept={"lost_at_most": 0.03})
    own_build.index()
    shown = CliRunner().invoke(main, ["show", NAME, "--index", str(own_build.zoo)]).output
    lines = {line[:15].strip(): line[16:] for line in shown.splitlines()}
    assert lines["baseline"] == "speckles; 3 epochs in 1.5 s by schedule scratch"
    assert lines["fine-tuning"] == "speckles; 2 epochs in 1.5 s by schedule finetune"
    assert lines["training time"] == "1.5 s -> 1.5 s"
    assert lines["warm start"].startswith("gates, norms, statistics")
    assert lines["accepted"] == "at most 3 points of top-1 may be lost (lost: 2.5)"
