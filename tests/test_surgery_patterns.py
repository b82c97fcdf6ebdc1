"""Patterns: any dataflow with one output, however its calls are written."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn
from torch.nn import functional as F

from surgery import CallPattern, Pattern, any_module, constant, replace_unsupported_layers
from surgery.patterns.pattern import Match

COMPOSITE = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), nn.SiLU())


class Leaves(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def graph_of(code: Callable[..., Any] | nn.Module) -> fx.Graph:
    graph = Leaves().trace(code)
    if isinstance(code, nn.Module):
        graph.owning_module = code
    return graph


def found(pattern: Pattern, code: Callable[..., Any] | nn.Module) -> list[Match]:
    return list(pattern.matches(graph_of(code)))


@pytest.mark.parametrize(
    "code",
    [
        lambda x: x * torch.sigmoid(x),
        lambda x: torch.sigmoid(x) * x,
        lambda x: x.sigmoid() * x,
        lambda x: torch.mul(F.sigmoid(x), x),
        lambda x: x.mul(x.sigmoid()),
        lambda x: x.mul_(x.sigmoid()),
    ],
)
def test_spelling_and_order_do_not_matter(code: Callable[[Any], Any]) -> None:
    (match,) = found(Pattern(lambda x: x * torch.sigmoid(x)), code)
    assert match.bound["x"] is match.variables[0]
    assert match.variables[0].op == "placeholder"


@pytest.mark.parametrize(
    "code",
    [
        lambda x: x * torch.sigmoid(x + 1),
        lambda x: x + torch.sigmoid(x),
        lambda x: (x + 1) * torch.sigmoid(x),
        lambda x: x / torch.sigmoid(x),
    ],
)
def test_other_dataflow_is_no_match(code: Callable[[Any], Any]) -> None:
    assert not found(Pattern(lambda x: x * torch.sigmoid(x)), code)


def test_a_choice_of_operands_is_taken_back_where_it_leads_nowhere() -> None:
    pattern = Pattern(lambda a, b, c: (a + b) * (torch.relu(b) - c))
    (match,) = found(pattern, lambda p, q, r: (p + q) * (torch.relu(p) - r))
    assert [node.name for node in match.variables] == ["q", "p", "r"]


@pytest.mark.parametrize(
    ("wanted", "code", "matches"),
    [
        (lambda x: x.mean((2, 3), keepdim=True), lambda x: torch.mean(x, dim=[2, 3], keepdim=True), True),
        (lambda x: x.mean((2, 3), keepdim=True), lambda x: x.mean((2, 3), True), True),
        (lambda x: x.mean((2, 3), keepdim=True), lambda x: x.mean((2, 3)), False),
        (lambda x: x.mean((2, 3)), lambda x: torch.mean(x, (2, 3), keepdim=False), True),
        (lambda x: x.mean(1), lambda x: x.mean((1,)), True),
        (lambda x: F.hardtanh(x, 0.0, 6.0), lambda x: F.hardtanh(x, max_val=6, min_val=0), True),
        (lambda x: F.hardtanh(x, 0.0, 6.0), lambda x: F.hardtanh(x, 0.0, 1.0), False),
        (lambda x: F.softplus(x), lambda x: F.softplus(x, beta=1), True),
        (lambda x: F.softplus(x), lambda x: F.softplus(x, beta=2), False),
        (lambda x: torch.softmax(x, -1), lambda x: F.softmax(x, dim=-1), True),
        (lambda x: torch.softmax(x, -1), lambda x: x.softmax(-1), True),
        (lambda x: torch.softmax(x, -1), lambda x: x.softmax(1), False),
        (lambda x: x.permute(0, 2, 3, 1), lambda x: x.permute((0, 2, 3, 1)), True),
        (lambda x: x.permute(0, 2, 3, 1), lambda x: x.permute(0, 3, 1, 2), False),
        (lambda x: x.flatten(2), lambda x: torch.flatten(x, start_dim=2), True),
        (lambda x: x + 3, lambda x: 3 + x, True),
        (lambda x, y: torch.add(x, y), lambda x, y: torch.add(x, y, alpha=2), False),
        (lambda x: x - 3, lambda x: 3 - x, False),
        (lambda x, y: torch.cat([x, y], 1), lambda x, y: torch.cat((x, y), dim=1), True),
        (lambda x, y: torch.cat([x, y], 1), lambda x, y: torch.cat((x, y, x), dim=1), False),
        (lambda x: x[:, 1:], lambda x: x[:, 1:], True),
        (lambda x: x[:, 1:], lambda x: x[:, 2:], False),
        (lambda x: x[:, 0:4], lambda x: x[:, :4], True),
        (lambda x: x[:, 0:4], lambda x: x[:, (0, 4, 1)], False),
        (lambda x: x.mean((-2, -1)), lambda x: x.mean((2, 3)), False),  # of a rank that is not known
        (F.elu, lambda x: F.elu(x, 0.5, True), True),
        (F.softmax, lambda x: x.softmax(1), True),
    ],
)
def test_settings_are_compared(wanted: Callable[..., Any], code: Callable[..., Any], matches: bool) -> None:
    assert len(found(Pattern(wanted), code)) == matches


def test_constants_are_bound() -> None:
    pattern = Pattern(lambda x: x.mean(constant("dims"), keepdim=constant("keep")) * constant("k"))
    (match,) = found(pattern, lambda x: 0.5 * torch.mean(x, dim=(2, 3)))
    assert {name: match.bound[name] for name in ("dims", "keep", "k")} == {"dims": (2, 3), "keep": False, "k": 0.5}
    assert not found(pattern, lambda x: x.mean((2, 3)) * x), "a constant is no tensor"
    twice = Pattern(lambda x: (x + constant("k")) / constant("k"))
    assert len(found(twice, lambda x: (x + 6) / 6)) == 1
    assert not found(twice, lambda x: (x + 3) / 6)
    with pytest.raises(RuntimeError, match="inside the code of a Pattern"):
        constant("k")


def test_constants_in_slices_are_bound() -> None:
    tail = Pattern(lambda x: x[:, constant("start") :])
    assert [m.bound["start"] for m in found(tail, lambda x: x[:, 2:] + x[:, 3:])] == [2, 3]
    assert not found(tail, lambda x: x[:, 2:4])
    head = Pattern(lambda x: x[: constant("stop")])
    assert [m.bound["stop"] for m in found(head, lambda x: x[:3])] == [3]
    assert not found(head, lambda x: x[1:3])
    assert not found(head, lambda x: x[::1]), "there is no such number"
    strided = Pattern(lambda x: x[..., constant("a") :: constant("s"), constant("b") :: constant("s")])
    (match,) = found(strided, lambda x: x[..., ::2, 1::2])
    assert [match.bound[name] for name in "abs"] == [0, 1, 2]
    assert not found(strided, lambda x: x[..., ::2, 1::3])


@pytest.mark.filterwarnings("ignore:.*matches nothing")
@pytest.mark.parametrize(
    ("wanted", "code", "matches"),
    [
        (lambda x: x.mean((-2, -1)), lambda x: x.mean((2, 3)), True),
        (lambda x: x.mean((2, 3)), lambda x: torch.mean(x, dim=[-2, -1]), True),
        (lambda x: x.mean((2, 3)), lambda x: x.mean((-3, -1)), False),
        (lambda x: torch.softmax(x, -1), lambda x: x.softmax(3), True),
        (lambda x: torch.softmax(x, 1), lambda x: x.softmax(-1), False),
        (lambda x: x.unsqueeze(-1), lambda x: x.unsqueeze(4), True),
        (lambda x: x.unsqueeze(-1), lambda x: x.unsqueeze(3), False),
        (lambda x: x.transpose(1, 2), lambda x: x.transpose(-3, -2), True),
        (lambda x: torch.cat([x, x], 1), lambda x: torch.cat([x, x], -3), True),
        (lambda x: x.flatten(1), lambda x: x.flatten(1, 3), True),
    ],
)
def test_dimensions_are_compared_as_they_are_counted(
    wanted: Callable[..., Any], code: Callable[..., Any], matches: bool
) -> None:
    module = nn.Sequential(Line(code))
    example = torch.randn(2, 3, 4, 5)
    lite = replace_unsupported_layers(module, {Pattern(wanted): lambda *given: wanted(*given) * 2}, example)
    assert lite.surgery_report.is_lite is matches


def test_a_bound_dimension_is_as_it_is_written() -> None:
    seen: list[Any] = []
    pattern = Pattern(lambda x: x.softmax(constant("dim")), check=lambda match: seen.append(match.bound["dim"]) is None)
    replace_unsupported_layers(nn.Sequential(Line(lambda x: x.softmax(-1))), {pattern: torch.relu}, torch.randn(2, 3))
    assert set(seen) == {-1}


class Line(nn.Module):
    def __init__(self, code: Callable[..., Any]) -> None:
        super().__init__()
        self.code = code

    def forward(self, x: Any) -> Any:
        return self.code(x)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8, eps=0.1), nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x)))


class Functional(Block):
    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.norm(self.conv(x)))


class Skips(Block):
    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv(x))


@pytest.mark.parametrize(("block", "matches"), [(Block, 1), (Functional, 1), (Skips, 0)])
def test_modules_match_by_type_whatever_their_settings(block: type[nn.Module], matches: int) -> None:
    pattern = Pattern(COMPOSITE)
    hits = found(pattern, block())
    assert len(hits) == matches
    assert [str(node.target) for match in hits for node in match.calls[:2]] == ["conv", "norm"] * matches
    written = Pattern(lambda x: F.silu(any_module(nn.BatchNorm2d)(any_module(nn.Conv2d, name="conv")(x))))
    assert [str(match.bound["conv"].target) for match in found(written, block())] == ["conv"] * matches


def test_kinds_of_modules() -> None:
    count = lambda kind: len(found(Pattern(lambda x: any_module(*kind)(x)), Block()))  # noqa: E731
    assert count(()) == 3
    assert count((nn.Conv2d,)) == 1
    assert count(("torch.nn.modules.batchnorm.BatchNorm2d", nn.SiLU)) == 2
    assert count((lambda module: getattr(module, "stride", None) == (2, 2),)) == 1


def test_check_has_the_last_word() -> None:
    code = lambda x: x * 2 + x * 3  # noqa: E731
    even = Pattern(lambda x: x * constant("k"), check=lambda match: match.bound["k"] % 2 == 0)
    assert [match.bound["k"] for match in found(even, code)] == [2]
    reason = Pattern(lambda x: x * constant("k"), check=lambda match: match.bound["k"] == 2 or "odd")
    assert [match.declined for match in found(reason, code)] == [None, "odd"]


def test_overwritten_values_are_no_match() -> None:
    def overwritten(x: Tensor) -> Tensor:
        gate = torch.sigmoid(x)
        x.add_(1)
        return x * gate

    def read_elsewhere(x: Tensor) -> Tensor:
        moved = x + 3
        return x * F.relu6(moved, inplace=True) / 6 + moved

    swish = Pattern(lambda x: x * torch.sigmoid(x))
    assert not found(swish, overwritten)
    hardswish = Pattern(lambda x: x * F.relu6(x + 3) / 6)
    assert not found(hardswish, read_elsewhere)
    assert len(found(hardswish, lambda x: x * F.relu6(x + 3, inplace=True) / 6)) == 1


def test_one_pattern_within_another() -> None:
    whole, part = Pattern(COMPOSITE), Pattern(COMPOSITE[:2])
    assert whole.contains(part)
    assert whole.contains(Pattern(F.silu))
    assert Pattern(lambda x: x * torch.sigmoid(x)).contains(CallPattern("sigmoid"))
    assert not part.contains(whole)
    assert not whole.contains(Pattern(COMPOSITE))
    assert not part.contains(Pattern(F.silu))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (lambda x: x, "at least one call"),
        (lambda x: (x + 1, x + 2), "computes one value"),
        (lambda x, y: x + 1, "does not depend on y"),
        (lambda x: x if x.sum() > 0 else -x, "cannot be traced: TraceError"),
        (lambda x: 1 / 0, "cannot be traced: ZeroDivisionError"),
        (nn.Sequential(), "at least one call"),
    ],
)
def test_what_is_no_pattern(code: Callable[..., Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Pattern(code)


@pytest.mark.parametrize("code", [42, "silu", None])
def test_what_cannot_be_called_is_a_type_error(code: Any) -> None:
    with pytest.raises(TypeError, match="a pattern is a function, a module or any_module"):
        Pattern(code)


@st.composite
def expressions(draw: st.DrawFn) -> Callable[[Any, Any], Any]:
    steps = draw(st.lists(st.tuples(st.sampled_from(["add", "mul", "sub", "relu"]), st.integers(0, 9)), min_size=1))

    def run(x: Any, y: Any) -> Any:
        values = [x, y]
        for name, pick in steps:
            one, two = values[pick % len(values)], values[-1]
            values.append(torch.relu(two) if name == "relu" else getattr(torch, name)(one, two))
        return values[-1]

    return run


@settings(max_examples=40, deadline=None)
@given(expressions())
def test_any_dataflow_finds_itself(run: Callable[[Any, Any], Any]) -> None:
    graph = fx.Tracer().trace(lambda x, y: run(x, y))
    graph.eliminate_dead_code()
    if any(not node.users for node in graph.nodes if node.op == "placeholder"):
        return
    both = fx.GraphModule(nn.Module(), graph)
    roots = [match.root for match in found(Pattern(lambda x, y: both(x, y)), both)]
    assert roots
    assert roots[-1].users.keys() == {next(n for n in roots[-1].graph.nodes if n.op == "output")}
