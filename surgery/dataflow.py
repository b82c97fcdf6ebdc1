"""What one module computes, as boxes and edges: the calls of its own forward and the children that it calls."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from surgery.errors import SurgeryError
from surgery.evidence import Evidence
from surgery.example import Example
from surgery.names import of_node
from surgery.rule import submodule
from surgery.shapes import example
from surgery.trace import Traced, Untraceable

_LONGEST = 26  # characters of arguments worth showing


@dataclass(frozen=True)
class Box:
    """One call: what it does, the child's name if it is one, the shape of its value if known."""

    label: str
    name: str = ""
    shape: tuple[int, ...] | None = None
    kind: str = "call"  # or input, output, parameter


@dataclass(frozen=True)
class Dataflow:
    """Boxes in the order of their calls; edges as pairs of their indices, from earlier to later."""

    boxes: tuple[Box, ...]
    edges: tuple[tuple[int, int], ...]


def dataflow(model: nn.Module, example_inputs: Any = None, site: str = "") -> Dataflow:
    """Of the module ``site`` of a model in eval mode; shapes where the model can be run on ``example_inputs``.

    A Sequential inside it is its layers. Raises LookupError where there is no such module, SurgeryError where its
    forward cannot be traced.
    """
    submodule(model, site)
    evidence = Evidence(model, Example.of(example_inputs), None)
    traced = evidence.traced(site)
    if isinstance(traced, Untraceable):
        raise SurgeryError(f"{site or 'the model'} cannot be drawn: {traced.reason}")
    return of_graph(traced, evidence, site)


def of_graph(traced: Traced, evidence: Evidence | None = None, site: str = "") -> Dataflow:
    """Of graphs that are traced already: what they do in eval mode."""
    boxes: list[Box] = []
    edges: list[tuple[int, int]] = []
    stands: dict[fx.Node, int] = {}
    for node in traced.evaluate.nodes:
        if not _is_drawn(node):
            continue
        chain = _boxes(node, evidence, site)
        first = len(boxes)
        boxes += chain
        edges += [(stands[source], first) for source in node.all_input_nodes if source in stands]
        edges += [(i, i + 1) for i in range(first, len(boxes) - 1)]
        stands[node] = len(boxes) - 1
    return Dataflow(tuple(boxes), tuple(edges))


def _is_drawn(node: fx.Node) -> bool:
    """Tensors only: sizes are arguments."""
    if node.op in {"output", "call_module"}:
        return True
    value = example(node)
    if node.op in {"placeholder", "get_attr"}:
        return bool(node.users) and (value is None or isinstance(value, Tensor | tuple | list))
    if value is None:
        return of_node(node) not in {"size", "getattr", "dim"}
    return isinstance(value, Tensor) or (
        isinstance(value, tuple | list) and isinstance(next(iter(value), None), Tensor)
    )


def _boxes(node: fx.Node, evidence: Evidence | None, site: str) -> list[Box]:
    shape = _shape(example(node))
    if node.op == "output":
        return [Box("output", kind="output", shape=_shape(fx.node.map_arg(node.args[0], example)))]
    if node.op == "placeholder":
        return [Box(str(node.target).lstrip("*"), kind="input", shape=shape)]
    if node.op == "get_attr":
        return [Box(str(node.target), kind="parameter", shape=shape)]
    if node.op == "call_module":
        owner = node.graph.owning_module
        return _of_child(owner.get_submodule(str(node.target)), str(node.target), shape, evidence, site)  # type: ignore[union-attr]
    return [Box(_call_label(node), shape=shape)]


def _of_child(
    module: nn.Module, name: str, shape: tuple[int, ...] | None, evidence: Evidence | None, site: str
) -> list[Box]:
    if not isinstance(module, nn.Sequential) or type(module).forward is not nn.Sequential.forward or not len(module):
        return [Box(module_label(module), name, shape)]
    found: list[Box] = []
    for key, child in module.named_children():
        run = evidence.run(f"{site}.{name}.{key}".lstrip(".")) if evidence is not None else None
        inner = None if run is None else _shape(run.output)
        found += _of_child(child, f"{name}.{key}", inner, evidence, site)
    return found


def _shape(value: Any) -> tuple[int, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor) else None


def module_label(module: nn.Module) -> str:
    """The class and what one asks of it first: ``Conv2d 7x7, stride 2, groups 16``."""
    kernel = _pair(getattr(module, "kernel_size", None))
    parts = [f"{type(module).__name__} {kernel[0]}x{kernel[1]}" if kernel else type(module).__name__]
    for setting in ("stride", "dilation", "groups"):
        value = getattr(module, setting, 1)
        pair = _pair(value)
        if kernel and pair and set(pair) != {1}:
            parts.append(f"{setting} {pair[0] if pair[0] == pair[1] else value}")
    if isinstance(module, nn.Linear):
        parts = [f"Linear {module.in_features} → {module.out_features}"]
    return ", ".join(parts)


def _pair(value: Any) -> tuple[int, int] | None:
    if isinstance(value, int):
        return value, value
    return (value[0], value[1]) if isinstance(value, tuple) and len(value) == 2 else None


def _call_label(node: fx.Node) -> str:
    """The operation and its numbers, where these are all of its arguments but one."""
    numbers = [str(a) for a in node.args if not _holds_nodes(a)]
    numbers += [f"{key}={value}" for key, value in node.kwargs.items() if not _holds_nodes(value) and value is not None]
    text = ", ".join(numbers)
    name = of_node(node) or str(node.target)
    alone = sum(map(_holds_nodes, [*node.args, *node.kwargs.values()])) < 2
    return f"{name} {text}" if text and alone and len(text) <= _LONGEST else name


def _holds_nodes(value: Any) -> bool:
    found: list[fx.Node] = []
    fx.node.map_arg(value, found.append)
    return bool(found)
