"""Parameters that several layers hold: they stay one, or the layers stay."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import surgery

TOKENS = torch.randn(2, 40, 16, generator=torch.Generator().manual_seed(0))
MAPS = torch.randn(4, 16, 6, 5, generator=torch.Generator().manual_seed(0))


def tied(first: nn.Module, second: nn.Module, *names: str) -> nn.Module:
    for name in names:
        setattr(second, name, getattr(first, name))
    return nn.Sequential(first, nn.ReLU(), second).eval()


@pytest.mark.parametrize(
    ("make", "x"),
    [
        (lambda: nn.LayerNorm(16), TOKENS),
        (lambda: nn.LayerNorm(16), TOKENS[:1, :5]),
        (lambda: nn.GroupNorm(4, 16), MAPS),
    ],
)
@pytest.mark.parametrize("names", [("weight", "bias"), ("bias",)])
@pytest.mark.parametrize("calibrated", [False, True])
def test_norms_keep_the_parameters_that_they_share(
    make: Callable[[], nn.Module], x: Tensor, names: tuple[str, ...], calibrated: bool
) -> None:
    model = tied(make(), make(), *names)
    nn.init.uniform_(model[0].weight, 0.5, 1.5)
    count, weight = len(list(model.parameters())), model[0].weight.detach().clone()
    lite, report = surgery.lite(model, ["norm_to_batchnorm"], x, [x] if calibrated else None)
    again = surgery.replay(model, surgery.Plan.from_json(report.plan.to_json()))
    for result in (lite, again):
        assert all(getattr(result[0], name) is getattr(result[2], name) for name in names)
        assert len(list(result.parameters())) == count
    assert torch.equal(lite[0].weight, weight), "another layer reads it too, so it is not fitted to this one"
    again.load_state_dict(lite.state_dict())
    assert torch.equal(again.eval()(x), lite.eval()(x))


def test_statistics_are_measured_where_the_weights_stay() -> None:
    model, x = tied(nn.LayerNorm(16), nn.LayerNorm(16), "weight", "bias"), 5 * TOKENS + 2
    lite, _ = surgery.lite(model, ["norm_to_batchnorm"], x)
    assert torch.allclose(lite[0].running_mean, x.flatten(0, 1).mean(0), atol=1e-5)
    assert torch.allclose(lite[0].running_var, x.flatten(0, 1).var(0), rtol=1e-5)


def test_a_norm_whose_shared_parameter_has_another_shape_stays() -> None:
    model = tied(nn.LayerNorm([16, 6, 5]), nn.LayerNorm([16, 6, 5]), "weight")
    with pytest.raises(surgery.SurgeryError, match=r"0: its weight is tied to that of 2 and has another shape"):
        surgery.lite(model, ["norm_to_batchnorm"], MAPS)


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_convolutions_stay(name: str) -> None:
    model = tied(nn.Conv2d(16, 16, 7, padding=3), nn.Conv2d(16, 16, 7, padding=3), name)
    with pytest.raises(surgery.SurgeryError, match=f"0: its {name} is tied to that of 2"):
        surgery.lite(model, ["split_large_kernel"], MAPS)
