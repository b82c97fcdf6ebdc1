"""The refit of whole models: what it wins, what it leaves, and that it fails whole."""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import surgery


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    widths = [(3, 16), (16, 16), (16, 24)]
    blocks = [
        nn.Sequential(nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.Hardswish()) for a, b in widths
    ]
    model = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10))
    surgery.reestimate_batchnorm(model, [images(64, seed=9)])
    return model.eval()


def images(count: int, seed: int = 1) -> Tensor:
    return torch.randn(count, 3, 12, 12, generator=torch.Generator().manual_seed(seed))


def missed(lite: nn.Module, source: nn.Module) -> float:
    with torch.no_grad():
        wanted, found = source(images(64, seed=5)), lite.eval()(images(64, seed=5))
    return float((found - wanted).square().sum() / (wanted - wanted.mean(0)).square().sum())


def test_it_brings_a_lite_model_closer_to_its_source_on_other_images() -> None:
    source = network()
    batches = images(128).split(32)
    lite, _ = surgery.lite(source, example_inputs=images(1), calibration=batches)
    before = missed(lite, source)
    report = surgery.refit(lite, source, batches)
    assert missed(lite, source) < before / 3
    assert [fitted.layer for fitted in report.fitted] == ["1.0", "2.0", "5"]  # the first one receives what it did
    assert all(fitted.after < fitted.before for fitted in report.fitted)
    assert (report.left, report.images) == ((), 128)
    assert json.loads(json.dumps(report.to_json()))["fitted"][0]["layer"] == "1.0"


def test_it_is_the_same_each_time_and_leaves_the_source_and_the_flags() -> None:
    source = network()
    digest = [value.clone() for value in source.state_dict().values()]
    found = []
    for _ in range(2):
        lite, _ = surgery.lite(source, example_inputs=images(1), calibration=[images(32)])
        lite.train()
        lite[1].eval()
        surgery.refit(lite, source, [images(64)])
        assert (lite.training, lite[1].training, source.training) == (True, False, False)
        assert not any(module._forward_pre_hooks or module._forward_hooks for module in (*lite.modules(),))
        found.append(lite.state_dict())
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])
    assert all(map(torch.equal, digest, source.state_dict().values()))
    assert not any(module._forward_hooks for module in source.modules())


def test_a_model_without_edits_stays_as_it_is() -> None:
    source, same = network(), network()
    report = surgery.refit(same, source, [images(32)], statistics=False)
    assert report.fitted == ()
    assert all(map(torch.equal, same.state_dict().values(), source.state_dict().values()))


def test_without_statistics_batch_norm_stays() -> None:
    source = network()
    lite, _ = surgery.lite(source, example_inputs=images(1), calibration=[images(32)])
    before = lite[0][1].running_mean.clone()
    surgery.refit(lite, source, [images(64, seed=3)], statistics=False)
    assert torch.equal(lite[0][1].running_mean, before)
    surgery.refit(lite, source, [images(64, seed=3)])
    assert not torch.equal(lite[0][1].running_mean, before)


class Twice(nn.Module):
    def __init__(self, activation: type[nn.Module]) -> None:
        super().__init__()
        self.shared, self.act, self.unused = nn.Conv2d(3, 3, 3, padding=1), activation(), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.shared(self.act(self.shared(x)))  # type: ignore[no-any-return]


def test_what_runs_twice_or_not_at_all_is_left_and_named() -> None:
    source = Twice(nn.Hardswish).eval()
    lite, _ = surgery.lite(source, example_inputs=images(1), calibration=[images(8)])
    report = surgery.refit(lite, source, [images(32)])
    assert report.fitted == ()
    assert {(left.layer, left.reason) for left in report.left} == {
        ("shared", "it runs 2 times in the source"),
        ("unused", "it does not run in the source"),
    }


def test_channels_last_linear_layers_that_became_convolutions_are_fitted() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dw, self.norm = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.LayerNorm(8)
            self.up, self.act, self.down = nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 8)

        def forward(self, x: Tensor) -> Tensor:
            y = self.norm(self.dw(x).permute(0, 2, 3, 1))
            return x + self.down(self.act(self.up(y))).permute(0, 3, 1, 2)  # type: ignore[no-any-return]

    torch.manual_seed(0)
    source = nn.Sequential(nn.Conv2d(3, 8, 1), Block(), Block()).eval()
    lite, _ = surgery.lite(source, example_inputs=images(2), calibration=[images(64)])
    report = surgery.refit(lite, source, [images(64)])
    assert {type(lite.get_submodule(name)) for name in ("1.up", "1.down")} == {nn.Conv2d}
    assert {"1.up", "1.down", "2.up", "2.down"} <= {fitted.layer for fitted in report.fitted}


class Cast(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.float(), self.weight, self.bias)


class WeightStandardised(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight - self.weight.mean(1, keepdim=True), self.bias)


def test_layers_of_their_own_class_are_fitted_where_they_do_what_torchs_do() -> None:
    source = network()
    source[5] = nn.Sequential(Cast(24, 12), nn.GELU(), Cast(12, 12), nn.GELU(), WeightStandardised(12, 10)).eval()
    lite, _ = surgery.lite(source, example_inputs=images(1), calibration=[images(32)])
    report = surgery.refit(lite, source, [images(64)])
    assert "5.2" in {fitted.layer for fitted in report.fitted}
    assert ("5.4", "a WeightStandardised gives something else than a Linear") in [
        (left.layer, left.reason) for left in report.left
    ]


class Fails(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("no such image")


def test_a_model_that_fails_is_left_as_it_was() -> None:
    source = network()
    lite, _ = surgery.lite(source, example_inputs=images(1), calibration=[images(32)])
    before = {key: value.clone() for key, value in lite.state_dict().items()}
    lite[5] = nn.Sequential(lite[5])  # as somebody might change it after surgery
    lite[5].append(Fails())
    with pytest.raises(surgery.SurgeryError, match=r"^refit: a model fails on the batches: ValueError: no such image$"):
        surgery.refit(lite, source, [images(64)])
    assert all(torch.equal(before[key], value) for key, value in lite.state_dict().items() if key in before)


@pytest.mark.parametrize(
    ("batches", "message"),
    [([], "refit: no batches; give"), ([(images(2),)], "refit: a batch is a tuple; give tensors")],
)
def test_what_is_no_batch_is_refused(batches: list[Tensor], message: str) -> None:
    with pytest.raises(surgery.SurgeryError, match=message):
        surgery.refit(network(), network(), batches)
