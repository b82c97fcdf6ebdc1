"""A model as its target sees it: what is refused, by the layers of the model that surgery operates on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch import nn

from zoo.graph.view import Graph, Node
from zoo.linting.left import reason
from zoo.linting.report import Finding, Report

# ATen operators that a node may come from, where the file does not say.
_SOURCES: Mapping[str, frozenset[str]] = {
    "Conv": frozenset({"convolution", "conv2d"}),
    "ConvTranspose": frozenset({"convolution", "conv_transpose2d"}),
    "MaxPool": frozenset({"max_pool2d"}),
    "AveragePool": frozenset({"avg_pool2d"}),
    "GlobalAveragePool": frozenset({"mean", "adaptive_avg_pool2d"}),
    "ReduceMean": frozenset({"mean"}),
    "Resize": frozenset({"upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d"}),
    "Gemm": frozenset({"linear"}),
    "MatMul": frozenset({"linear", "matmul"}),
    "Clip": frozenset({"hardtanh", "clamp"}),
    "LayerNormalization": frozenset({"layer_norm"}),
    "PRelu": frozenset({"prelu"}),
    "HardSwish": frozenset({"hardswish"}),
    "HardSigmoid": frozenset({"hardsigmoid"}),
    "LeakyRelu": frozenset({"leaky_relu"}),
    "Transpose": frozenset({"permute", "transpose"}),
}


@dataclass(frozen=True)
class Rejected:
    """A finding of severity error, the layer it is about by its name in the model, and the operators it comes from."""

    finding: Finding
    layer: str
    operators: frozenset[str]
    exact: bool = True  # whether the model has a layer of that very name; else this is what holds it
    left: str = ""  # why the recipe leaves it to the host, where it does


@dataclass(frozen=True)
class Linted:
    """What the linter says of a model. ``whole`` are errors of the model as a whole, which no layer makes."""

    report: Report
    rejected: tuple[Rejected, ...]
    whole: tuple[Finding, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether nothing is refused."""
        return not self.rejected and not self.whole


Lint = Callable[[nn.Module], Linted]


def of_model(
    report: Report, graph: Graph, model: nn.Module, deployed: nn.Module, left: Mapping[str, str] | None = None
) -> Linted:
    """A report by the layers of ``model``, which ``deployed`` is made of; ``left`` is the recipe's."""
    nodes = {node.name: node for node in graph.nodes}
    names = {name for name, _ in model.named_modules()}
    prefix = prefix_of(model, deployed)
    errors = report.of_severity("error")
    found = (_rejected(each, nodes[each.node], names, prefix) for each in errors if each.node in nodes)
    rejected = tuple(replace(each, left=reason(each.finding, left or {})) for each in found)
    return Linted(report, rejected, tuple(each for each in errors if each.node not in nodes))


def prefix_of(model: nn.Module, deployed: nn.Module) -> str:
    """The name under which what is deployed holds the model, "" where it is the model."""
    return next((name for name, module in deployed.named_modules() if type(module) is type(model)), "")


def _rejected(finding: Finding, node: Node, names: set[str], prefix: str) -> Rejected:
    path = _without_counts(finding.module)
    inside = path == prefix or path.startswith(f"{prefix}.") or not prefix
    layer = path[len(prefix) :].lstrip(".") if inside else ""
    place = layer
    while place not in names:
        place = place.rpartition(".")[0]
    operators = frozenset([node.torch_op.rstrip("_")]) if node.torch_op else _SOURCES.get(node.op, frozenset())
    return Rejected(finding, place, operators, exact=place == layer)


def _without_counts(path: str) -> str:
    """A layer that runs several times is called a, a@1, a@2 ... by the exporter."""
    return ".".join(part.partition("@")[0] for part in path.split("."))
