"""Fitting block by block: what it wins, which blocks it finds, and that it fails whole."""

import copy
import json

import pytest
import torch
from test_refit import images, missed, network
from torch import Tensor, nn

import surgery
from surgery.reconstruction.blocks import blocks


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.SiLU()
        self.branch = nn.Sequential(nn.Conv2d(width, width, 1), nn.SiLU())

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(self.act(self.norm(self.conv(x))))  # type: ignore[no-any-return]


class Stages(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.stages = nn.ModuleList([nn.Sequential(Residual(8), Residual(8)), nn.Sequential(Residual(8))])
        self.twice = nn.ModuleList([nn.Conv2d(8, 8, 1)])
        self.pair = nn.ModuleList([Pair()])

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        a, b = self.pair[0](self.twice[0](self.twice[0](x)))
        return (a + b).mean((2, 3))  # type: ignore[no-any-return]


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.conv(x), x


def operated() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    source = Stages()
    surgery.reestimate_batchnorm(source, [images(64, seed=9)])
    lite, _ = surgery.lite(source.eval(), example_inputs=images(1), calibration=[images(64)])
    return lite, source


def test_blocks_are_what_stands_in_stages_and_the_whole() -> None:
    lite, source = operated()
    assert blocks(lite, source, images(2)) == ("stages.0.0", "stages.0.1", "stages.1.0", "")


class Named(nn.Module):
    """Children by name and no container, as timm's RegNet."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.s1, self.s2 = nn.Conv2d(3, 8, 3), Inner(), Inner()
        self.act, self.pair = nn.SiLU(), Pair()

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.pair(self.act(self.s2(self.s1(self.stem(x)))))
        return a + b  # type: ignore[no-any-return]


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.b1 = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.b1(x)  # type: ignore[no-any-return]


def test_blocks_are_a_models_children_where_nothing_stands_in_stages() -> None:
    assert blocks(Named(), Named(), images(2)) == ("stem", "s1", "s2", "")


def test_a_container_of_little_does_not_stand_for_the_model() -> None:
    model = Named()
    model.stem = nn.Sequential(nn.Conv2d(3, 8, 3))  # type: ignore[assignment]
    assert blocks(model, model, images(2)) == ("stem.0", "")  # 224 of its 440 weights
    model.s1.b1 = nn.Conv2d(8, 8, 9, padding=4)  # most of the weights
    assert blocks(model, model, images(2)) == ("stem.0", "s1", "s2", "")


def test_of_another_shape_is_no_block() -> None:
    lite, source = operated()
    lite.stages[1][0] = nn.Sequential(nn.Conv2d(8, 8, 3))  # type: ignore[index]
    assert blocks(lite, source, images(2)) == ("stages.0.0", "stages.0.1", "")


def test_what_works_in_place_behind_a_block_leaves_alone_what_is_wanted_of_it() -> None:
    torch.manual_seed(0)
    parts = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Hardswish(inplace=True), nn.Conv2d(8, 8, 1), nn.ReLU(inplace=True)
    source = nn.Sequential(*parts, nn.ReLU(inplace=True)).eval()
    twin = copy.deepcopy(source)
    told = surgery.reconstruct(twin, source, [images(32)], steps=3, statistics=False)
    assert [(block.name, block.before, block.after) for block in told.blocks] == [
        (name, 0.0, 0.0) for name in ("0", "1", "3", "")
    ]
    assert all(value.equal(source.state_dict()[name]) for name, value in twin.state_dict().items())


def test_batches_that_are_not_whole_are_left_out() -> None:
    lite, source = operated()
    told = surgery.reconstruct(lite, source, images(65).split(32), steps=4)  # the third is one image
    assert (told.images, told.steps) == (64, 4)
    assert surgery.reconstruct(lite, source, images(64).split(32), steps=1).images == 32


def test_it_brings_a_lite_model_closer_to_its_source_on_other_images() -> None:
    lite, source = operated()
    frozen = lite.stem.weight.requires_grad_(False)
    before, stem = missed(lite, source), frozen.detach().clone()
    report = surgery.reconstruct(lite, source, images(256).split(32), steps=60)
    assert missed(lite, source) < before / 2
    assert [block.name for block in report.blocks] == ["stages.0.0", "stages.0.1", "stages.1.0", ""]
    assert all(block.after < block.before for block in report.blocks)
    assert torch.equal(frozen, stem)
    assert report.steps == 60
    assert json.loads(json.dumps(report.to_json()))["blocks"][-1]["name"] == ""


def test_it_is_the_same_each_time_and_leaves_no_trace() -> None:
    found = []
    for _ in range(2):
        lite, source = operated()
        lite.train()
        surgery.reconstruct(lite, source, [images(32)], steps=3)
        assert lite.training
        assert not any(parameter.grad is not None for parameter in (*lite.parameters(), *source.parameters()))
        assert not any(module._forward_hooks for module in (*lite.modules(), *source.modules()))
        found.append(lite.state_dict())
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])


def test_without_statistics_batch_norm_works_on_its_own_which_stay() -> None:
    lite, source = operated()
    before = {name: value.clone() for name, value in lite.named_buffers()}
    missed_before = missed(lite, source)
    surgery.reconstruct(lite, source, images(128).split(32), steps=30, statistics=False)
    assert before
    assert all(torch.equal(value, before[name]) for name, value in lite.named_buffers())
    assert missed(lite, source) < missed_before / 2
    surgery.reconstruct(lite, source, [images(32)], steps=1)
    assert not any(torch.equal(v, before[name]) for name, v in lite.named_buffers() if name.endswith("running_mean"))


def test_no_gradient_leaves_a_block() -> None:
    """The first block agrees with the source: that the second one does not is nothing to it."""
    source = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3))
    lite = copy.deepcopy(source)
    lite[1].reset_parameters()
    first, second = lite[0].weight.detach().clone(), lite[1].weight.detach().clone()
    surgery.reconstruct(lite, source, [images(8)], steps=2)
    assert torch.equal(lite[0].weight, first)
    assert not torch.equal(lite[1].weight, second)


@pytest.mark.parametrize("batches", [[], [(images(2),)]])
def test_what_is_no_batch_is_refused(batches: list[Tensor]) -> None:
    with pytest.raises(surgery.SurgeryError, match=r"^reconstruct: give batches that are tensors"):
        surgery.reconstruct(network(), network(), batches, steps=1)


def test_no_steps_are_refused() -> None:
    with pytest.raises(surgery.SurgeryError, match=r"^reconstruct: 0 steps fit nothing; give at least one$"):
        surgery.reconstruct(network(), network(), [images(2)], steps=0)


def test_an_error_that_is_not_finite_leaves_the_model_as_it_was() -> None:
    lite, source = operated()
    before = {key: value.clone() for key, value in lite.state_dict().items()}
    bad = images(4)
    bad[0, 0, 0, 0] = torch.inf
    message = r"^reconstruct: the error is nan in step 2; lower lr, 0\.01$"
    with pytest.raises(surgery.SurgeryError, match=message):
        surgery.reconstruct(lite, source, [images(4), bad], steps=2, lr=0.01)
    assert all(torch.equal(before[key], value) for key, value in lite.state_dict().items())


def test_models_without_a_common_block_are_refused() -> None:
    with pytest.raises(surgery.SurgeryError, match="no block in common"):
        surgery.reconstruct(nn.Conv2d(3, 3, 3), nn.Conv2d(3, 4, 3), [images(2)], steps=1)
