"""Shapes and types of values by ONNX's own inference, and the constants that they need of each other."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import TypeProto, helper, numpy_helper

from zoo.graph.constants import Constants, fold
from zoo.graph.inference import importable, infer
from zoo.graph.skeleton import Skeleton
from zoo.graph.steps import Step, graphs, steps
from zoo.graph.view import Dimension

ROUNDS = 20  # of inference and folding, each of which gives the other something to go on with
_INVENTED = re.compile(r"unk__\d+")  # names that inference gives dimensions of which it knows nothing


@dataclass(frozen=True)
class Known:
    """What can be told of values, by name."""

    dims: Mapping[str, tuple[Dimension, ...] | None]
    dtypes: Mapping[str, str | None]
    constants: Constants


def know(skeleton: Skeleton, opsets: Mapping[str, int]) -> tuple[Known, tuple[str, ...]]:
    """Shapes, types and constants of a skeleton whose names are settled, and notes on what inference cannot tell."""
    listed = tuple(steps(skeleton.model.graph))
    model = importable(skeleton.model, opsets)
    computed: Mapping[str, NDArray[Any]] = {}
    for _ in range(ROUNDS):
        inferred, failure = infer(model)
        types = _types(inferred.graph)
        dims = {name: _dims(found) for name, found in types.items()}
        constants = fold(listed, skeleton, dims, opsets)
        unknown = [name for step in listed for name in step.node.output if name and not _complete(dims.get(name))]
        if not unknown or constants.computed.keys() == computed.keys():
            break
        computed = constants.computed
        _give(model.graph, computed)
    returned = [value.name for value in skeleton.model.graph.output]
    dtypes = {name: _dtype(found) for name, found in types.items()}
    return Known(dims, dtypes, constants), _notes(failure, listed, types, returned)


def _notes(
    failure: str, listed: Sequence[Step], types: Mapping[str, TypeProto], returned: Iterable[str]
) -> tuple[str, ...]:
    """What inference complains about, and of how many tensors that somebody reads no shape is known."""
    notes = [f"Shape inference: {failure}"] if failure else []
    read = {name for step in listed for name in (*step.node.input, *step.returned)}.union(returned)
    made = [(step.node, name) for step in listed for name in step.node.output if name in read]
    tensors = [(node, name) for node, name in made if name and _may_be_tensor(types.get(name))]
    without = [(node, name) for node, name in tensors if name not in types or _dims(types[name]) is None]
    if without:
        node, name = without[0]
        count = f"{len(without)} of {len(tensors)} values"
        notes.append(f"No shape is known for {count}, first of '{name}' behind {node.op_type} '{node.name}'.")
    return tuple(notes)


def _may_be_tensor(found: TypeProto | None) -> bool:
    return found is None or found.WhichOneof("value") in (None, "tensor_type")


def _give(graph: onnx.GraphProto, computed: Mapping[str, NDArray[Any]]) -> None:
    """Put constants in the place of the nodes that compute them."""
    made = {name for node in graph.node for name in node.output if name}
    kept = onnx.GraphProto(
        node=[node for node in graph.node if any(name not in computed for name in node.output if name)]
    )
    del graph.node[:]
    graph.node.extend(kept.node)
    left = {name for node in kept.node for name in node.output}
    for name in sorted((made - left) & computed.keys()):
        graph.initializer.append(numpy_helper.from_array(computed[name], name))


def _types(graph: onnx.GraphProto) -> dict[str, TypeProto]:
    found: dict[str, TypeProto] = {}
    for each in graphs(graph):
        found |= {value.name: value.type for value in (*each.input, *each.output, *each.value_info)}
        for tensor in each.initializer:
            found[tensor.name] = helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
        for sparse in each.sparse_initializer:
            found[sparse.values.name] = helper.make_tensor_type_proto(sparse.values.data_type, sparse.dims)
    return found


def _dims(found: TypeProto) -> tuple[Dimension, ...] | None:
    if not found.HasField("tensor_type") or not found.tensor_type.HasField("shape"):
        return None
    return tuple(_dimension(size) for size in found.tensor_type.shape.dim)


def _dimension(size: onnx.TensorShapeProto.Dimension) -> Dimension:
    if size.HasField("dim_value"):
        return size.dim_value if size.dim_value >= 0 else None  # some exporters write -1 for what is dynamic
    return size.dim_param if size.dim_param and not _INVENTED.fullmatch(size.dim_param) else None


def _complete(dims: tuple[Dimension, ...] | None) -> bool:
    return dims is not None and all(isinstance(size, int) for size in dims)


def _dtype(found: TypeProto) -> str | None:
    kind = found.tensor_type.elem_type if found.HasField("tensor_type") else onnx.TensorProto.UNDEFINED
    if kind == onnx.TensorProto.STRING:
        return "str"
    try:
        return None if kind == onnx.TensorProto.UNDEFINED else str(helper.tensor_dtype_to_np_dtype(kind).name)
    except (KeyError, ValueError):
        return None
