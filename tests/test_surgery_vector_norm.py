"""Vectors divided by their length: a constant where a layer reads them, measured."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import surgery
from surgery.observing.unfriendly import unfriendly

X = 3 * torch.randn(4, 6, 8, 8, generator=torch.Generator().manual_seed(0))


class Attention(nn.Module):
    """Over channels, by the angle between them (El-Nouby et al. 2021, section 3.1)."""

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2)
        query, key = F.normalize(tokens, dim=-1), F.normalize(tokens + 1, dim=-1)
        return ((query @ key.mT).softmax(-1) @ tokens).view(x.shape)


@pytest.mark.parametrize("calibrated", [False, True])
def test_attention_by_angles_is_close_and_serves_other_sizes(calibrated: bool) -> None:
    model = nn.Sequential(Attention(), nn.Conv2d(6, 6, 1)).eval()
    lite, report = surgery.lite(model, example_inputs=X, calibration=[X, X] if calibrated else None)
    assert report.by_rule() == {"normalize_to_scale": 1}
    assert not unfriendly(lite, (X,))
    assert not report.left_alone
    other = 3 * torch.randn(1, 6, 16, 4)
    for x in (X, other):
        expected = model[0](x)
        assert (lite[0](x) - expected).abs().mean() < 0.1 * expected.abs().mean()
    lite.train()(X).square().sum().backward()
    assert all(parameter.grad is not None for parameter in lite.parameters())
    again = surgery.replay(model, surgery.Plan.from_json(report.plan.to_json()))
    again.load_state_dict(lite.state_dict())
    assert torch.equal(again.eval()(X), lite.eval()(X))


def test_bare_layers_are_not_measured() -> None:
    bare = surgery.WarmStart(gates=False, norms=False, statistics=False)
    lite, _ = surgery.lite(nn.Sequential(Attention(), nn.Conv2d(6, 6, 1)), example_inputs=X, warm_start=bare)
    assert all(p.item() == 1 for p in lite[0].parameters())


def test_embeddings_at_the_output_stay() -> None:
    class Embeds(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.normalize(x.mean((2, 3)), dim=-1)

    _, report = surgery.lite(nn.Sequential(nn.Conv2d(6, 6, 1), Embeds()), example_inputs=X)
    assert not report.edits
    assert [(left.site, left.call) for left in report.left_alone] == [("1", "linalg_vector_norm")]


def test_without_inputs_it_is_not_known_what_comes_out() -> None:
    model = nn.Sequential(Attention(), nn.Conv2d(6, 6, 1))
    with pytest.raises(surgery.SurgeryError, match="without example inputs it is not known whether it gives"):
        surgery.lite(model, ["normalize_to_scale"])


def test_the_constant_is_where_the_model_is() -> None:
    model = nn.Sequential(Attention(), nn.Conv2d(6, 6, 1)).double().eval()
    lite, _ = surgery.lite(model, example_inputs=X.double())
    assert {p.dtype for p in lite.parameters()} == {torch.float64}
