"""Random networks: whatever surgery does to them, the input is left alone, the plan repeats it, the result trains."""

from copy import deepcopy

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import surgery

X = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
LAYERS = st.sampled_from(["conv", "bn", "silu", "relu6", "hardswish", "gelu", "gate", "identity", "dropout", "call"])


def network(kinds: list[str]) -> nn.Module:
    from torchvision.ops.misc import SqueezeExcitation

    class Call(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + F.silu(x) * 0.5

    make = {
        "conv": lambda: nn.Conv2d(4, 4, 3, padding=1),
        "bn": lambda: nn.BatchNorm2d(4),
        "silu": lambda: nn.SiLU(inplace=True),
        "relu6": nn.ReLU6,
        "hardswish": nn.Hardswish,
        "gelu": nn.GELU,
        "gate": lambda: SqueezeExcitation(4, 2),
        "identity": nn.Identity,
        "dropout": lambda: nn.Dropout(0.1, inplace=True),
        "call": Call,
    }
    return nn.Sequential(*(make[kind]() for kind in kinds), nn.Conv2d(4, 2, 1))


@settings(max_examples=40, deadline=None)
@given(st.lists(LAYERS, min_size=1, max_size=8))
def test_random_networks(kinds: list[str]) -> None:
    model = network(kinds).eval()
    state, text = deepcopy(model.state_dict()), repr(model)
    lite, report = surgery.lite(model, example_inputs=(X,), calibration=[X])
    assert repr(model) == text
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not [r for r in report.refusals if r.rule != "fold_channel_scale"]
    left = {o.name.rstrip("_") for o in surgery.operators(lite, (X,))}
    assert not left & {"silu", "hardtanh", "hardswish", "gelu", "hardsigmoid", "sigmoid"}
    again = surgery.replay(model, report.plan)
    again.load_state_dict(lite.state_dict())
    assert torch.equal(again.eval()(X), lite.eval()(X))
    _twice, more = surgery.lite(lite, example_inputs=(X,))
    assert not [e for e in more.edits if e.promise == "same_shape"]
    lite.train()(X).sum().backward()
