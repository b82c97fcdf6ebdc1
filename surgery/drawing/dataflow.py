"""What one module computes, as boxes and edges: the calls of its own forward and the children that it calls."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from surgery.errors import SurgeryError
from surgery.observing.evidence import Evidence
from surgery.observing.names import of_node
from surgery.observing.shapes import example
from surgery.observing.trace import Traced, Untraceable
from surgery.operating.example import Example
from surgery.rule import submodule

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


def dataflow(model: nn.Module, example_inputs: Any = None, site: str = "", inside: bool = False) -> Dataflow:
    """Of the module ``site`` of a model in eval mode; shapes where the model can be run on ``example_inputs``.

    A Sequential inside it is its layers; with ``inside`` other modules that hold modules are what they compute. Raises
    LookupError where there is no such module, SurgeryError where its forward cannot be traced.
    """
    submodule(model, site)
    evidence = Evidence(model, Example.of(example_inputs), None)
    traced = evidence.traced(site)
    if isinstance(traced, Untraceable):
        raise SurgeryError(f"{site or 'the model'} cannot be drawn: {traced.reason}")
    return of_graph(traced, evidence, site, inside)


def of_graph(traced: Traced, evidence: Evidence | None = None, site: str = "", inside: bool = False) -> Dataflow:
    """Of graphs that are traced already: what they do in eval mode."""
    flow = _Flow(evidence, site, inside)
    flow.add(traced.evaluate, "", None)
    return Dataflow(tuple(flow.boxes), tuple(flow.edges))


# The boxes whose values one value is made of: several where it is a tuple, none where it is no tensor.
_Stand = tuple[int, ...]


class _Flow:
    """Boxes and edges as they are found."""

    def __init__(self, evidence: Evidence | None, site: str, inside: bool) -> None:
        self.boxes: list[Box] = []
        self.edges: list[tuple[int, int]] = []
        self._evidence = evidence
        self._site = site
        self._inside = inside

    def add(self, graph: fx.Graph, prefix: str, inputs: dict[str, _Stand] | None) -> _Stand:
        """The calls of a graph; ``inputs`` tells where those of a module inside come from. Returns its output."""
        stands: dict[fx.Node, _Stand] = {}
        for node in graph.nodes:
            if inputs is not None and node.op == "placeholder":
                stands[node] = inputs.get(str(node.target), ())
            elif inputs is not None and node.op == "output":
                return _of_nodes(node.all_input_nodes, stands)
            elif _is_drawn(node):
                stands[node] = self._node(node, prefix, stands)
        return ()

    def _node(self, node: fx.Node, prefix: str, stands: dict[fx.Node, _Stand]) -> _Stand:
        sources = _of_nodes(node.all_input_nodes, stands)
        shape = _shape(example(node))
        if node.op == "call_module":
            owner = node.graph.owning_module
            module = owner.get_submodule(str(node.target))  # type: ignore[union-attr]
            return self._child(module, f"{prefix}{node.target}", shape, sources, (node, stands))
        if node.op == "output":
            shape = _shape(fx.node.map_arg(node.args[0], example))
            return self._box(Box("output", kind="output", shape=shape), sources)
        if node.op == "placeholder":
            return self._box(Box(str(node.target).lstrip("*"), kind="input", shape=shape), sources)
        if node.op == "get_attr":
            return self._box(Box(f"{prefix}{node.target}", kind="parameter", shape=shape), sources)
        return self._box(Box(_call_label(node), shape=shape), sources)

    def _child(
        self,
        module: nn.Module,
        name: str,
        shape: tuple[int, ...] | None,
        sources: _Stand,
        call: tuple[fx.Node, dict[fx.Node, _Stand]] | None,
    ) -> _Stand:
        if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
            for key, child in module.named_children():
                run = self._evidence.run(self._full(f"{name}.{key}")) if self._evidence is not None else None
                sources = self._child(
                    child, f"{name}.{key}", None if run is None else _shape(run.output), sources, None
                )
            return sources
        if self._inside and self._evidence is not None and next(module.children(), None) is not None:
            traced = self._evidence.traced(self._full(name))
            if isinstance(traced, Traced):
                return self.add(traced.evaluate, f"{name}.", _received(traced.evaluate, sources, call))
        return self._box(Box(module_label(module), name, shape), sources)

    def _full(self, name: str) -> str:
        return f"{self._site}.{name}".lstrip(".")

    def _box(self, box: Box, sources: _Stand) -> _Stand:
        self.boxes.append(box)
        self.edges += [(source, len(self.boxes) - 1) for source in sources]
        return (len(self.boxes) - 1,)


def _of_nodes(nodes: Sequence[fx.Node], stands: dict[fx.Node, _Stand]) -> _Stand:
    return tuple(dict.fromkeys(box for node in nodes for box in stands.get(node, ())))


def _received(
    graph: fx.Graph, sources: _Stand, call: tuple[fx.Node, dict[fx.Node, _Stand]] | None
) -> dict[str, _Stand]:
    """What each argument of a module inside stands for; the first takes all where no call is known."""
    names = [str(node.target) for node in graph.nodes if node.op == "placeholder"]
    if call is None:
        return dict(zip(names, [sources], strict=False))
    node, stands = call
    given = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
    return {name: _of_nodes(_nodes(value), stands) for name, value in given.items()}


def _is_drawn(node: fx.Node) -> bool:
    """Tensors only: sizes are arguments."""
    if node.op in {"output", "call_module"}:
        return True
    value = example(node)
    if node.op in {"placeholder", "get_attr"}:
        return bool(node.users) and (value is None or isinstance(value, Tensor | tuple | list))
    if value is None:
        return of_node(node) not in {"size", "getattr", "dim", "assert"}
    return isinstance(value, Tensor) or (
        isinstance(value, tuple | list) and isinstance(next(iter(value), None), Tensor)
    )


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
    """The operation and its settings, where these are all of its arguments but one."""
    settings = [_written(value) for value in node.args if not _nodes(value)]
    settings += [f"{key}={_written(value)}" for key, value in node.kwargs.items() if value and not _nodes(value)]
    text = ", ".join(settings)
    name = of_node(node) or str(node.target)
    alone = sum(bool(_nodes(value)) for value in [*node.args, *node.kwargs.values()]) < 2
    return f"{name} {text}" if text and alone and len(text) <= _LONGEST else name


def _written(value: Any) -> str:
    """As in code; an index without its brackets."""
    if value is Ellipsis:
        return "..."
    if isinstance(value, slice):
        parts = ["" if part is None else str(part) for part in (value.start, value.stop, value.step)]
        return ":".join(parts if parts[2] else parts[:2])
    if isinstance(value, tuple) and any(isinstance(item, slice) for item in value):
        return ", ".join(map(_written, value))
    return str(value)


def _nodes(value: Any) -> list[fx.Node]:
    found: list[fx.Node] = []
    fx.node.map_arg(value, found.append)
    return found
