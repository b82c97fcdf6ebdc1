"""What each node of a traced graph was in the example run, as fake tensors: shapes and dtypes without data."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

from surgery.observe import ModuleRun
from surgery.trace import signature

# Where ``annotate`` puts what it finds.
EXAMPLE = "example"


def annotate(graph: fx.Graph, module: nn.Module, run: ModuleRun, child_run: Callable[[str], ModuleRun | None]) -> None:
    """Put into ``meta["example"]`` of each node its value in that run of the module.

    A child that ran once gives what it gave then; others run on fake tensors. Where a value cannot be had, that node
    and what follows have no "example".
    """
    bound = signature(module).bind(*run.args, **run.kwargs)
    bound.apply_defaults()
    try:
        with torch.no_grad():
            _Examples(module, graph, child_run).run(
                *(bound.arguments.get(_name(n)) for n in graph.find_nodes(op="placeholder"))
            )
    except Exception:  # any call may have no fake form; a rule that needs the value declines for want of it
        return


def example(node: Any) -> Any:
    """The value that a node had in the example run (tensors fake), or None; what is no node is itself."""
    return node.meta.get(EXAMPLE) if isinstance(node, fx.Node) else node


def shape_of(node: Any) -> tuple[int, ...] | None:
    """The shape of a node that was a tensor in the example run."""
    value = example(node)
    return tuple(value.shape) if isinstance(value, Tensor) else None


def _name(node: fx.Node) -> str:
    return str(node.target).lstrip("*")


class _Examples(fx.Interpreter):
    def __init__(self, module: nn.Module, graph: fx.Graph, child_run: Callable[[str], ModuleRun | None]) -> None:
        super().__init__(module, garbage_collect_values=False, graph=graph)
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self.child_run = child_run

    def run_node(self, n: fx.Node) -> Any:
        with self.fake:
            value = super().run_node(n)
        value = self._faked(value)
        if n.op != "output":
            n.meta[EXAMPLE] = value
        return value

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        run = self.child_run(target)
        return run.output if run is not None and run.count == 1 else super().call_module(target, args, kwargs)

    def _faked(self, value: Any) -> Any:
        return pytree.tree_map_only(Tensor, lambda t: self.fake.from_tensor(t), value)
