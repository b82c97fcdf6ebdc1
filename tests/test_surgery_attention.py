"""Attention spelled out and softmax over the last axis: the same numbers, gradients and random state of mind."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import surgery
from surgery.operating.verify import difference

RULES = ["spell_out_attention"]
FUSED = ("scaled_dot_product", "native_multi_head_attention", "transformer_encoder_layer")
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


class Attention(nn.Module):
    """Projections, and the fused call with whatever settings."""

    def __init__(self, width: int, **settings: Any) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.settings = settings

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        groups = 2 if self.settings.get("enable_gqa") else 1
        k, v = k[:, ::groups], v[:, ::groups]
        p = 0.5 if self.training else 0.0
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p, **self.settings)


def fused(model: nn.Module, inputs: tuple[Tensor, ...]) -> set[str]:
    return {o.name for o in surgery.operators(model, inputs) if any(name in o.name for name in FUSED)}


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(1, 3),
    heads=st.sampled_from([2, 4]),
    length=st.integers(1, 6),
    width=st.integers(1, 5),
    mask=st.sampled_from([None, "bool", "float", "causal"]),
    scale=st.sampled_from([None, 0.3]),
    enable_gqa=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_the_function_spelled_out_is_exact(
    batch: int,
    heads: int,
    length: int,
    width: int,
    mask: str | None,
    scale: float | None,
    enable_gqa: bool,
    dtype: torch.dtype,
) -> None:
    torch.manual_seed(0)
    options = {"scale": scale, "enable_gqa": enable_gqa, "is_causal": mask == "causal"}
    model = Attention(width, **options).to(dtype).eval()
    x = torch.randn(batch, heads, length, width, dtype=dtype)
    masks = {"bool": torch.rand(length, length) > 0.6, "float": torch.randn(batch, 1, length, length, dtype=dtype)}
    inputs = (x, masks[mask]) if mask in masks else (x,)
    lite, report = surgery.lite(model, RULES, example_inputs=inputs)
    assert not report.refusals
    assert not fused(lite, inputs)
    expected, found = model(*inputs), lite(*inputs)
    assert difference(expected, found) <= TOLERANCE[dtype]
    for net in (model, lite):
        net(*inputs).square().sum().backward()
    gradients = [[p.grad for p in net.parameters()] for net in (model, lite)]
    assert difference(*gradients) <= 10 * TOLERANCE[dtype]
    other = (torch.randn(batch + 1, heads, length + (mask in {None, "causal"}), width, dtype=dtype), *inputs[1:])
    if mask != "float":
        assert difference(model(*other), lite(*other)) <= TOLERANCE[dtype]
    again = surgery.replay(model, report.plan)
    again.load_state_dict(lite.state_dict())
    assert torch.equal(again.eval()(*inputs), found)


def test_dropout_stays_in_train_mode() -> None:
    x = torch.randn(1, 2, 4, 4)
    lite, _ = surgery.lite(Attention(4), RULES, example_inputs=(x,))
    torch.manual_seed(0)
    assert not torch.equal(lite.train()(x), lite(x))
    assert torch.equal(lite.eval()(x), lite(x))


def test_a_query_that_may_look_nowhere_gives_zero_and_finite_gradients() -> None:
    x = torch.randn(1, 2, 3, 4)
    mask = torch.tensor([[True, False, True], [False, False, False], [True, True, True]])
    lite, _ = surgery.lite(Attention(4).eval(), RULES, example_inputs=(x, mask))
    out = lite(x, mask)
    assert not out[:, :, 1].any()
    out.sum().backward()
    assert all(p.grad.isfinite().all() for p in lite.parameters())


def test_without_example_inputs_a_mask_is_declined_with_the_reason() -> None:
    class Masked(nn.Module):
        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(x, x, x, mask)

    _, report = surgery.lite(nn.ModuleList([Masked()]))
    assert [r.reason for r in report.refusals] == [
        "without example inputs it is not known whether attn_mask is boolean"
    ]
    lite, report = surgery.lite(nn.Sequential(Plain()), RULES)
    x = torch.randn(2, 3, 4)
    assert torch.allclose(lite(x), F.scaled_dot_product_attention(x, x, x), atol=1e-6)
    assert not fused(lite, (x,))


class Plain(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x, x, x)


def masks(kind: str, batch: int, heads: int, length: int, source: int) -> dict[str, Tensor]:
    """Masks as the layer takes them; no query is left without a key."""
    found = {}
    if "attention" in kind:
        found["attn_mask"] = torch.rand(length, source) > 0.5
        found["attn_mask"][:, 0] = False
    if "heads" in kind:
        found["attn_mask"] = torch.rand(batch * heads, length, source) > 0.5
        found["attn_mask"][..., 0] = False
    if "padding" in kind:
        found["key_padding_mask"] = torch.rand(batch, source) > 0.5
        found["key_padding_mask"][:, 0] = False
    if "float" in kind:
        found = {name: torch.zeros(mask.shape).masked_fill(mask, -2.0) for name, mask in found.items()}
    return found


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(
        ["", "attention", "heads", "padding", "attention padding", "heads padding float", "padding float"]
    ),
    memory=st.sampled_from(["self", "packed", "other widths"]),
    batched=st.booleans(),
    options=st.fixed_dictionaries(
        {name: st.booleans() for name in ("bias", "batch_first", "add_bias_kv", "add_zero_attn")}
    ),
    call=st.fixed_dictionaries({name: st.booleans() for name in ("need_weights", "average_attn_weights")}),
)
def test_the_layer_spelled_out_is_exact(
    kind: str, memory: str, batched: bool, options: dict[str, bool], call: dict[str, bool]
) -> None:
    torch.manual_seed(0)
    batch, heads, length = (3, 2, 4) if batched else (1, 2, 4)
    source = length if memory == "self" else 5
    widths = {"kdim": 3, "vdim": 7} if memory == "other widths" else {}
    layer = nn.MultiheadAttention(4, heads, **options, **widths).double().eval()
    nn.init.normal_(layer.out_proj.weight)
    sizes = [(length, 4), (source, widths.get("kdim", 4)), (source, widths.get("vdim", 4))]
    if batched:
        sizes = [(batch, n, c) if options["batch_first"] else (n, batch, c) for n, c in sizes]
    q, k, v = (torch.randn(*size, dtype=torch.float64) for size in sizes)
    inputs = (q, q, q) if memory == "self" else (q, k, v)
    call = call | {
        n: m.double() if m.is_floating_point() else m for n, m in masks(kind, batch, heads, length, source).items()
    }
    if not batched and "key_padding_mask" in call:
        call["key_padding_mask"] = call["key_padding_mask"][0]

    lite, report = surgery.lite(nn.Sequential(layer), RULES)
    plain = lite[0]
    assert report.by_rule() == {"spell_out_attention": 1}
    assert isinstance(plain, nn.MultiheadAttention)
    assert plain.state_dict().keys() == layer.state_dict().keys()
    with torch.no_grad():
        expected, found = layer(*inputs, **call), plain(*inputs, **call)
    assert [None if t is None else t.shape for t in found] == [None if t is None else t.shape for t in expected]
    assert difference(expected, found) <= 1e-12
    for net in (layer, plain):
        net.train()(*inputs, **call)[0].square().sum().backward()
    gradients = [[p.grad for p in net.parameters()] for net in (layer, plain)]
    assert difference(*gradients) <= 1e-11


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_the_encoder_takes_no_shortcut() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.TransformerEncoder(layer, 2).double().eval()
    x = torch.randn(3, 5, 8, dtype=torch.float64)
    lite, report = surgery.lite(nn.Sequential(model), RULES, example_inputs=(x,))
    assert {e.site for e in report.edits} == {"0", *(f"0.layers.{i}{s}" for i in (0, 1) for s in ("", ".self_attn"))}
    seen: list[Tensor] = []
    lite[0].layers[1].linear1.register_forward_hook(lambda m, args, out: seen.append(out))
    with torch.no_grad():
        assert difference(model(x), lite(x)) <= 1e-12
        assert len(seen) == 1, "its own layers run"
        padding = torch.zeros(3, 5, dtype=torch.bool)
        padding[0, 3:] = True
        found = lite[0](x, src_key_padding_mask=padding)
        assert difference(model(x, src_key_padding_mask=padding)[~padding], found[~padding]) <= 1e-12
    assert model.use_nested_tensor, "the source is untouched"
    with pytest.raises(surgery.SurgeryError, match="it matches no layer"):
        surgery.lite(lite, RULES, example_inputs=(x,))
    again = surgery.replay(nn.Sequential(deepcopy(model)), report.plan)
    again.load_state_dict(lite.state_dict())
    assert torch.equal(again.eval()(x), lite(x))


def test_shared_and_frozen_parameters_stay() -> None:
    layer = nn.MultiheadAttention(4, 2)
    layer.in_proj_weight.requires_grad_(False)
    model = nn.ModuleList([layer, layer])
    lite, report = surgery.lite(model)
    assert report.by_rule() == {"spell_out_attention": 1}
    assert lite[0] is lite[1]
    assert not lite[0].in_proj_weight.requires_grad
    assert lite[0].out_proj.weight.requires_grad


@pytest.mark.parametrize("kind", ["torchvision", "timm", "timm pool"])
def test_published_models(kind: str) -> None:
    torch.manual_seed(0)
    if kind == "torchvision":
        from torchvision.models import VisionTransformer

        model: nn.Module = VisionTransformer(32, 16, 2, 2, 8, 16, num_classes=3)
        nn.init.normal_(model.heads.head.weight)
    else:
        from timm.models.vision_transformer import VisionTransformer as Timm

        model = Timm(
            32, 16, embed_dim=8, depth=2, num_heads=2, num_classes=3, global_pool="map" if "pool" in kind else "token"
        )
    model.double().eval()
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    lite, report = surgery.lite(model, RULES, example_inputs=(x,))
    assert not report.refusals
    assert len(report.edits) == (3 if kind == "timm pool" else 2)
    assert lite.state_dict().keys() == model.state_dict().keys()
    with torch.no_grad():
        assert fused(model, (x,))
        assert not fused(lite, (x,))
        assert difference(model(x), lite(x)) <= 1e-12
        assert difference(model(x[:1]), lite(x[:1])) <= 1e-12


@settings(max_examples=25, deadline=None)
@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=5),
    axis=st.integers(0, 4),
    negative=st.booleans(),
    form=st.sampled_from(["softmax", "log_softmax", "softmin", "method", "layer"]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_softmax_over_any_axis(shape: list[int], axis: int, negative: bool, form: str, dtype: torch.dtype) -> None:
    axis %= len(shape)
    dim = axis - len(shape) if negative else axis

    class Softmax(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.randn(shape, dtype=dtype))
            self.layer = nn.Softmax(dim) if form == "layer" else None

        def forward(self, x: Tensor) -> Tensor:
            x = x * self.scale
            if form == "layer":
                return self.layer(x)
            return x.softmax(dim) if form == "method" else getattr(F, form)(x, dim=dim)

    model, x = Softmax(), torch.randn(shape, dtype=dtype)
    if axis == len(shape) - 1:
        report = surgery.lite(model, example_inputs=(x,))[1]
        assert (report.is_lite, report.refusals) == (False, ())
        return
    lite, report = surgery.lite(model, ["softmax_last_axis"], example_inputs=(x,))
    assert not report.refusals
    (operator,) = [o for o in surgery.operators(lite, (x,)) if "softmax" in o.name]
    assert operator.attributes[0] in {-1, len(shape) - 1}
    assert difference(model(x), lite(x)) <= TOLERANCE[dtype]
    for net in (model, lite):
        net(x).square().sum().backward()
    assert difference(model.scale.grad, lite.scale.grad) <= 10 * TOLERANCE[dtype] or shape[axis] == 1
    again = surgery.replay(model, report.plan)
    again.load_state_dict(lite.state_dict())
    assert torch.equal(again(x), lite(x))


def test_an_axis_that_may_be_the_last_needs_a_run() -> None:
    _, report = surgery.lite(nn.Sequential(nn.Softmax(1), nn.Softmax(-2), nn.Softmax2d()))
    assert {e.site for e in report.edits} == {"1", "2"}
    assert [(r.site, r.reason) for r in report.refusals] == [
        ("0", "it never ran on example inputs: axis 1 may be the last")
    ]


class OverPixels(nn.Module):
    """Attention over channels: the embedding is as long as the image has pixels."""

    def forward(self, x: Tensor) -> Tensor:
        q = x.flatten(2)
        return F.scaled_dot_product_attention(q, q * 0.01, q)


def test_an_embedding_as_long_as_the_image_follows_its_size() -> None:
    model = nn.Sequential(OverPixels())
    x, y = torch.randn(2, 4, 8, 8), torch.randn(1, 4, 16, 16)
    lite, _ = surgery.lite(model, RULES, example_inputs=(x,))
    assert difference(model(x), lite(x)) <= TOLERANCE[torch.float32]
    assert difference(model(y), lite(y)) <= TOLERANCE[torch.float32]
    exported = torch.export.export(lite, (y,)).module()
    assert difference(model(y), exported(y)) <= TOLERANCE[torch.float32]


class Grouped(nn.Module):
    """As many heads as the image has rows, grouped by two."""

    def forward(self, x: Tensor) -> Tensor:
        q = x.transpose(1, 2)
        return F.scaled_dot_product_attention(q, q[:, :2], q[:, :2], enable_gqa=True)


def test_head_counts_follow_the_input() -> None:
    model = nn.Sequential(Grouped())
    lite, _ = surgery.lite(model, RULES, example_inputs=(torch.randn(1, 3, 4, 5),))
    y = torch.randn(1, 3, 8, 5)
    assert difference(model(y), lite(y)) <= TOLERANCE[torch.float32]


class Masked(nn.Module):
    def forward(self, x: Tensor, m: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x, x, x, attn_mask=m)


@pytest.mark.parametrize("boolean", [True, False])
def test_a_mask_of_another_kind_than_the_example_s_is_an_error(boolean: bool) -> None:
    x = torch.randn(2, 3, 4)
    masks = {True: torch.rand(3, 3) > 0.5, False: torch.randn(3, 3)}
    lite, _ = surgery.lite(Masked(), RULES, example_inputs=(x, masks[boolean]))
    with pytest.raises(ValueError, match="run surgery with an example of this kind"):
        lite(x, masks[not boolean])
    expected = Masked()(x, masks[boolean])
    assert torch.allclose(lite(x, masks[boolean]), expected, atol=1e-6)
    _, report = surgery.lite(lite, example_inputs=(x, masks[boolean]))
    assert not report.is_lite
    exported = torch.export.export(lite, (x, masks[boolean])).module()
    assert torch.allclose(exported(x, masks[boolean]), expected, atol=1e-6)
