"""Train and eval flags, put back as they were."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from surgery.operating.walk import modules


@contextmanager
def restored_modes(model: nn.Module) -> Iterator[None]:
    """Inside, flags may change; after, each module has its own flag again."""
    flags = [(module, module.training) for module in modules(model)]
    try:
        yield
    finally:
        for module, flag in flags:
            module.training = flag
