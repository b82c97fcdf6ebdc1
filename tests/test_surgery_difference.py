"""How far two outputs are apart."""

import math

import pytest
import torch
from torch import Tensor

from surgery.operating.verify import difference

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_it_is_the_largest_gap_over_the_largest_value(dtype: torch.dtype) -> None:
    was = torch.tensor([[1.0, -4.0], [2.0, 0.5]], dtype=dtype)
    now = torch.tensor([[1.0, -4.0], [2.0, 1.5]], dtype=dtype)
    assert difference(was, now) == 0.25
    assert difference([was, was], (was, now)) == 0.25
    assert difference(was, was.clone()) == 0


@pytest.mark.parametrize(
    ("was", "now", "expected"),
    [
        (torch.tensor([NAN, 2.0]), torch.tensor([NAN, 2.0]), 0),
        (torch.tensor([INF, 2.0]), torch.tensor([INF, 1.0]), 1 / torch.finfo(torch.float32).max),
        (torch.tensor([NAN, 2.0]), torch.tensor([NAN, 1.0]), 0.5),
        (torch.tensor([1.0, 2.0]), torch.tensor([NAN, 2.0]), INF),
        (torch.tensor([NAN, 2.0]), torch.tensor([1.0, 2.0]), INF),
        (torch.tensor([1.0, 2.0]), torch.tensor([1.0, INF]), INF),
        (torch.tensor([INF]), torch.tensor([NAN]), 1),
        (torch.tensor([6e4]).half(), torch.tensor([-6e4]).half(), 2),  # the gap is no number of half precision
        (torch.tensor([True, False]), torch.tensor([True, True]), 1),
        (torch.tensor([4, 2]), torch.tensor([4, 1]), 0.25),
        (torch.tensor([3 + 4j, 8j]), torch.tensor([3 + 4j, 6j]), 0.25),
        (torch.zeros(0), torch.zeros(0), 0),
    ],
)
def test_what_is_not_finite_or_no_fraction(was: Tensor, now: Tensor, expected: float) -> None:
    assert difference(was, now) == pytest.approx(expected)


def test_of_nothing_but_zeros_any_gap_is_endless() -> None:
    assert difference(torch.zeros(2), torch.tensor([0.0, 1e-3])) > 1e300


def test_another_number_of_tensors_is_an_error() -> None:
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        difference([torch.zeros(1), torch.zeros(1)], [torch.zeros(1)])
