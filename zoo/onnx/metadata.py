"""What an ONNX file says about itself: how to feed it, what its outputs mean, where it comes from."""

import json
from collections.abc import Mapping
from typing import Any

import onnx

from zoo.origin import Origin

PREFIX = "lite_zoo."


def describe(name: str, origin: Origin, *, fingerprint: str, weights_sha256: str) -> dict[str, Any]:
    """The metadata of one model.

    ``input`` has ``layout`` NCHW, ``channels`` RGB or BGR, ``size`` in pixels [H, W], ``geometry`` and ``resize``
    as zoo.config.Preprocessing says, and ``mean`` and ``std`` of red, green and blue scaled to [0, 1]. ``labels`` are
    in the order of the outputs; ``licences`` are those of the model's code and of its weights.
    """
    how = origin.preprocessing
    return {
        "name": name,
        "source": f"{origin.library}/{origin.model}",
        "source_weights": origin.weights or "trained from scratch",
        "task": origin.task,
        "input": {
            "layout": "NCHW",
            "channels": how.channels,
            "size": [how.size, how.size],
            "geometry": how.geometry,
            "resize": how.resize,
            "interpolation": how.interpolation,
            "mean": list(how.mean),
            "std": list(how.std),
        },
        "labels": list(origin.labels),
        "licences": {"code": origin.licences.code, "weights": origin.licences.weights},
        "plan_fingerprint": fingerprint,
        "weights_sha256": weights_sha256,
    }


def write(model: onnx.ModelProto, metadata: Mapping[str, Any]) -> None:
    """Replace the model's metadata; text stays text, everything else is JSON."""
    del model.metadata_props[:]
    for key, value in sorted(metadata.items()):
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        model.metadata_props.add(key=PREFIX + key, value=text)


def read(model: onnx.ModelProto) -> dict[str, str]:
    """The metadata as text, without the prefix."""
    return {p.key.removeprefix(PREFIX): p.value for p in model.metadata_props if p.key.startswith(PREFIX)}
