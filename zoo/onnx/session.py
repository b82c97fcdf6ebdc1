"""onnxruntime on the CPU, in one place: how a model is run for parity and for timing."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.onnx.exporting import INPUT

ERRORS_ONLY = 3  # onnxruntime's log levels: verbose 0, info 1, warning 2, error 3


class Session:
    """An ONNX model, ready to run on the CPU."""

    def __init__(self, model: onnx.ModelProto, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = ERRORS_ONLY
        # Spinning threads of one session would take the cores from another that is timed in turn with it.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session: Any = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def run(self, images: NDArray[np.float32]) -> list[NDArray[Any]]:
        """All the outputs, in the order of the graph's outputs, for a batch of the shape it was exported for."""
        outputs: list[NDArray[Any]] = self._session.run(None, {INPUT: images})
        return outputs

    def run_each(self, images: Tensor, batch: int = 1) -> tuple[Tensor, ...]:
        """The outputs for images (N, C, H, W), ``batch`` at a time; a model of static batch takes one."""
        parts = [self.run(images[at : at + batch].numpy()) for at in range(0, len(images), batch)]
        return tuple(torch.from_numpy(np.concatenate(part)) for part in zip(*parts, strict=True))
