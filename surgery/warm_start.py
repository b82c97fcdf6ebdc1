"""What replaced layers start from: which of the measured values are used, each of them a switch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class WarmStart:
    """Parts of the warm start; with a part off, its layers start as they would if nothing had been measured.

    The plan's structure depends on ``gates`` alone. It is in the edits' params, so that any plan can be replayed.
    """

    gates: bool = True  # a removed gate becomes its mean over the calibration data; off: a gating module an identity,
    # a gate inside of another forward the constant 1 (1 / branches for a softmax over branches)
    norms: bool = True  # batch normalization in place of another one starts closest to what that one gave; off: as made
    statistics: bool = True  # all BatchNorm statistics are measured anew in the end; off: they are the source's


DEFAULT = WarmStart()
