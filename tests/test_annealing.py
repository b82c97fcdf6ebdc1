"""Activations that turn from the source's into ReLU: their values, the training's ends, and what cannot be annealed."""

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from noise_training import PREPROCESSING, SIZE, Killed, fit, no_hooks
from torch import Tensor, nn

import surgery
from zoo.tasks.classification import ClassificationLoss
from zoo.training.annealing import Annealing, annealed, share

INPUTS = torch.randn(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
RULES = ("silu_to_relu", "hardswish_to_relu", "prelu_to_relu")


class Source(nn.Sequential):
    """Three activations, one of which overwrites its input and one of which has weights."""

    def __init__(self) -> None:
        torch.manual_seed(3)
        super().__init__(
            nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.SiLU(inplace=True), nn.Conv2d(4, 4, 3), nn.Hardswish(),
            nn.Conv2d(4, 4, 3), nn.PReLU(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2),
        )  # fmt: skip


def operated(source: nn.Module, rules: tuple[str, ...] = RULES) -> tuple[nn.Module, nn.Module, surgery.Plan]:
    """The source, its lite model with the same weights, and the plan; both in eval mode."""
    lite, report = surgery.lite(source.eval(), rules, (INPUTS,))
    return source, lite.eval(), report.plan


def test_at_zero_the_activations_are_the_sources() -> None:
    source, lite, plan = operated(Source())
    assert not torch.equal(lite(INPUTS), source(INPUTS))
    with annealed(lite, source, plan.edits, 1.0) as annealing:
        assert (set(annealing.originals), annealing.left) == ({"2", "4", "6"}, {})
        assert torch.equal(lite(INPUTS), source(INPUTS))


def test_at_one_they_are_relu_bit_for_bit() -> None:
    source, lite, plan = operated(Source())
    alone = lite(INPUTS)
    with annealed(lite, source, plan.edits, 1.0) as annealing:
        annealing.share = 1.0
        assert torch.equal(lite(INPUTS), alone)
        assert torch.equal(lite[2](INPUTS * torch.inf), F.relu(INPUTS * torch.inf))  # 0 times it would be no number


def test_between_they_are_a_mixture() -> None:
    source, lite, plan = operated(Source())
    with annealed(lite, source, plan.edits, 1.0) as annealing:
        annealing.share = 0.25
        torch.testing.assert_close(lite[2](INPUTS), 0.75 * F.silu(INPUTS) + 0.25 * F.relu(INPUTS))
        torch.testing.assert_close(lite[4](INPUTS), 0.75 * F.hardswish(INPUTS) + 0.25 * F.relu(INPUTS))


def test_the_share_grows_by_iteration_and_ends_at_one() -> None:
    assert [share(iteration, 4) for iteration in range(6)] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    assert share(0, 0) == 1.0
    assert share(9, 10) < 1.0 == share(10, 10)


def test_the_model_is_the_plans_meanwhile_and_afterwards() -> None:
    source, lite, plan = operated(Source())
    names = list(lite.state_dict())
    kinds = [type(module) for module in lite.modules()]
    with annealed(lite, source, plan.edits, 1.0):
        assert surgery.fingerprint(lite) == plan.after
        assert list(lite.state_dict()) == names
        assert [type(module) for module in lite.modules()] == kinds
        assert len(list(lite.parameters())) == len(list(surgery.replay(Source(), plan).parameters()))
        assert not no_hooks(lite)
    assert surgery.fingerprint(lite) == plan.after
    assert no_hooks(lite)


def test_an_exception_leaves_the_model_as_it_was_too() -> None:
    source, lite, plan = operated(Source())
    before = lite(INPUTS)
    with pytest.raises(ZeroDivisionError), annealed(lite, source, plan.edits, 1.0):
        raise ZeroDivisionError
    assert no_hooks(lite)
    assert torch.equal(lite(INPUTS), before)


def test_a_copy_made_meanwhile_is_at_the_same_share() -> None:
    source, lite, plan = operated(Source())
    with annealed(lite, source, plan.edits, 1.0) as annealing:
        average = copy.deepcopy(lite)
        assert torch.equal(average(INPUTS), source(INPUTS))
        annealing.share = 0.5
        assert torch.equal(average(INPUTS), lite(INPUTS))
        assert not torch.equal(average(INPUTS), source(INPUTS))


def test_weights_of_an_activation_are_the_sources_and_stay() -> None:
    source, lite, plan = operated(Source())
    with annealed(lite, source, plan.edits, 1.0) as annealing:
        lite(INPUTS).sum().backward()
        kept = annealing.originals["6"]
        assert torch.equal(kept.weight, source[6].weight)
        assert kept.weight.grad is source[6].weight.grad is None


class Shared(nn.Module):
    """One activation in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other, self.act = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.SiLU()
        self.first = self.act

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.other(self.first(self.one(x))))
        return out


def test_an_activation_in_two_places_is_annealed_in_both() -> None:
    source, lite, plan = operated(Shared(), ("silu_to_relu",))
    with annealed(lite, source, plan.edits, 1.0) as annealing:
        assert len(annealing.originals) == 1
        assert torch.equal(lite(INPUTS), source(INPUTS))
        annealing.share = 0.5
        assert not torch.equal(lite(INPUTS), source(INPUTS))


class Unusual(nn.Module):
    """A call, and a clamp that is a factor of a product and so becomes another module."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.clamp, self.act = nn.Conv2d(3, 4, 3), nn.ReLU6(), nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.conv(x))
        return self.act(x * self.clamp(x + 1))


def test_what_cannot_be_annealed_is_told_with_its_reason() -> None:
    source, lite, plan = operated(Unusual(), ("silu_to_relu", "relu6_to_relu"))
    with annealed(lite, source, plan.edits, 0.5) as annealing:
        assert annealing.to_json() == {
            "epochs": 0.5,
            "annealed": ["act"],
            "left": {
                "": "it is a call in the forward of this module",
                "clamp": "it is a ClampedLine in the lite model",
            },
        }
    other = nn.ModuleDict({"act": nn.Tanh()})
    with annealed(lite, other, plan.edits, 0.5) as annealing:
        assert annealing.left["act"] == "it is a Tanh in the source"
    with annealed(lite, nn.Module(), plan.edits, 0.5) as annealing:
        assert annealing.left["act"] == "it is not there in the source"
        assert len(annealing.left) == 3
    assert no_hooks(lite)


OBJECTIVE = ClassificationLoss(PREPROCESSING, 0.1)


def trained(folder: Path, epochs: float, killed_after: int | None = None) -> tuple[nn.Module, surgery.Plan, Annealing]:
    """Three epochs of three iterations, with a moving average; then, as tasks do, BatchNorm's statistics."""
    source, lite, plan = operated(Source())
    with annealed(lite, source, plan.edits, epochs) as annealing:
        fit(lite, OBJECTIVE, folder, hooks=[annealing], killed_after=killed_after)
        surgery.reestimate_batchnorm(lite, [INPUTS])
    return lite, plan, annealing


class Seen(Annealing):
    """Keeps the shares of all iterations."""

    def after_train_iter(self, *args: object, **kwargs: object) -> None:
        self.__dict__.setdefault("shares", []).append(self.share)


def test_a_training_anneals_over_its_first_iterations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.training.annealing.Annealing", Seen)
    source, lite, plan = operated(Source())
    evaluated = []

    def evaluate(student: nn.Module) -> float:
        evaluated.append((annealing.share, torch.equal(student[2](INPUTS), F.relu(INPUTS))))
        return 0.5

    with annealed(lite, source, plan.edits, 2.0) as annealing:
        fit(lite, OBJECTIVE, tmp_path, hooks=[annealing], evaluate=evaluate)
    assert annealing.__dict__["shares"] == [0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1, 1, 1]
    assert evaluated == [(0.5, False), (1.0, True), (1.0, True)]


@pytest.mark.parametrize("epochs", [2.0, 3.0])
def test_a_resumed_annealing_is_the_same_as_an_unbroken_one(tmp_path: Path, epochs: float) -> None:
    whole, plan, annealing = trained(tmp_path / "whole", epochs)
    with pytest.raises(Killed):
        trained(tmp_path / "resumed", epochs, killed_after=1)
    resumed, _, _ = trained(tmp_path / "resumed", epochs)
    assert annealing.share == 1.0
    state = resumed.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in whole.state_dict().items())
    assert torch.equal(whole(INPUTS), resumed(INPUTS))
    fresh = surgery.replay(Source(), plan)
    fresh.load_state_dict(whole.state_dict())
    assert torch.equal(fresh.eval()(INPUTS), whole(INPUTS))
    assert surgery.fingerprint(whole) == plan.after
    assert no_hooks(whole)


def test_after_a_kill_behind_the_last_epoch_statistics_are_those_of_relu(tmp_path: Path) -> None:
    source, lite, plan = operated(Source())
    with annealed(lite, source, plan.edits, 2.0) as annealing:
        fit(lite, OBJECTIVE, tmp_path, hooks=[annealing])  # and the process is killed here
    found = []
    for _ in range(2):  # nothing is left to be trained
        again, _, resumed = trained(tmp_path, 2.0)
        assert resumed.share == annealing.share == 1.0
        found.append(again)
    surgery.reestimate_batchnorm(lite, [INPUTS])
    for again in found:
        assert all(map(torch.equal, again.state_dict().values(), lite.state_dict().values()))


def test_annealing_changes_what_is_learnt(tmp_path: Path) -> None:
    slowly, _, _ = trained(tmp_path / "slowly", 2.0)
    at_once, _, _ = trained(tmp_path / "at once", 0.0)
    _, plain, _ = operated(Source())
    fit(plain, OBJECTIVE, tmp_path / "plain")
    assert not torch.equal(slowly[0].weight, plain[0].weight)
    assert torch.equal(at_once[0].weight, plain[0].weight)
