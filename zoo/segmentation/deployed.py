"""What runs a segmenter where it is used: for the consumer of a release and in an ONNX file."""

import copy

from torch import Tensor, nn

from zoo.segmentation.loss import outputs_of

AUXILIARY = "aux_classifier"  # torchvision's name for the head that helps in training alone


class Segmenter(nn.Module):
    """A model input (N, 3, size, size) to the logits (N, classes, size, size); ``network`` is the model itself."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Tensor:
        """See the class."""
        return outputs_of(self.network(inputs))[0]


class PixelClasses(Segmenter):
    """A model input (N, 3, size, size) to each pixel's class (N, size, size), int64."""

    def forward(self, inputs: Tensor) -> Tensor:
        """See the class."""
        return super().forward(inputs).argmax(1)


def without_auxiliary(network: nn.Module) -> nn.Module:
    """A copy whose auxiliary head computes and weighs nothing; its output under "aux" is of no use."""
    slim = copy.deepcopy(network)
    if getattr(slim, AUXILIARY, None) is not None:
        setattr(slim, AUXILIARY, _OnePixel())  # in its place: forwards that surgery wrote always call it
    return slim


class _OnePixel(nn.Module):
    """The first pixel of the first channel."""

    def forward(self, features: Tensor) -> Tensor:
        return features[:, :1, :1, :1]
