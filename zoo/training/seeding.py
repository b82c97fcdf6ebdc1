"""Random numbers for libraries that draw from torch's global generator alone."""

import contextlib
import random
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def seeded(*key: int | str) -> Iterator[None]:
    """While this lasts, torch's generator of the CPU draws what follows from the key; then it goes on as before.

    Those of accelerators are neither read nor seeded, so that a loading process does not start one.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(random.Random("/".join(map(str, key))).getrandbits(63))
        yield
