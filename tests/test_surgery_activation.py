"""Activations in every form become ReLU or a clamped line; what only makes the model's output stays."""

import inspect
import json
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import surgery
from surgery.patterns.formula import Formula
from surgery.rules.activation import Calls
from surgery.rules.bounded_activation import SIGMOID_SLOPE, ClampedLine

X = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
UNFRIENDLY = {
    *("sigmoid", "silu", "hardsigmoid", "hardswish", "gelu", "mish", "hardtanh", "elu", "softplus", "tanh", "erf"),
    *("selu", "celu"),
}


def operators(model: nn.Module, x: Tensor = X) -> set[str]:
    return {operator.name.strip("_") for operator in surgery.operators(model, (x,))}


def replays(model: nn.Module, lite: nn.Module, report: surgery.Report, x: Tensor = X) -> bool:
    again = surgery.replay(model, surgery.Plan.from_json(json.loads(json.dumps(report.plan.to_json()))))
    again.load_state_dict(lite.state_dict())
    return torch.equal(again.eval()(x), lite.eval()(x))


class Between(nn.Module):
    """A function between two layers; the second one reads its value."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.act_fn = function  # as libraries hold their activation
        self.before, self.after = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.act_fn(self.before(x)))


def overwrite(x: Tensor) -> Tensor:
    return x.mul_(x.sigmoid())


def buffered(x: Tensor) -> Tensor:
    return x * 0.5 * (1.0 + torch.erf(x / torch.sqrt(torch.tensor(2.0))))


RELU = {
    "F.silu": (F.silu, "silu_to_relu"),
    "silu inplace": (lambda x: F.silu(x, inplace=True), "silu_to_relu"),
    "swish inplace": (overwrite, "silu_to_relu"),
    "swish by division": (lambda x: x / 1.0 * torch.sigmoid(x), "silu_to_relu"),
    "hardswish": (lambda x: x * F.hardtanh(x + 3, 0.0, 6.0) / 6.0, "hardswish_to_relu"),
    "hardswish clamped": (lambda x: x * torch.clamp(x + 3, 0, 6) / 6, "hardswish_to_relu"),
    "gelu method": (buffered, "gelu_to_relu"),
    "gelu tanh": (
        lambda x: 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3))),
        "gelu_to_relu",
    ),
    "quick gelu": (lambda x: torch.sigmoid(x * 1.702) * x, "gelu_to_relu"),
    "mish": (lambda x: x * F.softplus(x).tanh(), "mish_to_relu"),
    "mish by exp": (lambda x: torch.log1p(torch.exp(x)).tanh() * x, "mish_to_relu"),
    "elu": (lambda x: F.elu(x, alpha=0.7), "elu_to_relu"),
    "celu": (F.celu, "elu_to_relu"),
    "selu": (torch.selu, "elu_to_relu"),
    "relu6": (lambda x: F.relu6(x, inplace=True), "relu6_to_relu"),
    "clamp": (lambda x: torch.clamp(x, min=0, max=6), "relu6_to_relu"),
    "softplus": (F.softplus, "softplus_to_relu"),
}


@pytest.mark.parametrize("form", RELU)
def test_every_way_to_write_it_becomes_relu(form: str) -> None:
    function, rule = RELU[form]
    model = Between(function).eval()
    lite, report = surgery.lite(model, example_inputs=X)
    assert {edit.rule for edit in report.edits} - {"not_inplace"} == {rule}
    assert not report.refusals
    assert not operators(lite) & UNFRIENDLY
    assert torch.allclose(lite(X), lite.after(F.relu(lite.before(X))))
    assert lite(X[:1]).shape == (1, 4, 6, 6)
    assert replays(model, lite, report)
    lite.train()(X).sum().backward()
    assert all(p.grad is not None for p in lite.parameters())


def test_what_is_another_function_stays_what_it_is() -> None:
    functions = (
        lambda x: x * torch.sigmoid(x + 1),
        lambda x: x * torch.sigmoid(1.5 * x),
        lambda x: 0.5 * x * (1 + torch.erf(x)),
        lambda x: torch.clamp(x, 0, 5),
        lambda x: (x + 1) * torch.sigmoid(x),
    )
    for function in functions:
        _, report = surgery.lite(Between(function).eval(), example_inputs=X)
        assert {edit.rule for edit in report.edits} <= {"sigmoid_to_clamp"}


def test_a_value_overwritten_in_between_is_not_the_same() -> None:
    def changed(x: Tensor) -> Tensor:
        x = x * 1
        y = torch.sigmoid(x)
        x.add_(1)
        return x * y

    lite, report = surgery.lite(Between(changed).eval(), example_inputs=X)
    assert "silu_to_relu" not in {edit.rule for edit in report.edits}
    y = lite.before(X)
    line = (SIGMOID_SLOPE * y + 0.5).clamp(0, 1)
    assert torch.allclose(lite(X), lite.after((y + 1) * line), atol=1e-6)


def test_formula_reads_numbers_that_the_module_holds() -> None:
    class Held(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("root", torch.tensor(2.0).sqrt())

        def forward(self, x: Tensor) -> Tensor:
            return 0.5 * x * (1 + torch.erf(x / self.root)) + 1

    graph = torch.fx.symbolic_trace(Held()).graph
    found = list(Formula(F.gelu, "erf mul").matches(graph))
    assert [(match.root.name, match.variables[0].name) for match in found] == [("mul_1", "x")]


LINES = {
    "sigmoid": (torch.sigmoid, "sigmoid_to_clamp", 0.057),
    "tanh": (torch.tanh, "tanh_to_clamp", 0.113),
    "hardsigmoid": (F.hardsigmoid, "hardsigmoid_to_clamp", 1e-6),
    "hardtanh": (lambda x: F.hardtanh(x, -0.5, 2.0), "hardtanh_to_clamp", 1e-6),
    "glu": (lambda x: F.glu(torch.cat([torch.ones_like(x), x], 1), 1), "glu_to_clamp", 0.057),
}


@pytest.mark.parametrize("name", LINES)
def test_bounded_activations_become_a_line_between_their_bounds(name: str) -> None:
    function, rule, distance = LINES[name]
    model = Between(function).eval()
    with torch.no_grad():
        model.before.weight.copy_(3 * torch.eye(4)[..., None, None])
        model.after.weight.copy_(torch.eye(4)[..., None, None])
    lite, report = surgery.lite(model, example_inputs=X)
    assert report.by_rule() == {rule: 1}
    assert not operators(lite) & (UNFRIENDLY | {"glu"})
    assert (lite(X) - model(X)).abs().max().item() <= distance
    assert replays(model, lite, report)
    lite.train()(X).sum().backward()
    assert lite.before.weight.grad is not None


def test_the_slope_is_the_best_one() -> None:
    x = torch.linspace(-12, 12, 20001, dtype=torch.float64)

    def distance(slope: float) -> float:
        return float((torch.sigmoid(x) - (slope * x + 0.5).clamp(0, 1)).abs().max())

    assert distance(SIGMOID_SLOPE) == pytest.approx(0.056, abs=5e-4)
    assert distance(SIGMOID_SLOPE) < min(distance(SIGMOID_SLOPE + 0.002), distance(SIGMOID_SLOPE - 0.002))


class Head(nn.Module):
    """An inner sigmoid and one at the output, moved around on its way, in one forward."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(4, 4, 1)
        self.last = nn.Sigmoid()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.layer(x.sigmoid())
        return {"score": torch.cat([y.sigmoid(), self.last(y)], 1).permute(0, 2, 3, 1).flatten(1, 2), "box": y}


def test_a_sigmoid_that_is_the_output_stays() -> None:
    model = Head().eval()
    lite, report = surgery.lite(model, ["sigmoid_to_clamp"], example_inputs=X)
    assert [(edit.site, edit.params["leave"]) for edit in report.edits] == [("", [1])]
    y = lite.layer((SIGMOID_SLOPE * X + 0.5).clamp(0, 1))
    assert torch.allclose(lite(X)["score"][..., :4], y.sigmoid().permute(0, 2, 3, 1).flatten(1, 2), atol=1e-6)
    assert type(lite.last) is nn.Sigmoid
    again = surgery.replay(model, report.plan)
    again.load_state_dict(lite.state_dict())
    assert torch.equal(again.eval()(X)["score"], lite(X)["score"])


def test_without_inputs_a_sigmoid_is_refused_with_the_reason() -> None:
    _, report = surgery.lite(nn.Sequential(nn.Sigmoid(), nn.Conv2d(4, 4, 1)))
    assert not report.is_lite
    assert [(r.rule, r.reason) for r in report.refusals] == [
        ("sigmoid_to_clamp", "without example inputs it is not known whether this is the model's output")
    ]


def test_a_shared_head_called_on_every_level_keeps_its_scores() -> None:
    class Levels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = Between(torch.sigmoid)
            self.head.after = nn.Identity()

        def forward(self, x: Tensor) -> list[Tensor]:
            return [self.head(x), self.head(x[..., ::2, ::2])]

    lite, report = surgery.lite(Levels().eval(), example_inputs=X)
    assert not report.is_lite
    assert "sigmoid" in operators(lite)


def test_relu6_is_no_hardtanh() -> None:
    for model in (Between(lambda x: F.hardtanh(x, 0.0, 6.0)), nn.Sequential(nn.ReLU6(), nn.Conv2d(4, 4, 1))):
        _, report = surgery.lite(model.eval(), example_inputs=X)
        assert report.by_rule() == {"relu6_to_relu": 1}


def test_options_act_only_when_named() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.LeakyReLU(0.1), nn.PReLU(4), nn.Conv2d(4, 4, 1))
    _, report = surgery.lite(model, example_inputs=X)
    assert not report.is_lite
    lite, report = surgery.lite(model, ["leaky_relu_to_relu", "prelu_to_relu"], example_inputs=X)
    assert [type(layer) for layer in lite] == [nn.Conv2d, nn.ReLU, nn.ReLU, nn.Conv2d]
    assert replays(model, lite, report)


def test_learned_swish_becomes_a_product_with_a_line() -> None:
    class Learned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.beta, self.layer = nn.Parameter(torch.ones(1)), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x * torch.sigmoid(self.beta * x))

    lite, report = surgery.lite(Learned().eval(), example_inputs=X)
    assert report.by_rule() == {"sigmoid_to_clamp": 1}
    lite.train()(X).sum().backward()
    assert lite.beta.grad is not None
    assert not surgery.lite(lite, example_inputs=X)[1].is_lite, "the line is not taken for another activation"


@pytest.mark.parametrize("activation", ["gelu", F.gelu, nn.GELU()], ids=["name", "function", "module"])
def test_activation_of_torch_s_transformer_layer(activation: object) -> None:
    model = nn.TransformerEncoderLayer(8, 2, 16, 0.0, activation, batch_first=True).eval()  # type: ignore[arg-type]
    x = torch.randn(2, 5, 8)
    lite, report = surgery.lite(model, ["gelu_to_relu"], example_inputs=x)
    assert report.by_rule() == {"gelu_to_relu": 1}
    found = operators(lite, x)
    assert "gelu" not in found
    assert "transformer_encoder_layer_fwd" not in found, "the fused layer would run the old activation"
    assert lite(x[:1, :3]).shape == (1, 3, 8)
    expected = model.norm1(x + model.self_attn(x, x, x, need_weights=False)[0])
    expected = model.norm2(expected + model.linear2(F.relu(model.linear1(expected))))
    assert torch.allclose(lite(x), expected, atol=1e-5)


def test_timm_s_own_activations() -> None:
    ours = [pytest.importorskip(f"timm.layers.activations{kind}") for kind in ("", "_me")]
    kinds = [
        kind
        for module in ours
        for kind in vars(module).values()
        if inspect.isclass(kind) and issubclass(kind, nn.Module) and kind.__module__ == module.__name__
    ]
    assert len(kinds) == 16
    for kind in kinds:
        model = nn.Sequential(nn.Conv2d(4, 4, 1), kind(), nn.Conv2d(4, 4, 1)).eval()
        lite, report = surgery.lite(model, example_inputs=X)
        expected = nn.PReLU if kind.__name__ == "PReLU" else nn.ReLU | ClampedLine
        assert isinstance(lite[1], expected), kind
        assert len(report.edits) == (0 if kind.__name__ == "PReLU" else 1), kind
        assert not operators(lite) & UNFRIENDLY, kind
        assert replays(model, lite, report), kind


@pytest.mark.parametrize("name", ["BatchNormAct2d", "FrozenBatchNormAct2d"])
def test_activations_inside_timm_s_fused_layers(name: str) -> None:
    layers = pytest.importorskip("timm.layers")
    model = nn.Sequential(nn.Conv2d(4, 4, 1), getattr(layers, name)(4, act_layer="silu"), nn.Conv2d(4, 4, 1)).eval()
    lite, report = surgery.lite(model, ["silu_to_relu"], example_inputs=X)
    assert report.by_rule() == {"silu_to_relu": 1}
    assert isinstance(lite[1].act, nn.ReLU)
    assert lite.state_dict().keys() == model.state_dict().keys()


def test_mmcv_s_own_activations() -> None:
    pytest.importorskip("mmcv")
    from mmcv.cnn.bricks.hsigmoid import HSigmoid
    from mmcv.cnn.bricks.hswish import HSwish
    from mmcv.cnn.bricks.swish import Swish

    with pytest.warns(UserWarning, match="default value"):
        layers = [HSigmoid(), HSwish(), Swish()]
    for layer in layers:
        lite, _ = surgery.lite(nn.Sequential(nn.Conv2d(4, 4, 1), layer, nn.Conv2d(4, 4, 1)).eval(), example_inputs=X)
        assert not operators(lite) & UNFRIENDLY, layer


class Factor(nn.Module):
    """x * relu6(x + 3) / 6 in ways that are not recognised as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self.act, self.layer = nn.ReLU6(), nn.Conv2d(4, 4, 1)


class ByAddcmul(Factor):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.addcmul(torch.zeros_like(x), x, F.relu6(x + 3), value=1 / 6))


class OfAnother(Factor):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x * (F.relu6(x.flip(2) + 3) / 6).flatten(2).view_as(x))


class ByModule(Factor):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x * self.act(x.flip(2) + 3).div(6))


class ByClamp(Factor):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.mul(x, (x.flip(2) + 3).clamp(0, 6) * 0.16))


class Returned(nn.Module):
    """The factor comes from another forward."""

    def __init__(self, scaled: bool) -> None:
        super().__init__()
        self.gate = Calls(lambda x: F.relu6(x) / 6) if scaled else Calls(F.relu6)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x.flip(2) + 3)


@pytest.mark.parametrize("inputs", [X, None], ids=["seen", "unseen"])
@pytest.mark.parametrize("kind", [ByAddcmul, OfAnother, ByModule, ByClamp])
def test_relu6_keeps_its_bounds_in_a_product(kind: type[Factor], inputs: Tensor | None) -> None:
    model = nn.Sequential(kind(), nn.SiLU()).eval()
    lite, report = surgery.lite(model, example_inputs=inputs)
    assert torch.allclose(lite(9 * X), model[0](9 * X).relu(), atol=1e-5)
    assert not operators(lite) & UNFRIENDLY
    assert not report.refusals
    assert replays(model, lite, report)
    assert not surgery.lite(lite, example_inputs=inputs)[1].is_lite


@pytest.mark.parametrize("scaled", [True, False])
def test_relu6_that_is_a_factor_elsewhere_keeps_its_bounds(scaled: bool) -> None:
    model = nn.Sequential(Returned(scaled), nn.Conv2d(4, 4, 1)).eval()
    lite, report = surgery.lite(model, example_inputs=X)
    assert torch.allclose(lite(9 * X), model(9 * X), atol=1e-5)
    reasons = [refusal.reason for refusal in report.refusals]
    assert reasons == ([] if scaled else ["its value is a factor of a product elsewhere"])


def test_relu6_scaled_by_constants_and_parameters_alone_becomes_relu() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gamma, self.act, self.layer = nn.Parameter(torch.rand(4, 1, 1)), nn.ReLU6(), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(2 * F.relu6(x) * self.gamma + self.act(x) / 2)

    for inputs in (X, None):
        lite, report = surgery.lite(nn.Sequential(Scaled()), ["relu6_to_relu"], example_inputs=inputs)
        assert len(report.edits) == 2
        assert isinstance(lite[0].act, nn.ReLU)
        assert operators(lite) >= {"relu"}
        assert not operators(lite) & {"clamp", "hardtanh"}


@settings(max_examples=10, deadline=None)
@given(
    bounds=st.tuples(st.floats(-4, 1), st.floats(1.5, 5)),
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    written=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_exact_bounded_activations(
    bounds: tuple[float, float], shape: list[int], written: bool, dtype: torch.dtype
) -> None:
    x = (6 * torch.randn(shape, dtype=dtype)).requires_grad_()
    for rule, function, layer in (
        ("hardtanh_to_clamp", lambda x: F.hardtanh(x, *bounds), nn.Hardtanh(*bounds)),
        ("hardsigmoid_to_clamp", F.hardsigmoid, nn.Hardsigmoid()),
    ):
        model = nn.Sequential(Calls(function) if written else layer)
        lite, report = surgery.lite(model, [rule], example_inputs=(x.detach(),))
        difference = (lite(x) - model(x)).abs().max()
        assert difference <= {torch.float32: 1e-5, torch.float64: 1e-12}[dtype]
        slopes = [torch.autograd.grad(net(x).sum(), x)[0] for net in (model, lite)]
        assert torch.allclose(*slopes)
        assert replays(model, lite, report, x.detach())
