"""Which surgery rule would remove what a target refuses: a hint, for surgery alone knows whether a rule has a site."""

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from zoo.graph.view import Graph, Node
from zoo.linting.complaints import Complaint
from zoo.linting.gates import gates
from zoo.linting.other_settings import rule_for
from zoo.linting.recognising import patterns_in
from zoo.targets.target import Target

if TYPE_CHECKING:
    from surgery import Rule

# ATen operators that patterns and ONNX operators come from, in files that do not say.
_OF_PATTERN = {"gelu_erf": "gelu", "hardswish": "hardswish", "layer_norm": "layer_norm", "silu": "silu"}
_OF_OPERATOR: Mapping[str, str] = {
    "Celu": "celu",
    "Clip": "clamp",
    "DepthToSpace": "pixel_shuffle",
    "Elu": "elu",
    "Erf": "gelu",
    "Gelu": "gelu",
    "GlobalAveragePool": "adaptive_avg_pool2d",
    "GroupNormalization": "group_norm",
    "HardSigmoid": "hardsigmoid",
    "HardSwish": "hardswish",
    "InstanceNormalization": "instance_norm",
    "LayerNormalization": "layer_norm",
    "LeakyRelu": "leaky_relu",
    "Mish": "mish",
    "PRelu": "prelu",
    "RMSNormalization": "rms_norm",
    "Selu": "selu",
    "Sigmoid": "sigmoid",
    "Softplus": "softplus",
    "SpaceToDepth": "pixel_unshuffle",
    "Tanh": "tanh",
}
# What formulas of many layers are written out with: it does not tell which one.
_ANYTHING = frozenset(
    {"add", "sub", "mul", "div", "pow", "sqrt", "rsqrt", "mean", "sum", "var", "var_mean", "std", "cat", "slice", "mm"}
    | {"bmm", "addmm", "linear", "permute", "transpose", "expand", "constant_pad_nd", "convolution", "conv1d", "conv2d"}
)
# Kept with other settings, which depend on the limit.
_KEPT = frozenset(
    {"max_pool2d", "max_pool2d_with_indices", "avg_pool2d", "softmax", "_softmax", "log_softmax", "_log_softmax"}
    | {"upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d"}
)

Cures = Mapping[tuple[int, str, str], str]  # a rule's name by the node's id, the operator or pattern, and the limit


def cures(graph: Graph, said: Iterable[tuple[Node, Complaint]], target: Target, target_name: str, device: str) -> Cures:
    """A rule for each complaint that one is known for. Imports torch.

    Of several the one that risks least accuracy, defaults before options; a rule that leaves what the target does not
    take as well comes last.
    """
    from surgery import rules
    from zoo.choosing.emitted import hopeless, unlisted

    about = (target, target_name, device)
    hopeful = ((name, rule) for name, rule in rules().items() if not hopeless(rule, *about))
    usable = {name: (len(unlisted(rule, *about)), rule) for name, rule in hopeful}  # in the order of their turn
    patterns = {id(node): match.pattern for match in patterns_in(graph, _OF_PATTERN) for node in match.nodes}
    gating = gates(graph)
    found: dict[tuple[int, str, str], str] = {}
    for node, complaint in said:
        whole, partly = _replacing(_operation(node, patterns.get(id(node), "")), usable)
        candidates = (rule_for(graph, node, complaint.limit), *whole, gating.get(id(node), ""), *partly)
        rule = next((name for name in candidates if name in usable), "")
        if rule and not complaint.open:
            found[id(node), complaint.op, complaint.limit] = rule
    return found


def _operation(node: Node, pattern: str) -> str:
    """The ATen operator that a node comes from, or may come from; "" of one that tells nothing."""
    found = _OF_PATTERN.get(pattern) or node.torch_op or _OF_OPERATOR.get(node.op, "")
    return "" if found in _ANYTHING | _KEPT else found.removesuffix("_")


def _replacing(operation: str, usable: Mapping[str, tuple[int, "Rule"]]) -> tuple[list[str], list[str]]:
    """Rules that put something else in the place of one layer, the best first: those of which the target takes all that
    they leave, and those of which it takes a part."""
    found = [
        (missing, rule.risk, not rule.default, name)
        for name, (missing, rule) in usable.items()
        if operation in rule.removes and operation not in rule.emits and _is_about(rule, operation)
    ]
    found.sort(key=lambda each: each[:3])
    return [name for missing, *_, name in found if not missing], [name for missing, *_, name in found if missing]


def _is_about(rule: "Rule", operation: str) -> bool:
    """Whether a rule replaces layers that do this and no more, where others replace formulas that it is a part of."""
    layers = {re.sub(r"\dd$", "", kind.__name__.lower()) for kind in rule.types}
    plain = operation.removeprefix("native_").removesuffix("_kernel").strip("_")
    return plain.replace("_", "") in layers or any(names <= {operation, plain} for names in rule.operations())
