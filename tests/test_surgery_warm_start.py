"""The switches of the warm start: each part off leaves its layers as without data; a plan replays whatever is off."""

import json
from dataclasses import fields
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import surgery
from surgery import WarmStart
from surgery.rule_parts.channel_norm import ChannelBatchNorm
from surgery.rules.channel_scale import ChannelScale

X = torch.randn(2, 6, 8, 8, generator=torch.Generator().manual_seed(0))
BATCHES = [3 + 2 * torch.randn(8, 6, 8, 8, generator=torch.Generator().manual_seed(n)) for n in (1, 2)]
OFF = {"gates": False, "norms": False, "statistics": False}


class Gate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Conv2d(6, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.fc(x.mean((2, 3), keepdim=True)))


class Gated(Gate):
    """A gate among other things, and a normalization that is called."""

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x + super().forward(x.relu()), 1)


def source() -> nn.Module:
    """Gate modules that cannot be folded, a normalization of either kind, BatchNorm."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(6, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), Gate(), nn.ReLU(), nn.GroupNorm(2, 6), Gated())
    return nn.Sequential(*layers, nn.Hardswish()).eval()


@cache
def lite(**parts: bool) -> tuple[nn.Module, surgery.Report]:
    """What surgery makes with these parts switched; not to be changed."""
    made, report = surgery.lite(source(), example_inputs=X, calibration=BATCHES, warm_start=WarmStart(**parts))
    return made.eval(), report


def called(model: nn.Module) -> ChannelBatchNorm:
    """The layer that took a called normalization's place."""
    (layer,) = (m for n, m in model.named_modules() if n.startswith("6.norm_call") and isinstance(m, ChannelBatchNorm))
    return layer


def as_made(layer: nn.Module) -> bool:
    """Whether nothing was measured for it."""
    return bool((layer.running_mean == 0).all()) and bool((layer.running_var == 1).all())


def test_all_of_it_is_the_default() -> None:
    made, report = lite()
    default, its_report = surgery.lite(source(), example_inputs=X, calibration=BATCHES)
    assert report.plan == its_report.plan
    assert set(report.by_rule()) == {
        *("squeeze_excite", "gate", "norm_to_batchnorm", "norm_call_to_batchnorm", "hardswish_to_relu"),
    }
    ours, theirs = made.state_dict(), default.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert report.to_json()["warm_start"] == {part.name: getattr(WarmStart(), part.name) for part in fields(WarmStart)}


def test_without_gates_they_become_one_and_nothing() -> None:
    warm, (made, _) = lite()[0], lite(gates=False)
    assert isinstance(warm.get_submodule("3"), ChannelScale)
    assert "3" not in dict(made.named_children())  # an identity, which is cleaned up
    scales = [
        [m.scale for m in model.get_submodule("6").modules() if isinstance(m, ChannelScale)] for model in (warm, made)
    ]
    assert [len(found) for found in scales] == [1, 1]
    assert bool((scales[0][0] < 1).all())
    assert bool((scales[1][0] == 1).all())


@pytest.mark.parametrize("statistics", [True, False])
def test_without_norms_they_are_as_made_but_for_statistics(statistics: bool) -> None:
    (warm, _), (made, _) = lite(statistics=statistics), lite(norms=False, statistics=statistics)
    old, fitted, bare = (model.get_submodule("5") for model in (source(), warm, made))
    assert isinstance(fitted, ChannelBatchNorm)
    assert torch.equal(bare.weight, old.weight)
    assert not torch.equal(fitted.weight, old.weight)
    assert as_made(bare) == as_made(called(made)) == (not statistics)
    assert not as_made(fitted)
    assert not as_made(called(warm))


def test_without_norms_an_example_measures_none_either() -> None:
    warm, _ = surgery.lite(source(), example_inputs=X)
    made, _ = surgery.lite(source(), example_inputs=X, warm_start=WarmStart(norms=False))
    layers = [layer for model in (warm, made) for layer in (model.get_submodule("5"), called(model))]
    assert [as_made(layer) for layer in layers] == [False, False, True, True]


def test_without_statistics_they_are_the_sources() -> None:
    (warm, _), (made, _) = lite(), lite(statistics=False)
    source_s, warm_s, made_s = (model.get_submodule("1").state_dict() for model in (source(), warm, made))
    assert all(torch.equal(source_s[name], made_s[name]) for name in source_s)
    assert not torch.equal(warm_s["running_mean"], made_s["running_mean"])


def test_a_called_normalization_starts_closest_where_only_statistics_are_off() -> None:
    """What it gets is nobody else's BatchNorm to measure anew, so that it is measured by itself."""
    made, _ = lite(statistics=False)
    seen: list[Tensor] = []
    handle = called(made).register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        for batch in BATCHES:
            made(batch)
    handle.remove()
    means = torch.stack([x.mean((0, 2, 3)) for x in seen]).mean(0)
    assert torch.allclose(called(made).running_mean, means, atol=1e-4)  # type: ignore[arg-type]


@pytest.mark.parametrize("off", [{}, OFF, *({part: False} for part in OFF)], ids=lambda off: "-".join(off) or "none")
def test_a_plan_replays_whatever_is_off(off: dict[str, bool]) -> None:
    made, report = lite(**off)
    again = surgery.replay(source(), surgery.Plan.from_json(json.loads(json.dumps(report.plan.to_json()))))
    again.load_state_dict(made.state_dict())
    assert torch.equal(again.eval()(X), made(X))


def test_a_mapping_is_no_warm_start() -> None:
    with pytest.raises(surgery.SurgeryError, match=r"warm_start is a dict; give a surgery\.WarmStart"):
        surgery.lite(source(), example_inputs=X, warm_start={"gates": False})  # type: ignore[arg-type]
