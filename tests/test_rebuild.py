"""Weights come back as they were saved, for models whose loading asks for versions and for tied weights too."""

from pathlib import Path

import pytest
import safetensors.torch
import torch
from small_build import ORIGIN
from torch import nn

from zoo.errors import StepError, WeightsMismatch
from zoo.source_model import load_weights, save_weights, source_model
from zoo.steps.baseline import _require_input


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight


def test_a_model_whose_loading_asks_for_its_version(tmp_path: Path) -> None:
    origin = ORIGIN.model_copy(update={"model": "mnasnet0_5"})
    saved, loaded = source_model(origin), source_model(origin)
    save_weights(saved, tmp_path / "w")
    load_weights(loaded, tmp_path / "w")
    expected, found = saved.state_dict(), loaded.state_dict()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_tied_weights_are_stored_once_and_stay_tied(tmp_path: Path) -> None:
    saved, loaded = Tied(), Tied()
    save_weights(saved, tmp_path / "w")
    assert len(safetensors.torch.load_file(tmp_path / "w")) == 3
    load_weights(loaded, tmp_path / "w")
    assert loaded.first.weight is loaded.second.weight
    assert torch.equal(loaded.second.weight, saved.first.weight)


def test_other_names_are_counted(tmp_path: Path) -> None:
    bias = torch.zeros(3)
    safetensors.torch.save_file({"first.bias": bias, "third.bias": bias.clone()}, tmp_path / "w")
    with pytest.raises(WeightsMismatch, match=r"3 missing and 1 unknown tensors \(first\.weight, "):
        load_weights(Tied(), tmp_path / "w")


def test_an_input_that_the_model_is_too_deep_for_is_refused_before_training() -> None:
    preprocessing = ORIGIN.preprocessing.model_copy(update={"size": 32})
    origin = ORIGIN.model_copy(update={"model": "alexnet", "preprocessing": preprocessing})
    model = nn.Sequential(nn.Conv2d(3, 4, 33))
    cure = r"32x32 images \(.*\); set another input_size in configs/profiles/demo\.yaml"
    with pytest.raises(StepError, match="torchvision/alexnet does not take " + cure):
        _require_input(model, origin, "demo")
    _require_input(nn.Conv2d(3, 4, 32), origin, "demo")
