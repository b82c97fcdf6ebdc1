"""A model as one torch.fx.GraphModule that trains and evaluates like the model."""

import inspect
from copy import deepcopy
from typing import Any, cast

from torch import fx, nn

from surgery.operating.example import Example
from surgery.operating.modes import restored_modes
from surgery.operating.rewrite import rewritten_code
from surgery.operating.undo import preserved
from surgery.operating.verify import SAME, difference, output_of


def whole_graph(model: nn.Module, example: Example | None = None) -> fx.GraphModule | str:
    """The model as one graph with the same state_dict keys, or why it is none.

    Layers of torch.nn and modules whose forward differs between train and eval mode are called, all others are
    spelled out. The graph calls the model's own layers: it shares their tensors. With an example, its output is
    compared with the model's.
    """
    if reason := _why_not(model):
        return reason
    try:
        result = _traced(model)
        off = 0.0 if example is None else difference(output_of(model, example), output_of(result, example))
    except Exception as error:  # any forward may use what symbols cannot do
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return result if off <= SAME else f"the graph's output is off by {off:.2g} of its largest value"


def _why_not(model: nn.Module) -> str | None:
    if model._forward_hooks or model._forward_pre_hooks:
        return "the model has hooks"
    parameters = inspect.signature(model.forward).parameters.values()
    if loose := [p.name for p in parameters if p.default is not p.empty or p.kind in {p.VAR_POSITIONAL, p.VAR_KEYWORD}]:
        return f"its forward has optional arguments ({', '.join(loose)}), which one graph cannot leave open"
    return None


def _traced(model: nn.Module) -> fx.GraphModule:
    apart = _differing(model)
    with restored_modes(model), preserved(model):
        train = str(_Whole(apart).trace(model.train()))
        graph = _Whole(apart).trace(model.eval())
        if train != str(graph):
            raise ValueError("its own forward differs between train and eval mode")
        graph._tracer_cls = None  # loading traces the code again, and has no tracer's arguments
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


class _Whole(fx.Tracer):
    def __init__(self, apart: set[nn.Module]) -> None:
        super().__init__()
        self._apart = apart

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        plain = rewritten_code(m) is None and super().is_leaf_module(m, module_qualified_name)
        return plain or m in self._apart or bool(m._forward_hooks or m._forward_pre_hooks)


def _differing(model: nn.Module) -> set[nn.Module]:
    """Modules, not the model itself, whose own forward reads the flag: their names tell."""
    return {
        module
        for name, module in model.named_modules()
        if name and (_reads_flag(module) or "# train" in (rewritten_code(module) or ""))
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
