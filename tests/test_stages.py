"""Where the stages of a model end, on small models of each kind of layout."""

from collections.abc import Callable

import pytest
import torch
from noise_training import no_hooks
from torch import Tensor, nn

from zoo.errors import StepError
from zoo.schedule import Distillation
from zoo.training.stages import common_stages, taught_stages

SIZE = 32


class Gated(nn.Module):
    """A block whose gate sees a single position, as squeeze-excite does."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, 2 * channels, 1)
        self.spatial = nn.Conv2d(2 * channels, 2 * channels, 3, stride, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.project = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.spatial(self.expand(x))
        out: Tensor = self.project(inner * self.pool(inner).sigmoid())
        return out


class Net(nn.Module):
    """Two halvings in one Sequential, blocks in a ModuleList, and one activation for all."""

    def __init__(self, last: int = 4, pooled: Callable[[], nn.Module] = nn.Flatten) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4))
        self.act = nn.ReLU()
        self.blocks = nn.ModuleList([Gated(4, 1), Gated(4, 2), Gated(4, 1), Gated(4, 1)])
        self.tail = nn.Sequential(nn.Conv2d(4, 4, 3, 2, 1), nn.Conv2d(4, last, 3, 2, 1), nn.Dropout())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classify = nn.Sequential(pooled(), nn.Linear(last, 2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.stem(x))
        for block in self.blocks:
            x = self.act(block(x))
        out: Tensor = self.classify(self.pool(self.tail(x)))
        return out


ENDS = ("blocks.0", "blocks.3", "tail.0", "tail.2")


def test_stages_end_with_the_last_block_of_each_resolution() -> None:
    assert common_stages(Net(), Net(), SIZE, "net") == ENDS


def test_what_has_another_shape_in_the_lite_model_teaches_nothing() -> None:
    assert common_stages(Net(last=4), Net(last=6), SIZE, "net") == ENDS[:-1]


def test_where_the_last_block_is_gone_the_one_before_it_ends_the_stage() -> None:
    lite = Net()
    lite.blocks = lite.blocks[:3]
    assert common_stages(Net(), lite, SIZE, "net") == ("blocks.0", "blocks.2", "tail.0", "tail.2")


def test_a_module_that_is_called_twice_is_no_stage() -> None:
    lite = Net()
    lite.blocks[3] = lite.blocks[2]
    assert common_stages(Net(), lite, SIZE, "net") == ("blocks.0", "blocks.1", "tail.0", "tail.2")
    assert common_stages(lite, Net(), SIZE, "net") == ("blocks.0", "blocks.1", "tail.0", "tail.2")


def test_models_are_left_as_they_were() -> None:
    source, lite = Net().eval(), Net().train()
    lite.stem.eval()
    before = {name: value.clone() for name, value in lite.state_dict().items()}
    common_stages(source, lite, SIZE, "net")
    assert no_hooks(source)
    assert no_hooks(lite)
    assert not source.training
    assert [lite.training, lite.stem.training, lite.stem[1].training, lite.tail.training] == [True, False, False, True]
    assert all(torch.equal(before[name], value) for name, value in lite.state_dict().items())


def test_a_forward_that_fails_leaves_the_models_as_they_were_too() -> None:
    broken = Net(pooled=nn.Identity)  # four dimensions into Linear: what it says is its own
    with pytest.raises(RuntimeError, match="mat1"):
        common_stages(broken, Net(), SIZE, "net")
    assert broken.training
    assert no_hooks(broken)


def test_no_common_stage_is_an_error_of_one_line() -> None:
    other = nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(StepError, match=r"^net: no stage .* same shape.*; take 'features' out of .*distillation$"):
        common_stages(Net(), other, SIZE, "net")


class Tokens(nn.Module):
    """Patches as tokens (N, L, C), one more for the class, as vision transformers have it."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 8, 8)
        self.token = nn.Parameter(torch.zeros(1, 1, 6))
        self.blocks = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
        self.norm = nn.LayerNorm(6)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x).flatten(2).mT
        tokens = torch.cat([self.token.expand(len(x), 1, 6), patches], 1)
        out: Tensor = self.norm(self.blocks(tokens))[:, 0]
        return out


def test_tokens_are_positions() -> None:
    assert common_stages(Tokens(), Tokens(), SIZE, "tokens") == ("patches", "norm")


class ChannelsLast(nn.Module):
    """Features (N, H, W, C) after the stem."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 4, 4)
        self.blocks = nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.blocks(self.stem(x).permute(0, 2, 3, 1)).mean((1, 2))
        return out


def test_channels_may_be_last() -> None:
    assert common_stages(ChannelsLast(), ChannelsLast(), SIZE, "net") == ("blocks",)


class Segmenter(nn.Module):
    """A backbone that returns a dictionary, and a head at the resolution of its last stage."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Features()
        self.classifier = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"out": self.classifier(self.backbone(x)["out"])}


class Features(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, 2, 1), nn.ReLU())

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"out": super().forward(x)}


def test_heads_have_no_stages() -> None:
    assert common_stages(Segmenter(), Segmenter(), SIZE, "net") == ("backbone.1", "backbone.3")


@pytest.mark.parametrize("distillation", [None, Distillation(), Distillation(features=0.0)])
def test_nothing_is_looked_for_where_the_schedule_does_not_ask(distillation: Distillation | None) -> None:
    untouchable = nn.Module()  # which has no forward
    assert taught_stages(distillation, untouchable, untouchable, SIZE, "net") == ()


def test_without_a_teacher_there_are_no_stages_and_with_one_those_that_are_asked_for() -> None:
    asked = Distillation(features=0.5)
    assert taught_stages(asked, None, nn.Module(), SIZE, "net") == ()
    assert taught_stages(asked, Net(), Net(), SIZE, "net") == ENDS
