"""What is the same for every input of a model, and the small part of it that can be computed without running it."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper
from onnx.reference import ReferenceEvaluator

from zoo.graph.skeleton import SMALL, Skeleton, bodies
from zoo.graph.steps import Step, graphs
from zoo.graph.view import Dimension, NotKnown

Constant = Callable[[], NDArray[Any]]
Dims = Mapping[str, tuple[Dimension, ...] | None]

# Not the same each time, though they may read nothing but constants.
RANDOM = frozenset({"Bernoulli", "Dropout", "Multinomial"}) | {
    f"Random{kind}{form}" for kind in ("Normal", "Uniform") for form in ("", "Like")
}
# What shapes, axes and factors are computed with; cheap whatever their operands are.
FOLDED = frozenset(
    {"Abs", "Add", "And", "Cast", "CastLike", "Ceil", "Clip", "Concat", "ConstantOfShape", "Div", "Equal", "Expand"}
    | {"Flatten", "Floor", "Gather", "GatherElements", "GatherND", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"}
    | {"Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Pow", "Range", "Reciprocal", "ReduceMax", "ReduceMin", "Round"}
    | {"ReduceProd", "ReduceSum", "Reshape", "ScatterElements", "ScatterND", "Sign", "Slice", "Split", "Sqrt", "Sub"}
    | {"Squeeze", "Tile", "Transpose", "Unsqueeze", "Where", "Xor", "QuantizeLinear", "DequantizeLinear"}
)
# The opset from which on the evaluator knows an operator; what the earlier ones say is the same where they say it.
_SINCE = {"QuantizeLinear": 19, "DequantizeLinear": 19}


@dataclass(frozen=True)
class Constants:
    """Readers of all constants, and those among them that were computed here, by name."""

    readers: Mapping[str, Constant]
    computed: Mapping[str, NDArray[Any]]


def fold(listed: Sequence[Step], skeleton: Skeleton, dims: Dims, opsets: Mapping[str, int]) -> Constants:
    """All constants of a model whose nodes are listed in order; weights are not read, but for small ones."""
    readers: dict[str, Constant] = {}
    for graph in graphs(skeleton.model.graph):
        readers |= {tensor.name: skeleton.reader(tensor) for tensor in graph.initializer}
        readers |= {sparse.values.name: skeleton.reader(sparse) for sparse in graph.sparse_initializer}
    computed: dict[str, NDArray[Any]] = {}
    shapes: dict[str, tuple[Dimension, ...]] = {}  # what Shape gives, where not all of it is known
    for step in listed:
        node = step.node
        if node.domain or node.op_type in RANDOM or any(bodies(node)):
            continue
        if node.op_type in ("Shape", "Size"):
            _measure(node, dims, computed, shapes)
        elif node.op_type == "Constant":
            readers[node.output[0]] = _written(node, skeleton)
        elif node.op_type == "Gather" and node.input[0] in shapes:
            _pick(node, shapes, readers, computed)
        elif node.input and all(name in readers for name in node.input if name):
            readers |= _derived(node, dims, readers, computed, opsets)
        readers |= {name: _given(computed[name]) for name in node.output if name in computed}
    return Constants(readers, computed)


def _given(array: NDArray[Any]) -> Constant:
    return lambda: array


def _refused(name: str, reason: str) -> Constant:
    def refuse() -> NDArray[Any]:
        raise NotKnown(f"the data of {name}, {reason}")

    return refuse


def _written(node: onnx.NodeProto, skeleton: Skeleton) -> Constant:
    """The data of a Constant."""
    name = node.output[0]
    for attribute in node.attribute:
        if attribute.HasField("t"):
            return skeleton.reader(attribute.t)
        if attribute.HasField("sparse_tensor"):
            return skeleton.reader(attribute.sparse_tensor)
        kind = {"i": np.int64, "f": np.float32, "s": np.object_}.get(attribute.name.removeprefix("value_")[:1])
        if kind and not attribute.ref_attr_name:
            return _given(np.asarray(helper.get_attribute_value(attribute), dtype=kind))
    return _refused(name, "which its Constant does not have")


def _measure(
    node: onnx.NodeProto, dims: Dims, computed: dict[str, NDArray[Any]], shapes: dict[str, tuple[Dimension, ...]]
) -> None:
    """Shape and Size, of values that need not be constant themselves."""
    known = dims.get(node.input[0]) if node.input else None
    if known is None:
        return
    if node.op_type == "Shape":
        ends = {attribute.name: attribute.i for attribute in node.attribute}
        known = known[ends.get("start", 0) : ends.get("end", len(known))]
    sizes = [size for size in known if isinstance(size, int)]
    if len(sizes) < len(known):
        if node.op_type == "Shape":
            shapes[node.output[0]] = known
        return
    computed[node.output[0]] = np.array(sizes if node.op_type == "Shape" else prod(sizes), dtype=np.int64)


def _pick(
    node: onnx.NodeProto,
    shapes: Mapping[str, tuple[Dimension, ...]],
    readers: Mapping[str, Constant],
    computed: dict[str, NDArray[Any]],
) -> None:
    """Gather known sizes from a shape that is not known as a whole, such as the width of any number of images."""
    reader = readers.get(node.input[1])
    try:
        indices = reader() if reader else None
        picked = None if indices is None else np.array(shapes[node.input[0]], dtype=object)[indices]
    except (NotKnown, IndexError):
        return
    sizes = np.asarray(picked, dtype=object)
    if all(isinstance(size, int) for size in sizes.flat):
        computed[node.output[0]] = sizes.astype(np.int64)


def _derived(
    node: onnx.NodeProto,
    dims: Dims,
    readers: Mapping[str, Constant],
    computed: dict[str, NDArray[Any]],
    opsets: Mapping[str, int],
) -> dict[str, Constant]:
    """Readers of what a node makes of constants; ``computed`` gets what is small enough to compute at once."""
    if node.op_type == "Identity":
        return {node.output[0]: readers[node.input[0]]}
    names = [name for name in node.output if name]
    if node.op_type not in FOLDED or not all(_small(dims.get(name)) for name in [*filter(None, node.input), *names]):
        return {name: _refused(name, "which the model computes from constants") for name in names}
    try:
        computed |= _run(node, {name: readers[name]() for name in node.input if name}, opsets)
    # The evaluator raises errors of every kind on what is not valid; a constant that cannot be computed is not known.
    except Exception as error:
        return {name: _refused(name, f"which cannot be computed: {error}") for name in names}
    return {}


def _small(dims: tuple[Dimension, ...] | None) -> bool:
    sizes = [size for size in dims or () if isinstance(size, int)]
    return dims is not None and len(sizes) == len(dims) and prod(sizes) <= SMALL


def _run(node: onnx.NodeProto, given: Mapping[str, NDArray[Any]], opsets: Mapping[str, int]) -> dict[str, NDArray[Any]]:
    names = [name for name in node.output if name]
    inputs = [helper.make_value_info(name, onnx.TypeProto()) for name in given]
    graph = helper.make_graph(
        [node], "node", inputs, [helper.make_value_info(name, onnx.TypeProto()) for name in names]
    )
    opset = max(opsets[""], _SINCE.get(node.op_type, 1))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        results = ReferenceEvaluator(model).run(names, dict(given))
    return {name: np.asarray(result) for name, result in zip(names, results, strict=True)}
