"""Whether a value is a factor of a product with another one that depends on the model's input: its bounds matter."""

from collections.abc import Iterable

from torch import Tensor, fx

from surgery.observing.call_flow import VIEWS, flow
from surgery.observing.names import of_node
from surgery.observing.observe import Observation, tensors, token
from surgery.observing.shapes import example

_SCALED = frozenset({"mul", "div"})  # by a constant or a parameter
_SHIFTED = frozenset({"add", "sub", "rsub", "neg"})


def is_factor(node: fx.Node) -> bool:
    """In one graph; where it leaves the graph scaled, as a hard sigmoid does, it is taken for one."""
    scaled = {node: False}  # where the value is, and whether it was scaled
    for reader in node.graph.nodes:
        read = [n for n in reader.all_input_nodes if n in scaled]
        if not read:
            continue
        if reader.op == "output":
            return any(scaled[n] for n in read)
        if reader.op not in {"call_function", "call_method"}:
            continue
        name = of_node(reader)
        alone = len(_operands(reader)) == 1
        if name == "addcmul" or (name == "mul" and not alone):
            return True
        if name in VIEWS or (alone and name in _SCALED | _SHIFTED):
            scaled[reader] = name in _SCALED or any(scaled[n] for n in read)
    return False


def _operands(node: fx.Node) -> list[fx.Node]:
    """What it reads that depends on data, one that is read twice as two; what is not known to be no tensor does."""
    found: list[fx.Node] = []
    fx.node.map_arg((node.args, node.kwargs), found.append)
    return [n for n in found if n.op != "get_attr" and isinstance(example(n), Tensor | None)]


def is_factor_when_run(observation: Observation, values: Iterable[int], site: str) -> bool:
    """In the whole model but the own forward of ``site``; the values are tensors by their ``token``."""
    found, of_data = set(values), flow(observation).depends
    root = observation.runs.get("")
    fed = {token(tensor) for tensor in tensors([root.args, dict(root.kwargs)])} if root else set()
    for call, depends in zip(observation.calls, of_data, strict=True):
        if depends and not found.isdisjoint(call.inputs):
            read = [token(tensor) for tensor in tensors([call.args, dict(call.kwargs)])]
            alone = sum(name in fed or name in found for name in read) == 1
            if call.function == "addcmul" or (call.function == "mul" and not alone):
                if call.module != site:
                    return True
            elif call.function in VIEWS or (alone and call.function in _SCALED | _SHIFTED):
                found.update(call.outputs)
        if depends:
            fed.update(call.outputs)
    return False
