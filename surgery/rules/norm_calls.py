"""Normalizations that a forward calls as a function, or writes out, become batch normalization."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from surgery.batchnorm import measure_statistics
from surgery.observing.evidence import Evidence
from surgery.observing.names import canonical
from surgery.observing.shapes import example, shape_of
from surgery.operating.modes import restored_modes
from surgery.operating.rewrite import call_new_module
from surgery.patterns.arguments import arguments
from surgery.patterns.pattern import CallPattern, Match
from surgery.record import Edit
from surgery.risk import Risk
from surgery.rule import Decline, Example, Promise, Rule, Stage, submodule
from surgery.rule_parts.channel_norm import ChannelBatchNorm
from surgery.rule_parts.operator_names import ARITHMETIC, MEANS, NORMS

_FUNCTIONS = ("layer_norm", "rms_norm", "group_norm", "instance_norm")
_REDUCTIONS = {"mean", "var", "std", "var_mean"}
_SPREADS = {"sqrt", "rsqrt", "std"}
# What the scale of a written-out normalization may be computed with.
_SCALE = {*_REDUCTIONS, *_SPREADS, "getitem", "pow", "square", "mul", "add", "sub", "clamp", "clamp_min", "float", "to"}


class _WrittenNorm(CallPattern):
    """``(x - mean(x)) / sqrt(var(x) + eps)``, with or without the mean, however the spread is computed from x."""

    def matches(self, graph: fx.Graph) -> Iterator[Match]:
        """``variables`` are x alone."""
        for node in graph.nodes:
            if _name(node) in {"div", "mul"} and len(node.args) == 2 and (x := _normalised(node)) is not None:
                yield Match(node, (x,))


class NormCallToBatchnorm(Rule):
    """As for the layers: statistics of every input cost more than the constants of a batch normalization."""

    name = "norm_call_to_batchnorm"
    promise = Promise.SAME_SHAPE
    risk = Risk.CONSTANT
    removes = NORMS | MEANS | ARITHMETIC
    emits = frozenset({"native_batch_norm"})
    stage = Stage.PART  # after layers of a known kind
    patterns = (CallPattern(*_FUNCTIONS), _WrittenNorm(*_SPREADS))

    def examples(self) -> Sequence[Example]:
        """Functions and formulas; not a normalization over the batch, nor one of weights."""
        shape = (3, 4, 5, 6)
        normalised = (
            lambda x, w: F.layer_norm(x, (6,)),
            lambda x, w: F.group_norm(x, 2, w, w) * 1.5,
            lambda x, w: F.rms_norm(x, [x.shape[-1]]),
            lambda x, w: (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, unbiased=False) + 1e-6).sqrt(),
            lambda x, w: torch.rsqrt(x.pow(2).mean(dim=-1, keepdim=True) + 1e-6) * x,
            lambda x, w: (x - x.mean((2, 3), True)).div(x.std((2, 3), keepdim=True) + 1e-6),
        )
        stays = (
            lambda x, w: (x - x.mean(0)) / (x.var(0) + 1e-6).sqrt(),
            lambda x, w: x * (w / w.std()).view(-1, 1, 1),
            lambda x, w: x * x.mean((2, 3), keepdim=True).clamp(0).sqrt(),
        )
        return [Example(_calling(f), shape, int(f in normalised)) for f in (*normalised, *stays)]

    def emit(self, graph: fx.Graph, match: Match) -> fx.Node | Decline:
        """A call of a new layer; the call's own affine values stay where they are."""
        found = _call(match.root) if _name(match.root) in _FUNCTIONS else _axis_of(match.root, match.variables[0])
        if isinstance(found, Decline):
            return found
        axis, eps = found
        given = arguments(match.root) if _name(match.root) in _FUNCTIONS else {}
        x = given["input"] if given else match.variables[0]
        shape, value = shape_of(x), example(x)
        if shape is None or not isinstance(value, Tensor):
            return Decline(f"the shape of {x} is not known")
        layer = ChannelBatchNorm(shape[axis], eps, axis, affine=False).to(device=value.device, dtype=value.dtype)
        affine = (given.get("weight"), given.get("bias")) if given else ()
        return call_new_module(graph, f"{self.name}_{match.root.name}", layer, (x, *affine))

    def warm_start(self, model: nn.Module, edit: Edit, evidence: Evidence) -> None:
        """Statistics of the calibration data, in the end where all are measured anew; without data of the example."""
        batches, warm = evidence.calibration, evidence.warm_start
        if not warm.norms or (batches is not None and warm.statistics):
            return
        module = submodule(model, edit.site)
        fresh = [m for n, m in module.named_children() if n.startswith(self.name) and isinstance(m, ChannelBatchNorm)]
        if batches is not None:
            measure_statistics(model, fresh, batches)
            return
        if not evidence.has_run(edit.site):
            return
        given = evidence.received(edit.site)
        with restored_modes(module), torch.no_grad():
            module.eval()
            for layer in fresh:
                layer.reset_running_stats()
                layer.train().momentum = None
            module(*given.args, **given.kwargs)
        for layer in fresh:
            layer.momentum = 0.1


def _name(node: object) -> str:
    """Of a called function or method; layers that this rule has put in are none."""
    called = isinstance(node, fx.Node) and node.op in {"call_function", "call_method"}
    return canonical(node.target) if called else ""  # type: ignore[attr-defined]


def _call(node: fx.Node) -> tuple[int, float] | Decline:
    """Axis of the channels and eps of a call of a function."""
    given, name = arguments(node), _name(node)
    shape = given.get("normalized_shape", (0,))
    if given.get("running_mean") is not None:
        return Decline(f"{name} with running statistics")
    if not isinstance(shape, list | tuple) or len(shape) != 1:
        return Decline(f"{name} over {shape}: which axis holds channels is not known")
    eps = given.get("eps")
    return (-1 if "normalized_shape" in given else 1), eps if isinstance(eps, float) else 1e-5


def _axis_of(node: fx.Node, x: fx.Node) -> tuple[int, float] | Decline:
    """Of a written-out normalization, by the axes that its statistics are taken over."""
    shape, axes = shape_of(x), _scale_axes(node, x)
    if shape is None or axes is None:
        return Decline("which axes it normalises over is not known without a shape")
    over = {axis % len(shape) for axis in axes}
    if 0 in over:
        return Decline("it normalises over the batch")
    last = len(shape) - 1
    if over == {last} or (len(over) > 1 and last not in over and 1 in over):
        return -1, 1e-5
    if len(shape) == 3 and over == {1}:
        return Decline(f"which axis of {shape} holds channels is not known")
    return 1, 1e-5


def _normalised(node: fx.Node) -> fx.Node | None:
    """The x of a product or quotient that is a normalization of x."""
    first, second = node.args
    pairs = [(first, second), (second, first)] if _name(node) == "mul" else [(first, second)]
    for centred, scale in pairs:
        if not isinstance(centred, fx.Node) or not isinstance(scale, fx.Node):
            continue
        by_mean = _name(centred) == "sub" and _axes(centred.args[1], centred.args[0], set())
        x = centred.args[0] if by_mean else centred
        used: set[str] = set()
        if isinstance(x, fx.Node) and x.op != "get_attr" and _axes(scale, x, used) and used & _SPREADS:
            inverse = _name(scale) == "rsqrt"
            if inverse == (_name(node) == "mul"):
                return x
    return None


def _scale_axes(node: fx.Node, x: fx.Node) -> set[int] | None:
    scales = (_axes(arg, x, set()) for arg in node.args if arg is not x and _name(arg) != "sub")
    return next((axes for axes in scales if axes), None)


def _axes(node: object, x: object, used: set[str]) -> set[int]:
    """Axes that the statistics in ``node`` are taken over, where it is computed from x and numbers alone, else none."""
    found: list[set[int]] = []

    def only_x(each: object) -> bool:
        if each is x or not isinstance(each, fx.Node):
            return True
        name = _name(each)
        if name not in _SCALE:
            return False
        used.add(name)
        if name in _REDUCTIONS:
            given = arguments(each)
            axes = given.get("dim", given.get("1", ()))
            axes = (axes,) if isinstance(axes, int) else axes
            if not isinstance(axes, list | tuple) or not all(isinstance(axis, int) for axis in axes):
                return False
            found.append(set(axes))
        return all(only_x(other) for other in each.all_input_nodes)

    alone = isinstance(node, fx.Node) and only_x(node)
    return found[0] if alone and found and found[0] and all(axes == found[0] for axes in found) else set()


def _calling(function: object) -> type[nn.Module]:
    class Calls(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.ones(4))

        def forward(self, x: Tensor) -> Tensor:
            return function(x, self.w) + x * self.w[:, None, None]  # type: ignore[operator, no-any-return]

    return Calls
