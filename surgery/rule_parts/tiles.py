"""A kernel's axis in pieces that an accelerator's multipliers are built for."""

from typing import NamedTuple

LARGEST = 5  # taps


class Tile(NamedTuple):
    """A piece of a kernel's axis: its first tap, its size, and how many of its taps an earlier piece has."""

    start: int
    size: int
    taken: int


def tiles(taps: int, largest: int = LARGEST, smallest: int = 1) -> list[Tile]:
    """An axis in as few pieces of at most ``largest`` taps as can be, all of one odd size; they overlap to fit. Both
    bounds are odd.

    Equal and odd, because devices run square odd kernels best, and because the pieces of the usual padding then need
    padding only, no cropping.
    """
    if taps <= largest:
        return [Tile(0, taps, 0)]
    count = -(-taps // largest)
    size = next(n for n in range(smallest, largest + 1, 2) if n * count >= taps)
    starts = [i * (taps - size) // (count - 1) for i in range(count)]
    ends = [0, *(start + size for start in starts)]
    return [Tile(start, size, end - start) for start, end in zip(starts, ends, strict=False)]
