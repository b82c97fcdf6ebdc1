"""First weights of a model that is trained from scratch, where those of its library are for another number of classes.

torchvision and timm draw the classifiers of EfficientNet, MNASNet and timm's MobileNetV3 from U(-b, b), b = 1 /
sqrt(classes). For the 1,000 classes of ImageNet the first logits are small; for 10 they are tens, and most of a short
training goes into unlearning them.
"""

import torch
from torch import nn

MARGIN = 1.5  # what PyTorch draws by its own default comes out a little above its expected size as often as below


@torch.no_grad()
def calm_classifiers(model: nn.Module, num_classes: int) -> tuple[str, ...]:
    """Scale down the linear layers with an output for each class whose weights vary by more than PyTorch's own default,
    to that; the names of those that did. Others, and all that the library draws smaller, stay as they are."""
    calmed = []
    for name, layer in model.named_modules():
        if not isinstance(layer, nn.Linear) or layer.out_features != num_classes:
            continue
        default = (3 * layer.in_features) ** -0.5  # of U(-b, b), b = 1 / sqrt(inputs)
        root_mean_square = float(layer.weight.square().mean().sqrt())
        if root_mean_square > MARGIN * default:
            layer.weight.mul_(default / root_mean_square)
            calmed.append(name)
    return tuple(calmed)
