"""What a small accelerator runs badly or not at all, among the operators that a model's forward really dispatches.

Modules' names say nothing here: an operator counts where it runs. Operators on weights alone are constants to an
exporter and do not count, nor does an activation whose result reaches the model's outputs only by being moved around.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from surgery.observing.ran import Ran, Shape, only_feed_outputs, run

LARGEST_KERNEL = 5
LARGEST_POOL = 3
TRANSPOSED = {(2, 2), (4, 2), (3, 2)}  # kernel and stride


@dataclass(frozen=True)
class Fault:
    """An unfriendly operator that ran."""

    module: str  # qualified name of the innermost module whose forward was running
    module_class: str
    operator: str  # for people: "convolution 7x7"
    name: str  # its ATen base name without the underscores of inplace and private forms
    volume: bool = False  # it reads (N, C, D, H, W)


def unfriendly(model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None) -> list[Fault]:
    """The unfriendly operators of one eval-mode forward pass, in order; the model is left as it was."""
    given = [value.clone() if isinstance(value, Tensor) else value for value in args]
    ran, returned = run(model, given, kwargs or {})
    ends = only_feed_outputs(ran, returned)
    found = []
    for index, operator in enumerate(ran):
        if what := _fault(operator, ends[index]):
            module = model.get_submodule(operator.module)
            volume = any(len(operator.shapes.get(name, ())) == 5 for name in ("self", "input"))
            found.append(Fault(operator.module, type(module).__name__, what, operator.name, volume))
    return found


ACTIVATIONS = {
    *("sigmoid", "silu", "hardsigmoid", "hardswish", "gelu", "mish", "hardtanh", "elu", "celu", "selu", "softplus"),
    *("tanh", "erf", "log_sigmoid", "log_sigmoid_forward"),
}
NORMALIZATIONS = {
    *("native_layer_norm", "native_group_norm", "fused_rms_norm", "rms_norm", "var_mean", "var", "std_mean", "std"),
    *("rsqrt", "sqrt", "linalg_vector_norm", "norm"),
}
_ATTENTION = ("scaled_dot_product", "native_multi_head_attention", "transformer_encoder_layer")
SHUFFLES = {"pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle"}


def _fault(ran: Ran, ends: bool) -> str | None:
    if ran.name in ACTIVATIONS:
        return None if ends else ran.name
    if ran.name in NORMALIZATIONS or ran.name in SHUFFLES:
        return ran.name
    if ran.name.startswith(_ATTENTION):
        return "fused attention"
    check = next((check for start, check in _CHECKS.items() if ran.name.startswith(start)), None)
    return check(ran) if check else None


def _convolution(ran: Ran) -> str | None:
    kernel = ran.shapes["weight"][2:]
    stride = _each(ran.settings["stride"], kernel)
    name = f"{'transposed ' if ran.settings['transposed'] else ''}convolution {_times(kernel)} stride {_times(stride)}"
    if ran.settings["transposed"]:
        fine = all(pair in TRANSPOSED for pair in zip(kernel, stride, strict=True)) or set(kernel) == {1}
        return None if fine and len(set(kernel)) == 1 else name
    return name if max(kernel, default=1) > LARGEST_KERNEL and kernel != stride else None


def _max_pool(ran: Ran) -> str | None:
    kernel = tuple(ran.settings["kernel_size"])
    return f"max pool {_times(kernel)}" if max(kernel) > LARGEST_POOL else None


def _average_pool(ran: Ran) -> str | None:
    kernel = tuple(ran.settings["kernel_size"])
    whole = _each(kernel, ran.shapes["self"][2:]) == ran.shapes["self"][2:] and set(ran.output[2:]) == {1}
    return None if whole or max(kernel) <= LARGEST_POOL else f"average pool {_times(kernel)}"


def _adaptive_pool(ran: Ran) -> str | None:
    size = tuple(ran.settings["output_size"])
    return None if set(size) == {1} else f"{ran.name} to {_times(size)}"


def _resize(ran: Ran) -> str | None:
    before, after = ran.shapes["self"][2:], ran.output[2:]
    if "bicubic" in ran.name or ran.name.endswith("_aa") or ran.settings.get("align_corners"):
        corners = " align_corners" if ran.settings.get("align_corners") else ""
        return f"{ran.name}{corners}"
    whole = all(new % old == 0 for old, new in zip(before, after, strict=True))
    return None if whole else f"{ran.name} {_times(before)} to {_times(after)}"


def _gate(ran: Ran) -> str | None:
    """A feature map times one factor per image and channel, either made from data; channels first or last."""
    if not {"self", "other"} <= ran.data:
        return None
    one, two = ran.shapes["self"], ran.shapes["other"]
    scales = _scales(one, two) or _scales(two, one)
    return "gate" if scales else None


def _scales(gate: Shape, x: Shape) -> bool:
    if len(gate) != len(x) or len(x) < 4 or gate[0] != x[0] or max(gate[1:]) == 1:
        return False
    first = gate[-2:] == (1, 1) and max(x[-2:]) > 1 and gate[-3] == x[-3]
    last = len(x) == 4 and gate[1:3] == (1, 1) and max(x[1:3]) > 1 and gate[3] == x[3]
    return first or last


def _softmax(ran: Ran) -> str | None:
    dimensions = len(ran.shapes["self"])
    return None if ran.settings["dim"] % dimensions == dimensions - 1 else f"softmax on axis {ran.settings['dim']}"


def _power(ran: Ran) -> str | None:
    """A root, as a normalization has that is written out; whole powers are products."""
    exponent = ran.settings.get("exponent")
    whole = isinstance(exponent, int | float) and exponent >= 0 and float(exponent).is_integer()
    return None if whole else f"power {exponent:g}" if isinstance(exponent, int | float) else "power"


def _instance_norm(ran: Ran) -> str | None:
    """Batch norm by the statistics of the data itself: instance norm and its kin."""
    training = ran.settings.get("training", ran.settings.get("train", False))
    return "normalization by its own statistics" if training and "input" in ran.data else None


_CHECKS: dict[str, Callable[[Ran], str | None]] = {
    "convolution": _convolution,
    "max_pool": _max_pool,
    "avg_pool": _average_pool,
    "adaptive_": _adaptive_pool,
    "upsample_": _resize,
    "mul": _gate,
    "softmax": _softmax,
    "native_batch_norm": _instance_norm,
    "pow": _power,
}


def _each(value: Sequence[int] | int, like: Sequence[int]) -> Shape:
    given = (value,) if isinstance(value, int) else tuple(value)
    return given * len(like) if len(given) == 1 else given


def _times(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))
