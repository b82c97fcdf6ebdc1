"""Without example inputs, calls are found wherever a forward reaches them: in helpers, methods and attributes."""

import functools
import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

import surgery
from surgery.observing.reached import reached
from surgery.observing.written import written_names

X = torch.randn(2, 4, 8, 8)
ACTS = {"silu": F.silu}


def swish(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


def twice_removed(x: Tensor) -> Tensor:
    return called_back(x, 2)


def called_back(x: Tensor, depth: int) -> Tensor:
    return called_back(x, depth - 1) if depth else F.silu(x)


def through(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


@through
def decorated(x: Tensor) -> Tensor:
    return F.silu(x)


class Callback:
    def __call__(self, x: Tensor) -> Tensor:
        return F.silu(x)


class Own(nn.Module):
    """A forward that calls ``act``, which may be any function."""

    def __init__(self, act: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x)


class Formula(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return swish(x)


class Method(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return self._first(x)

    def _first(self, x: Tensor) -> Tensor:
        return self._second(x)

    @staticmethod
    def _second(x: Tensor) -> Tensor:
        return F.silu(x)


class Property(nn.Module):
    @property
    def act(self) -> Any:
        return F.silu

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x)


class Base(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x)


class Super(Base):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1


class Table(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return ACTS["silu"](x)


class ChildMethod(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.child = Method()

    def forward(self, x: Tensor) -> Tensor:
        return self.child._first(x)


class Closure(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        def inner(y: Tensor) -> Tensor:
            return self.act(y)

        return inner(x)

    def act(self, x: Tensor) -> Tensor:
        return F.silu(x)


class Constants(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        sizes = ()
        return F.silu(x).sum(sizes) if sizes else F.silu(x)


class Config(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(act=F.silu)

    def forward(self, x: Tensor) -> Tensor:
        return self.config.act(x)


BUILDS: dict[str, Callable[[], nn.Module]] = {
    "formula": Formula,
    "method": Method,
    "property": Property,
    "super": Super,
    "table": Table,
    "child_method": ChildMethod,
    "closure": Closure,
    "config": Config,
    "constants": Constants,
    "attribute": lambda: Own(F.silu),
    "builtin": lambda: Own(torch._C._nn.silu),
    "partial": lambda: Own(functools.partial(F.silu, inplace=False)),
    "recursion": lambda: Own(twice_removed),
    "lambda": lambda: Own(lambda x: twice_removed(x)),
    "decorated": lambda: Own(decorated),
    "callable": lambda: Own(Callback()),
}


@pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)
@pytest.mark.parametrize("example", [None, X])
def test_calls_are_found_with_and_without_example_inputs(
    build: Callable[[], nn.Module], example: Tensor | None
) -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1), build())
    lite, report = surgery.lite(model, example_inputs=example)
    assert "1" in [edit.site for edit in report.edits]
    assert not {"silu", "sigmoid"} & {o.name for o in surgery.operators(lite, (X,))}


def test_functions_that_call_each_other_come_to_an_end() -> None:
    found = [f.__name__ for f in reached(Own(twice_removed))]
    assert sorted(found) == ["called_back", "forward", "silu", "twice_removed"]


def test_the_inside_of_torch_is_nobodys_own() -> None:
    assert "silu" in written_names(Own(F.silu))
    assert "has_torch_function_unary" not in written_names(Own(F.silu))
    assert "pixel_shuffle" in written_names(nn.PixelShuffle(2)), "a layer's own forward is read all the same"


class Standardized(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight - self.weight.mean(), None)


def test_methods_of_layers_are_followed() -> None:
    assert "conv2d" in written_names(Standardized(4, 4, 1))


@pytest.mark.parametrize("build", [BUILDS["method"], BUILDS["attribute"]])
def test_a_graph_of_the_whole_model_holds_none_of_them(build: Callable[[], nn.Module]) -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1), build())
    for entries in (None, {F.silu: F.relu}):
        lite = surgery.replace_unsupported_layers(model, entries)
        assert isinstance(lite, fx.GraphModule)
        assert "silu" not in {o.name for o in surgery.operators(lite, (X,))}


class Optional(nn.Module):
    """Not to be traced by itself, because what it does depends on its argument."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = F.silu(x)
        return x if mask is None else x * mask


class Dynamic(nn.Module):
    """Names what it calls when it runs."""

    def forward(self, x: Tensor) -> Tensor:
        return getattr(F, "si" + "lu")(x)


@pytest.mark.parametrize("kind", [Optional, Dynamic])
@pytest.mark.parametrize("entries", [None, {F.silu: F.relu}, {surgery.Pattern(F.silu): nn.ReLU()}])
def test_what_only_the_whole_graph_shows_is_replaced_there(kind: type[nn.Module], entries: Any) -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1), kind())
    lite = surgery.replace_unsupported_layers(model, entries)
    report = lite.surgery_report
    assert isinstance(lite, fx.GraphModule)
    assert torch.equal(lite(X), F.relu(model[0](X)))
    assert [edit.rule for edit in report.in_graph] == list(report.by_rule())
    assert (report.is_lite, report.refusals, report.plan.edits) == (True, (), ())
    assert torch.equal(pickle.loads(pickle.dumps(lite))(X), lite(X))


def called_again(x: Tensor) -> Tensor:
    return F.silu(x) * 2


def test_what_an_entry_made_is_not_what_it_is_for() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1), Method())
    lite = surgery.replace_unsupported_layers(model, {F.silu: called_again})
    assert torch.equal(lite(X), F.silu(model[0](X)) * 2)
    assert lite.surgery_report.in_graph == ()
