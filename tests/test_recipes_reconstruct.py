"""Every recipe that a profile's schedule reconstructs, with random weights: its lite model can be reconstructed."""

from pathlib import Path

import pytest
from test_recipes_lint import LIBRARY, demo_size

import surgery
from zoo import plan
from zoo.choosing import dry_run
from zoo.steps.surgery import _rules

ROOT = Path(__file__).parents[1]
TRANSFORMERS = {"swin_t_lite", "vit_tiny_patch16_224_lite"}  # whose recipes ask for none


def asked(name: str, profile: str) -> int:
    """Steps that the surgery step is told."""
    settings = plan.STEPS["surgery"].settings(plan.model(LIBRARY, name, profile))
    return int(settings["surgery"]["warm_start"]["reconstruction_steps"])


ASKED = sorted(
    name
    for name, recipe in LIBRARY.recipes.items()
    if recipe.surgery.expect == "edits" and any(asked(name, profile) for profile in LIBRARY.profiles)
)

pytestmark = pytest.mark.slow


def test_all_convolutional_classifiers_are_asked_for() -> None:
    recipes = LIBRARY.recipes.items()
    classifiers = {name for name, each in recipes if (each.task, each.surgery.expect) == ("classification", "edits")}
    assert set(ASKED) == classifiers - TRANSFORMERS
    assert len(ASKED) >= 15
    assert {(asked(name, "demo"), asked(name, "full")) for name in ASKED} == {(150, 600)}


@pytest.mark.parametrize("name", ASKED)
def test_blocks_come_closer(name: str) -> None:
    recipe = LIBRARY.recipes[name]
    with dry_run._built(name, None, "", ROOT, demo_size(name)) as (network, images, deployment):
        automatic = recipe.surgery.rules == "auto"
        explanation = dry_run._chosen(network, images, deployment) if automatic else None
        rules, sites = _rules(recipe.surgery, explanation)
        lite, report = surgery.lite(network, rules, (images[:1],), [images], sites)
        told = surgery.reconstruct(lite, network, [images], 10)
        surgery.lengthen(lite, network, report.plan, (images[:1],))
    assert len(told.blocks) > 1
    assert sum(block.after for block in told.blocks) < sum(block.before for block in told.blocks)
    assert all(value.isfinite().all() for value in lite.state_dict().values())
