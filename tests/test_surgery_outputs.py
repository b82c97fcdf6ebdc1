"""What counts as the same output, whatever a model returns: structure, dtypes, keys, plain values, numbers."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import surgery
from surgery import CallPattern, Promise, Rule
from surgery.operating.verify import broken_promise, same_within

X = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
Pair = namedtuple("Pair", ["a", "b"])  # what models return


@dataclass
class Result:
    y: Any


@dataclass(slots=True)
class Slotted:
    y: Any


class Plain:
    def __init__(self, y: Any) -> None:
        self.y = y


class Ordered(OrderedDict[str, Any]):
    """More than what it holds."""


def test_objects_are_looked_into() -> None:
    class Mean(Rule):
        """Promises the same output and does not keep it."""

        name = "mean"
        promise = Promise.SAME_OUTPUT
        patterns = (CallPattern("silu"),)

        def emit(self, graph: Any, match: Any) -> Any:
            return graph.call_function(torch.mean, (match.variables[0],))

    class Model(nn.Module):
        def forward(self, x: Tensor) -> Result:
            return Result(F.silu(x))

    with pytest.raises(surgery.SurgeryError, match=r"would become \[\(\)\] instead of \[\(2, 4, 16, 16\)\]"):
        surgery.lite(Model(), [Mean()], X)


def returns(result: Any) -> type[nn.Module]:
    class Returns(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return result(x.relu())

    return Returns


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (lambda y: (y,), "its output would be a tuple instead of a tensor of float32"),
        (lambda y: [y], "its output would be a list instead of a tensor of float32"),
        (lambda y: y.double(), " would be a tensor of float64 instead of a tensor of float32"),
    ],
)
def test_another_structure_or_dtype_is_refused(result: Any, reason: str) -> None:
    with pytest.warns(UserWarning, match=reason):
        model = surgery.replace_unsupported_layers(nn.Sequential(nn.SiLU()), {nn.SiLU: returns(result)}, X)
    assert model.surgery_report.edits == ()


ONE, OTHER = torch.ones(3), torch.ones(3) * 1.001
DIFFERENT = [
    ({"out": ONE}, {"OUT": ONE}),
    ({"out": ONE}, {"out": ONE, "n": 3}),
    ((ONE, ONE), [ONE, ONE]),
    ((ONE, ONE), Pair(ONE, ONE)),
    (Ordered(a=ONE), {"a": ONE}),
    (Result(ONE), Plain(ONE)),
    (ONE, None),
    (3, 3.0),
    ([ONE, [ONE]], [[ONE], ONE]),
    (ONE, ONE.long()),
    ((ONE, ONE[:1]), (ONE[:1], ONE)),
]


@pytest.mark.parametrize(("before", "after"), DIFFERENT)
@pytest.mark.parametrize("promise", list(Promise))
def test_other_structures(before: Any, after: Any, promise: Promise) -> None:
    assert broken_promise(promise, before, before, "it") is None
    assert broken_promise(promise, before, after, "it")
    assert broken_promise(promise, after, before, "it")


@pytest.mark.parametrize("wrap", [Result, Slotted, Plain, lambda y: Pair(y, 1), lambda y: {"a": (y, [y])}, lambda y: y])
@pytest.mark.parametrize(
    ("before", "after"), [(3.0, 4.0), (1, 2), ("a", "b"), (ONE, OTHER), (True, False), (torch.int8, torch.int16)]
)
def test_other_values_break_a_promise_of_the_same_output_alone(wrap: Any, before: Any, after: Any) -> None:
    assert broken_promise(Promise.SAME_OUTPUT, wrap(before), wrap(after), "it")
    assert broken_promise(Promise.SAME_SHAPE, wrap(before), wrap(after), "it") is None
    assert broken_promise(Promise.SAME_OUTPUT, wrap(before), wrap(before), "it") is None


def test_what_counts_as_the_same() -> None:
    same = lambda one, other: broken_promise(Promise.SAME_OUTPUT, one, other, "it") is None  # noqa: E731
    assert same({"a": ONE, "b": 1}, OrderedDict(b=1, a=ONE))
    assert same(torch.Size([1, 2]), (1, 2))
    assert same(float("nan"), float("nan"))
    assert same(0.1 + 0.2, 0.3)
    assert same((), ())


def test_a_cycle_has_an_end() -> None:
    one, other = Plain(ONE), Plain(OTHER)
    one.self, other.self = one, other  # type: ignore[attr-defined]
    assert broken_promise(Promise.SAME_OUTPUT, one, one, "it") is None
    assert broken_promise(Promise.SAME_OUTPUT, one, other, "it") == "it would change by 0.001 of its largest value"


def test_nothing_to_compare_is_a_refusal() -> None:
    class Opaque(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return iter([x])

    _, report = surgery.lite(nn.Sequential(nn.SiLU(), Opaque()), example_inputs=X)
    assert report.edits == ()
    assert report.refusals[0].reason == "the model's output is a list_iterator, of which nothing can be compared"


class Scaled(Rule):
    """A convolution whose weights are off by a part."""

    name = "scaled"
    promise = Promise.SAME_OUTPUT
    types = (nn.Conv2d,)
    off = 3e-5

    def replacement(self, module: nn.Module, params: Any) -> nn.Module:
        made = nn.Conv2d(4, 4, 3)
        made.weight = nn.Parameter(module.weight * (1 + self.off))  # type: ignore[operator]
        made.bias = nn.Parameter(module.bias * (1 + self.off))  # type: ignore[operator]
        return made


@pytest.mark.parametrize(("dtype", "off"), [(torch.float32, 3e-5), (torch.float64, 5e-12)])
def test_the_same_output_is_tight(dtype: torch.dtype, off: float) -> None:
    rule = Scaled()
    rule.off = off
    with pytest.raises(surgery.SurgeryError, match="would change by"):
        surgery.lite(nn.Sequential(nn.Conv2d(4, 4, 3)).to(dtype), [rule], X.to(dtype))
    rule.off = off / 1e3
    assert surgery.lite(nn.Sequential(nn.Conv2d(4, 4, 3)).to(dtype), [rule], X.to(dtype))[1].is_lite


class Cancels(nn.Module):
    """Magnifies rounding: what is added goes again."""

    def __init__(self, backwards: bool) -> None:
        super().__init__()
        self.backwards = backwards

    def forward(self, x: Tensor) -> Tensor:
        return (x + 300) - 300 if self.backwards else x * 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_is_told_from_a_fault_in_float64(dtype: torch.dtype) -> None:
    class Spelled(Rule):
        """The same but for rounding."""

        name = "spelled"
        promise = Promise.SAME_OUTPUT
        types = (Cancels,)

        def replacement(self, module: nn.Module, params: Any) -> nn.Module:
            return Cancels(True)

    x = X.to(dtype)
    within = same_within(x)
    assert (dtype == torch.float32) == bool(broken_promise(Promise.SAME_OUTPUT, x, Cancels(True)(x), "it", within / 4))
    _, report = surgery.lite(nn.Sequential(Cancels(False)), [Spelled()], x)
    assert report.is_lite


def test_a_container_that_the_module_empties_is_compared_all_the_same() -> None:
    class Gathers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.SiLU()
            self.found: dict[str, list[Tensor]] = {"maps": []}

        def forward(self, x: Tensor) -> Any:
            self.found["maps"].append(self.act(x))
            return self.found

    class Emptier(Rule):
        """Promises the same shape and does not keep it."""

        name = "emptier"
        promise = Promise.SAME_SHAPE
        types = (Gathers,)

        def replacement(self, module: nn.Module, params: Any) -> nn.Module:
            return returns(lambda y: {"maps": []})()

    with pytest.raises(surgery.SurgeryError, match="emptier"):
        surgery.lite(nn.Sequential(Gathers()), [Emptier()], X)
    assert surgery.lite(nn.Sequential(Gathers()), example_inputs=X)[1].by_rule() == {"silu_to_relu": 1}
