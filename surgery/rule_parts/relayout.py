"""Move a block from (N, H, W, C) to (N, C, H, W): the same numbers in another order, so nothing is permuted."""

from collections import Counter
from collections.abc import Callable
from copy import copy

from torch import Tensor, fx, nn

from surgery.observing.evidence import Evidence
from surgery.observing.names import behaves_as, canonical, has_own_forward, is_named
from surgery.observing.trace import Traced, Untraceable
from surgery.operating.rewrite import install
from surgery.rule import replace_module
from surgery.rule_parts.channel_norm import ChannelBatchNorm, ChannelsFirstLayerNorm
from surgery.rule_parts.norm_axis import norm_axis

TO_LAST, TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
_ONE_BY_ONE = (
    *("relu", "relu6", "gelu", "silu", "sigmoid", "tanh", "hardswish", "hardsigmoid", "mish", "leaky_relu", "elu"),
    *("dropout", "clamp", "contiguous", "clone", "float", "to", "neg", "abs", "exp", "pow", "square", "detach"),
)
# Of those, what may have bounds or exponents for each channel.
_WITH_TENSORS = {"clamp", "pow"}
_PAIRWISE = {"add", "sub", "mul", "div", "maximum", "minimum"}
# Functions with an axis, and the position of that argument.
_WITH_AXIS = {"chunk": 2, "split": 2, "cat": 1}
# Activations of torch.nn that look at a single number at a time.
_MIXING = (nn.Softmax, nn.LogSoftmax, nn.Softmax2d, nn.Softmin, nn.GLU, nn.MultiheadAttention, nn.PReLU)
_BY_SAMPLE = {"DropPath", "StochasticDepth"}
_GRN = "timm.layers.grn.GlobalResponseNorm"


class Stays(Exception):
    """Why a block cannot be moved."""


class NeverBack(Stays):
    """Nothing that is permuted there is permuted back: this is no such block."""


class Relayout:
    """What has to be done to move one block; finding it changes nothing. Raises Stays where it cannot be proven."""

    def __init__(self, model: nn.Module, site: str, evidence: Evidence) -> None:
        self.model = model
        self.evidence = evidence
        self._actions: list[Callable[[], None]] = []
        self._runs = run.count if (run := evidence.run(site)) else None
        self._places = Counter(
            id(each)
            for _, m in model.named_modules(remove_duplicate=False)
            for each in (m, *m._parameters.values())
            if each is not None
        )
        self._forward(model.get_submodule(site), site, last=False)

    def carry_out(self) -> None:
        """Do it."""
        for action in self._actions:
            action()

    def _forward(self, module: nn.Module, name: str, last: bool) -> None:
        """A module's own forward; ``last`` says that it gets and gives (N, H, W, C)."""
        traced = _chain(module) if behaves_as(module, nn.Sequential) else self.evidence.traced(name, "symbolic")
        if isinstance(traced, Untraceable):  # no shapes are needed, but its forward may look at them
            traced = self.evidence.traced(name)
        if isinstance(traced, Untraceable):
            raise Stays(f"{name or 'the model itself'} cannot be traced: {traced.reason}")
        graphs = [_Graph(graph, module, last) for graph in (traced.evaluate, traced.train)]
        if set(graphs[0].children) != set(graphs[1].children):
            raise Stays(f"{name} does other things in train than in eval mode")
        for child in graphs[0].children:
            self._child(module.get_submodule(child), f"{name}.{child}".lstrip("."))
        if any(graph.changed for graph in graphs):
            self._actions.append(lambda: install(module, Traced(traced.train, traced.evaluate, traced.method)))

    def _child(self, module: nn.Module, name: str) -> None:
        if _one_by_one(module):
            return
        self._require_alone(module, name)
        if is_permute_module(module):
            self._replace(module, nn.Identity())
        elif behaves_as(module, nn.Linear):
            self._replace(module, _pointwise(module))  # type: ignore[arg-type]
        elif isinstance(module, nn.LayerNorm) and norm_axis(module) == -1 and not list(module.children()):
            self._replace(module, _channels_first(module))
        elif type(module) is ChannelBatchNorm and module.axis == -1 and all(map(_one_by_one, module.children())):
            self._replace(module, _set(module, axis=1))
        elif is_named(module, {_GRN}):
            self._replace(module, _set(module, spatial_dim=(2, 3), channel_dim=1, wb_shape=(1, -1, 1, 1)))
        else:
            self._forward(module, name, last=True)

    def _replace(self, old: nn.Module, new: nn.Module) -> None:
        self._actions.append(lambda: replace_module(self.model, old, new))

    def _require_alone(self, module: nn.Module, name: str) -> None:
        run = self.evidence.run(name)
        if run is not None and run.count != self._runs:
            raise Stays(f"{name} runs {run.count} times")
        parameters = (p for p in module._parameters.values() if p is not None)
        if any(self._places[id(each)] > 1 for each in (module, *parameters)):
            raise Stays(f"{name} or its weights are shared")


def _chain(module: nn.Module) -> Traced:
    graphs = []
    for _ in range(2):
        graph = fx.Graph()
        value = graph.placeholder("input")
        for key in module._modules:
            value = graph.call_module(key, (value,))
        graph.output(value)
        graph.owning_module = module  # type: ignore[assignment]
        graphs.append(graph)
    return Traced(graphs[0], graphs[1], "symbolic")


class _Graph:
    """One graph, rewritten for channels first; ``children`` get and give channels last and have to be moved too."""

    def __init__(self, graph: fx.Graph, module: nn.Module, last: bool) -> None:
        self.module = module
        self.changed = False
        self._closed = False  # whether something was permuted back
        self.children: list[str] = []
        self._last: set[fx.Node] = set()  # nodes whose value is (N, H, W, C), or a tuple of such
        if last:
            given = [node for node in graph.find_nodes(op="placeholder") if node.users]
            if len(given) != 1:
                raise Stays(f"{type(module).__name__} has {len(given)} inputs")
            self._last.update(given)
        self._dropped: list[fx.Node] = []
        for node in list(graph.nodes):
            self._visit(node, last)
        for permute in self._dropped:
            permute.replace_all_uses_with(permute.all_input_nodes[0])
            graph.erase_node(permute)
            self.changed = True

    def _visit(self, node: fx.Node, last: bool) -> None:
        read = not self._last.isdisjoint(node.all_input_nodes)
        axes = permuted_axes(node, self.module)
        if node.op == "output":
            if read and not last:
                raise (Stays if self._closed else NeverBack)("(N, H, W, C) is what it returns")
            if last and node.args[0] not in self._last:
                raise Stays("it returns another layout than it gets")
        elif axes == (TO_FIRST if read else TO_LAST):
            if read:
                self._closed = True
            else:
                self._last.add(node)
            self._drop(node)
        elif read:
            self._keep(node)
            self._last.add(node)

    def _drop(self, permute: fx.Node) -> None:
        if permute.op == "call_module":
            self._call(permute)
        else:
            self._dropped.append(permute)

    def _keep(self, node: fx.Node) -> None:
        name = canonical(node.target) if node.op in {"call_function", "call_method"} else ""
        if node.op == "call_module":
            self._call(node)
        elif name in _PAIRWISE | _WITH_TENSORS:
            self._pair(node)
        elif name in _WITH_AXIS:
            self._axis(node, name)
        elif name != "getitem" and name not in _ONE_BY_ONE:
            raise Stays(f"{name or node.op} reads (N, H, W, C)")
        elif name == "getitem" and not (isinstance(node.args[1], int) and _is_in_parts(node.args[0])):
            raise Stays("a slice is taken of (N, H, W, C)")

    def _call(self, node: fx.Node) -> None:
        name = str(node.target)
        if len(node.args) != 1 or node.kwargs or name in self.children:
            raise Stays(f"{name} is called with more than (N, H, W, C), or twice")
        self.children.append(name)

    def _pair(self, node: fx.Node) -> None:
        for other in node.all_input_nodes:
            if other in self._last:
                continue
            value = _attribute(other, self.module)
            if value is None or value.numel() != (value.shape[-1] if value.ndim else 1):
                raise Stays(f"{other.name} is combined with (N, H, W, C)")
            if value.numel() > 1:
                with node.graph.inserting_before(node):
                    column = node.graph.call_method("reshape", (other, -1, 1, 1))
                node.replace_input_with(other, column)
                self.changed = True

    def _axis(self, node: fx.Node, name: str) -> None:
        position = _WITH_AXIS[name]
        axis = node.kwargs.get("dim", node.args[position] if len(node.args) > position else 0)
        if axis not in (-1, 3) or not self._last.issuperset(node.all_input_nodes):
            raise Stays(f"{name} along axis {axis} of (N, H, W, C)")
        if "dim" in node.kwargs:
            node.kwargs = {**node.kwargs, "dim": 1}
        else:
            node.args = (*node.args[:position], 1)
        self.changed = True


def _is_in_parts(node: object) -> bool:
    return isinstance(node, fx.Node) and canonical(node.target) in {"chunk", "split"}


def permuted_axes(node: fx.Node, module: nn.Module) -> tuple[int, ...] | None:
    """Of a permute, written as function, method or module."""
    if node.op == "call_module":
        child = module.get_submodule(str(node.target))
        return tuple(child.dims) if is_permute_module(child) else None  # type: ignore[arg-type]
    if node.op in {"call_function", "call_method"} and canonical(node.target) == "permute":
        return axes_of(node.args[1:] or (node.kwargs.get("dims", ()),))
    return None


def axes_of(given: tuple[object, ...]) -> tuple[int, ...]:
    """``permute``'s axes, counted from the front, whether they are given one by one or as one sequence."""
    axes = given[0] if len(given) == 1 and isinstance(given[0], list | tuple) else given
    known = [axis for axis in axes if isinstance(axis, int)]
    return tuple(axis % len(known) for axis in known)


def is_permute_module(module: nn.Module) -> bool:
    """Whether it does nothing but permute, by its attribute ``dims``."""
    bare = not list(module.children()) and not list(module.parameters())
    return (
        bare and "permute" in type(module).__name__.lower() and isinstance(getattr(module, "dims", None), list | tuple)
    )


def _one_by_one(module: nn.Module) -> bool:
    """Whether a layer looks at one number at a time, or treats all numbers of a sample alike."""
    if has_own_forward(module):
        return False
    kind = type(module)
    single = kind.__module__ == nn.ReLU.__module__ and not isinstance(module, _MIXING)
    return single or kind in (nn.Identity, nn.Dropout) or kind.__name__ in _BY_SAMPLE


def _pointwise(linear: nn.Linear) -> nn.Conv2d:
    conv = nn.Conv2d(linear.in_features, linear.out_features, 1, bias=linear.bias is not None, device="meta")
    weight = linear.weight.detach().clone()[:, :, None, None]
    conv.weight = nn.Parameter(weight, requires_grad=linear.weight.requires_grad)
    if linear.bias is not None:
        conv.bias = linear.bias
    return conv


def _channels_first(norm: nn.LayerNorm) -> ChannelsFirstLayerNorm:
    new = ChannelsFirstLayerNorm(norm.normalized_shape, norm.eps, device="meta")
    new.weight, new.bias = norm.weight, norm.bias
    new.elementwise_affine = norm.weight is not None
    return new


def _set(module: nn.Module, **settings: object) -> nn.Module:
    new = copy(module)
    for name, value in settings.items():
        setattr(new, name, value)
    return new


def _attribute(node: fx.Node, module: nn.Module) -> Tensor | None:
    if node.op != "get_attr":
        return None
    value: object = module
    for part in str(node.target).split("."):
        value = getattr(value, part)
    return value if isinstance(value, Tensor) else None
