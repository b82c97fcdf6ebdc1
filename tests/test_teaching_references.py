"""What schedules say of the source's part in a training, refused where it cannot be or would do nothing."""

from pathlib import Path

import pytest
from small_checkout import PROFILE, PROFILE_TEXT, RECIPE, RECIPE_TEXT, SCHEDULE, SCHEDULE_TEXT, TEXTS, write

from zoo.errors import InvalidInput
from zoo.reading import library

OTHER = SCHEDULE.replace("short", "other")
TUNED = {PROFILE: PROFILE_TEXT.replace("train: short", "train: other")}


def complaints(root: Path, files: dict[str, str]) -> list[str]:
    write(root, TEXTS | files)
    with pytest.raises(InvalidInput) as caught:
        library.load(root)
    return [str(problem) for problem in caught.value.problems]


def schedule(lines: str, epochs: int = 4) -> str:
    return SCHEDULE_TEXT.replace("epochs: 1", f"epochs: {epochs}") + lines


@pytest.mark.parametrize(
    "lines",
    [
        "anneal_epochs: 3\n",
        "anneal_epochs: 2.5\ndistillation: null\n",
        "distillation: {weight: 0, features: 0.5}\n",
        "compile: true\ndistillation: {weight: 1, features: 0}\nanneal_epochs: 0\n",
    ],
)
def test_what_can_be_done_loads(tmp_path: Path, lines: str) -> None:
    loaded = library.load(write(tmp_path, TEXTS | TUNED | {OTHER: schedule(lines)}))
    assert loaded.schedules["other"].epochs == 4


def test_annealing_beyond_the_end_is_refused(tmp_path: Path) -> None:
    assert complaints(tmp_path, TUNED | {OTHER: schedule("anneal_epochs: 4.5\n"), RECIPE: _alone()}) == [
        f"{OTHER}:6: anneal_epochs: 4.5 epochs are more than the schedule's 4: the activations would not become ReLU; "
        "lower it, or raise epochs"
    ]


@pytest.mark.parametrize("place", ["profile", "profile's model", "recipe"])
def test_a_recipe_shorter_than_its_annealing_is_refused(tmp_path: Path, place: str) -> None:
    files = {OTHER: schedule("anneal_epochs: 3.5\n")}
    line = 9
    if place == "profile":
        files |= TUNED
    elif place == "recipe":
        files[RECIPE] = RECIPE_TEXT.replace("  epochs: 3", "  schedule: other\n  epochs: 3")
        line = 10
    else:
        files[PROFILE] = PROFILE_TEXT + "models:\n  mobilenet_v2_lite: {train: other}\n"
    assert complaints(tmp_path, files) == [
        f"{RECIPE}:{line}: train.epochs: 3 epochs are fewer than the 3.5 that schedule 'other' anneals for; "
        "raise it, or name another schedule"
    ]


def test_a_profiles_own_schedule_for_the_model_is_the_one_that_counts(tmp_path: Path) -> None:
    files = TUNED | {OTHER: schedule("anneal_epochs: 3.5\n")}
    files[PROFILE] += "models:\n  mobilenet_v2_lite: {train: short}\n"
    assert library.load(write(tmp_path, TEXTS | files)).recipes["mobilenet_v2_lite"].train.epochs == 3


@pytest.mark.parametrize(("field", "verb"), [("anneal_epochs", "anneal"), ("reconstruction_steps", "reconstruct")])
@pytest.mark.parametrize("part", ["tasks", "models"])
def test_a_source_has_nothing_that_surgery_replaced(tmp_path: Path, part: str, field: str, verb: str) -> None:
    text = PROFILE_TEXT.replace("baseline: short", "baseline: other")
    if part == "models":
        text = PROFILE_TEXT + "models:\n  mobilenet_v2_lite: {baseline: other}\n"
    name, line = ("classification", 7) if part == "tasks" else ("mobilenet_v2_lite", 13)
    assert complaints(tmp_path, {PROFILE: text, OTHER: schedule(f"{field}: 1\n")}) == [
        f"{PROFILE}:{line}: {part}.{name}.baseline: 'other' has {field}, and a source has nothing to {verb}; "
        f"name another, or remove it from {OTHER}"
    ]


@pytest.mark.parametrize("features", ["", ", features: 0", ", features: 0.0"])
def test_a_source_that_teaches_nothing_is_refused(tmp_path: Path, features: str) -> None:
    assert complaints(tmp_path, {OTHER: schedule(f"distillation: {{weight: 0{features}}}\n")}) == [
        f"{OTHER}:6: distillation.weight: without features nothing is taught; "
        "give features a weight, or write 'distillation: null'"
    ]


def test_a_compiled_model_can_neither_be_annealed_nor_taught_by_features(tmp_path: Path) -> None:
    lines = "compile: true\nanneal_epochs: 1\ndistillation: {features: 0.5}\n"
    found = complaints(tmp_path, {OTHER: schedule(lines)})
    assert [each.partition(" stands beside compile: ")[0] for each in found] == [
        f"{OTHER}:7: anneal_epochs:",
        f"{OTHER}:8: distillation.features:",
    ]
    assert all(each.endswith("; remove one of the two") for each in found)


@pytest.mark.parametrize(
    ("lines", "place"),
    [
        ("anneal_epochs: -1\n", "anneal_epochs"),
        ("anneal_epochs: often\n", "anneal_epochs"),
        ("reconstruction_steps: -1\n", "reconstruction_steps"),
        ("reconstruction_steps: 1.5\n", "reconstruction_steps"),
        ("distillation: {features: -0.5}\n", "distillation.features"),
        ("distillation: {weight: true}\n", "distillation.weight"),
        ("distillation: [features]\n", "distillation"),
    ],
)
def test_what_is_no_such_value_is_one_problem_and_no_other(tmp_path: Path, lines: str, place: str) -> None:
    (found,) = complaints(tmp_path, {OTHER: schedule(lines)})
    assert found.startswith(f"{OTHER}:6: {place}: ")


def _alone() -> str:
    """The recipe with its schedule's own epochs."""
    return RECIPE_TEXT.replace("train:\n  epochs: 3\n", "")
