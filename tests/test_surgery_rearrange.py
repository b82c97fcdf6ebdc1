"""Shuffles as reshapes and transposes: bit-equal, whatever the sizes."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import surgery

RULES = ["spell_out_shuffle"]


@settings(max_examples=30, deadline=None)
@given(
    layer=st.sampled_from([nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle]),
    number=st.integers(1, 3),
    channels=st.integers(1, 3),
    size=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    batch=st.integers(1, 3),
    called=st.booleans(),
)
def test_shuffles_are_bit_equal(
    layer: type[nn.Module], number: int, channels: int, size: tuple[int, int], batch: int, called: bool
) -> None:
    function = {nn.PixelShuffle: F.pixel_shuffle, nn.PixelUnshuffle: F.pixel_unshuffle}.get(layer, F.channel_shuffle)

    class Calls(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.randn(1, channels * number**2, 1, 1))
            self.layer = None if called else layer(number)

        def forward(self, x: Tensor) -> Tensor:
            x = x * self.scale
            return function(x, number) if self.layer is None else self.layer(x)

    model = Calls()
    x = torch.randn(batch, channels * number**2, size[0] * number, size[1] * number)
    lite, report = surgery.lite(model, RULES, example_inputs=(x,))
    assert not report.refusals
    assert [edit.site for edit in report.edits] == ["" if called else "layer"]
    assert not {"pixel_shuffle", "pixel_unshuffle", "channel_shuffle"} & {o.name for o in surgery.operators(lite, (x,))}
    assert torch.equal(lite(x), model(x))
    for net in (model, lite):
        net(x).square().sum().backward()
    assert torch.allclose(lite.scale.grad, model.scale.grad)
    other = torch.randn(batch + 1, channels * number**2, number * (size[0] + 1), number * size[1])
    assert torch.equal(lite(other), model(other)), "neither batch nor image size is frozen"
    again = surgery.replay(model, report.plan)
    again.load_state_dict(lite.state_dict())
    assert torch.equal(again(x), lite(x))


def test_the_layers_keep_their_class_and_take_images_without_a_batch() -> None:
    lite, _ = surgery.lite(nn.Sequential(nn.PixelShuffle(2)), RULES)
    assert isinstance(lite[0], nn.PixelShuffle)
    x = torch.randn(8, 3, 5)
    assert torch.equal(lite(x), F.pixel_shuffle(x, 2))


def test_a_factor_that_is_computed_is_declined() -> None:
    class Computed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.pixel_shuffle(x, x.shape[1] // 4)

    _, report = surgery.lite(Computed(), example_inputs=(torch.randn(1, 8, 2, 2),))
    assert [r.reason for r in report.refusals] == ["its factor is not known before it runs"]
