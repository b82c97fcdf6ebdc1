"""The check step's checks: each finds its fault, by the layer's name, and is silent where there is none."""

import pytest
import torch
from torch import Tensor, nn

from zoo.checks.running import check_running

IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def net(*extra: nn.Module, kernel: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, kernel, padding=kernel // 2), nn.BatchNorm2d(4), nn.ReLU(), *extra,
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2),
    )  # fmt: skip


class Fault(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "nan":
            return x * float("nan")
        if self.kind == "raises":
            raise ValueError("broken here")
        if self.kind == "frozen batch":
            return x.view(4, 4, *x.shape[2:])
        if self.kind == "frozen size":
            return x.view(x.shape[0], 4, 16, 16)
        if self.kind == "batch mixes":
            return x + x.mean(0, keepdim=True)
        if self.kind == "rounds":
            return x + 1e-3 * len(x) if x.dtype == torch.float32 else x
        if self.kind == "inplace":
            return torch.sigmoid(x).add_(1).mul_(x) if not self.training else _overwritten(x)
        return x * 2


def _overwritten(x: Tensor) -> Tensor:
    y = torch.sigmoid(x)
    z = y * x
    y.add_(1)
    return z


@pytest.mark.parametrize(
    ("kind", "check", "layer", "fact"),
    [
        ("nan", "finite", "3", "not finite"),
        ("raises", "eval", "3", "forward fails: ValueError: broken here"),
        ("frozen batch", "batch", "", "fails on a batch of 1"),
        ("frozen size", "size", "", "fails at 48x48, unlike its source"),
        ("batch mixes", "batch", "", "gives other outputs"),
        ("inplace", "backward", "", "modified by an inplace operation"),
        ("doubles", "parity", "", "differs from the source's by"),
    ],
)
def test_each_fault_is_found(kind: str, check: str, layer: str, fact: str) -> None:
    findings = check_running(net(nn.Identity()), net(Fault(kind)), IMAGES, same_output=kind == "doubles")
    assert (findings[0].check, findings[0].layer) == (check, layer)
    assert fact in findings[0].fact
    assert findings[0].severity == "error"


@pytest.mark.parametrize("same_output", [False, True])
def test_what_float32_alone_rounds_is_no_fault(same_output: bool) -> None:
    assert check_running(net(nn.Identity()), net(Fault("rounds")), IMAGES, same_output=same_output) == []


def test_other_output_shape() -> None:
    wrong = net()
    wrong[-1] = nn.Linear(4, 3)
    (finding,) = check_running(net(), wrong, IMAGES, same_output=False)
    assert finding.fact == "output shape (4, 3), the source's is (4, 2)"


def test_unused_parameter_is_a_warning() -> None:
    unused = Fault("scale")
    unused.weight = nn.Parameter(torch.ones(1))
    (finding,) = check_running(net(nn.Identity()), net(unused), IMAGES, same_output=False)
    assert (finding.severity, finding.layer, finding.fact) == ("warning", "3", "3.weight gets no gradient")


def test_a_sound_model_has_no_findings_and_is_left_as_it_was() -> None:
    model = net().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert check_running(model, model, IMAGES, same_output=True) == []
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
