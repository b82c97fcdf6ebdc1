"""Every recipe of the project, with random weights: after its own surgery its target refuses nothing but what it
leaves."""

from pathlib import Path

import pytest

import surgery
from zoo.checks.target import findings
from zoo.choosing import dry_run
from zoo.reading import library
from zoo.steps.surgery import _rules

ROOT = Path(__file__).parents[1]
LIBRARY = library.load(ROOT)
DEMO = LIBRARY.profiles["demo"]

pytestmark = pytest.mark.slow


def demo_size(name: str) -> int | None:
    """Pixels of the input in the demo profile."""
    own = DEMO.models.get(name)
    return (own and own.input_size) or DEMO.tasks[LIBRARY.recipes[name].task].input_size


def test_all_recipes_are_here() -> None:
    assert len(LIBRARY.recipes) == len(list((ROOT / "recipes").glob("*/*.yaml"))) >= 35


@pytest.mark.parametrize("name", sorted(LIBRARY.recipes))
def test_a_recipe_leaves_its_target_nothing_to_refuse(name: str) -> None:
    recipe = LIBRARY.recipes[name]
    with dry_run._built(name, None, "", ROOT, demo_size(name)) as (network, images, deployment):
        assert (deployment.target_name, deployment.device) == (recipe.target, recipe.device or "")
        automatic = recipe.surgery.rules == "auto"
        explanation = dry_run._chosen(network, images, deployment) if automatic else None
        rules, sites = _rules(recipe.surgery, explanation)
        lite, report = surgery.lite(network, rules, (images[:1],), [images], sites)
        assert report.is_lite == (recipe.surgery.expect == "edits")
        linted = deployment.report(lite, images[:1])
    assert [str(each) for each in findings(linted, recipe.left) if each.severity == "error"] == []
    assert linted.unknown_nodes == 0
