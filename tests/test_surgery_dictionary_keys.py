"""What may be a key of a replacement dictionary, and what a key does not stand for is said."""

import math
import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from calling import Calls, X
from torch import Tensor, nn
from torch.nn import functional as F

from surgery import Pattern, get_replacement_dict_default, replace_unsupported_layers


def gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


def add(x: Tensor, y: Tensor) -> Tensor:
    return x - y


class Doubling:
    def __call__(self, x: Tensor) -> Tensor:
        return 2 * x


@pytest.mark.parametrize("key", [gelu, add, lambda x: x * torch.sigmoid(x), Doubling(), partial(gelu), math.tanh])
def test_functions_that_are_not_torchs_are_no_keys(key: Any) -> None:
    with pytest.raises(
        TypeError, match=r"^replacement_dict entry 'dict: .* needs a function of torch .* Pattern\("
    ) as e:
        replace_unsupported_layers(nn.Sequential(Calls(F.gelu)), {key: F.relu}, X)
    assert f"-> {F.relu.__name__}'" in str(e.value)


@pytest.mark.parametrize(
    ("key", "code"),
    [
        (operator.neg, lambda x: -x),
        (abs, lambda x: x.abs()),
        (Tensor.sigmoid_, torch.sigmoid),
        (torch.ops.aten.gelu.default, F.gelu),
        (torch.ops.aten.gelu, F.gelu),
        (torch.special.expit, torch.sigmoid),
        (F.max_pool2d, lambda x: F.max_pool2d(x, 3, 1, 1)),
        (Pattern(gelu), gelu),
    ],
)
def test_functions_of_torch_and_operators_are_keys(key: Any, code: Callable[[Any], Any]) -> None:
    lite = replace_unsupported_layers(nn.Sequential(Calls(code)), {key: nn.Identity}, X)
    assert lite.surgery_report.is_lite


class Silu(nn.Module):
    """Names its child as the function that it does not call."""

    def __init__(self) -> None:
        super().__init__()
        self.silu = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.silu(x)


@pytest.mark.parametrize("example", [None, X])
@pytest.mark.parametrize("key", [nn.SiLU, nn.SiLU(), "torch.nn.SiLU"])
def test_calls_that_an_entry_for_modules_leaves_are_said(key: Any, example: Tensor | None) -> None:
    model = nn.Sequential(nn.SiLU(), Calls(F.silu), Silu())
    changed = get_replacement_dict_default()
    del changed[nn.SiLU]
    changed[key] = nn.ELU
    report = replace_unsupported_layers(model, changed, example).surgery_report
    found = {(refusal.site, refusal.reason) for refusal in report.refusals if refusal.rule.startswith("dict: ")}
    assert found == {
        ("1", "its forward is written with silu, and this entry is for modules: the function is the key for calls")
    }
    changed[F.silu] = F.elu
    report = replace_unsupported_layers(model, changed, example).surgery_report
    assert not report.refusals
