"""A forward set on one module is what that module does: its class says nothing, and no rule takes it for a layer."""

from collections.abc import Callable
from types import MethodType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import surgery

MAPS = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
REASON = "its forward was set on this one module, not in its class"


def doubling(layer: nn.Module) -> nn.Module:
    layer.forward = MethodType(lambda self, x: type(self).forward(self, x) * 2, layer)  # type: ignore[method-assign]
    return layer


LAYERS: list[tuple[str, Callable[[], nn.Module]]] = [
    ("silu_to_relu", nn.SiLU),
    ("hardsigmoid_to_clamp", nn.Hardsigmoid),
    ("sigmoid_to_clamp", nn.Sigmoid),
    ("prelu_to_relu", nn.PReLU),
    ("split_large_kernel", lambda: nn.Conv2d(4, 4, 7, padding=3)),
    ("large_kernel_series", lambda: nn.Conv2d(4, 4, 7, padding=3)),
    ("even_kernel_to_odd", lambda: nn.Conv2d(4, 4, 4)),
    ("transposed_to_friendly", lambda: nn.ConvTranspose2d(4, 4, 5, 3)),
    ("split_max_pool", lambda: nn.MaxPool2d(5, 1, 2)),
    ("split_avg_pool", lambda: nn.AvgPool2d(5, 1, 2)),
    ("adaptive_avg_pool_to_plain", lambda: nn.AdaptiveAvgPool2d(4)),
    ("resize_by_factor", lambda: nn.Upsample(size=(32, 32))),
    ("resize_to_supported", lambda: nn.Upsample(scale_factor=2, mode="bicubic")),
    ("norm_to_batchnorm", lambda: nn.GroupNorm(1, 4)),
    ("norm_to_batchnorm", lambda: nn.LayerNorm(16)),
    ("softmax_last_axis", lambda: nn.Softmax(1)),
    ("not_inplace", lambda: nn.ReLU(inplace=True)),
]


@pytest.mark.parametrize("example", [None, MAPS])
@pytest.mark.parametrize(("rule", "make"), LAYERS)
def test_no_rule_throws_it_away(rule: str, make: Callable[[], nn.Module], example: Tensor | None) -> None:
    model = nn.Sequential(doubling(make()), nn.AvgPool2d(1)).eval()
    with pytest.raises(surgery.SurgeryError, match=rf"{rule} \(0: {REASON}"):
        surgery.lite(model, [rule], example)
    lite, report = surgery.lite(model, example_inputs=example)
    assert torch.equal(lite(MAPS), model(MAPS))
    assert not report.edits


@pytest.mark.parametrize("key", [nn.SiLU, nn.SiLU()])
@pytest.mark.parametrize("example", [None, MAPS])
def test_no_entry_of_a_dictionary_does(key: Any, example: Tensor | None) -> None:
    model = nn.Sequential(doubling(nn.SiLU()), nn.Conv2d(4, 4, 1)).eval()
    with pytest.warns(UserWarning, match="matches nothing|" + REASON):
        result = surgery.replace_unsupported_layers(model, {key: nn.ReLU}, example)
    assert torch.equal(result(MAPS), model(MAPS))


def test_an_identity_with_a_forward_is_none() -> None:
    model = nn.Sequential(nn.SiLU(), doubling(nn.Identity()), nn.Conv2d(4, 4, 1)).eval()
    lite, report = surgery.lite(model, example_inputs=MAPS)
    assert report.by_rule() == {"silu_to_relu": 1}
    assert torch.equal(lite(MAPS), nn.Sequential(nn.ReLU(), model[1], model[2])(MAPS))


def test_layers_that_need_no_change_are_not_refused() -> None:
    model = nn.Sequential(doubling(nn.MaxPool2d(2)), doubling(nn.Conv2d(4, 4, 3)), doubling(nn.ReLU()))
    _, report = surgery.lite(model, example_inputs=MAPS)
    assert not {refusal.rule for refusal in report.refusals} & {"split_max_pool", "split_large_kernel"}
