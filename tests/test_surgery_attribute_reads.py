"""A forward that reads a layer's weight beside calling it: the layer stays, without a run as with one."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import surgery

X = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))


class Reads(nn.Module):
    """Calls ``read`` on itself and a value, beside the convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 7, padding=3)
        self.layers = nn.ModuleList([nn.Conv2d(4, 4, 7, padding=3)])

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + self.layers[0](x)  # type: ignore[no-any-return]

    def reset(self) -> None:
        """Not called by forward."""
        self.conv.weight.data.zero_()


class Weight(Reads):
    def forward(self, x: Tensor) -> Tensor:
        return self.layers[0](self.conv(x)) + F.conv2d(x, self.conv.weight, padding=3)  # type: ignore[no-any-return]


class Listed(Reads):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + F.conv2d(x, self.layers[0].weight, padding=3)  # type: ignore[no-any-return]


class InMethod(Reads):
    def forward(self, x: Tensor) -> Tensor:
        return self.layers[0](x) + self.other(x)  # type: ignore[no-any-return]

    def other(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.conv.weight, padding=3)


@pytest.mark.parametrize("example", [None, X])
@pytest.mark.parametrize(("kind", "site"), [(Weight, "conv"), (Listed, "layers.0"), (InMethod, "conv")])
@pytest.mark.parametrize("wrap", [lambda model: model, nn.Sequential])
def test_a_layer_whose_weight_is_read_stays(
    kind: type[nn.Module], site: str, wrap: Callable[[nn.Module], nn.Module], example: Tensor | None
) -> None:
    model = wrap(kind()).eval()
    lite, report = surgery.lite(model, ["split_large_kernel"], example)
    (refused,) = (refusal for refusal in report.refusals if refusal.site.endswith(site))
    assert "reads its weight, which a SumOfConvolutions does not have" in refused.reason
    assert torch.allclose(lite(X), model(X), atol=1e-5)


@pytest.mark.parametrize("kind", [Reads])
def test_what_forward_does_not_read_is_no_reason(kind: type[nn.Module]) -> None:
    _, report = surgery.lite(kind(), ["split_large_kernel"])
    assert {edit.site for edit in report.edits} == {"conv", "layers.0"}


def test_a_weight_of_another_shape_is_not_put_in_unseen() -> None:
    class Even(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 4, padding="same")

        def forward(self, x: Tensor) -> Any:
            return self.conv(x) + F.conv2d(x, self.conv.weight, padding="same")

    with pytest.raises(surgery.SurgeryError, match="the forward of 0 reads its weight, which would be another"):
        surgery.lite(nn.Sequential(Even()), ["even_kernel_to_odd"])


def test_the_type_of_a_weight_stays_what_it_is() -> None:
    class Typed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.pool = nn.Conv2d(4, 4, 4, padding="same"), nn.MaxPool2d(5)

        def forward(self, x: Tensor) -> Any:
            return self.pool(self.conv(x.to(self.conv.weight.dtype)))

    assert surgery.lite(nn.Sequential(Typed()), ["even_kernel_to_odd", "split_max_pool"])[1].by_rule() == {
        "even_kernel_to_odd": 1,
        "split_max_pool": 1,
    }


def test_settings_of_a_pool_that_are_read() -> None:
    class Settings(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = nn.MaxPool2d(5)

        def forward(self, x: Tensor) -> Any:
            return self.pool(x) * self.pool.kernel_size

    with pytest.raises(surgery.SurgeryError, match="reads its kernel_size, which a Sequential does not have"):
        surgery.lite(nn.Sequential(Settings()), ["split_max_pool"])
