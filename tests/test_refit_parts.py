"""The parts of the refit: which layers, which positions, and the least squares."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations

from surgery.reconstruction import layers, samples
from surgery.reconstruction.layers import Unfitted, fittable
from surgery.reconstruction.least_squares import Fit, Moments, fit
from surgery.reconstruction.samples import Positions


@settings(deadline=None)
@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    groups=st.sampled_from([1, 2, 4]),
    seed=st.integers(0, 1000),
)
def test_a_convolutions_inputs_give_its_outputs(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    seed: int,
) -> None:
    layer = nn.Conv2d(4, 8, kernel, stride, padding, dilation, groups, bias=False).double()
    received = torch.randn(3, 4, 9, 10, dtype=torch.double)
    gave = samples.pixels(layer(received), layer)
    positions = Positions.drawn(3, gave.shape[2], seed, gave.device)
    read = samples.inputs(received, layer, positions)
    assert read is not None
    computed = read @ layer.weight.reshape(groups, 8 // groups, -1).mT  # (groups, samples, outputs)
    torch.testing.assert_close(computed.movedim(0, 1).flatten(1), samples.at(gave, positions))


@pytest.mark.parametrize("shape", [(5, 6), (5, 7, 6), (5, 2, 3, 6)])
def test_a_linear_layers_inputs_give_its_outputs(shape: tuple[int, ...]) -> None:
    layer, received = nn.Linear(6, 3, bias=False), torch.randn(shape)
    gave = samples.pixels(layer(received), layer)
    positions = Positions.drawn(5, gave.shape[2], 0, gave.device)
    read = samples.inputs(received, layer, positions)
    assert read is not None
    torch.testing.assert_close(read[0] @ layer.weight.mT, samples.at(gave, positions))


def test_another_number_of_pixels_has_no_inputs() -> None:
    positions = Positions.drawn(2, 49, 0, torch.device("cpu"))
    assert samples.inputs(torch.zeros(2, 3, 8, 8), nn.Conv2d(3, 4, 3), positions) is None
    assert samples.inputs(torch.zeros(2, 48, 3), nn.Linear(3, 4), positions) is None


def test_positions_differ_by_image_and_are_about_as_many_as_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "SAMPLES", 40)
    drawn = Positions.drawn(4, 100, 1, torch.device("cpu"))
    assert drawn.indices.shape == (4, 10)
    assert all(len(set(row.tolist())) == 10 for row in drawn.indices)
    assert not torch.equal(drawn.indices[0], drawn.indices[1])
    assert Positions.drawn(50, 100, 1, torch.device("cpu")).indices.shape == (50, 1)


def test_with_enough_samples_and_no_ridge_the_fit_is_exact() -> None:
    truth, bias = torch.randn(2, 3, 5, dtype=torch.double), torch.randn(2, 3, dtype=torch.double)
    read = torch.randn(2, 40, 5, dtype=torch.double) + 3
    targets = read @ truth.mT + bias[:, None]
    found = fit(Moments.of(read, targets), torch.zeros_like(truth), ridge=0)
    torch.testing.assert_close(found.weight, truth)
    torch.testing.assert_close(found.bias, bias)
    assert found.error(read, targets) < 1e-20


def test_moments_of_parts_add_up_to_those_of_the_whole() -> None:
    read, targets = torch.randn(2, 40, 5, dtype=torch.double) + 3, torch.randn(2, 40, 3, dtype=torch.double) - 1
    whole = Moments.of(read, targets)
    parts = Moments.of(read[:, :13], targets[:, :13]) + Moments.of(read[:, 13:], targets[:, 13:])
    for field in ("count", "inputs", "targets", "squares", "products"):
        torch.testing.assert_close(getattr(parts, field), getattr(whole, field))


def test_a_strong_ridge_holds_the_weights() -> None:
    weight, read = torch.randn(1, 3, 5, dtype=torch.double), torch.randn(1, 40, 5, dtype=torch.double)
    targets = torch.randn(1, 40, 3, dtype=torch.double)
    torch.testing.assert_close(fit(Moments.of(read, targets), weight, ridge=1e9).weight, weight, rtol=1e-6, atol=1e-6)
    weak, none = (fit(Moments.of(read, targets), weight, ridge=ridge).error(read, targets) for ridge in (0.1, 0))
    assert none < weak < Fit(weight, weight[:, :, 0]).error(read, targets)


def test_inputs_that_never_change_keep_their_weights() -> None:
    weight, read = torch.randn(1, 2, 3, dtype=torch.double), torch.randn(1, 30, 3, dtype=torch.double)
    read[:, :, 1] = 0
    found = fit(Moments.of(read, torch.randn(1, 30, 2, dtype=torch.double)), weight)
    torch.testing.assert_close(found.weight[:, :, 1], weight[:, :, 1])
    dead = fit(Moments.of(torch.zeros_like(read), torch.randn(1, 30, 2, dtype=torch.double)), weight)
    torch.testing.assert_close(dead.weight, weight)


def test_layers_that_cannot_be_fitted_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "LARGEST", 100)

    def parts() -> dict[str, nn.Module]:
        tied = nn.Linear(3, 3)
        other = nn.Linear(3, 3)
        other.weight = tied.weight
        return {
            "good": nn.Conv2d(3, 4, 3),
            "computed": parametrizations.weight_norm(nn.Linear(3, 3)),
            "tied": tied,
            "other": other,
            "same": nn.Conv2d(3, 4, 3, padding="same"),
            "reflecting": nn.Conv2d(3, 4, 3, padding_mode="reflect", padding=1),
            "large": nn.Conv2d(12, 4, 3),
        }

    lite, source = nn.ModuleDict(parts()), nn.ModuleDict(parts())
    lite["wider"], source["wider"] = nn.Linear(3, 5), nn.Linear(3, 4)
    lite["new"] = nn.Conv2d(3, 3, 1)
    found, left = fittable(lite, source)
    assert list(found) == ["good"]
    assert left == [
        Unfitted("computed", "its weight is computed"),
        Unfitted("tied", "it shares its weight with another layer"),
        Unfitted("other", "it shares its weight with another layer"),
        Unfitted("same", "its padding is not a number of zeros"),
        Unfitted("reflecting", "its padding is not a number of zeros"),
        Unfitted("large", "each output has 108 inputs, at most 100 are fitted"),
        Unfitted("wider", "the source's has 4 outputs, this one 5"),
        Unfitted("new", "the source has no such layer"),
    ]
