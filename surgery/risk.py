"""How much accuracy a rule may cost before the model is trained again, from nothing upwards."""

from enum import IntEnum


class Risk(IntEnum):
    """Which of several rules for one site to prefer: the lowest."""

    NONE = 0  # same output
    NEAR = 1  # a function that is close everywhere, as a line for a sigmoid
    SHAPE = 2  # another activation of similar shape, as ReLU for SiLU
    CONSTANT = 3  # a constant for what each image decided, as a mean for a gate
    REDRAWN = 4  # weights that have to be learned, as a series of small kernels for a large one
