"""Pooling and resizing as two products with constant matrices, one along each axis of an image.

Every average pool and every linear resize is separable: rows @ x @ columns.T, with x of shape (..., H, W), rows of
shape (new H, H) and columns of shape (new W, W). Matrices are made for the size at hand, so that one layer serves
every image size; in an exported graph they are constants.
"""

import torch
from torch import Tensor


def product(x: Tensor, rows: Tensor | None, columns: Tensor | None) -> Tensor:
    """``x`` (..., H, W) resampled along its last two axes; None leaves an axis."""
    if columns is not None:
        x = torch.matmul(x, columns.to(x.dtype).t())
    return x if rows is None else torch.matmul(rows.to(x.dtype), x)


def counting(x: Tensor, count: int) -> Tensor:
    """0, 1, ... as numbers of the precision that torch computes positions in for ``x``."""
    return torch.arange(count, device=x.device, dtype=torch.promote_types(x.dtype, torch.float32))


def pooled_length(n: int, kernel: int, stride: int, padding: int, ceil_mode: bool) -> int:
    """How many windows torch's pools put on an axis; a last one that starts in the right padding does not count."""
    rest = n + 2 * padding - kernel
    m = (-(-rest // stride) if ceil_mode else rest // stride) + 1
    return m - 1 if ceil_mode and (m - 1) * stride >= n + padding else m


def windows(x: Tensor, n: int, kernel: int, stride: int, padding: int, ceil_mode: bool, divided: str | None) -> Tensor:
    """Sums over windows of an axis of length ``n``, or their averages.

    ``divided`` is "padded" where zeros of the padding count in, "inside" where pixels alone count, None for sums.
    """
    starts = counting(x, pooled_length(n, kernel, stride, padding, ceil_mode)) * stride - padding
    ends = (starts + kernel).clamp(max=n + padding)
    first, last = starts.clamp(min=0), ends.clamp(max=n)
    sums = _between(x, n, first, last)
    return sums if divided is None else sums / (ends - starts if divided == "padded" else last - first)[:, None]


def bin_averages(x: Tensor, n: int, m: int) -> Tensor:
    """Averages over the m bins of adaptive pooling: bin i reaches from floor(i n / m) to ceil((i + 1) n / m)."""
    i = torch.arange(m, device=x.device)
    first, last = i * n // m, ((i + 1) * n + m - 1) // m
    return _between(x, n, first, last) / (last - first)[:, None]


def _between(x: Tensor, n: int, first: Tensor, last: Tensor) -> Tensor:
    j = torch.arange(n, device=x.device)
    return ((j >= first[:, None]) & (j < last[:, None])).to(counting(x, 0).dtype)


def nearest(x: Tensor, n: int, m: int, step: float | None, exact: bool) -> Tensor:
    """Which of n pixels each of m is in ``F.interpolate``'s mode nearest, or nearest-exact.

    In single precision whatever the image's, as torch has it: a third of 3 may fall short of 1. (On a processor torch
    takes large contiguous float64 images in double precision.)
    """
    i = torch.arange(m, device=x.device, dtype=torch.float32)
    centres = (i + 0.5 if exact else i) * (n / m if step is None else step)
    return centres.floor().clamp(max=n - 1).long()


def interpolation(
    x: Tensor, n: int, m: int, step: float | None, mode: str, align_corners: bool, antialias: bool
) -> Tensor:
    """The weights of ``F.interpolate`` from length n to m; ``step`` between samples is n / m where it is None.

    Modes bilinear and bicubic (Keys 1981 with a = -0.75, or -0.5 with antialias, as torch has it); antialiased, the
    kernel is as wide as the step.
    """
    i, j = counting(x, m), counting(x, n)
    step = n / m if step is None else step
    if align_corners:
        step = (n - 1) / (m - 1) if m > 1 else 0.0
    if antialias:  # torch then aligns no corners, though the step is that of aligned ones
        return _antialiased((i + 0.5) * step - 0.5, j, max(step, 1.0), mode)
    centres = i * step if align_corners else (i + 0.5) * step - 0.5
    if mode == "bilinear":
        return _triangle(centres.clamp(0, n - 1)[:, None] - j)
    base = centres.floor()
    near = [base + offset for offset in range(-1, 3)]
    taps = [_cubic(centres - tap, -0.75)[:, None] * _one_hot(tap.clamp(0, n - 1), j) for tap in near]
    return taps[0] + taps[1] + taps[2] + taps[3]


def _antialiased(centres: Tensor, j: Tensor, width: float, mode: str) -> Tensor:
    distance = centres[:, None] - j
    reach = width * (1 if mode == "bilinear" else 2)
    first = (centres + 0.5 - reach + 0.5).trunc().clamp(min=0)[:, None]  # the pixels that torch counts in
    last = (centres + 0.5 + reach + 0.5).trunc()[:, None]
    weights = _triangle(distance / width) if mode == "bilinear" else _cubic(distance / width, -0.5)
    weights = weights * ((j >= first) & (j < last))
    return weights / weights.sum(1, keepdim=True)


def _one_hot(index: Tensor, j: Tensor) -> Tensor:
    return (index[:, None] == j).to(j.dtype)


def _triangle(distance: Tensor) -> Tensor:
    return (1 - distance.abs()).clamp(min=0)


def _cubic(distance: Tensor, a: float) -> Tensor:
    d = distance.abs()
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return near * (d <= 1) + far * ((d > 1) & (d < 2))


def factors(n: int, among: tuple[int, ...]) -> list[int] | None:
    """Numbers of ``among``, large ones first, whose product is n; None where there are none."""
    found = []
    for factor in sorted(among, reverse=True):
        while n % factor == 0:
            found.append(factor)
            n //= factor
    return found if n == 1 else None
