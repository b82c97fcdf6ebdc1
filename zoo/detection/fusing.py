"""Blocks that are trained in several branches and run as one convolution: fused exactly, for export."""

import copy
from typing import Any

import torch
from torch import nn

from zoo.detection.heads import head_of


def fused(network: nn.Module) -> nn.Module:
    """A copy of a detector whose re-parameterisable blocks are one convolution each; the same outputs.

    RepVGG blocks (Ding et al. 2021) of YOLOv6, v7 and PPYOLOE fuse themselves, here in float64, so that nothing but
    the rounding of the result is lost. What YOLOv7 adds to and multiplies with a prediction's input and output
    (implicit knowledge, Wang et al. 2021) goes into the prediction's convolution.
    """
    network = copy.deepcopy(network).eval()
    blocks: list[Any] = [part for part in network.modules() if hasattr(part, "switch_to_deploy")]
    for block in blocks:
        dtype = next(block.parameters()).dtype
        block.double().switch_to_deploy()
        block.to(dtype)
    if head_of(network).family.name == "yolov7":
        predictions = network.get_submodule("bbox_head.head_module.convs_pred")
        for name, sequence in list(predictions.named_children()):
            predictions.register_module(name, _without_implicit(sequence))
    return network


def _without_implicit(sequence: nn.Module) -> nn.Module:
    """m * (W (x + a) + b) as one 1x1 convolution: weights m W, bias m (b + W a)."""
    added, convolution, multiplied = sequence.children()
    assert isinstance(convolution, nn.Conv2d)
    assert convolution.kernel_size == (1, 1)
    assert convolution.bias is not None
    with torch.no_grad():
        weight, a = convolution.weight.double(), added.get_parameter("implicit").double().flatten()
        m = multiplied.get_parameter("implicit").double().flatten()
        convolution.bias.copy_(m * (convolution.bias.double() + weight.flatten(1) @ a))
        convolution.weight.copy_(m[:, None, None, None] * weight)
    return convolution
