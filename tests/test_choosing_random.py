"""Random small nets for real targets: what auto surgery returns lints clean or says why, runs, and is repeated."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from choosing_cases import lint_exported, ordered_for
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import surgery
from zoo.choosing.choose import MAX_ROUNDS, choose
from zoo.choosing.explanation import Explanation
from zoo.targets.reading import read

ROOT = Path(__file__).parents[1]
TARGETS = ("generic_int8", "tidl-8.6", "tidl-10.1")
MORE = ("tidl-9.1", "tidl-11.2")  # of the slow run
WIDTH = 4
X = torch.randn(2, WIDTH, 12, 12, generator=torch.Generator().manual_seed(0))


class Gate(nn.Module):
    def __init__(self, last: nn.Module) -> None:
        super().__init__()
        self.fc, self.last = nn.Conv2d(WIDTH, WIDTH, 1), last

    def forward(self, x: Tensor) -> Tensor:
        return x * self.last(self.fc(x.mean((2, 3), keepdim=True)))


class LayerNorm2d(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Joined(nn.Module):
    def __init__(self, inner: nn.Module, concat: bool) -> None:
        super().__init__()
        self.inner, self.concat = inner, nn.Conv2d(2 * WIDTH, WIDTH, 1) if concat else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        return x + y if self.concat is None else self.concat(torch.cat([x, y], 1))


def conv(kernel: int, stride: int, groups: int) -> nn.Module:
    layers = nn.Conv2d(WIDTH, WIDTH, kernel, stride, kernel // 2, groups=groups), nn.BatchNorm2d(WIDTH)
    return nn.Sequential(*layers)


ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Hardswish, nn.SiLU, nn.GELU, nn.LeakyReLU, nn.Mish)
CONVOLUTIONS = st.builds(
    lambda *settings: lambda: conv(*settings),
    st.integers(1, 9),
    st.integers(1, 2),
    st.sampled_from([1, 2, WIDTH]),
)
LAYERS: st.SearchStrategy[Callable[[], nn.Module]] = st.one_of(
    CONVOLUTIONS,
    st.sampled_from(ACTIVATIONS),
    st.sampled_from([nn.Sigmoid, nn.Hardsigmoid]).map(lambda last: lambda: Gate(last())),
    st.builds(lambda k: lambda: nn.MaxPool2d(k, 1, k // 2), st.integers(2, 9)),
    st.builds(lambda k: lambda: nn.AvgPool2d(k, 1, k // 2), st.integers(2, 9)),
    st.just(LayerNorm2d),
    st.builds(
        lambda factor, mode: lambda: nn.Upsample(scale_factor=factor, mode=mode),
        st.sampled_from([2, 3]),
        st.sampled_from(["nearest", "bilinear"]),
    ),
    st.builds(
        lambda kind, concat: lambda: Joined(nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 3, padding=1), kind()), concat),
        st.sampled_from(ACTIVATIONS),
        st.booleans(),
    ),
)
NETWORKS = st.lists(LAYERS, min_size=2, max_size=6)


def operated(makers: list[Callable[[], nn.Module]], name: str) -> tuple[nn.Module, nn.Module, Explanation]:
    """The source, what auto surgery makes of it, and why; the properties are checked."""
    torch.manual_seed(0)
    model = nn.Sequential(*(make() for make in makers), nn.Conv2d(WIDTH, 2, 1)).eval()
    device = read(name, ROOT)
    found = choose(model, lambda each: lint_exported(each, device, X[:1], name), ordered_for(device), X[:1], [X])
    lite, report = surgery.lite(model, found.rules, X[:1], [X], found.sites)
    assert {edit.rule for edit in report.edits} == set(found.rules)
    assert found.rounds <= MAX_ROUNDS
    assert all(each.why for each in found.left)
    again = lint_exported(lite, device, X[:1], name)
    assert (again.clean, len(again.rejected) + len(again.whole)) == (found.clean, len(found.left))
    expected, output = model(X), lite(X)
    assert output.shape == expected.shape
    assert output.isfinite().all()
    if all(choice.promise == "same_output" for choice in found.choices):
        torch.testing.assert_close(output, expected)
    replayed = surgery.replay(model, report.plan)
    replayed.load_state_dict(lite.state_dict())
    assert torch.equal(replayed.eval()(X), lite.eval()(X))
    lite.train()(X).sum().backward()
    return model, lite, found


@pytest.mark.parametrize("name", TARGETS)
def test_a_net_with_some_of_everything(name: str) -> None:
    makers = [lambda: conv(7, 2, 1), nn.Hardswish, lambda: Gate(nn.Hardsigmoid()), lambda: conv(5, 2, WIDTH), nn.SiLU]
    *_, found = operated(makers, name)
    assert found.clean, found.as_text()
    assert found.after.node_share == 1
    assert (found.before.node_share == 1) == (not found.choices) == (name == "tidl-10.1")  # it takes all as it is


LITTLE = settings(
    max_examples=1,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("name", TARGETS[:1])
@LITTLE
@given(makers=NETWORKS)
def test_a_random_net(name: str, makers: list[Callable[[], nn.Module]]) -> None:
    operated(makers, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*TARGETS, *MORE])
@settings(LITTLE, max_examples=12)
@given(makers=NETWORKS)
def test_many_random_nets(name: str, makers: list[Callable[[], nn.Module]]) -> None:
    operated(makers, name)
