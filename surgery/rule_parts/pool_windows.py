"""Where the windows of a pool stand: pads for which a pool without padding does the same."""

from torch import Tensor, fx, nn
from torch.nn import functional as F

from surgery.rule_parts.axis_products import pooled_length

Pair = tuple[int, int]


def pair(value: int | list[int] | tuple[int, ...]) -> Pair:
    """One number stands for both axes."""
    if isinstance(value, int):
        return value, value
    return (int(value[0]), int(value[0] if len(value) == 1 else value[1]))


class WindowPad(nn.Module):
    """Pads (..., H, W) so that windows without padding or ceil_mode stand where the pool had them, at any size.

    ``padding`` None is TensorFlow's "same" padding, which depends on the size; else it is that of a torch pool, and the
    right border is extended as far as ceil_mode reaches.
    """

    def __init__(self, kernel: Pair, stride: Pair, padding: Pair | None, dilation: Pair, value: float) -> None:
        super().__init__()
        self.kernel = (dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1)
        self.stride, self.padding, self.value = stride, padding, value

    def forward(self, input: Tensor) -> Tensor:
        """Same batch and channels, larger image."""
        return window_pad(input, self.kernel, self.stride, self.padding, self.value)

    def extra_repr(self) -> str:
        """Its settings."""
        return f"kernel={self.kernel}, stride={self.stride}, padding={self.padding or 'same'}, value={self.value}"


@fx.wrap
def window_pad(x: Tensor, kernel: Pair, stride: Pair, padding: Pair | None, value: float) -> Tensor:
    """See ``WindowPad``; ``kernel`` is the extent of a window, dilation included."""
    pads = []
    for axis in (1, 0):
        n, k, s = x.shape[axis - 2], kernel[axis], stride[axis]
        if padding is None:
            total = max((-(-n // s) - 1) * s + k - n, 0)
            left, right = total // 2, total - total // 2
        else:
            left = padding[axis]
            last = (pooled_length(n, k, s, left, ceil_mode=True) - 1) * s
            right = max(last + k - n - left, 0)
        pads += [left, right]
    return F.pad(x, pads, value=value)
