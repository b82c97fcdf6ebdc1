"""One name for each operation, however it is written: function, operator, tensor method or module."""

from collections.abc import Container, Mapping
from functools import cache
from typing import Any

from torch import fx, nn

# Modules without parameters that do what a function of this name does.
MODULE_NAMES: dict[type[nn.Module], str] = {
    nn.Sigmoid: "sigmoid",
    nn.Hardsigmoid: "hardsigmoid",
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.SiLU: "silu",
    nn.Hardswish: "hardswish",
    nn.GELU: "gelu",
    nn.Mish: "mish",
    nn.Softplus: "softplus",
    nn.Tanh: "tanh",
}
SYNONYMS = {
    **{"truediv": "div", "true_divide": "div", "itruediv": "div", "divide": "div", "rtruediv": "rdiv"},
    **{"multiply": "mul", "imul": "mul", "rmul": "mul", "iadd": "add", "radd": "add", "isub": "sub", "subtract": "sub"},
    **{"floordiv": "floor_divide", "ifloordiv": "floor_divide", "ipow": "pow", "negative": "neg", "clip": "clamp"},
    **{"concat": "cat", "concatenate": "cat", "expit": "sigmoid", "special_expit": "sigmoid", "special_erf": "erf"},
    **{"special_softmax": "softmax", "special_log_softmax": "log_softmax"},
}
# Operations with their operands the other way round, as ``1 - x`` is seen to call ``x.__rsub__(1)``.
REFLECTED = {"rsub": "sub", "rdiv": "div", "rpow": "pow", "rfloordiv": "floor_divide", "rmatmul": "matmul"}


def canonical(function: Any) -> str:
    """``torch.sigmoid``, ``F.sigmoid``, ``Tensor.sigmoid_``, ``aten.sigmoid.default`` and ``"sigmoid"`` are "sigmoid".

    A reflected operation (``rsub``) keeps its own name, because its operands stand the other way round.
    """
    name, overload = _written(function)
    name = (name.rstrip("_") if overload else name.strip("_")) or name  # aten._softmax takes other arguments
    return SYNONYMS.get(name, name)


def spellings(name: str) -> frozenset[str]:
    """The canonical names that calls of one operation are seen under: its own, and its reflected one."""
    return frozenset([name, *(reflected for reflected, plain in REFLECTED.items() if plain == name)])


def is_inplace(function: Any, kwargs: Mapping[str, Any]) -> bool:
    """Whether a call changes its input: ``inplace=True``, or a name such as ``relu_``."""
    name, _ = _written(function)
    return kwargs.get("inplace") is True or (name.endswith("_") and not name.endswith("__"))


def _written(function: Any) -> tuple[str, str]:
    """A function's name as it is written, and that of its overload, if it is one of an ATen operator."""
    name = function if isinstance(function, str) else getattr(function, "__name__", type(function).__name__)
    operation, _, overload = name.partition(".")
    return operation, overload


def changes_input(node: fx.Node) -> bool:
    """Whether a graph node works inplace."""
    if node.op == "call_module":
        root = node.graph.owning_module
        return root is not None and getattr(root.get_submodule(str(node.target)), "inplace", False) is True
    return node.op in {"call_function", "call_method"} and is_inplace(node.target, node.kwargs)


def of_module(module: nn.Module) -> str | None:
    """The operation that a module without parameters stands for, if it is a known one."""
    kind: Any = type(module)
    return None if has_own_forward(module) else _of_kind(kind)


@cache
def _of_kind(kind: Any) -> str | None:
    for known, name in MODULE_NAMES.items():
        if issubclass(kind, known) and kind.forward is known.forward:
            return name
    return None


def of_node(node: fx.Node) -> str | None:
    """The operation of a graph node, if it is one."""
    if node.op in {"call_function", "call_method"}:
        return canonical(node.target)
    if node.op == "call_module":
        root = node.graph.owning_module
        return None if root is None else of_module(root.get_submodule(str(node.target)))
    return None


def behaves_as(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a module is of this type, subclasses included unless they, or the one module, changed ``forward``."""
    return isinstance(module, kind) and type(module).forward is kind.forward and not has_own_forward(module)


def has_own_forward(module: nn.Module) -> bool:
    """Whether a forward was set on this one module, so that its class does not tell what it does."""
    return "forward" in vars(module)


def as_its_class(module: nn.Module) -> nn.Module:
    """A shallow copy without the forward that was set on the module."""
    copied: nn.Module = object.__new__(type(module))
    vars(copied).update((name, value) for name, value in vars(module).items() if name != "forward")
    return copied


def is_named(module: nn.Module, names: Container[str]) -> bool:
    """Whether a module does what a class does that has one of these dotted names."""
    return dotted(module) in names and not has_own_forward(module)


def dotted(module: nn.Module) -> str:
    """The dotted name of a module's class, such as ``torchvision.ops.misc.SqueezeExcitation``."""
    return f"{type(module).__module__}.{type(module).__qualname__}"
