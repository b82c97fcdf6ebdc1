"""Classifiers for few classes start with small logits, and what starts small anyway stays as its library drew it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from zoo.sources import timm, torchvision
from zoo.training.first_weights import calm_classifiers

CLASSES = 10
DRAWN_FOR_A_THOUSAND = (
    (torchvision.build, "efficientnet_b0", "classifier.1"),
    (torchvision.build, "mnasnet0_5", "classifier.1"),
    (timm.build, "mobilenetv3_small_100", "classifier"),
    (timm.build, "efficientnet_lite0", "classifier"),
)
DRAWN_SMALL = (
    (torchvision.build, "mobilenet_v2"),
    (torchvision.build, "mobilenet_v3_small"),
    (torchvision.build, "resnet18"),
    (torchvision.build, "regnet_y_400mf"),
    (timm.build, "resnet18"),
    (timm.build, "convnext_atto"),
)

Build = Callable[..., nn.Module]


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize(("build", "name", "classifier"), DRAWN_FOR_A_THOUSAND)
def test_a_classifier_drawn_for_more_classes_is_scaled_down(build: Build, name: str, classifier: str) -> None:
    torch.manual_seed(0)
    model = build(name, num_classes=CLASSES)
    before, layer = weights(model), model.get_submodule(classifier)
    assert isinstance(layer, nn.Linear)
    features = torch.randn(256, layer.in_features)  # of unit variance, as behind a BatchNorm
    with torch.no_grad():
        assert layer(features).std() > 5
    assert calm_classifiers(model, CLASSES) == (classifier,)
    with torch.no_grad():  # what PyTorch's own default gives
        assert layer(features).std() == pytest.approx(3**-0.5, rel=0.1)
    after = weights(model)
    assert [key for key in before if not torch.equal(before[key], after[key])] == [f"{classifier}.weight"]
    ratio = after[f"{classifier}.weight"] / before[f"{classifier}.weight"]
    assert ratio.std() < 1e-6  # the same draw, scaled
    assert calm_classifiers(model, CLASSES) == ()


@pytest.mark.parametrize(("build", "name"), DRAWN_SMALL)
def test_what_is_drawn_small_is_left_alone(build: Build, name: str) -> None:
    model = build(name, num_classes=CLASSES)
    before = weights(model)
    assert calm_classifiers(model, CLASSES) == ()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_layers_with_other_outputs_are_no_classifiers() -> None:
    model = nn.Sequential(nn.Linear(64, 32), nn.Linear(32, CLASSES))
    for layer in model:
        nn.init.normal_(layer.weight)
    before = model[0].weight.clone()
    assert calm_classifiers(model, CLASSES) == ("1",)
    assert torch.equal(model[0].weight, before)
