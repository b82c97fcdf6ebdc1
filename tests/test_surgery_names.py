"""One name for each operation, and patterns that know each of its spellings."""

import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

import surgery
from surgery import Pattern, replace_unsupported_layers
from surgery.observing.names import canonical, is_inplace

X = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


class Calls(nn.Module):
    def __init__(self, code: Callable[[Any], Any]) -> None:
        super().__init__()
        self.code = code

    def forward(self, x: Tensor) -> Tensor:
        return self.code(x)


@pytest.mark.parametrize(
    ("name", "spellings"),
    [
        ("div", [torch.div, torch.divide, torch.true_divide, operator.truediv, operator.itruediv, Tensor.div_]),
        ("sub", [torch.sub, torch.subtract, operator.sub, operator.isub, Tensor.subtract_]),
        ("add", [torch.add, operator.iadd, Tensor.__radd__]),
        ("mul", [torch.multiply, operator.imul, Tensor.__rmul__]),
        ("pow", [torch.pow, operator.pow, operator.ipow]),
        ("floor_divide", [torch.floor_divide, operator.floordiv, operator.ifloordiv]),
        ("neg", [torch.negative, operator.neg, Tensor.neg_]),
        ("clamp", [torch.clip, Tensor.clip_, torch.clamp, torch.ops.aten.clamp.default]),
        ("cat", [torch.concat, torch.concatenate, torch.cat]),
        ("sigmoid", [torch.special.expit, torch.ops.aten.sigmoid.default, torch.ops.aten.sigmoid_.default, F.sigmoid]),
        ("erf", [torch.special.erf, Tensor.erf]),
    ],
)
def test_one_operation_has_one_name(name: str, spellings: list[Any]) -> None:
    assert {canonical(spelling) for spelling in spellings} == {name}


def test_operands_the_other_way_round_are_another_name() -> None:
    reflected = [Tensor.__rsub__, torch.rsub, Tensor.__rtruediv__, Tensor.__rpow__]
    assert [canonical(function) for function in reflected] == ["rsub", "rsub", "rdiv", "rpow"]
    assert canonical(torch.ops.aten._softmax.default) != "softmax", "its last argument is another one"


def test_overloads_tell_whether_they_work_inplace() -> None:
    assert is_inplace(torch.ops.aten.relu_.default, {})
    assert not is_inplace(torch.ops.aten.relu.default, {})


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ("hardswish_to_relu", lambda x: x * (x + 3).clip(0, 6) / 6),
        ("hardswish_to_relu", lambda x: torch.divide(x * F.relu6(x + 3), 6)),
        ("silu_to_relu", lambda x: x * torch.special.expit(x)),
        ("gelu_to_relu", lambda x: 0.5 * x * (1 + torch.special.erf(x / 2**0.5))),
    ],
)
def test_formulas_are_found_in_rare_spellings(rule: str, code: Callable[[Any], Any]) -> None:
    _, report = surgery.lite(nn.Sequential(Calls(code)), example_inputs=X)
    assert report.by_rule() == {rule: 1}


class FromOne(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 1 - x


class Rsub(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.rsub(x, 1)


@pytest.mark.parametrize("example", [X, None])
@pytest.mark.parametrize("layer", [FromOne, Rsub])
def test_a_constant_on_the_left_is_found_with_and_without_example_inputs(layer: Any, example: Tensor | None) -> None:
    lite = replace_unsupported_layers(nn.Sequential(layer()), {Pattern(lambda x: 1 - x): nn.Tanh()}, example)
    assert torch.equal(lite(X), X.tanh())


def test_reflected_operands_are_not_mixed_up() -> None:
    graph = fx.symbolic_trace(lambda x, y: (x - 1) + torch.rsub(x, 1) + torch.rsub(x, y) + 2 / y)
    graph.graph.lint()
    count = lambda code: len(list(Pattern(code).matches(graph.graph)))  # noqa: E731
    assert count(lambda x: 1 - x) == 1
    assert count(lambda x: x - 1) == 1
    assert [m.variables[0].name for m in Pattern(lambda y, x: y - x).matches(graph.graph)] == ["y"]
    assert count(lambda x: 2 / x) == 1
    assert count(lambda x: x / 2) == 0


def test_a_function_as_key_stands_for_reflected_calls_too() -> None:
    lite = replace_unsupported_layers(nn.Sequential(FromOne()), {torch.sub: torch.add}, X)
    assert torch.equal(lite(X), 1 + X)
