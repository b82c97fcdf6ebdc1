"""The graph of a whole model keeps what it means: blocks, stored values, constants; or there is no graph, and why."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from surgery import replace_unsupported_layers

X = torch.randn(2, 4, 8, 8)


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.frozen, self.conv, self.act = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.SiLU()
        self.register_buffer("count", torch.zeros(()))
        self.last: Any = None
        self.cache: list[Any] = []


class Frozen(Base):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.frozen(x)
        return self.act(self.conv(x))


class Half(Base):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.act(self.conv(x))


class Counting(Base):
    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        return self.act(self.conv(x))


class Rebinding(Base):
    def forward(self, x: Tensor) -> Tensor:
        self.count = self.count + 1
        return self.act(self.conv(x))


class Remembering(Base):
    def forward(self, x: Tensor) -> Tensor:
        self.last = x.shape[0]
        return self.act(self.conv(x))


class Appending(Base):
    def forward(self, x: Tensor) -> Tensor:
        self.cache.append(x)
        return self.act(self.conv(x))


class Noisy(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv(x)) + torch.randn(1)


class Shaken(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv(x)) + random.random()


class Weighted(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv(x)) * torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 4, 1, 1)


class ByMode(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv(x)) * torch.tensor(2.0 if self.training else 1.0)


class Scaled(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv(x)) * (self.count + 1)


@pytest.mark.parametrize("example", [None, X])
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Frozen, "its forward runs calls inside no_grad"),
        (Half, "its forward runs calls inside autocast"),
        (Counting, "its forward stores values"),
        (Rebinding, "its forward stores values"),
        (Remembering, "its forward stores values, which a graph would not: the model itself"),
        (Appending, "its forward stores values"),
        (Noisy, "random numbers"),
        (Shaken, "random numbers"),
        (ByMode, "differs between train and eval mode"),
    ],
)
def test_what_a_graph_would_lose_keeps_the_class(kind: type[Base], reason: str, example: Tensor | None) -> None:
    lite = replace_unsupported_layers(kind(), None, example)
    assert type(lite) is kind
    assert reason in lite.surgery_report.not_traced
    assert lite.surgery_report.by_rule() == {"silu_to_relu": 1}
    assert float(lite.count) == 0
    assert lite.last is None
    assert lite.cache == []
    lite(X)
    stores = kind in {Counting, Rebinding, Remembering, Appending}
    assert ((float(lite.count), lite.last, len(lite.cache)) != (0, None, 0)) is stores


@pytest.mark.parametrize("example", [None, X])
def test_children_with_blocks_are_called_by_the_graph(example: Tensor | None) -> None:
    lite = replace_unsupported_layers(nn.Sequential(Frozen(), Half()), None, example)
    assert isinstance(lite, fx.GraphModule)
    assert lite(X).dtype is torch.bfloat16
    lite(X).float().sum().backward()
    assert lite.get_submodule("0.conv").weight.grad is not None
    assert lite.get_submodule("0.frozen").weight.grad is None


@pytest.mark.parametrize("example", [None, X])
def test_state_that_a_child_stores_is_named(example: Tensor | None) -> None:
    lite = replace_unsupported_layers(nn.Sequential(nn.Sequential(Remembering()), Counting()), None, example)
    assert "0.0" in lite.surgery_report.not_traced
    lite(X)
    assert (lite[0][0].last, float(lite[1].count)) == (2, 1)


@pytest.mark.parametrize("build", [Weighted, lambda: nn.Sequential(Weighted(), Weighted())])
@pytest.mark.parametrize("example", [None, X])
def test_constants_are_part_of_the_graph(build: Callable[[], nn.Module], example: Tensor | None) -> None:
    model = build()
    lite = replace_unsupported_layers(model, {}, example)
    assert isinstance(lite, fx.GraphModule)
    assert lite.surgery_report.not_traced is None
    assert torch.equal(lite.eval()(X), model.eval()(X))
    assert lite.state_dict().keys() == model.state_dict().keys()
    assert lite.double()(X.double()).dtype is torch.float64
    assert not any("_tensor_constant" in name for m in model.modules() for name in vars(m))


def test_what_is_computed_of_a_buffer_follows_it() -> None:
    lite = replace_unsupported_layers(Scaled(), None, X)
    assert isinstance(lite, fx.GraphModule)
    before = lite(X)
    lite.load_state_dict({**lite.state_dict(), "count": torch.ones(())})
    assert torch.equal(lite(X), 2 * before)
