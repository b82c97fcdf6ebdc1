"""Lint against a target: every operator that really runs, by the layer it comes from."""

from collections.abc import Iterator, Sequence

import surgery
from surgery import Operator
from zoo.checks import Finding
from zoo.config import Target

_POOLS = {"max_pool2d_with_indices": "max_pool", "max_pool2d": "max_pool", "avg_pool2d": "avg_pool"}


def lint(operators: Sequence[Operator], target: Target, target_name: str) -> list[Finding]:
    """A finding for each layer and operator that the target does not accelerate, or a kernel beyond its limit."""
    counted = [operator for operator in operators if operator.name.rstrip("_") not in target.free]
    found: dict[tuple[str, str], Finding] = {}
    for position, operator in enumerate(counted):
        for fact, cure in _faults(operator, target, target_name, last=position == len(counted) - 1):
            found.setdefault((operator.module, fact), Finding("target", "error", operator.module, fact, cure))
    return list(found.values())


def _faults(operator: Operator, target: Target, target_name: str, last: bool) -> Iterator[tuple[str, str]]:
    name = operator.name.rstrip("_")
    if name in target.outputs_only and not last:
        yield f"{target_name} accelerates {name} only as the model's output", _cure(name)
    elif name not in target.accelerated and name not in target.outputs_only:
        yield f"{target_name} does not accelerate {name}", _cure(name)
    elif (kernel := _kernel(operator, name)) and (limit := _limit(name, target)) and max(kernel) > limit:
        sides = "x".join(map(str, kernel))
        yield f"{name} has a {sides} kernel; {target_name} accelerates up to {limit}x{limit}", ""


def _kernel(operator: Operator, name: str) -> tuple[int, ...]:
    if name == "convolution":
        return operator.inputs[1][2:]
    if name in _POOLS:
        sides = operator.attributes[0]
        return tuple(sides) if isinstance(sides, list | tuple) else (int(sides),)
    return ()


def _limit(name: str, target: Target) -> int | None:
    limit = getattr(target.kernels, "conv" if name == "convolution" else _POOLS[name])
    return limit if limit is None else int(limit)


def _cure(name: str) -> str:
    rules = [rule.name for rule in surgery.rules().values() if frozenset([name]) in rule.operations()]
    return f"rule {rules[0]} removes it" if rules else "choose another target, or a model without it"
