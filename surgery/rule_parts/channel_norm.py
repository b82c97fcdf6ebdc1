"""Normalization layers that surgery puts in: batch normalization over any one axis, and its frozen form."""

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm


class ChannelBatchNorm(_BatchNorm):
    """Batch normalization over axis 1 of (N, C, ...) or, with ``axis=-1``, over the last one of (..., C).

    The last axis needs no transposition: (N, L, C) is (N * L, C) in memory already. Children, such as an activation
    fused with the layer that this one replaces, run after it in their order. Where a batch holds one value per
    channel (one image after global pooling), of which no variance can be measured, training uses the running
    statistics as eval mode does.
    """

    def __init__(self, num_features: int, eps: float = 1e-5, axis: int = 1, affine: bool = True) -> None:
        super().__init__(num_features, eps=eps, affine=affine)
        if axis not in (1, -1):
            raise ValueError(f"axis must be 1 or -1, not {axis}")
        self.axis = axis

    def forward(self, input: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """Same shape as ``input``; ``weight`` and ``bias`` stand in for the layer's own where it has none."""
        x = input.reshape(-1, self.num_features) if self.axis == -1 and input.ndim != 2 else input
        measure = self.training and x.numel() > self.num_features
        x = F.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight if weight is None else weight,
            self.bias if bias is None else bias,
            measure,
            self._count_batch() if measure else 0.0,
            self.eps,
        )
        x = x.reshape(input.shape) if x.ndim != input.ndim else x
        for child in self.children():
            x = child(x)
        return x

    def extra_repr(self) -> str:
        """Channels and settings."""
        return f"{self.num_features}, eps={self.eps}, axis={self.axis}, affine={self.affine}"

    def _count_batch(self) -> float:
        """The weight of this batch in the running statistics; no momentum means their plain average."""
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        return 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum


class FixedBatchNorm(nn.Module):
    """Batch normalization by statistics and affine values that never change, (N, C, ...); all four are buffers."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, running_mean: Tensor, running_var: Tensor, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", weight.detach().clone())
        self.register_buffer("bias", bias.detach().clone())
        self.register_buffer("running_mean", running_mean.detach().clone())
        self.register_buffer("running_var", running_var.detach().clone())

    def forward(self, input: Tensor) -> Tensor:
        """Same shape as ``input``, in train mode too."""
        statistics = (self.running_mean, self.running_var, self.weight, self.bias)
        x = F.batch_norm(input, *statistics, training=False, eps=self.eps)
        for child in self.children():
            x = child(x)
        return x

    def extra_repr(self) -> str:
        """Channels and eps."""
        return f"{len(self.weight)}, eps={self.eps}"


class ChannelsFirstLayerNorm(nn.LayerNorm):
    """Layer normalization over the channels of (N, C, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        """Same shape as ``input``."""
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
