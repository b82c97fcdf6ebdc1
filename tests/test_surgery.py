"""The engine: scoped, honest about what it leaves, repeatable from its plan."""

import json
import subprocess
import sys
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import surgery
from surgery.operating.verify import difference

X = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    """Functional activations beside data-dependent Python: the whole model cannot be traced, the block can."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.act = nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(F.hardswish(self.conv(x)), 0.5, self.training)
        return self.act(x) + x * torch.sigmoid(x)

    def loss(self, x: Tensor) -> Tensor:
        return self(x).sum()


class Untraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = Block()

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 1e9:
            return x
        return self.block(x)


class Loops(nn.Module):
    """len() and iteration over traced values, a branch on a shape: needs the real inputs to trace."""

    def forward(self, x: Tensor) -> Tensor:
        parts = torch.split(x, 2, dim=1)
        total = sum((F.silu(part) for part in parts), torch.zeros_like(parts[0]))
        return total / len(parts) if x.shape[1] == 4 else total


def test_scoped_surgery_keeps_class_methods_and_keys() -> None:
    model = Untraceable().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    lite, report = surgery.lite(model, example_inputs=(X,))
    assert {(e.rule, e.site) for e in report.edits} == {
        ("silu_to_relu", "block.act"),
        ("silu_to_relu", "block"),
        ("hardswish_to_relu", "block"),
    }
    assert type(lite) is Untraceable
    assert isinstance(lite.block, Block)
    assert lite.block.loss(X).ndim == 0
    assert lite.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert "silu" not in {o.name for o in surgery.operators(lite, (X,))}
    assert "silu_" in {o.name for o in surgery.operators(model, (X,))}
    expected = F.relu(model.block.conv(X))
    assert torch.allclose(lite(X), 2 * F.relu(expected))


def test_train_and_eval_stay_apart() -> None:
    lite, _ = surgery.lite(Block(), example_inputs=(X,))
    torch.manual_seed(0)
    assert not torch.equal(lite.train()(X), lite(X)), "dropout in train mode"
    assert torch.equal(lite.eval()(X), lite(X)), "none in eval mode"
    copied = deepcopy(lite)
    assert torch.equal(copied(X), lite(X))


def test_values_decide_where_symbols_cannot() -> None:
    lite, report = surgery.lite(Loops(), example_inputs=(X,))
    assert [edit.params["trace"] for edit in report.edits] == ["observed"]
    expected = F.relu(X).view(2, 2, 2, 8, 8).sum(1) / 2
    assert torch.allclose(lite(X), expected)
    assert torch.allclose(lite(X[:1]), expected[:1]), "the batch size is not frozen"
    again = surgery.replay(Loops(), surgery.Plan.from_json(json.loads(json.dumps(report.plan.to_json()))))
    assert torch.equal(again(X), lite(X))


def test_what_cannot_be_traced_is_refused_with_the_reason() -> None:
    class Depends(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.silu(x) if float(x.detach().numpy().sum()) < 1e9 else x

    model = nn.Sequential(Depends(), nn.SiLU())
    _lite, report = surgery.lite(model, example_inputs=(X,))
    assert [(e.rule, e.site) for e in report.edits] == [("silu_to_relu", "1")]
    (refusal,) = report.refusals
    assert (refusal.rule, refusal.site) == ("silu_to_relu", "0")
    assert "calls silu; cannot trace it" in refusal.reason
    with pytest.raises(surgery.SurgeryError, match="cannot trace it"):
        surgery.lite(model[:1], ["silu_to_relu"], example_inputs=(X,))


def test_shared_modules_stay_shared_and_flags_stay() -> None:
    act = nn.SiLU()
    model = nn.Sequential(nn.Conv2d(4, 4, 1), act, nn.Conv2d(4, 4, 1), act)
    model[0].eval()
    lite, report = surgery.lite(model, example_inputs=(X,))
    assert lite[1] is lite[3]
    assert len(report.edits) == 1
    assert [m.training for m in lite.modules()] == [m.training for m in model.modules()]


def test_twice_changes_nothing_more() -> None:
    once, _ = surgery.lite(Untraceable(), example_inputs=(X,))
    twice, report = surgery.lite(once, example_inputs=(X,))
    assert not report.is_lite
    assert surgery.fingerprint(once) == surgery.fingerprint(twice)


def test_gate_becomes_its_mean_folded_into_the_next_convolution() -> None:
    from torchvision.ops.misc import SqueezeExcitation

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 4, 1), SqueezeExcitation(4, 2), nn.Conv2d(4, 4, 1)).eval()
    batches = [torch.randn(8, 4, 8, 8) for _ in range(3)]
    lite, report = surgery.lite(model, example_inputs=(X,), calibration=batches)
    assert report.by_rule() == {"squeeze_excite": 1, "fold_channel_scale": 1, "remove_identity": 1}
    with torch.no_grad():
        gate = torch.cat(
            [
                model[1]._scale(
                    model[0](b),
                )
                for b in batches
            ]
        ).mean(0)
        expected = model[2](model[0](X) * gate)
    assert list(lite._modules) == ["0", "2"], "the other layers keep their names"
    assert difference(expected, lite(X)) < 1e-5
    bare, report = surgery.lite(model, example_inputs=(X,))
    assert torch.equal(bare(X), model[2](model[0](X)))


def test_gate_that_something_else_reads_is_not_folded() -> None:
    from torchvision.ops.misc import SqueezeExcitation

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.conv = SqueezeExcitation(4, 2), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.gate(x)
            return self.conv(x) + x

    model = Residual().eval()
    lite, report = surgery.lite(model, example_inputs=(X,), calibration=[X])
    assert report.by_rule() == {"squeeze_excite": 1}
    assert [(r.rule, r.site, r.reason) for r in report.refusals] == [
        ("fold_channel_scale", "gate", "its output is read 2 times")
    ]
    again = surgery.replay(model, report.plan)
    again.load_state_dict(lite.state_dict())
    assert torch.equal(again.eval()(X), lite.eval()(X))


def test_a_site_that_breaks_its_promise_is_left_and_named() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Identity(), nn.Conv2d(4, 4, 1))
            self.plain = nn.Sequential(nn.Identity(), nn.SiLU())
            self.chosen = nn.Sequential(nn.Identity(), nn.SiLU())

        def forward(self, x: Tensor) -> Tensor:
            return self.plain(self.layers(x)) + dict(self.named_children())["layers"][1](x) + self.chosen[1](x)

    lite, report = surgery.lite(Outer(), ["remove_identity"], example_inputs=(X,))
    assert [edit.site for edit in report.edits] == ["plain.0"]
    (refusal,) = report.refusals
    assert refusal.site == "layers.0"
    assert "IndexError" in refusal.reason
    assert isinstance(lite.chosen[0], nn.Identity), "its Sequential does not run it"
    assert lite(X).shape == X.shape


def test_reestimated_statistics_are_the_data_s() -> None:
    model = nn.Sequential(nn.BatchNorm2d(4, momentum=0.01)).eval()
    batches = [torch.randn(16, 4, 8, 8) * 3 + 2 for _ in range(4)]
    surgery.reestimate_batchnorm(model, iter(batches))
    whole = torch.cat(batches).transpose(0, 1).flatten(1)
    assert torch.allclose(model[0].running_mean, whole.mean(1), atol=1e-4)
    assert torch.allclose(model[0].running_var, whole.var(1), rtol=1e-2)
    assert model[0].momentum == 0.01
    assert not model[0].training
    before = deepcopy(model.state_dict())
    surgery.reestimate_batchnorm(model, [])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"before": "sha256:0"}, "another source model"),
        ({"after": "sha256:0"}, "gives another model"),
        ({"format": 99}, "format 2"),
        ({"edits": [{"rule": "nosuch", "site": "", "action": "", "promise": "same_shape"}]}, "rule 'nosuch'"),
        ({"edits": [{"rule": "silu_to_relu", "site": "9", "action": "", "promise": ""}]}, "no module '9'"),
        ({"edits": [{"rule": "silu_to_relu", "site": "0", "action": "", "promise": ""}]}, "is a Conv2d"),
        ({"edits": 3}, "damaged"),
        ({"edits": [{"nonsense": 1}]}, "damaged"),
    ],
)
def test_a_plan_that_does_not_belong_is_refused(change: dict[str, object], message: str) -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.SiLU())
    _, report = surgery.lite(model)
    data = report.plan.to_json() | change
    with pytest.raises(surgery.PlanMismatch, match=message):
        surgery.replay(model, surgery.Plan.from_json(data))


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (["nosuch"], "no rule named 'nosuch'; known: "),
        (["gelu_to_relu"], "named rules changed nothing: gelu_to_relu \\(it matches no layer\\); take them off"),
        ("all", "rules must be 'default' or a list"),
    ],
)
def test_bad_rules(rules: object, message: str) -> None:
    with pytest.raises(surgery.SurgeryError, match=message):
        surgery.lite(nn.Sequential(nn.SiLU()), rules, example_inputs=(X,))  # type: ignore[arg-type]


def test_a_model_that_fails_on_its_inputs() -> None:
    with pytest.raises(surgery.SurgeryError, match="fails on the example inputs: RuntimeError"):
        surgery.lite(nn.Sequential(nn.Conv2d(3, 4, 1)), example_inputs=(X,))


def test_without_inputs_modules_and_traceable_calls_are_found() -> None:
    lite, report = surgery.lite(Untraceable())
    assert {(e.rule, e.site) for e in report.edits} == {
        ("silu_to_relu", "block.act"),
        ("silu_to_relu", "block"),
        ("hardswish_to_relu", "block"),
    }
    assert lite(X).shape == X.shape


def test_the_library_needs_torch_only() -> None:
    code = (
        "import sys, surgery; surgery.rules();"
        "assert not {'torchvision', 'timm', 'mmengine', 'zoo', 'numpy.testing'} & set(sys.modules), sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


PUBLIC = """
CallPattern Decline DictionaryReport Edit Evidence Example LeftAlone Lengths Match Operator Pattern Plan PlanMismatch
Promise Reconstruction Refit Refusal Report Risk Rule Stage SurgeryError SurgeryModule WarmStart any_module before_after
call_new_module constant convert_to_lite_fx dictionary_rules draw explain fingerprint get_replacement_dict_default
lengthen lite operators proposals reconstruct reestimate_batchnorm refit replace_unsupported_layers replay rules
shape_of
"""


def test_the_public_names() -> None:
    assert sorted(surgery.__all__) == PUBLIC.split()


def test_rules_are_listed() -> None:
    out = subprocess.run([sys.executable, "-m", "surgery"], check=True, capture_output=True, text=True).stdout
    assert [line.split()[0] for line in out.splitlines()] == list(surgery.rules())
