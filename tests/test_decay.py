"""The learning rate over a training, at its borders."""

import itertools
import math

import pytest

from zoo.schedule import Decay, Optimizer, Schedule
from zoo.training.optimizer import learning_rate

PER_EPOCH = 10


def schedule(decay: Decay | None = None, *, epochs: int = 10, warmup: float = 0.0, lr: float = 1.0) -> Schedule:
    parts = {} if decay is None else {"decay": decay}
    return Schedule(
        description="test", epochs=epochs, batch_size=1, optimizer=Optimizer(lr=lr), warmup_epochs=warmup, **parts
    )


def rates(decay: Decay, *, warmup: float = 0.0) -> list[float]:
    """Of each of the hundred iterations, and of the one that would follow."""
    return [learning_rate(schedule(decay, warmup=warmup), iteration, PER_EPOCH) for iteration in range(101)]


@pytest.mark.parametrize("warmup", [0.0, 0.25, 1.0, 3.0, 10.0, 12.0])
@pytest.mark.parametrize("lr", [0.05, 1 / 3, 0.03])
def test_without_a_decay_it_is_bit_for_bit_half_a_cosine_to_nothing(warmup: float, lr: float) -> None:
    last, rise = 100, min(round(warmup * PER_EPOCH), 100)
    for iteration in range(last):
        expected = (
            lr * (iteration + 1) / rise
            if iteration < rise
            else lr * 0.5 * (1 + math.cos(math.pi * (iteration - rise) / max(1, last - rise)))
        )
        assert learning_rate(schedule(warmup=warmup, lr=lr), iteration, PER_EPOCH) == expected


def test_cosine_ends_at_its_final_rate() -> None:
    found = rates(Decay(final=0.1))
    assert found[0] == 1.0
    assert found[50] == pytest.approx(0.55)
    assert found[99] > 0.1
    assert found[100] == 0.1
    assert found == sorted(found, reverse=True)


def test_linear_is_a_line_after_the_warm_up() -> None:
    found = rates(Decay(shape="linear", final=0.01), warmup=2.0)
    assert found[0] == 1 / 20
    assert found[19] == found[20] == 1.0
    assert found[60] == pytest.approx(0.505)
    assert found[100] == 0.01
    steps = [a - b for a, b in itertools.pairwise(found[20:])]
    assert steps == pytest.approx([0.99 / 80] * 80)


def test_poly_is_a_power_of_what_is_left() -> None:
    found = rates(Decay(shape="poly", power=0.9))
    assert found[0] == 1.0
    assert found[37] == (1 - 0.37) ** 0.9
    assert found[99] == pytest.approx(0.01**0.9)
    assert found[100] == 0.0
    assert rates(Decay(shape="poly", power=2.0, final=0.5))[50] == 0.5 + 0.5 * 0.25


def test_flat_is_a_share_of_the_whole_training() -> None:
    """As RTMDet's: half of it, the warm-up included, at the peak."""
    found = rates(Decay(flat=0.5, final=0.05), warmup=2.0)
    assert found[18] < 1.0
    assert set(found[19:51]) == {1.0}
    assert found[51] < 1.0
    assert found[75] == pytest.approx(0.525)
    assert found[100] == 0.05


def test_a_warm_up_longer_than_flat_is_followed_by_the_decay() -> None:
    assert rates(Decay(flat=0.1), warmup=2.0) == rates(Decay(), warmup=2.0)


def test_floor_is_the_end_at_the_final_rate() -> None:
    """As YOLOX's: the last twentieth."""
    found = rates(Decay(final=0.05, floor=0.05), warmup=5.0)
    assert found[49] == found[50] == 1.0
    assert found[94] > 0.05
    assert set(found[95:]) == {0.05}
    assert found[50 + 9] == pytest.approx(0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * 9 / 45)))


@pytest.mark.parametrize("shape", ["cosine", "linear", "poly"])
def test_a_single_iteration_and_one_without_decay_have_a_rate(shape: str) -> None:
    one = schedule(Decay.model_validate({"shape": shape, "flat": 0.5, "floor": 0.4}), epochs=1)
    assert learning_rate(one, 0, per_epoch=1) == 1.0
    warm = schedule(Decay.model_validate({"shape": shape, "floor": 0.9}), epochs=1, warmup=1.0)
    assert [learning_rate(warm, iteration, per_epoch=2) for iteration in range(2)] == [0.5, 1.0]


def test_between_flat_and_floor_no_iteration_may_be_left() -> None:
    found = rates(Decay(shape="linear", final=0.5, flat=0.5, floor=0.49))
    assert found[50:52] == [1.0, 0.5]
