"""Would a target take what a rule leaves behind? Asked by operator alone; the linter decides of limits."""

from collections.abc import Mapping

from surgery import Rule
from zoo.linting.devices import chosen_devices
from zoo.targets.target import Target

# The ONNX operator that the exporter writes for an ATen operator that rules emit.
WRITTEN: Mapping[str, tuple[str, ...]] = {
    "_adaptive_avg_pool2d": ("AveragePool", "GlobalAveragePool"),
    "_softmax": ("Softmax",),
    "adaptive_max_pool2d": ("MaxPool", "GlobalMaxPool"),
    "add": ("Add",),
    "addmm": ("Gemm", "MatMul"),
    "amax": ("ReduceMax",),
    "avg_pool2d": ("AveragePool",),
    "bmm": ("MatMul",),
    "cat": ("Concat",),
    "clamp": ("Clip",),
    "constant_pad_nd": ("Pad",),
    "convolution": ("Conv",),
    "gelu": ("Erf", "Gelu", "gelu_erf"),
    "hardsigmoid": ("HardSigmoid",),
    "masked_fill": ("Where",),
    "mean": ("GlobalAveragePool", "ReduceMean"),
    "max_pool2d_with_indices": ("MaxPool",),
    "mm": ("MatMul", "Gemm"),
    "mul": ("Mul",),
    "native_batch_norm": ("BatchNormalization", "Conv"),  # behind a convolution it becomes part of that
    "permute": ("Transpose",),
    "relu": ("Relu",),
    "slice": ("Slice",),
    "split": ("Split",),
    "sub": ("Sub",),
    "transpose": ("Transpose",),
    "upsample_bilinear2d": ("Resize",),
    "upsample_nearest2d": ("Resize",),
}


def unlisted(rule: Rule, target: Target, target_name: str, device: str) -> tuple[str, ...]:
    """ONNX operators that a rule may leave and that the target does not list, sorted."""
    refused = {
        name
        for each in chosen_devices(target, target_name, device)
        if each in target.devices
        for name in target.devices[each].not_accelerated
    }
    listed = (set(target.operators) | set(target.patterns)) - refused
    return tuple(sorted(WRITTEN[each][0] for each in rule.emits if not listed & set(WRITTEN[each])))


def hopeless(rule: Rule, target: Target, target_name: str, device: str) -> bool:
    """Whether the target takes nothing of what a rule leaves."""
    missing = unlisted(rule, target, target_name, device)
    return bool(rule.emits) and len(missing) == len(rule.emits)
