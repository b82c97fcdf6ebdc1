"""Gates in a graph: products of an image's channels with one factor each, made from the image's means."""

from collections.abc import Iterator, Mapping

from zoo.graph.view import Graph, Node, Value
from zoo.linting.matching import ONNX

_POOLS = frozenset({"GlobalAveragePool", "ReduceMean", "AveragePool"})


def gates(graph: Graph) -> Mapping[int, str]:
    """The surgery rule that would take a gate away, by the id of each node of the gate.

    Where a layer does nothing but gate its input it goes as a whole, else the product in its forward.
    """
    found: dict[int, str] = {}
    for product in graph.nodes:
        if product.op == "Mul" and product.domain in ONNX and len(product.variables) == 2:
            for gated, factor in (product.variables, product.variables[::-1]):
                if _is_flat(factor) and _is_image(gated):
                    rule = _rule(graph, product, gated)
                    found |= {id(node): rule for node in (product, *_makers(graph, factor))}
    return found


def _rule(graph: Graph, product: Node, gated: Value) -> str:
    maker = graph.producers.get(gated.name)
    layer = product.module
    inside = bool(layer) and maker is not None and f"{maker.module}.".startswith(f"{layer}.")
    return "gate" if inside else "squeeze_excite"


def _makers(graph: Graph, factor: Value) -> Iterator[Node]:
    """What makes the factors, back to the pooling of the image."""
    waiting, seen = [factor.name], set[int]()
    while waiting:
        node = graph.producers.get(waiting.pop())
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if node.op not in _POOLS:
            waiting += [value.name for value in node.variables if _is_flat(value) or _is_listed(value)]


def _is_flat(value: Value) -> bool:
    """(N, C, 1, 1), an image of one place."""
    return value.dims is not None and len(value.dims) == 4 and value.dims[2:] == (1, 1)


def _is_listed(value: Value) -> bool:
    """(N, C), between a flatten and a reshape."""
    return value.dims is not None and len(value.dims) == 2


def _is_image(value: Value) -> bool:
    return value.dims is not None and len(value.dims) == 4 and value.dims[2:] != (1, 1)
