"""What a target has against one node, as an operator or as part of a pattern."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from zoo.graph.view import Node, NotKnown
from zoo.linting.matching import ONNX
from zoo.targets.limit import Limit, Severity
from zoo.targets.target import Operator, Target

CONTROL_FLOW = frozenset({"If", "Loop", "Scan"})


@dataclass(frozen=True)
class Complaint:
    """One thing against a node, and the devices where it holds. ``open``: the file does not tell whether it does."""

    op: str  # the operator or pattern
    severity: Severity
    limit: str
    fact: str
    devices: frozenset[str]
    open: bool = False


def about_node(node: Node, target: Target, at_end: bool, devices: frozenset[str]) -> Iterator[Complaint]:
    """What the target has against a node by itself, on these devices."""
    if node.domain not in ONNX:
        fact = f"{node.domain}.{node.op} is not one of ONNX's own operators"
        yield Complaint(node.op, "error", "domain", fact, devices)
    elif node.op in CONTROL_FLOW:
        fact = f"{node.op} decides while the model runs what is computed; export the model for one fixed input shape"
        yield Complaint(node.op, "error", "control_flow", fact, devices)
    elif (operator := target.operators.get(node.op)) is None:
        yield Complaint(node.op, "error", "operator", f"{node.op} is not accelerated", devices)
    else:
        yield from about_listed(node, node.op, operator, target, at_end, devices)


def about_pattern(
    nodes: tuple[Node, ...], name: str, target: Target, at_end: bool, devices: frozenset[str]
) -> Iterator[Complaint]:
    """What the target has against a match of a pattern that it lists; it is for its first node."""
    return about_listed(nodes[0], name, target.patterns[name], target, at_end, devices)


def about_listed(
    node: Node, name: str, operator: Operator, target: Target, at_end: bool, devices: frozenset[str]
) -> Iterator[Complaint]:
    """What the target has against an operator or pattern of that name, the limits being asked of ``node``."""
    where = accelerating(name, target, devices)
    if refusing := devices - where:
        yield Complaint(name, "error", "operator", f"{name} is not accelerated", refusing)
    if not where:
        return
    if operator.status == "fused_only" and name not in target.patterns:
        yield Complaint(name, "error", "fused_only", f"{name} is accelerated only inside of a known pattern", where)
    elif operator.status == "ends_only" and not at_end:
        fact = f"{name} is accelerated only where it reads the model's input or makes its output"
        yield Complaint(name, "error", "ends_only", fact, where)
    else:
        for limit in operator.limits:
            yield from _about_limit(node, name, limit, where)
        yield from _costs(name, operator, target, where)


def accelerating(name: str, target: Target, devices: Iterable[str]) -> frozenset[str]:
    """The devices that do not refuse an operator or pattern that the target lists."""
    refusing = {device for device, each in target.devices.items() if name in each.not_accelerated}
    return frozenset(devices) - refusing


def _about_limit(node: Node, name: str, limit: Limit, devices: frozenset[str]) -> Iterator[Complaint]:
    where = devices & set(limit.devices) if limit.devices else devices
    if not where:
        return
    try:
        fact = limit.broken(node)
    except NotKnown as unknown:
        fact = f"{limit.kind} cannot be checked: {unknown} is not known"
        yield Complaint(name, limit.severity, limit.kind, fact, where, open=True)
        return
    if fact is not None:
        yield Complaint(name, limit.severity, limit.kind, fact, where)


def _costs(name: str, operator: Operator, target: Target, devices: frozenset[str]) -> Iterator[Complaint]:
    if operator.cost:
        yield Complaint(name, "cost", "cost", operator.cost, devices)
    reasons: dict[str, set[str]] = {}
    for device in devices & set(target.devices):
        if reason := target.devices[device].costly.get(name):
            reasons.setdefault(reason, set()).add(device)
    for reason, where in sorted(reasons.items()):
        yield Complaint(name, "cost", "cost", reason, frozenset(where))
