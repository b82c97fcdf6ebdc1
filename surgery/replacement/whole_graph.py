"""A model as one torch.fx.GraphModule that trains and evaluates like the model."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, cast

from torch import Tensor, fx, nn

from surgery.errors import one_line
from surgery.observing.context import scopes
from surgery.observing.trace import same_random_state
from surgery.observing.tracer import Scoped
from surgery.operating.example import Example
from surgery.operating.modes import restored_modes
from surgery.operating.rewrite import rewritten_code
from surgery.operating.undo import Snapshot, preserved
from surgery.operating.verify import difference, output_of, same_within


def whole_graph(model: nn.Module, example: Example | None = None) -> fx.GraphModule | str:
    """The model as one graph with the same state_dict keys, or why it is none.

    Layers of torch.nn and modules whose forward differs between train and eval mode or has blocks such as
    ``torch.no_grad()`` are called, all others are spelled out. The graph calls the model's own layers: it shares their
    tensors. With an example, its output is compared with the model's.
    """
    if reason := _why_not(model):
        return reason
    try:
        result = _traced(model)
        if example is None:
            return result
        expected = output_of(model, example)
        off = difference(expected, output_of(result, example))
    except Exception as error:  # any forward may use what symbols cannot do
        return one_line(error, 200)
    is_same = off <= same_within(expected)
    return result if is_same else f"the graph's output is off by {off:.2g} of its largest value"


def _why_not(model: nn.Module) -> str | None:
    if model._forward_hooks or model._forward_pre_hooks:
        return "the model has hooks"
    if used := scopes(model):
        return f"its forward runs calls inside {', '.join(used)}, which a graph would lose"
    parameters = inspect.signature(model.forward).parameters.values()
    if loose := [p.name for p in parameters if p.default is not p.empty or p.kind in {p.VAR_POSITIONAL, p.VAR_KEYWORD}]:
        return f"its forward has optional arguments ({', '.join(loose)}), which one graph cannot leave open"
    return None


def _traced(model: nn.Module) -> fx.GraphModule:
    apart = _apart(model)
    with restored_modes(model), preserved(model):
        train, in_train = _graph(model.train(), apart)
        graph, constants = _graph(model.eval(), apart)
        if str(train) != str(graph) or not _equal(in_train, constants):
            raise ValueError("its own forward differs between train and eval mode")
        graph._tracer_cls = None  # loading traces the code again, and has no tracer's arguments
        vars(model).update(constants)
        result = WholeGraph(model, graph, type(model).__name__)
    for name, module in model.named_modules():
        _complete(result, name, module)
    flags = {name: module.training for name, module in model.named_modules(remove_duplicate=False)}
    for name, module in result.named_modules(remove_duplicate=False):
        module.training = flags.get(name, model.training)
    for key in result.state_dict().keys() - model.state_dict().keys():
        parent, _, last = key.rpartition(".")
        result.get_submodule(parent)._non_persistent_buffers_set.add(last)
    return result


def _graph(model: nn.Module, apart: set[nn.Module]) -> tuple[fx.Graph, dict[str, Tensor]]:
    """A graph and the tensors that the forward makes of numbers, by the names that tracing gives them."""
    known = vars(model).copy()
    with _stores_nothing(model), same_random_state():
        graph = _Whole(apart).trace(model)
        names = [name for name in vars(model) if name.startswith("_tensor_constant") and name not in known]
        constants = {name: vars(model).pop(name) for name in names}
    if any(value.requires_grad for value in constants.values()):
        raise ValueError("its forward computes something of parameters that it reads past the module's attributes")
    return graph, constants


@contextmanager
def _stores_nothing(model: nn.Module) -> Iterator[None]:
    """Raises ValueError where running the model stores a value on a module or writes into a buffer."""
    snapshot = Snapshot(model)
    buffers = [(name, buffer, buffer._version) for name, buffer in model.named_buffers()]
    yield
    names = {module: name for name, module in model.named_modules()}
    stored = [names.get(module, "a module it made") or "the model itself" for module in snapshot.changed()]
    stored += [name for name, buffer, version in buffers if buffer._version != version]
    if stored:
        raise ValueError(f"its forward stores values, which a graph would not: {', '.join(sorted(stored))}")


def _equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(value.equal(other[name]) for name, value in one.items())


class WholeGraph(fx.GraphModule):
    """A GraphModule that a copy or a load leaves whole: tensors that the graph does not read, flags and the report."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "WholeGraph":
        copied = cast(WholeGraph, super().__deepcopy__(memo))
        vars(copied).update({key: deepcopy(value, memo) for key, value in vars(self).items() if key != "_graph"})
        return copied

    def __reduce__(self) -> tuple[Any, ...]:
        _, (state, imports) = super().__reduce__()
        return _loaded, (type(self).__name__, state, imports)


def _loaded(name: str, state: dict[str, Any], imports: str) -> WholeGraph:
    graph = fx.graph_module.reduce_graph_module(dict(state), imports)
    result = WholeGraph(graph, cast(fx.Graph, graph.graph), name)
    vars(result).update(state)
    return result


class _Whole(Scoped):
    def __init__(self, apart: set[nn.Module]) -> None:
        super().__init__()
        self._apart = apart

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        plain = rewritten_code(m) is None and fx.Tracer.is_leaf_module(self, m, module_qualified_name)
        return plain or m in self._apart or bool(m._forward_hooks or m._forward_pre_hooks)


def _apart(model: nn.Module) -> set[nn.Module]:
    """Modules, not the model itself, whose own forward has blocks, or reads the flag: their names tell."""
    return {
        module
        for name, module in model.named_modules()
        if name and (scopes(module) or _reads_flag(module) or "# train" in (rewritten_code(module) or ""))
    }


def _reads_flag(module: nn.Module) -> bool:
    code = getattr(type(module).forward, "__code__", None)
    return code is not None and "training" in code.co_names


def _complete(result: fx.GraphModule, name: str, module: nn.Module) -> None:
    """Add tensors that the graph does not read, so that the state_dict stays loadable."""
    for key, tensor in [*module._parameters.items(), *module._buffers.items()]:
        parent = _made(result, name)
        if tensor is None or hasattr(parent, key):
            continue
        if isinstance(tensor, nn.Parameter):
            parent.register_parameter(key, tensor)
        else:
            parent.register_buffer(key, tensor, key not in module._non_persistent_buffers_set)


def _made(result: nn.Module, name: str) -> nn.Module:
    current: Any = result
    for part in filter(None, name.split(".")):
        if part not in current._modules:
            current.add_module(part, nn.Module())
        current = current._modules[part]
    return cast(nn.Module, current)
