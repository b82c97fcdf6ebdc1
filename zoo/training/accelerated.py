"""Models that are for a while where they would be trained, such as a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def accelerated(*models: nn.Module) -> Iterator[torch.device]:
    """Inside, the models are on that device; afterwards, after an exception too, on the CPU."""
    from zoo.training.learner import accelerator  # mmengine takes seconds to import

    where = accelerator()
    try:
        for model in models:
            model.to(where)
        yield where
    finally:
        for model in models:
            model.cpu()
