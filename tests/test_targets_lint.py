"""What the profiles of configs/targets/ say of single nodes that their tables treat apart."""

import numpy as np
import onnx
import pytest
from onnx_nodes import node, quantised
from small_graphs import conv, model, value, weight
from small_graphs import node as written

from zoo.graph.reading import read as read_graph
from zoo.graph.view import Node
from zoo.linting.lint import lint
from zoo.linting.report import Report
from zoo.targets.reading import read


def report(made: onnx.ModelProto, target: str) -> Report:
    return lint(read_graph(made), read(target), model="m", target_name=target)


def broken(target: str, name: str, made: Node) -> list[str]:
    """Which limits of an operator or pattern a node breaks."""
    known = read(target)
    entry = known.operators.get(name) or known.patterns[name]
    return [limit.kind for limit in entry.limits if limit.broken(made)]


@pytest.mark.parametrize("target", ["tidl-10.0", "tidl-10.1", "tidl-11.0", "tidl-11.2"])
def test_layer_normalization_is_along_the_width(target: str) -> None:
    last = node("LayerNormalization", (1, 4, 8), np.ones(8, "float32"), axis=-1)
    more = node("LayerNormalization", (1, 4, 8), np.ones((4, 8), "float32"), axis=1)
    assert broken(target, "LayerNormalization", last) == []
    assert "axis_in" in broken(target, "LayerNormalization", more)


@pytest.mark.parametrize("target", ["tidl-8.6", "tidl-9.1"])
@pytest.mark.parametrize(("flat", "clean"), [(True, True), (False, False)])
def test_heads_are_joined_along_the_width_behind_a_flatten(target: str, flat: bool, clean: bool) -> None:
    """As SSD joins what it finds at all places."""
    between = [written("Flatten", "a", "af"), written("Flatten", "b", "bf")] if flat else []
    joined = written("Concat", "af bf" if flat else "a b", axis=1 if flat else 3)
    nodes = [conv("x w", "a", name="one"), conv("x w", "b", name="other"), *between, joined]
    assert report(model(nodes, [weight("w", 4, 3, 1, 1)], opset=11), target).clean is clean


@pytest.mark.parametrize(("side", "slow"), [(3, True), (12, True), (32, True), (1, False)])
def test_a_patch_embedding_of_any_size_is_slow(side: int, slow: bool) -> None:
    patches = conv("x w", "y", strides=[side, side])
    made = model([patches], [weight("w", 8, 3, side, side)], inputs=[value("x", (1, 3, 96, 96))], opset=16)
    found = report(made, "tidl-9.1")
    assert (found.clean, bool(found.of_severity("cost"))) == (True, slow)


@pytest.mark.parametrize(
    ("integers", "kinds"),
    [("int8", []), ("uint8", ["quantised_signs"]), ("int16", ["quantised_bits"])],
)
def test_layer_norm_takes_signed_tensors_of_8_bits(integers: str, kinds: list[str]) -> None:
    mean = quantised("ReduceMean", [integers], integers, keepdims=1, axes=[-1])
    assert broken("tidl-9.1", "layer_norm", mean) == kinds
