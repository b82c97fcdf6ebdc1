"""Surgery rules that keep an operator and give it settings that a device takes, by the limit that is broken."""

from collections.abc import Iterator

from zoo.graph.view import NOT_TOLD, Graph, Node
from zoo.linting.matching import ONNX
from zoo.targets.operators.axes import FROM_END, axes
from zoo.targets.operators.parameters import attribute, parameter
from zoo.targets.operators.scales import scales
from zoo.targets.operators.window import is_depthwise, kernel, strides

_WINDOW = frozenset({"forbidden_window", "allowed_windows"})
_INTERPOLATION = frozenset({"allowed_resize", "forbidden_resize", "attribute_in", "attribute_not_in"})
_LARGEST = {"Conv": 5, "MaxPool": 3, "AveragePool": 3}  # sides that surgery's rules leave
_SPLIT = {"Conv": "split_large_kernel", "MaxPool": "split_max_pool", "AveragePool": "split_avg_pool"}


def rule_for(graph: Graph, node: Node, limit: str) -> str:
    """The rule's name; "" where there is none, or where the file does not tell what decides it."""
    if node.domain not in ONNX:
        return ""
    try:
        if node.op in _SPLIT and limit in _WINDOW:
            return _of_window(node)
        if node.op in ("Resize", "Upsample"):
            return _of_resize(node, limit)
        if node.op == "Slice":
            halved = 2 in (parameter(node, "steps") or ()) and set(axes(node)) <= {-1, -2}
            return "focus_to_conv" if halved and _is_of_image(graph, node) else ""
    except NOT_TOLD:
        return ""
    along_axes = node.op in ("Softmax", "LogSoftmax") and limit in ("axis_in", "axis_not_in")
    return "softmax_last_axis" if along_axes else ""


def _of_window(node: Node) -> str:
    sides = kernel(node)
    if node.op == "Conv" and max(sides) > 3 and max(strides(node)) > 1 and is_depthwise(node):
        return "split_kernel_to_3x3"
    if max(sides) > _LARGEST[node.op]:
        return _SPLIT[node.op]
    even = node.op == "Conv" and any(side % 2 == 0 for side in sides) and sides != strides(node)
    return "even_kernel_to_odd" if even else ""


def _is_of_image(graph: Graph, cut: Node) -> bool:
    """Whether what is cut out is put together along the channels of an image, not along those that stand last."""
    return all(set(axes(joined)) == {FROM_END["channel"]} for joined in _joined(graph, cut))


def _joined(graph: Graph, cut: Node) -> Iterator[Node]:
    """The concatenations of what one Slice, or several in turn, cut out, each once."""
    waiting, seen = [cut], {id(cut)}
    while waiting:
        made = waiting.pop().outputs
        for reader in (each for value in made for each in graph.consumers.get(value.name, ())):
            if id(reader) in seen:
                continue
            seen.add(id(reader))
            if reader.op == "Concat":
                yield reader
            elif reader.op == "Slice":
                waiting.append(reader)


def _of_resize(node: Node, limit: str) -> str:
    nearest = attribute(node, "mode") == "nearest"
    if limit in _INTERPOLATION:
        return "resize_by_factor" if nearest else "resize_to_supported"
    if limit == "resize_scale" and all(factor == int(factor) for factor in scales(node)):
        return "split_resize" if nearest else "split_bilinear_resize"
    return "resize_by_factor"
