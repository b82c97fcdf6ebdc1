"""Small targets and small nets for tests of surgery by target."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from surgery import Rule
from zoo.choosing.choose import choose
from zoo.choosing.emitted import hopeless, unlisted
from zoo.choosing.explanation import Explanation
from zoo.choosing.linted import Linted, Rejected, of_model
from zoo.graph.reading import read
from zoo.linting.lint import lint
from zoo.linting.report import Finding, Report, Summary
from zoo.onnx import exporting
from zoo.targets.target import Target

IMAGE = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))

# What a device may refuse of a layer: the operator that it comes from and why, or nothing.
Refuses = Callable[[nn.Module], tuple[str, str] | None]


def target(*operators: str, limits: Mapping[str, list[dict[str, Any]]] | None = None, **more: Any) -> Target:
    """A target that lists these operators."""
    listed = {name: {"limits": (limits or {}).get(name, [])} for name in operators}
    facts = {"description": "x", "sources": [{"title": "x"}], "opset": {"max": 18, "export": 18}}
    return Target.model_validate(facts | {"operators": listed} | more)


def linted_by(refuses: Refuses, seen: list[nn.Module] | None = None) -> Callable[[nn.Module], Linted]:
    """A linter that asks about each layer by itself; ``seen`` gets each model that is linted."""

    def judge(model: nn.Module) -> Linted:
        if seen is not None:
            seen.append(model)
        rejected = []
        for name, module in model.named_modules():
            said = refuses(module)
            if said is not None:
                finding = Finding("error", name, type(module).__name__, name, "operator", said[1])
                rejected.append(Rejected(finding, name, frozenset([said[0]])))
        summary = Summary(1, 1, 1, 1, (), None)
        report = Report("model", "small", "", (), tuple(each.finding for each in rejected), summary)
        return Linted(report, tuple(rejected))

    return judge


def ordered_for(device: Target) -> Callable[[Rule], tuple[bool, int]]:
    """What the loop asks of a target about a rule."""
    return lambda rule: (hopeless(rule, device, "small", ""), len(unlisted(rule, device, "small", "")))


EVERYTHING = ordered_for(target("Conv", "Relu", "Add", "Mul", "Clip", "MaxPool", "Pad", "HardSigmoid", "Erf"))


def chosen(
    model: nn.Module, refuses: Refuses, order: Callable[[Rule], tuple[bool, int]] = EVERYTHING
) -> tuple[Explanation, list[nn.Module]]:
    """The loop with a linter of layers, and the models that it had linted."""
    seen: list[nn.Module] = []
    return choose(model, linted_by(refuses, seen), order, IMAGE, [IMAGE]), seen


def lint_exported(model: nn.Module, device: Target, image: Tensor, name: str = "small", which: str = "") -> Linted:
    """What the real linter says of the exported model."""
    exported = exporting.export(model.eval(), image, opset=device.opset.export, ir_version=device.ir_version)
    graph = read(exported)
    return of_model(lint(graph, device, model="model", target_name=name, device=which), graph, model, model)
