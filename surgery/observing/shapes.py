"""What the nodes of a traced graph were in the example run: tensors are fake ones, shapes and dtypes without data."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils import _pytree as pytree

from surgery.observing.observe import ModuleRun, device_of, is_light

# Where a node keeps it.
EXAMPLE = "example"
# Of a child, by its name in the module that is traced.
ChildRun = Callable[[str], ModuleRun | None]


def example(node: Any) -> Any:
    """The value that a node had in the example run, or None where that is not known; what is no node is itself."""
    return node.meta.get(EXAMPLE) if isinstance(node, fx.Node) else node


def shape_of(node: Any) -> tuple[int, ...] | None:
    """The shape of a node that was a tensor in the example run."""
    value = example(node)
    return tuple(value.shape) if isinstance(value, Tensor) else None


def faked(mode: FakeTensorMode, value: Any) -> Any:
    """The same nested value with fake tensors."""

    def fake(tensor: Tensor) -> Tensor:
        return FakeTensor(mode, tensor, device_of(tensor)) if is_light(tensor) else mode.from_tensor(tensor)

    return pytree.tree_map_only(Tensor, fake, value)
