"""With ``trace=False`` no forward is traced, whatever a rule would like to see; what it left is a refusal."""

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

import surgery

X = torch.randn(2, 4, 16, 16)


@pytest.fixture(autouse=True)
def no_tracing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patterns are traced, when they are made: the models are not."""

    def traced(self: Any, root: Any, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError(f"a {type(root).__name__} is traced")

    monkeypatch.setattr(fx.Tracer, "trace", traced)


class Block(nn.Module):
    """Calls, gates, permutes, attention and shuffles, each of which some rule traces."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 7, padding=3), nn.LayerNorm(4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.gate, self.focus = nn.Conv2d(4, 4, 1), nn.Conv2d(16, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.conv(x))
        x = x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))
        x = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        tokens = x.flatten(2).transpose(1, 2)
        x = self.attention(tokens, tokens, tokens)[0].transpose(1, 2).reshape(x.shape)
        y = torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1)
        return F.interpolate(self.focus(y), size=(5, 7))


def model_of(name: str) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name)


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (Block, (2, 4, 16, 16)),
        (model_of("mobilenetv3_small_050"), (1, 3, 64, 64)),
        (model_of("convnext_atto"), (1, 3, 64, 64)),
        (model_of("mobilevit_xxs"), (1, 3, 64, 64)),
        (model_of("levit_128s"), (1, 3, 224, 224)),
        (model_of("resnest14d"), (1, 3, 64, 64)),
    ],
    ids=["block", "mobilenet", "convnext", "mobilevit", "levit", "resnest"],
)
@pytest.mark.parametrize("with_example", [False, True])
def test_no_model_is_traced(build: Callable[[], nn.Module], shape: tuple[int, ...], with_example: bool) -> None:
    model, example = build().eval(), torch.randn(shape)
    lite = surgery.replace_unsupported_layers(model, None, example if with_example else None, trace=False)
    report = lite.surgery_report
    assert type(lite) is type(model)
    assert lite(example).shape == model(example).shape
    assert not any("rewrites" in edit.params for edit in report.edits)
    assert not any(
        "the rule fails" in refusal.reason or "AssertionError" in refusal.reason for refusal in report.refusals
    )


def test_calls_are_refused_with_the_reason() -> None:
    with pytest.warns(
        UserWarning, match="dict: silu -> relu: 0: calls silu; cannot trace it: tracing was switched off"
    ):
        lite = surgery.replace_unsupported_layers(nn.Sequential(Block()), {F.silu: F.relu}, X, trace=False)
    assert lite.surgery_report.unmatched == ("dict: silu -> relu",)
    assert [refusal.site for refusal in lite.surgery_report.refusals] == ["0"]
