"""What goes without a trace in eval mode: dropout, no-ops, auxiliary heads; and what has to stay in train mode."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import surgery
from surgery.operating.verify import difference

X = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def test_dropout_of_every_library_goes() -> None:
    from mmcv.cnn.bricks.drop import DropPath as OfMmcv
    from timm.layers import DropBlock2d, DropPath
    from torchvision.ops import StochasticDepth
    from torchvision.ops import drop_block as of_torchvision

    drops = [DropPath(0.5), OfMmcv(0.5), StochasticDepth(0.5, "row"), DropBlock2d(0.5), nn.FeatureAlphaDropout()]
    drops += [of_torchvision.DropBlock2d(0.5, 3), nn.Dropout3d(0.5)]
    model = nn.Sequential(*drops).eval()
    lite, report = surgery.lite(model, ["remove_dropout"], example_inputs=(X,))
    assert report.by_rule() == {"remove_dropout": len(drops)}
    assert all(type(layer) is nn.Identity for layer in lite)
    assert torch.equal(lite.train()(X), X)
    assert torch.equal(surgery.replay(model, report.plan).train()(X), X)


class Residual(nn.Module):
    def __init__(self, drop: nn.Module) -> None:
        super().__init__()
        self.conv, self.drop = nn.Conv2d(4, 4, 1), drop

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop(F.silu(F.dropout(self.conv(x), 0.5, self.training)))


def test_dropout_stays_by_default_and_goes_from_calls_when_asked() -> None:
    from timm.layers import DropPath

    model = Residual(DropPath(0.5)).eval()
    lite, report = surgery.lite(model, example_inputs=(X,))
    assert "remove_dropout" not in report.by_rule()
    outputs = {float(lite.train()(X).detach().sum()) for _ in range(8)}
    assert len(outputs) > 1, "the path is dropped in train mode"
    assert torch.allclose(lite.eval()(X), X + F.relu(model.conv(X)))

    lite, report = surgery.lite(model, ["remove_dropout"], example_inputs=(X,))
    assert {e.site for e in report.edits} == {"", "drop"}
    assert torch.equal(lite.train()(X), model(X))


def test_a_dropout_that_is_always_on_stays() -> None:
    class Always(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(x, 0.5)

    with pytest.raises(surgery.SurgeryError, match="drops values in eval mode too"):
        surgery.lite(Always(), ["remove_dropout"])


class Views(nn.Module):
    """Tokens and back, as attention blocks write it, with nothing between them."""

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        x = x.to(x.dtype).permute(0, 2, 3, 1).permute(0, 3, 1, 2)
        x = x.reshape(n, c, h, w).contiguous() * 1.0
        return F.relu(x)


def test_no_ops_go_for_every_size() -> None:
    lite, report = surgery.lite(Views(), ["remove_noops"], example_inputs=(X,))
    assert [max(e.params["rewrites"].values()) for e in report.edits] == [5]
    assert [o.name for o in surgery.operators(lite, (X,))] == ["relu"]
    other = torch.randn(3, 5, 6, 7)
    assert torch.equal(lite(other), F.relu(other))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.reshape(2, 4, 8, 8),
        lambda x: x.reshape(x.shape[0], 4, 8, -1),
        lambda x: x.reshape(x.shape[0], x.shape[1], x.shape[3], x.shape[2]),
        lambda x: x.expand(2, -1, -1, -1),
        lambda x: 1 - x,
        lambda x: 1 / x,
        lambda x: x + 1,
        lambda x: x[:, :4],
        lambda x: F.pad(x, (0, 1)),
        lambda x: x.permute(0, 2, 3, 1).permute(0, 2, 3, 1),
        lambda x: x.transpose(2, 3),
        lambda x: x.double(),
        lambda x: x.transpose(2, 3).contiguous().view(-1),
        lambda x: (x > 0) * 1,
    ],
)
def test_what_only_looks_like_a_no_op_stays(function: object) -> None:
    from surgery.rule_parts.example_call import ExampleCall

    with pytest.raises(surgery.SurgeryError, match="it matches no layer"):
        surgery.lite(ExampleCall(function), ["remove_noops"], example_inputs=(X,))


class Classifier(nn.Module):
    """An auxiliary head as inception networks have it."""

    def __init__(self, drop: float = 0.0) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6)
        self.aux = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))
        self.head = nn.Linear(6, 3)
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = self.bn(self.stem(x))
        y = x.mean((2, 3))
        if self.drop:
            y = F.dropout(y, self.drop, self.training)
        if self.training:
            return self.head(y), self.aux(x)
        return self.head(y)


@pytest.mark.parametrize("inputs", [(X,), None])
def test_auxiliary_heads_go_when_asked(inputs: tuple[Tensor] | None) -> None:
    model = Classifier().eval()
    lite, report = surgery.lite(model, ["remove_auxiliary_heads"], example_inputs=inputs)
    assert [(e.site, e.action) for e in report.edits] == [("", "removed aux")]
    assert type(lite).__name__ == "Classifier"
    assert isinstance(lite, Classifier)
    assert lite.aux is None
    assert lite.state_dict().keys() == {k for k in model.state_dict() if not k.startswith("aux")}
    assert torch.equal(lite(X), model(X))
    before = lite.bn.running_mean.clone()
    assert isinstance(lite.train()(X), Tensor)
    assert not torch.equal(lite.bn.running_mean, before), "its other layers still train"
    again = surgery.replay(model, report.plan).eval()
    assert torch.equal(again(X), model(X))
    assert isinstance(model.aux, nn.Sequential)
    assert len(deepcopy(model).train()(X)) == 2, "the source is untouched"


def test_a_forward_with_dropout_of_its_own_keeps_its_heads() -> None:
    with pytest.raises(surgery.SurgeryError, match="its own forward calls dropout, which would go too"):
        surgery.lite(Classifier(0.5), ["remove_auxiliary_heads"], example_inputs=(X,))


def test_a_published_model_with_auxiliary_heads() -> None:
    from torchvision.models import GoogLeNet

    torch.manual_seed(0)
    model = GoogLeNet(num_classes=3, aux_logits=True, init_weights=False).eval()
    x = torch.randn(2, 3, 64, 64)
    lite, report = surgery.lite(model, ["remove_auxiliary_heads"], example_inputs=(x,))
    assert [e.action for e in report.edits] == ["removed aux1, aux2"]
    with torch.no_grad():
        assert difference(model(x), lite(x)) == 0
    assert lite.train()(x).shape == (2, 3)
    assert not [name for name in lite.state_dict() if name.startswith("aux")]


def test_inplace_layers_of_one_s_own() -> None:
    class Double(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inplace = True

        def forward(self, x: Tensor) -> Tensor:
            return x.mul_(2) if self.inplace else x * 2

    lite, report = surgery.lite(nn.Sequential(nn.Conv2d(4, 4, 1), Double()), ["not_inplace"], example_inputs=(X,))
    assert [e.site for e in report.edits] == ["1"]
    assert not lite[1].inplace


class Overwrites(nn.Module):
    """Trains as it is: autograd keeps SiLU's input. With ReLU, whose output it keeps, the sum would be in the way."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(4, 4, 1), nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.conv(x))
        y += x
        y.mul_(2)
        return y


def test_inplace_arithmetic_after_a_replaced_activation_does_not_stop_training() -> None:
    model = Overwrites()
    model(X).sum().backward()
    lite, report = surgery.lite(nn.Sequential(model), example_inputs=(X,))
    assert report.by_rule()["not_inplace_arithmetic"] == 1
    lite(X).sum().backward()
    assert all(p.grad is not None for p in lite.parameters())
    assert torch.allclose(lite(X), 2 * (F.relu(model.conv(X)) + X))
    again = surgery.replay(nn.Sequential(Overwrites()), report.plan)
    again.load_state_dict(lite.state_dict())
    assert torch.equal(again(X), lite(X))


def layers() -> nn.Sequential:
    return nn.Sequential(nn.SiLU(), nn.Identity(), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1))


class Sliced(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.l = layers()

    def forward(self, x: Tensor) -> Tensor:
        return self.l(x) if len(x) < 3 else self.l[:3](x)


class Stages(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([layers(), layers()])

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            x = stage(x)
        return x if len(x) < 3 else self.first(x)


class Picked(Stages):
    def first(self, x: Tensor) -> Tensor:
        return self.stages[0][2](x)


class Whole(Stages):
    def first(self, x: Tensor) -> Tensor:
        return self.stages[0](x)


@pytest.mark.parametrize(("kind", "removed"), [(Sliced, 0), (Picked, 0), (Whole, 2)])
def test_identities_stay_where_somebody_counts_layers(kind: type[nn.Module], removed: int) -> None:
    model = nn.Sequential(kind()).eval()
    lite, report = surgery.lite(model, example_inputs=(X,))
    assert report.by_rule().get("remove_identity", 0) == removed
    assert not report.refusals
    exact = deepcopy(model)
    for stage in [exact[0].l] if kind is Sliced else exact[0].stages:
        stage[0] = nn.ReLU()
    many = torch.randn(5, 4, 8, 8)
    assert torch.equal(lite(many), exact(many))
