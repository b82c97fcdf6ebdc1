"""Every model of ONNX's own test cases is read, and what is said of its constants agrees with the constants."""

import warnings
from collections import Counter

import pytest
from onnx.backend.test.case.node import collect_testcases
from onnx.backend.test.case.test_case import TestCase

from zoo.graph.reading import read
from zoo.graph.view import NotKnown, Value

LEAST = 1500  # models that onnx 1.19 and later come with


def cases() -> list[TestCase]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(collect_testcases(None))


def agrees(value: Value) -> bool | None:
    """Whether a constant has the type and shape that are said of it; None where it is not known."""
    try:
        found = value.data()
    except NotKnown:
        return None
    known = value.dims is not None and all(isinstance(size, int) for size in value.dims)
    return (not known or found.shape == value.dims) and value.dtype in (None, "str", found.dtype.name)


@pytest.mark.slow
def test_every_model_of_onnx_is_read() -> None:
    models = [(case.name, case.model) for case in cases() if case.model is not None]
    counts: Counter[bool | None] = Counter()
    for name, model in models:
        graph = read(model)
        assert graph.nodes or not model.graph.node, name
        assert len({node.name for node in graph.nodes}) == len(graph.nodes), name
        made = [value for node in graph.nodes for value in node.outputs if value.is_constant]
        answers = {value.name: agrees(value) for value in made}
        assert False not in answers.values(), (name, answers)
        counts.update(answers.values())
    assert len(models) >= LEAST
    assert counts[True] > 3 * counts[None] > 0
