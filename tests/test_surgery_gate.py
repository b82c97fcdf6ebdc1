"""Gates, told by what they do: as modules, written out in a forward, over branches; measured and folded."""

import json
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import surgery
from surgery.rules.channel_scale import ChannelScale
from zoo.openmmlab import operators

X = torch.randn(2, 8, 8, 8, generator=torch.Generator().manual_seed(0))
BATCHES = [torch.randn(n, 8, 8, 8, generator=torch.Generator().manual_seed(n)) for n in (1, 3)]


def replays(model: nn.Module, lite: nn.Module, report: surgery.Report, x: Tensor = X) -> bool:
    again = surgery.replay(model, surgery.Plan.from_json(json.loads(json.dumps(report.plan.to_json()))))
    again.load_state_dict(lite.state_dict())
    return torch.equal(again.eval()(x), lite.eval()(x))


def has_gate(model: nn.Module, x: Tensor = X) -> bool:
    """Whether a product of a map with (N, C, 1, 1) runs, both made from data."""
    products = [o.inputs for o in surgery.operators(model, (x,)) if o.name.strip("_") == "mul" and len(o.inputs) == 2]
    return any(
        a[0] == b[0] == len(x) and len(a) == len(b) and (1, 1) in {a[-2:], b[-2:]} and a[-2:] != b[-2:]
        for a, b in products
    )


def factor(x: Tensor, fc: nn.Module) -> Tensor:
    return torch.sigmoid(fc(x.mean((2, 3), keepdim=True)))


class Own(nn.Module):
    """A gate of nobody's library: the form is given."""

    def __init__(self, form: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.form, self.fc = form, nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.form(x, factor(x, self.fc))


def inside(gate: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU(), gate, nn.Conv2d(8, 8, 3, padding=1)).eval()


FORMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "operator": lambda x, g: x * g,
    "the other way round": lambda x, g: g * x,
    "method": lambda x, g: x.mul(g),
    "inplace": lambda x, g: x.mul_(g),
    "function": lambda x, g: torch.mul(x, other=g),
    "expanded": lambda x, g: x * g.expand_as(x),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_module_that_gates_its_input_becomes_its_exact_mean(form: str) -> None:
    torch.manual_seed(0)
    model = inside(Own(FORMS[form]))
    lite, report = surgery.lite(model, ["squeeze_excite"], example_inputs=X, calibration=BATCHES)
    assert report.by_rule() == {"squeeze_excite": 1}
    with torch.no_grad():
        gates = torch.cat([factor(model[:2](batch), model[2].fc) for batch in BATCHES])
    assert isinstance(lite[2], ChannelScale)
    assert torch.allclose(lite[2].scale, gates.mean(0).flatten(), atol=1e-6)
    assert not has_gate(lite)
    assert replays(model, lite, report)
    bare, report = surgery.lite(model, ["squeeze_excite"], example_inputs=X)
    assert isinstance(bare[2], nn.Identity)
    assert replays(model, bare, report)


class Block(nn.Module):
    """A gate in a larger forward, in several ways; its layers are used for nothing else."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.se = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Sigmoid())
        self.fc = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if self.way == "child":
            return x + y * self.se(y)
        if self.way == "linear":
            pooled = F.adaptive_avg_pool2d(y, 1).flatten(1)
            return x + y * self.fc(pooled).sigmoid()[:, :, None, None]
        if self.way == "inplace":
            y *= self.se(y)
            return x + y
        if self.way == "of another map":
            return x + torch.mul(y, self.se(x))
        return x + y * (y.mean(1, keepdim=True) - 1).sigmoid()  # spatial


WAYS = ["child", "linear", "inplace", "of another map", "spatial"]


@pytest.mark.parametrize("way", WAYS)
def test_a_gate_inside_a_forward_becomes_its_exact_mean(way: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(8, 8, 1), Block(way)).eval()
    lite, report = surgery.lite(model, ["gate"], example_inputs=X, calibration=BATCHES)
    assert report.by_rule() == {"gate": 1}
    block = model[1]
    means = []
    for batch in BATCHES:
        with torch.no_grad():
            x = model[0](batch)
            y = block.conv(x)
            means.append(
                {
                    "child": lambda x=x, y=y: block.se(y),
                    "inplace": lambda x=x, y=y: block.se(y),
                    "linear": lambda x=x, y=y: block.fc(y.mean((2, 3))).sigmoid()[:, :, None, None],
                    "of another map": lambda x=x, y=y: block.se(x),
                    "spatial": lambda x=x, y=y: (y.mean(1, keepdim=True) - 1).sigmoid(),
                }[way]()
            )
    gate = torch.cat(means).mean((0, 2, 3))
    x = lite[0](X)
    assert torch.allclose(lite(X), x + lite[1].conv(x) * gate.view(1, -1, 1, 1), atol=1e-5)
    assert not has_gate(lite)
    assert lite(X[:1]).shape == (1, 8, 8, 8)
    assert replays(model, lite, report)
    left = {name.split(".")[1] for name in lite.state_dict() if name.startswith("1.")}
    used = {"child": "se", "inplace": "se", "of another map": "se", "linear": "fc"}.get(way)
    assert used not in left, "what only the gate used is gone"
    lite.train()(X).sum().backward()
    assert lite[1].mean_gate_0.scale.grad is not None


def test_layers_that_others_use_too_stay() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Conv2d(8, 8, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x) * torch.sigmoid(self.fc(x.mean((2, 3), keepdim=True)))

    lite, report = surgery.lite(nn.Sequential(Shared()).eval(), ["gate"], example_inputs=X)
    (edit,) = report.edits
    assert edit.params["removed"] == []
    assert torch.allclose(lite(X), lite[0].fc(X))


class Normalized(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.var((2, 3), keepdim=True) + 1)


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.gamma) * x.new_ones(x.shape[0], 1, 1, 1)


class Masked(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x[:, :1]


class Multiplied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.conv(x)


@pytest.mark.parametrize("kind", [Normalized, Scaled, Masked, Multiplied])
def test_a_product_that_is_no_gate_stays(kind: Callable[[], nn.Module]) -> None:
    model = inside(kind())
    for rule in ("gate", "squeeze_excite"):
        with pytest.raises(surgery.SurgeryError, match="it matches no layer"):
            surgery.lite(model, [rule], example_inputs=X)


def test_selected_branches_start_at_equal_shares_and_are_measured() -> None:
    class Select(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(8, 16, 1), nn.Conv2d(8, 16, 1)

        def shares(self, y: Tensor) -> Tensor:
            return self.fc(y.sum(1).mean((2, 3), keepdim=True)).view(-1, 2, 8, 1, 1).softmax(1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x).unflatten(1, (2, 8))
            return (y * self.shares(y)).sum(1)

    model = nn.Sequential(Select(), nn.Conv2d(8, 4, 1)).eval()
    bare, _ = surgery.lite(model, ["gate"], example_inputs=X)
    assert torch.equal(bare[0].mean_gate_0.scale, torch.full((2, 8), 0.5))
    lite, report = surgery.lite(model, ["gate"], example_inputs=X, calibration=BATCHES)
    with torch.no_grad():
        select = model[0]
        expected = torch.cat([select.shares(select.conv(b).unflatten(1, (2, 8))) for b in BATCHES]).mean(0)
    assert torch.allclose(lite[0].mean_gate_0.scale, expected[..., 0, 0], atol=1e-6)
    assert replays(model, lite, report)


def test_channels_last_gates() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return x * self.fc(x.mean((1, 2), keepdim=True)).sigmoid()

    model = nn.Sequential(nn.Linear(8, 8), Last()).eval()
    x = torch.randn(2, 5, 6, 8)
    lite, report = surgery.lite(model, ["squeeze_excite"], example_inputs=x, calibration=[x])
    with torch.no_grad():
        gate = model[1].fc(model[0](x).mean((1, 2))).sigmoid().mean(0)
    assert torch.allclose(lite(x), lite[0](x) * gate, atol=1e-6)
    assert replays(model, lite, report, x)


def test_a_gate_on_a_map_of_one_pixel_is_seen() -> None:
    model = inside(Own(FORMS["operator"]))
    lite, _ = surgery.lite(model, ["squeeze_excite"], example_inputs=X[..., :1, :1], calibration=[X])
    assert isinstance(lite[2], ChannelScale)


def test_a_gate_that_runs_several_times_is_measured_over_all_runs() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate = Own(FORMS["operator"])

        def forward(self, x: Tensor) -> Tensor:
            return self.gate(self.gate(x) + 1)

    model = Twice().eval()
    lite, report = surgery.lite(model, ["squeeze_excite"], example_inputs=X, calibration=[X])
    with torch.no_grad():
        first = factor(X, model.gate.fc)
        second = factor(X * first + 1, model.gate.fc)
    assert torch.allclose(lite.gate.scale, torch.cat([first, second]).mean((0, 2, 3)), atol=1e-6)
    assert replays(model, lite, report)


def test_a_gate_in_a_forward_that_cannot_be_traced_is_refused() -> None:
    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Conv2d(8, 8, 1)

        def forward(self, x: Tensor) -> Tensor:
            gate = factor(x, self.fc)
            return x + x * gate if float(x.sum().item()) < 1e9 else x

    with pytest.raises(surgery.SurgeryError, match="it multiplies by a gate; cannot trace it"):
        surgery.lite(nn.Sequential(Hidden()).eval(), ["gate"], example_inputs=X)


def test_constants_fold_forwards_or_else_backwards() -> None:
    def lite_of(*layers: nn.Module) -> tuple[nn.Module, nn.Module, surgery.Report]:
        model = nn.Sequential(*layers).eval()
        return model, *surgery.lite(model, ["squeeze_excite", "fold_channel_scale"], X, BATCHES)

    gate = Own(FORMS["operator"])
    _, lite, report = lite_of(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), gate, nn.ReLU())
    assert [(e.params["into"], e.params["side"]) for e in report.edits if e.rule != "squeeze_excite"] == [
        ("1", "before")
    ]
    assert isinstance(lite[2], nn.Identity)
    _, _, report = lite_of(nn.BatchNorm2d(8), nn.ReLU(), gate, nn.Conv2d(8, 4, 3, groups=4))
    assert [(e.params["into"], e.params["side"]) for e in report.edits if e.rule != "squeeze_excite"] == [
        ("3", "after")
    ]


def test_a_weight_that_is_computed_or_shared_takes_no_constants() -> None:
    class Standardized(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:
            return F.conv2d(input, self.weight - self.weight.mean((1, 2, 3), keepdim=True), self.bias)

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.one, self.two = ChannelScale(8, value=0.5), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
            self.two.weight = self.one.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.two(self.one(self.scale(x)))

    alone = nn.Sequential(nn.ReLU(), ChannelScale(8, value=0.5), Standardized(8, 8, 1)).eval()
    for model in (alone, Tied().eval()):
        with pytest.raises(surgery.SurgeryError, match="not a convolution of its own"):
            surgery.lite(model, ["fold_channel_scale"], example_inputs=X)


# timm's attention layers: what becomes of each. Those that are no gate keep what they do.
GATES = {"se": 1, "ese": 1, "eca": 1, "ecam": 1, "ceca": 1, "gc": 1, "cbam": 2, "lcbam": 2, "sk": 1, "splat": 1}
LINES = {"coord", "scoord", "ela", "strip", "bat"}  # a factor for each place, which pooling along an axis does not hide
OTHERS = {
    "gca": "adds a context, made of products and sums",
    **dict.fromkeys(("nl", "halo", "bottleneck", "lambda"), "is attention between places"),
}


def attention(name: str) -> nn.Module:
    layers = pytest.importorskip("timm.layers")
    options: dict[str, Any] = {"feat_size": (8, 8)} if name in {"lambda", "bottleneck"} else {}
    return layers.create_attn(name, 32, **options | ({"block_size": 4} if name == "bat" else {}))  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", [*GATES, *sorted(LINES), *OTHERS])
def test_timm_s_attention_layers(name: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 32, 8, 8)
    model = nn.Sequential(nn.Conv2d(32, 32, 1), nn.ReLU(), attention(name), nn.Conv2d(32, 4, 1)).eval()
    lite, report = surgery.lite(model, example_inputs=x, calibration=[x])
    edits = report.by_rule()
    assert edits.get("gate", 0) + edits.get("squeeze_excite", 0) == GATES.get(name, 0)
    assert not has_gate(lite, x)
    assert name in OTHERS or "sigmoid" not in {o.name.strip("_") for o in surgery.operators(lite, (x,))}
    assert replays(model, lite, report, x)
    lite.train()(x).sum().backward()
    assert all(p.grad is not None for p in lite.parameters())


def test_all_of_timm_s_attention_layers_are_known() -> None:
    attn = pytest.importorskip("timm.layers.create_attn")
    import inspect
    import re

    names = set(re.findall(r"attn_type == '(\w+)'", inspect.getsource(attn.get_attn)))
    assert names - {"ge"} == GATES.keys() | LINES | OTHERS.keys(), "ge cannot be built with timm's own default options"


@pytest.mark.parametrize("extent", [0, 2])
def test_gather_excite(extent: int) -> None:
    layers = pytest.importorskip("timm.layers")
    model = inside(layers.GatherExcite(8, use_mlp=False, extent=extent))
    lite, report = surgery.lite(model, example_inputs=X, calibration=BATCHES)
    assert not has_gate(lite)
    assert "sigmoid" not in {o.name for o in surgery.operators(lite, (X,))}
    assert ("squeeze_excite" in report.by_rule()) == (extent == 0), "a factor for each place becomes a line instead"
    assert replays(model, lite, report)


def is_folded_away(gate: nn.Module) -> bool:
    model = inside(gate)
    lite, report = surgery.lite(model, example_inputs=X, calibration=BATCHES)
    edits = {"squeeze_excite": 1, "fold_channel_scale": 1, "remove_identity": 1}
    return report.by_rule() == edits and replays(model, lite, report)


@pytest.mark.parametrize("activation", [nn.Sigmoid, nn.Hardsigmoid])
def test_gates_of_torchvision(activation: type[nn.Module]) -> None:
    from torchvision.ops.misc import SqueezeExcitation

    assert is_folded_away(SqueezeExcitation(8, 4, scale_activation=activation))


@pytest.mark.filterwarnings("ignore:.torch.cuda.amp.autocast:FutureWarning:mmdet")
def test_gates_of_the_mm_libraries() -> None:
    pytest.importorskip("mmcv")
    operators.register()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "``MultiScaleDeformableAttention``", ImportWarning)  # mmcv's, at import
        from mmdet.models.layers.se_layer import ChannelAttention, SELayer
    assert is_folded_away(ChannelAttention(8))
    assert is_folded_away(SELayer(8, 2))


def test_known_classes_are_gates_without_example_inputs() -> None:
    from torchvision.ops.misc import SqueezeExcitation

    lite, report = surgery.lite(inside(SqueezeExcitation(8, 4)), ["squeeze_excite"])
    assert report.by_rule() == {"squeeze_excite": 1}
    assert isinstance(lite[2], nn.Identity)


def test_no_constants_go_into_a_pool_s_filter() -> None:
    model = nn.Sequential(ChannelScale(8), nn.AvgPool2d(5, 1), ChannelScale(8), nn.ReLU())
    nn.init.uniform_(model[0].scale, 0.1, 2.0)
    lite, _ = surgery.lite(model, ["split_avg_pool"], example_inputs=(X,))
    assert type(lite[1]).__name__ == "FixedConv2d"
    with pytest.raises(surgery.SurgeryError, match="fold_channel_scale"):
        surgery.lite(lite, ["fold_channel_scale"], example_inputs=(X,))


def measured_norm(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels)
    for values in (norm.weight.data, norm.running_var):
        nn.init.uniform_(values, 1e-3, 2.0)
    for values in (norm.bias.data, norm.running_mean):
        nn.init.normal_(values)
    return norm


@settings(max_examples=20, deadline=None)
@given(
    groups=st.sampled_from([1, 2, 4]),
    kind=st.sampled_from(["before", "between", "after", "norm"]),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 2),
    bias=st.booleans(),
    size=st.tuples(st.integers(3, 7), st.integers(3, 7)),
)
def test_folding_constants_is_exact(
    groups: int, kind: str, kernel: tuple[int, int], stride: int, bias: bool, size: tuple[int, int]
) -> None:
    conv = nn.Conv2d(4, 8, kernel, stride, 1, groups=groups, bias=bias)
    scale = ChannelScale(4 if kind in ("before", "between") else 8)
    nn.init.uniform_(scale.scale, -2.0, 2.0)
    norm = measured_norm(8)
    orders = {
        "before": [nn.ReLU(), scale, conv],
        "between": [scale, conv, norm],
        "after": [conv, scale, nn.ReLU()],
        "norm": [norm, scale, nn.ReLU()],
    }
    model = nn.Sequential(*orders[kind]).double().eval()
    channels = 8 if kind == "norm" else 4
    x, y = torch.randn(2, channels, *size).double(), torch.randn(1, channels, 9, 5).double()
    lite, report = surgery.lite(model, ["fold_channel_scale"], example_inputs=(x,))
    assert len(report.edits) == 1
    for value in (x, y):
        assert (lite(value) - model(value)).abs().max() <= 1e-12 * model(value).abs().max().clamp_min(1)
    lite.train()(x).sum().backward()
    assert all(p.grad is not None for p in lite.parameters())
    assert replays(model, lite.eval(), report, x)
