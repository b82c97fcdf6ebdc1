"""Resizes become whole factors, small pools or products with constants, equal at every size."""

import json
import re

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn
from torch.nn import functional as F

import surgery
from surgery.observing.operators import Operator, operators
from surgery.rule_parts.resizing import small_factors

EXACT = {torch.float64: 1e-12, torch.float32: 1e-5}
FEW = settings(max_examples=15, deadline=None)
MODES = ("nearest", "nearest-exact", "bilinear", "area", "bicubic")


class Calls(nn.Module):
    def __init__(self, **kwargs: object) -> None:
        super().__init__()
        self.kwargs = kwargs

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, **self.kwargs)


class Decoder(nn.Module):
    """A segmentation head as people write it: back to the size of the input."""

    def __init__(self, mode: str = "bilinear", align_corners: bool | None = False) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, 2, 1))
        self.mode, self.align_corners = mode, align_corners

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-2:]
        return F.interpolate(self.down(x), size=size, mode=self.mode, align_corners=self.align_corners)


def factors(operator: Operator) -> list[float]:
    """Scales that an upsampling was given; it has none where it was given a size."""
    return [value for value in operator.attributes if isinstance(value, float)]


def friendly(lite: nn.Module, *inputs: Tensor, largest: int = 10**6) -> None:
    for operator in operators(lite, inputs):
        assert not operator.name.startswith(("upsample_bicubic", "_upsample", "_adaptive")), operator
        if operator.name.startswith("upsample"):
            assert factors(operator), operator
            assert all(scale == int(scale) and scale <= largest for scale in factors(operator)), operator
            assert operator.attributes[1] is not True, operator
        if "pool2d" in operator.name:
            assert max(operator.attributes[0]) <= 3, operator


def check(layer: nn.Module, x: Tensor, *others: Tensor) -> nn.Module:
    model = nn.Sequential(layer).to(x.dtype).eval()
    lite, report = surgery.lite(model, ["resize_by_factor"], example_inputs=(x,))
    assert not report.refusals
    for value in (x, x[:1], *others):
        near(lite, model, value)
        friendly(lite, value)
    plan = surgery.Plan.from_json(json.loads(json.dumps(report.plan.to_json())))
    again = surgery.replay(model, plan)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(x), lite(x))
    return lite


def near(lite: nn.Module, model: nn.Module, x: Tensor) -> None:
    was, now = (value.clone().requires_grad_() for value in (x, x))
    expected, found = model(was), lite(now)
    assert found.shape == expected.shape
    scale = expected.detach().abs().max().clamp_min(1e-30)
    assert (found - expected).abs().max() <= EXACT[x.dtype] * scale
    weights = torch.randn_like(expected)
    for output in (expected, found):
        (output * weights).sum().backward()
    assert (was.grad - now.grad).abs().max() <= 10 * EXACT[x.dtype] * was.grad.abs().max().clamp_min(1)


def flags(mode: str, align_corners: bool, antialias: bool) -> dict[str, object]:
    linear = mode in {"bilinear", "bicubic"}
    return {"mode": mode, "align_corners": align_corners} | {"antialias": antialias} if linear else {"mode": mode}


sizes = st.tuples(st.integers(1, 12), st.integers(1, 12))
modes = st.builds(flags, st.sampled_from(MODES), st.booleans(), st.booleans())


@FEW
@given(sizes, sizes, sizes, modes, st.sampled_from([*EXACT]))
def test_to_a_fixed_size(size, other, wanted, mode, dtype) -> None:
    """Whatever the ratio; enlarging in a way that devices lack is another rule's."""
    lacking = mode["mode"] == "bicubic" or mode.get("align_corners")
    assume(not mode.get("antialias") or wanted[1] > 1)  # torch then repeats the first row
    assume(not lacking or size == wanted or wanted[0] % size[0] or wanted[1] % size[1])
    x, y = (torch.randn(2, 3, *s, dtype=dtype) for s in (size, other))
    check(Calls(size=wanted, **mode), x, y)


@FEW
@given(sizes, st.tuples(st.integers(1, 9), st.integers(1, 9)), st.sampled_from(MODES[:4]), st.booleans())
def test_by_whole_factors_and_back(size, factor, mode, enlarge) -> None:
    large = tuple(n * f for n, f in zip(size, factor, strict=True))
    start, end = (size, large) if enlarge else (large, size)
    x = torch.randn(2, 3, *start, dtype=torch.float64)
    lite = check(Calls(size=end, mode=mode), x)
    names = {operator.name for operator in operators(lite, (x,))}
    if mode != "area":
        assert not names & {"bmm", "mm", "matmul", "_unsafe_view"}, "no product is needed"


@FEW
@given(sizes, st.floats(0.3, 3.7), st.floats(0.3, 3.7), st.sampled_from(MODES[:4]), st.booleans(), st.booleans())
def test_by_fractions(size, high, wide, mode, recompute, as_module) -> None:
    """The step between samples is what was asked for, not the ratio of the rounded sizes, unless recomputed."""
    assume(int(size[0] * high) and int(size[1] * wide) and high % 1 and wide % 1)
    given = {"scale_factor": (high, wide), "mode": mode, "recompute_scale_factor": recompute or None}
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    layer = nn.Upsample(**given) if as_module else Calls(**given)
    check(layer, x, torch.randn(1, 3, size[0] + 2, size[1] + 5, dtype=torch.float64))


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_a_size_read_from_the_input_follows_it(mode: str) -> None:
    """Whole at the example's size and at others like it; at the rest still equal."""
    model = Decoder(mode, False if mode == "bilinear" else None).double()
    x, like, unlike = (torch.randn(2, 3, n, n, dtype=torch.float64) for n in (16, 24, 21))
    lite = check(model, x, unlike)
    for value in (x, like):
        enlarged = [o for o in operators(lite, (value,)) if o.name.startswith("upsample")]
        assert [factors(o) for o in enlarged] == [[4.0, 4.0]]


def test_whole_factors_are_left_without_a_word() -> None:
    model = nn.Sequential(nn.Upsample(scale_factor=2), nn.Upsample(scale_factor=(4, 1), mode="bilinear"))
    _, report = surgery.lite(model, example_inputs=(torch.randn(1, 2, 3, 3),))
    assert not report.is_lite
    assert not report.refusals


def test_sequences_volumes_and_whole_numbers_are_left() -> None:
    x = torch.randn(1, 2, 4)
    for layer, value in [
        (Calls(size=9, mode="linear"), x),
        (Calls(size=9), x),
        (Calls(size=(3, 3, 3), mode="trilinear"), torch.randn(1, 2, 4, 4, 4)),
        (Calls(size=9), torch.ones(1, 2, 4, 4, dtype=torch.uint8)),
    ]:
        _, report = surgery.lite(nn.Sequential(layer), example_inputs=(value,))
        assert not report.is_lite
        assert not report.refusals


@pytest.mark.parametrize(
    "layer",
    [
        nn.UpsamplingBilinear2d(scale_factor=2),
        nn.Upsample(scale_factor=3, mode="bicubic"),
        Calls(size=(8, 12), mode="bicubic", align_corners=True, antialias=True),
        Decoder("bicubic", True),
    ],
)
def test_what_devices_lack_becomes_bilinear(layer: nn.Module) -> None:
    x = torch.randn(2, 3, 4, 4) if not isinstance(layer, Decoder) else torch.randn(2, 3, 16, 12)
    model = nn.Sequential(layer).eval()
    lite, report = surgery.lite(model, example_inputs=(x,))
    assert report.by_rule() == {"resize_to_supported": 1}
    assert report.edits[0].promise == "same_shape"
    friendly(lite, x)
    for value in (x, x[:1], torch.cat([x, x], 2)):
        assert lite(value).shape == model(value).shape
    small = lite[0].down(x) if isinstance(layer, Decoder) else x
    assert torch.allclose(lite(x), F.interpolate(small, size=lite(x).shape[-2:], mode="bilinear"), atol=1e-6)


class Positions(nn.Module):
    """A learned position embedding, resized to the image."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(1, 3, 4, 4))

    def forward(self, x: Tensor) -> Tensor:
        return x + F.interpolate(self.embedding, size=x.shape[-2:], mode="bicubic", antialias=True)


def test_a_resized_constant_stays_exact_whatever_the_mode() -> None:
    model = nn.Sequential(Positions()).double()
    x, y = (torch.randn(2, 3, n, n, dtype=torch.float64) for n in (8, 7))
    lite, report = surgery.lite(model, example_inputs=(x,))
    assert report.by_rule() == {"resize_by_factor": 1}
    for value in (x, y):
        near(lite, model, value)
        friendly(lite, value)
    lite(x).sum().backward()
    assert lite[0].embedding.grad.isfinite().all()


@pytest.mark.parametrize(
    ("factor", "parts"), [(4, [4]), (8, [4, 2]), (16, [4, 4]), (12, [4, 3]), (6, [2, 3]), (7, [7]), (32, [4, 4, 2])]
)
def test_large_factors_are_split(factor: int, parts: list[int]) -> None:
    assert small_factors(factor) == parts
    model = nn.Sequential(nn.Upsample(scale_factor=factor))
    x = torch.randn(1, 2, 3, 2, dtype=torch.float64)
    lite, report = surgery.lite(model, example_inputs=(x,))
    assert report.is_lite == (len(parts) > 1)
    assert torch.equal(lite(x), model(x))
    assert [factors(o) for o in operators(lite, (x,))] == [[float(part)] * 2 for part in parts]


@pytest.mark.parametrize("by_size", [True, False])
def test_bilinear_is_split_where_it_is_asked_for(by_size: bool) -> None:
    model = nn.Sequential(Calls(mode="bilinear", **({"size": (24, 16)} if by_size else {"scale_factor": 8})))
    x = torch.randn(1, 2, 3, 2)
    lite, _ = surgery.lite(
        model, ["resize_by_factor", "split_bilinear_resize"] if by_size else ["split_bilinear_resize"], x
    )
    friendly(lite, x, largest=4)
    assert lite(x).shape == model(x).shape
    assert not surgery.lite(lite, example_inputs=(x,))[1].is_lite


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
def test_nearest_by_an_odd_factor_at_every_size(mode: str) -> None:
    """Positions are computed in single precision, where a third may fall short of a whole number."""
    for factor in (3, 5, 7, 9):
        lite, _ = surgery.lite(
            nn.Sequential(Decoded(factor, mode)), ["resize_by_factor"], example_inputs=torch.randn(1, 1, 2, 2)
        )
        x = torch.arange(300.0).view(1, 1, 1, 300)
        assert torch.equal(lite(x), F.interpolate(x, size=(factor, 300 * factor), mode=mode))


class Decoded(nn.Module):
    def __init__(self, factor: int, mode: str) -> None:
        super().__init__()
        self.factor, self.mode = factor, mode

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, size=(x.shape[2] * self.factor, x.shape[3] * self.factor), mode=self.mode)


def test_without_example_inputs() -> None:
    model = nn.Sequential(Decoder(), nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)).eval()
    lite, report = surgery.lite(model)
    assert report.by_rule() == {"resize_to_supported": 1}
    refused = [refusal for refusal in report.refusals if refusal.rule == "resize_by_factor"]
    assert [r.site for r in refused] == ["0"]
    assert "not known without a run on example inputs" in refused[0].reason
    x = torch.randn(1, 3, 16, 16)
    assert lite(x).shape == model(x).shape


def test_export_and_compile() -> None:
    model = nn.Sequential(Decoder(), Calls(size=(13, 9), mode="bilinear")).eval()
    x = torch.randn(2, 3, 16, 16)
    lite, _ = surgery.lite(model, example_inputs=(x,))
    assert not surgery.lite(lite, example_inputs=(x,))[1].is_lite, "again changes nothing more"
    assert torch.equal(fx.symbolic_trace(lite)(x), lite(x))
    exported = torch.export.export(lite, (x,)).module()
    for other in (exported, torch.compile(lite, backend="eager")):
        assert torch.allclose(other(x), model(x), atol=1e-6)
    code = str(torch.export.export(lite, (x,)).graph)
    assert re.search(r"upsample_bilinear2d.*4\.0", code)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
def test_nearest_takes_the_very_pixels(mode: str, dtype: torch.dtype) -> None:
    """Positions are in single precision whatever the image's, and nothing that is not taken has a say."""
    for target, widths in (({"size": (3, 37)}, [24, 5]), ({"scale_factor": (1.0, 2.3)}, [16, 20, 24, 31])):
        lite, _ = surgery.lite(
            nn.Sequential(Calls(mode=mode, **target)), ["resize_by_factor"], example_inputs=torch.randn(1, 1, 2, 24)
        )
        for width in widths:
            x = torch.randn(2, 3, 2, width).to(dtype)
            x[0, 0, 0, 1], x[0, 0, 1, 2] = float("nan"), float("inf")
            assert torch.equal(lite(x).nan_to_num(7), F.interpolate(x, mode=mode, **target).nan_to_num(7))


@pytest.mark.parametrize("layer", [nn.Upsample(size=12), nn.Upsample(scale_factor=8), nn.Upsample(scale_factor=2.3)])
def test_a_layer_that_is_used_on_a_sequence_too(layer: nn.Upsample) -> None:
    model = nn.Sequential(layer)
    lite, report = surgery.lite(model, example_inputs=(torch.randn(1, 2, 4, 4),))
    assert report.is_lite
    for shape in ((1, 2, 5), (1, 2, 3, 4, 5)):
        x = torch.randn(shape)
        assert torch.equal(lite(x), model(x))
    assert not surgery.lite(model, example_inputs=(torch.randn(1, 2, 5),))[1].is_lite


@FEW
@given(sizes, sizes, st.sampled_from([6, 8, 12]), st.integers(1, 16), st.booleans())
def test_large_nearest_factors_in_parts_are_exact(size, other, high, wide, as_module) -> None:
    scale = (float(high), float(wide))
    layer = nn.Upsample(scale_factor=scale) if as_module else Calls(scale_factor=scale)
    lite, _ = surgery.lite(nn.Sequential(layer), ["split_resize"], torch.randn(1, 2, *size))
    for x in (torch.randn(2, 3, *size), torch.randn(1, 1, *other, dtype=torch.float64)):
        assert torch.equal(lite(x), layer(x))
