"""The guide to recipes is true: its YAML is what a recipe may say, its messages are what is said."""

import re
from pathlib import Path
from typing import Any

import yaml
from small_checkout import RECIPE_TEXT

from zoo.recipe import Accept, Recipe, WarmStart
from zoo.releases.acceptance import acceptance, refusal

GUIDE = (Path(__file__).parents[1] / "docs/guides/recipes.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```", GUIDE)


def recipes() -> list[Recipe]:
    """Each YAML block as a part of a whole recipe."""
    base: dict[str, Any] = yaml.safe_load(RECIPE_TEXT)
    return [Recipe.model_validate(base | yaml.safe_load(block)) for block in blocks("yaml")]


def test_its_yaml_is_what_recipes_may_say() -> None:
    accepts, warms = recipes()
    assert accepts.accept == Accept(lost_at_most=0.02, at_least={"full": 0.72})
    assert warms.surgery.warm_start == WarmStart()
    assert warms.surgery == Recipe.model_validate(yaml.safe_load(RECIPE_TEXT)).surgery


def test_its_refusal_is_the_one_that_is_said() -> None:
    found = acceptance(Accept(lost_at_most=0.02, at_least={"demo": 0.2}), "demo", 0.15, 0.15)
    assert found is not None
    said = refusal(found, "top1", "40 validation images of digit_scenes (profile demo)")
    assert GUIDE.count(f"recipes/torchvision/mobilenet_v3_small_lite.yaml: accept: {said}\n") == 2


def test_its_table_has_the_parts_that_a_warm_start_measures() -> None:
    parts = re.findall(r"(?m)^\| `(\w+)` \|", GUIDE)
    assert parts[:3] == ["gates", "norms", "statistics"]
    assert set(parts) <= set(WarmStart.model_fields)
