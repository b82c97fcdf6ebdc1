"""Whatever a model's forward writes while surgery runs it: the source is never run, and its copy is left as it was."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import surgery

X = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))


class Decides(nn.Module):
    """Its graph holds a size for constant, so that another batch is tried too."""

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x) if int(x.shape[2]) > 4 else x


class Remembers(nn.Module):
    """Writes into everything that it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.stats: dict[str, Any] = {"seen": [], "deep": ([{"n": []}],), "sums": torch.zeros(())}
        self.sizes: list[int] = []
        self.scale = nn.Parameter(torch.ones(1))
        self.total = torch.zeros(())  # no buffer
        self.child = nn.Sequential(Decides(), nn.BatchNorm2d(4))

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        self.stats["seen"].append(len(x))
        self.stats["deep"][0][0]["n"].append(len(x))
        self.stats["sums"].add_(1)
        self.total.add_(1)
        with torch.no_grad():
            self.scale.add_(1)
        return self.child(x) * self.scale


def untouched(model: nn.Module) -> None:
    assert isinstance(model, Remembers)
    assert model.sizes == []
    assert model.stats == {"seen": [], "deep": ([{"n": []}],), "sums": torch.zeros(())}
    assert model.total == 0
    assert model.scale == 1


@pytest.mark.parametrize("calibration", [None, [X]])
def test_what_a_forward_stores_is_taken_back(calibration: Any) -> None:
    source = Remembers().eval()
    lite, report = surgery.lite(source, example_inputs=X, calibration=calibration)
    assert report.by_rule() == {"silu_to_relu": 1}
    untouched(source)
    untouched(lite)
    surgery.proposals(source, ["silu_to_relu"], X, calibration)
    untouched(source)


def test_a_forward_that_stores_in_a_container_is_not_traced() -> None:
    class Stores(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stats: dict[str, list[Any]] = {"x": []}

        def forward(self, x: Tensor) -> Tensor:
            self.stats["x"].append(x)
            return F.silu(x)

    lite, report = surgery.lite(nn.Sequential(Stores()), example_inputs=X)
    assert report.edits == ()
    assert "stores values in what the module holds" in report.refusals[0].reason
    assert lite[0].stats == {"x": []}


def test_a_cache_is_traced_and_put_back() -> None:
    class Caches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 1, 1))
            self.cache: dict[str, Tensor] = {}

        def forward(self, x: Tensor) -> Tensor:
            key = str(x.device)
            if key not in self.cache:
                self.cache[key] = self.weight * 2
            return F.silu(x) * self.cache[key]

    source = nn.Sequential(Caches())
    lite, report = surgery.lite(source, example_inputs=X)
    assert report.by_rule() == {"silu_to_relu": 1}
    assert lite[0].cache == source[0].cache == {}
    assert torch.allclose(lite(X), X.relu() * lite[0].weight * 2)


def test_hooks_of_the_source_do_not_run() -> None:
    source = nn.Sequential(nn.Conv2d(4, 4, 1), Decides()).eval()
    seen = []
    source[0].register_forward_hook(lambda module, *_: seen.append(module))
    _, report = surgery.lite(source, example_inputs=X)
    assert report.is_lite
    assert seen
    assert source[0] not in seen


@pytest.mark.parametrize("given", [X, {"x": X, "n": torch.ones(2, dtype=torch.int64)}])
def test_a_plan_is_replayed_where_zeros_are_refused(given: Any) -> None:
    class Picky(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.count = nn.Parameter(torch.ones(1))
            self.child = nn.Sequential(Decides())

        def forward(self, x: Tensor, n: Tensor | None = None) -> Tensor:
            if not x.any() or not (n is None or n.any()):
                raise ValueError("empty image")
            with torch.no_grad():
                self.count.add_(1)
            return self.child(x)

    lite, report = surgery.lite(Picky(), example_inputs=given)
    state = torch.get_rng_state()
    again = surgery.replay(Picky(), report.plan)
    assert torch.equal(torch.get_rng_state(), state)
    assert again.count == 1
    assert torch.equal(again(X), lite(X))


def test_a_plan_that_fits_no_inputs_says_why_on_zeros() -> None:
    class Never(nn.Module):
        def __init__(self, fails: bool) -> None:
            super().__init__()
            self._fails = fails
            self.child = nn.Sequential(Decides())

        def forward(self, x: Tensor) -> Tensor:
            if self._fails:
                raise ValueError(f"{x.sum():.0f} is no sum")
            return self.child(x)

    _, report = surgery.lite(Never(fails=False), example_inputs=X)
    with pytest.raises(surgery.PlanMismatch, match="0 is no sum"):
        surgery.replay(Never(fails=True), report.plan)
