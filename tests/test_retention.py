"""The benchmark of retention: what is on in each arm, the order of the work, going on after a kill."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from zoo import plan
from zoo.atomic import write_json
from zoo.errors import TrainingDiverged
from zoo.reading import library
from zoo.recipe import WarmStart

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import retention
import retention_kept
import retention_trials as trials
from retention_measure import Place, measure
from retention_time import left, seconds
from retention_trials import Told, Trial

REPOSITORY = Path(__file__).parents[1]
SMALL = {
    "configs/datasets/digit_scenes.yaml": (
        ("train: 5000", "train: 48"),
        ("val: 1000", "val: 20"),
        ("size: 64", "size: 32"),
    ),
    "configs/schedules/demo_scratch.yaml": (("epochs: 4", "epochs: 1"), ("warmup_epochs: 1", "warmup_epochs: 0.5")),
    "configs/profiles/demo.yaml": (("    input_size: 64\n", "    input_size: 32\n"),),
}
SOURCE = Trial("mobilenet_v3_small", 0, "source")
REAL = library.load(REPOSITORY)


def told(*trial: Any) -> Told:
    return Told(REAL, Trial(*trial))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The real recipes and configs, with few and small images."""
    for name in ("configs", "recipes", "benchmarks"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name, changes in SMALL.items():
        text = (tmp_path / name).read_text()
        for old, new in changes:
            assert text.count(old) == 1, (name, old)
            text = text.replace(old, new)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def place(checkout: Path) -> Place:
    return Place(checkout / "artifacts" / "retention", library.load(checkout))


@pytest.mark.parametrize("model", trials.MODELS)
def test_the_arms_are_bare_and_as_the_pipeline_has_it(model: str) -> None:
    (bare, plain), (warm, taught) = trials.ARMS["a"], trials.ARMS["b"]
    started = told(model, 1, bare).settings["surgery"]["warm_start"]
    assert started == {"gates": False, "norms": False, "statistics": False, "refit": False, "reconstruction_steps": 0}
    trained = told(model, 1, bare, plain, 5).settings
    assert (trained["teacher"], trained["schedule"]["distillation"]) == (False, None)
    assert trained["schedule"]["statistics"] == "running"

    own = told(model, 1, warm)
    build = plan.STEPS["surgery"].settings(own.model)
    assert own.settings == build | {"seed": 1}
    assert own.settings["surgery"]["warm_start"]["gates"] is True
    in_build = plan.STEPS["train"].settings(own.model)
    ours = told(model, 1, warm, taught, 5).settings
    assert ours == in_build | {"schedule": in_build["schedule"] | {"seed": 1, "epochs": 5}}
    assert ours["teacher"] is True
    assert ours["schedule"]["distillation"]["weight"] > 0
    assert ours["schedule"]["statistics"] == "measured"

    # All that is left is the same in both arms.
    own = {"distillation": None, "statistics": None}
    assert trained["schedule"] | own == ours["schedule"] | own
    source = told(model, 1, "source").settings
    assert source["schedule"]["seed"] == 1
    assert source["weights"] == "scratch"


@pytest.mark.parametrize("model", trials.MODELS)
def test_long_sources_are_trained_for_longer_and_what_starts_from_them_at_a_lower_rate(model: str) -> None:
    short = trials.experiment([model], [1], [0, 2])
    for each, longer in zip(short, trials.long(short), strict=True):
        assert Trial.named(longer.name) == longer
        assert (each.needs is None) == (longer.needs is None)
        assert longer.needs is None or longer.needs == replace(each.needs or each, is_long=True)
        expected, settings = Told(REAL, each).settings, Told(REAL, longer).settings
        if each.start == "source":
            expected["schedule"]["epochs"] = trials.LONG_EPOCHS[model]
            assert trials.LONG_EPOCHS[model] > Told(REAL, each).settings["schedule"]["epochs"]
            rate = expected["schedule"]["optimizer"]["lr"]
        elif each.epochs:
            expected["schedule"]["optimizer"]["lr"] = trials.LONG_RATE * rate
        elif each.start == "warm":
            parts = expected["surgery"]["warm_start"]
            parts["reconstruction_steps"] = trials.LONG_STEPS if parts["reconstruction_steps"] else 0
            assert REAL.schedules["finetune_30"].reconstruction_steps == trials.LONG_STEPS
        assert settings == expected
        assert Told(REAL, longer).key != Told(REAL, each).key
    other = Told(REAL, Trial("mobilenet_v2", 0, "source", is_long=True))  # none of the experiment's models
    assert (
        other.settings["schedule"]["epochs"]
        == 3 * Told(REAL, Trial("mobilenet_v2", 0, "source")).settings["schedule"]["epochs"]
    )


def test_a_misspelt_trial_is_none() -> None:
    with pytest.raises(ValueError, match="no trial is 'lnog'"):
        Trial.named("mobilenet_v3_small/seed-0-lnog/warm.none.0")


def test_more_images_measure_than_in_a_build_and_no_others_train() -> None:
    for model in trials.MODELS:
        own = told(model, 0, "source")
        build = plan.data_settings(own.model.task.dataset, own.model.dataset)["dataset"]["parameters"]
        assert own.data["dataset"]["parameters"] == build | {"val": trials.VAL[own.model.task.dataset]}
        assert own.data["dataset"]["parameters"]["val"] > build["val"]


def test_every_part_of_the_warm_start_is_alone_and_off_once() -> None:
    def settings(start: str) -> dict[str, Any]:
        return dict(told("mobilenet_v3_small", 0, start).settings["surgery"]["warm_start"])

    everything, nothing = settings("all"), settings("bare")
    assert all(everything.values())
    assert not any(nothing.values())
    assert everything.keys() == set(trials.PARTS) == WarmStart.model_fields.keys()
    for part in trials.PARTS:
        assert settings(f"only_{part}") == nothing | {part: everything[part]}
        assert settings(f"all_but_{part}") == everything | {part: nothing[part]}
        if part != "refit":
            assert settings(f"default_but_{part}") == settings("warm") | {part: nothing[part]}
    assert settings("all_but_refit") == settings("warm")
    asked = {each.start for each in trials.ablation(["mobilenet_v3_small"], [0]) if not each.epochs}
    assert asked == {"source", *trials.STARTS}


@pytest.mark.parametrize("model", trials.MODELS)
def test_without_reconstruction_is_what_b_is_but_for_it(model: str) -> None:
    chosen = trials.unfitted([model], [1])
    assert [each.epochs for each in chosen] == [0, 0, 2]
    assert trials.is_reconstructed(REAL, model) == (model != "yolov8_n")
    steps = told(model, 1, "warm").settings["surgery"]["warm_start"]["reconstruction_steps"]
    assert steps in (0, trials.RECONSTRUCTION_STEPS)  # which the report's text says
    start = told(model, 1, "warm").settings
    start["surgery"]["warm_start"]["reconstruction_steps"] = 0
    assert Told(REAL, chosen[1]).settings == start
    assert Told(REAL, chosen[2]).settings == told(model, 1, *trials.ARMS["b"], 2).settings


def test_what_training_may_add_is_on_alone_and_together() -> None:
    def on(name: str) -> tuple[bool, bool, bool, bool]:
        arm = trials.trial("mobilenet_v3_small", 0, trials.TEACHING[name], 2)
        schedule, start = Told(REAL, arm).settings["schedule"], Told(REAL, Trial(arm.model, 0, arm.start)).settings
        taught = schedule["distillation"] or {"weight": 0, "features": 0}
        steps = start["surgery"]["warm_start"]["reconstruction_steps"]
        return taught["weight"] > 0, taught["features"] > 0, steps > 0, schedule["anneal_epochs"] > 0

    assert {name: on(name) for name in trials.TEACHING} == {
        "nothing more": (False, False, False, False),
        "logits": (True, False, False, False),
        "features": (False, True, False, False),
        "reconstruction": (False, False, True, False),
        "annealing": (False, False, False, True),
        "logits after reconstruction": (True, False, True, False),
        "logits after a refit": (True, False, False, False),
        "all four together": (True, True, True, True),
    }


def test_what_the_goals_are_about_comes_first_and_after_what_it_needs() -> None:
    chosen = trials.experiment(trials.MODELS, trials.SEEDS, trials.EPOCHS)
    assert len(chosen) == len(set(chosen)) == 5 * (1 + 3 * 2 * 4)
    first = chosen[: 5 * (1 + 2 * 2)]
    assert {(each.seed, each.epochs) for each in first} == {(0, 0), (0, 2)}
    assert {each.model for each in first} == set(trials.MODELS)
    for index, each in enumerate(chosen):
        assert each.needs is None or each.needs in chosen[:index]
        assert Trial.named(each.name) == each
    keys = {Told(REAL, each).key for each in chosen}
    assert len(keys) == len(chosen)


def test_another_setting_of_the_source_is_another_figure_of_all_that_starts_from_it() -> None:
    changed = dict(REAL.schedules)
    changed["demo_scratch"] = changed["demo_scratch"].model_copy(update={"epochs": 7})
    other = replace(REAL, schedules=changed)
    for trial in (SOURCE, Trial(SOURCE.model, 0, "bare"), Trial(SOURCE.model, 0, "warm", "taught", 2)):
        assert Told(REAL, trial).key != Told(other, trial).key
    detector = Trial("yolov8_n", 0, "warm", "taught", 2)
    assert Told(REAL, detector).key == Told(other, detector).key


@pytest.mark.slow
def test_a_killed_training_goes_on_and_a_result_is_not_measured_twice(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoo.training.hooks import Pace

    start, training = Trial(SOURCE.model, 0, "bare"), Trial(SOURCE.model, 0, "bare", "plain", 2)
    for each in (SOURCE, start):
        assert 0 <= measure(place, each)["value"] <= 1
    unbroken = measure(place, training)
    assert [line["epoch"] for line in unbroken["curve"]] == [1, 2]
    assert not place.work(training).exists()
    place.forget(training)
    assert not place.is_done(training)

    begun, before = [], Pace.before_train_epoch

    def counted(pace: Pace, runner: Any) -> None:
        begun.append(runner.epoch)
        if begun == [0, 1]:
            raise KeyboardInterrupt
        before(pace, runner)

    monkeypatch.setattr(Pace, "before_train_epoch", counted)
    with pytest.raises(KeyboardInterrupt):
        measure(place, training)
    assert place.result(training) is None
    resumed = measure(place, training)
    assert begun == [0, 1, 1]
    assert (resumed["value"], resumed["key"]) == (unbroken["value"], unbroken["key"])
    assert measure(place, training) == resumed
    assert begun == [0, 1, 1]
    assert set(place.results()) == {SOURCE, start, training}
    assert resumed["metrics"]["teaching"]["distillation"] is None
    anew = measure(place, replace(training, training="untaught"))  # the same training but for what it ends with
    assert (anew["value"], anew["settled"]) == (resumed["settled"], None)
    source, bare = (
        load_file(place.work(each) / weights)
        for each, weights in ((SOURCE, "source.safetensors"), (start, "initial.safetensors"))
    )
    assert bare.keys() < source.keys()  # without the gates'
    assert all(value.equal(source[name]) for name, value in bare.items())  # nothing is measured, nothing fitted
    assert sum("running_var" in name for name in bare) == 34
    place.file(start).write_text("{")  # a file that is not whole is no result
    assert not place.is_done(start)


@pytest.mark.slow
def test_the_command_measures_lists_and_says_how_the_goals_stand(checkout: Path) -> None:
    command = [sys.executable, "benchmarks/retention.py", "--models", SOURCE.model, "--seeds", "0", "--epochs", "0"]

    def called(*more: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        return subprocess.run(
            [*command, *more], cwd=checkout, env=environment, capture_output=True, text=True, check=False
        )

    assert "0 of 3 there" in called("--list").stdout
    ran = called("--jobs", "2")
    assert [line.split(":")[0] for line in ran.stdout.splitlines()[:1]] == [SOURCE.name], ran.stdout + ran.stderr
    assert "open: yolov8_n, after 2 epochs: not measured" in ran.stdout
    assert ran.returncode == int("missed" in ran.stdout)
    assert "3 of 3 there" in called("--list").stdout
    assert "top1" not in called().stdout  # nothing is measured again
    reported = called("--report")
    assert "mobilenet_v3_small, before training (b) keeps" in reported.stdout
    text = (checkout / "docs" / "retention.md").read_text()
    assert "Measured so far: 3 of 125 figures" in text
    assert (checkout / "docs" / "retention.svg").read_text().startswith("<svg")


def stand_in(place: Place, trial: Trial, value: float = 0.5, took: float = 10.0) -> None:
    """A result, and the weights that others would start from."""
    key, metric = Told(place.library, trial).key, "top1"
    write_json(place.file(trial), {"key": key, "metric": metric, "value": value, "seconds": took})
    place.work(trial).mkdir(parents=True, exist_ok=True)
    for weights in ("source.safetensors", "initial.safetensors"):
        (place.work(trial) / weights).touch()


def test_what_needs_a_failed_trial_is_not_tried_and_the_others_are(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = trials.experiment(["mobilenet_v3_small", "convnext_atto"], [0], [0, 2])
    broken = Trial("convnext_atto", 0, "bare")
    tried = []

    def told(place: Place, trial: Trial, processes: object) -> str:
        tried.append(trial)
        assert trial.needs is None or place.is_done(trial.needs)
        if trial == broken:
            return "failed (1): no"
        stand_in(place, trial)
        return ""

    monkeypatch.setattr(retention, "_tried", told)
    after = Trial("convnext_atto", 0, "bare", "plain", 2)
    assert retention.run(place, chosen, jobs=2) == {broken, after}
    assert sorted(tried, key=str) == sorted(set(chosen) - {after}, key=str)
    assert f"{after.name}: not tried, {broken.name} failed" in capsys.readouterr().out

    tried.clear()
    assert retention.run(place, chosen, jobs=1) == {broken, after}  # tried again, and nothing else
    assert tried == [broken]


def test_figures_that_the_repository_keeps_are_not_measured_again(place: Place, tmp_path: Path) -> None:
    chosen = trials.experiment([SOURCE.model], [0], [0, 2])
    bare = Trial(SOURCE.model, 0, "bare")
    for each in chosen:
        stand_in(place, each)
    kept = tmp_path / "kept.jsonl"
    retention_kept.write(kept, place.results())
    elsewhere = Place(tmp_path / "elsewhere", place.library, kept)
    assert set(elsewhere.results()) == set(chosen)
    assert elsewhere.missing(chosen) == []
    trained = Trial(SOURCE.model, 0, "bare", "plain", 2)
    elsewhere.forget(trained)  # measured anew, what it starts from is needed, and what that starts from
    assert elsewhere.missing(chosen) == [SOURCE, bare, trained]
    stand_in(elsewhere, SOURCE)
    assert elsewhere.missing(chosen) == [bare, trained]

    lines = kept.read_text().replace(Told(place.library, bare).key, "of other settings")
    kept.write_text(lines)
    changed = Place(tmp_path / "another", place.library, kept)
    assert bare not in changed.results()
    assert changed.missing(chosen) == [SOURCE, bare]


def test_times_are_guessed_from_what_was_measured(place: Place) -> None:
    trained = Trial(SOURCE.model, 0, "warm", "taught", 2)
    guess = seconds(place, [trained])[trained]
    stand_in(place, SOURCE, took=3 * seconds(place, [SOURCE])[SOURCE])
    assert seconds(place, [trained])[trained] == pytest.approx(3 * guess)
    again = replace(trained, seed=1)
    assert left(place, [trained, again], jobs=2) == left(place, [trained], jobs=2) == pytest.approx(3 * guess)
    assert retention.listed(place, [SOURCE, trained], 2)[-1].startswith("1 of 2 there")


def test_a_failed_trial_ends_with_one_line(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def diverges(place: Place, trial: Trial) -> dict[str, Any]:
        raise TrainingDiverged("the loss is nan")

    monkeypatch.setattr(retention, "measure", diverges)
    assert retention.in_process(place, SOURCE) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "the loss is nan"
