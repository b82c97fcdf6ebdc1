"""The digest of a target: it changes with what a lint depends on and with nothing else."""

from typing import Any

import pytest
from written_graphs import target_of

from zoo.targets.identity import digest


@pytest.mark.parametrize(
    "said",
    [
        {"versions": {"tools": "2"}},
        {"rewrites": {"by_default": ["larger pools"]}},
        {"detection_heads": {"6": "YOLOX"}},
        {"description": "Other words."},
        {"sources": [{"title": "Elsewhere."}]},
    ],
)
def test_words_for_people_do_not_change_it(said: dict[str, Any]) -> None:
    assert digest(target_of("Relu", **said)) == digest(target_of("Relu"))


@pytest.mark.parametrize("said", [{"opset": {"max": 19}}, {"ir_version": 8}, {"runtime": {"max_subgraphs": 3}}])
def test_what_a_lint_depends_on_changes_it(said: dict[str, Any]) -> None:
    assert digest(target_of("Relu", **said)) != digest(target_of("Relu"))
