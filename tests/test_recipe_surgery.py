"""What a recipe may say of surgery: the rules alone or with settings, and the device that they are chosen for."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from zoo.errors import InvalidInput
from zoo.reading.references import problems
from zoo.reading.strict_yaml import load
from zoo.reading.validation import validate
from zoo.recipe import Recipe, Surgery, as_json

REST = {"source": {"library": "torchvision", "model": "resnet18"}, "task": "classification", "target": "generic_int8"}


def recipe(tmp_path: Path, surgery: Any, name: str = "x_lite") -> Path:
    folder = tmp_path / "recipes" / "torchvision"
    folder.mkdir(parents=True)
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump({**REST, "surgery": surgery}))
    return file


def wrong(tmp_path: Path, surgery: Any, name: str = "x_lite") -> list[str]:
    """Everything that reading says of such a recipe, beside what it says of others."""
    document = load(recipe(tmp_path, surgery, name), tmp_path)
    found = []
    try:
        validate(document, Recipe)
    except InvalidInput as error:
        found += error.problems
    documents = {"recipes": {name: document}, "profiles": {}, "datasets": {}, "schedules": {}}
    known = {"targets": {"generic_int8"}, "schedules": set(), "recipes": {name}, "datasets": set(), "profiles": set()}
    return [f"{each.path}: {each.fact}; {each.cure}" for each in (*found, *problems(documents, known))]


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("auto", {"rules": "auto"}),
        ("default", {"rules": "default"}),
        ("none", {"rules": "none", "expect": "no_edits"}),
        (["gate", "silu_to_relu"], {"rules": ["gate", "silu_to_relu"]}),
    ],
)
def test_rules_alone_are_short_for_a_mapping(short: Any, long: dict[str, Any]) -> None:
    read = Recipe.model_validate({**REST, "surgery": short}).surgery
    assert read == Surgery.model_validate(long)
    assert Surgery.model_validate(as_json(read)) == read


def test_without_a_word_the_default_rules_are_applied_to_all_devices() -> None:
    read = Recipe.model_validate(REST)
    assert (read.surgery.rules, read.surgery.expect, read.device) == ("default", "edits", None)
    assert Recipe.model_validate({**REST, "device": "AM62A"}).device == "AM62A"


@pytest.mark.parametrize("short", ["auto", "default", ["gate"], {"rules": "auto", "calibration_batches": 2}])
def test_what_a_recipe_may_say_is_not_complained_of(tmp_path: Path, short: Any) -> None:
    assert wrong(tmp_path, short) == []


def test_none_is_not_lite(tmp_path: Path) -> None:
    assert wrong(tmp_path / "a", "none", "x") == []
    (problem,) = wrong(tmp_path / "b", "none")
    assert problem == (
        "surgery.expect: expects no edits, so it is not lite, but is called 'x_lite'; "
        "rename the file without '_lite', or expect edits"
    )


@pytest.mark.parametrize(
    ("surgery", "place", "fact"),
    [
        ("autoo", "surgery", "should be 'auto', 'default' or 'none' or a list, not 'autoo'"),
        ([], "surgery", "a longer list"),
        (3, "surgery", "should be a mapping, not 3"),
        (["gate", 3], "surgery[1]", "should be text, not 3"),
        (["gate", "silu_to_rellu"], "surgery[1]", "unknown rule 'silu_to_rellu'; did you mean 'silu_to_relu'?"),
        ({"rules": ["silu_to_rellu"]}, "surgery.rules[0]", "did you mean 'silu_to_relu'?"),
        (["auto"], "surgery[0]", "stands for rules and is none; write it without brackets, or name rules"),
        ({"rules": "autoo"}, "surgery.rules", "did you mean 'auto'?"),
        ({"rule": "auto"}, "surgery.rule", "unknown field; did you mean 'rules'?"),
    ],
)
def test_what_is_wrong_is_said_where_it_stands(tmp_path: Path, surgery: Any, place: str, fact: str) -> None:
    (problem,) = wrong(tmp_path, surgery)
    assert problem.startswith(f"{place}: ")
    assert fact in problem


def test_a_device_is_a_name() -> None:
    with pytest.raises(ValidationError, match="device"):
        Recipe.model_validate({**REST, "device": "../AM62A"})


def test_the_schema_takes_both_ways_to_write_it() -> None:
    schema = Recipe.model_json_schema()
    surgery = schema["$defs"]["Surgery"]
    words, names, mapping = surgery["anyOf"]
    assert words["enum"] == ["auto", "default", "none"]
    assert (names["type"], mapping["type"]) == ("array", "object")
    assert set(mapping["properties"]) == {"rules", "expect", "calibration_batches", "warm_start"}
    assert mapping["additionalProperties"] is False
    assert "anyOf" in schema["properties"]["device"]
    assert json.dumps(schema)
