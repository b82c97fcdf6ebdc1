"""Blocks that permute to channels last, for linear layers and LayerNorm, work on channels first as they are."""

from collections.abc import Iterator, Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from surgery.observing.evidence import Evidence
from surgery.observing.trace import Untraceable
from surgery.record import Edit, Refusal
from surgery.rule import Example, Promise, Rule, Stage, submodule
from surgery.rule_parts.norm_axis import norm_axis
from surgery.rule_parts.operator_names import LINEAR
from surgery.rule_parts.relayout import (
    TO_FIRST,
    TO_LAST,
    NeverBack,
    Relayout,
    Stays,
    axes_of,
    is_permute_module,
    permuted_axes,
)


class ChannelsLastToFirst(Rule):
    """Permutes move all data in memory; a linear layer over channels is a 1x1 convolution, and they vanish."""

    name = "channels_last_to_first"
    promise = Promise.SAME_OUTPUT
    removes = LINEAR | {"permute", "transpose"}
    emits = frozenset({"convolution"})
    stage = Stage.BLOCK

    def __init__(self) -> None:
        self._found: WeakKeyDictionary[Evidence, dict[str, Relayout]] = WeakKeyDictionary()

    def examples(self) -> Sequence[Example]:
        """Permutes in forward, as modules, around a part; not where (N, H, W, C) is what comes out."""
        shape = (2, 4, 3, 5)
        sequential = lambda: nn.Sequential(  # noqa: E731
            nn.Sequential(_Permute(TO_LAST), nn.LayerNorm(4), nn.Linear(4, 6), _Permute(TO_FIRST))
        )
        return [
            Example(_Block, shape, 1),
            Example(sequential, shape, 1),
            Example(lambda: nn.Sequential(_Permute(TO_LAST), nn.Linear(4, 6)), shape, 0),
            Example(lambda: nn.Conv2d(4, 4, 1), shape, 0),
        ]

    def propose(self, model: nn.Module, evidence: Evidence) -> Iterator[Edit | Refusal]:
        """Modules whose own forward permutes there and back, outermost first."""
        done: list[str] = []
        for name in _there_and_back(model, evidence):
            if any(not outer or f"{name}.".startswith(f"{outer}.") for outer in done):
                continue  # a part of one that is moved as a whole
            try:
                relayout = Relayout(model, name, evidence)
            except NeverBack:
                continue
            except Stays as reason:
                yield Refusal(self.name, name, str(reason))
                continue
            done.append(name)
            self._found.setdefault(evidence, {})[name] = relayout
            kind = type(submodule(model, name)).__name__
            yield self.edit(name, f"{kind}: (N, H, W, C) -> (N, C, H, W)", {})

    def apply(self, model: nn.Module, edit: Edit, evidence: Evidence) -> None:
        """Move the block's layers. Raises LookupError where it is another block."""
        submodule(model, edit.site)
        try:
            kept = self._found.get(evidence, {}).pop(edit.site, None)
            (kept or Relayout(model, edit.site, evidence)).carry_out()
        except Stays as reason:
            raise LookupError(f"{edit.site} cannot be moved: {reason}") from reason


def _there_and_back(model: nn.Module, evidence: Evidence) -> Iterator[str]:
    callers = evidence.own_calls([frozenset(["permute"])])
    modules = dict(model.named_modules())
    for name in modules:
        held = {tuple(m.dims) for m in modules[name].children() if is_permute_module(m)}
        if {TO_LAST, TO_FIRST} <= (held | _called(name, modules[name], evidence) if name in callers else held):
            yield name


def _called(name: str, module: nn.Module, evidence: Evidence) -> set[tuple[int, ...]]:
    """Axes of the permutes in a module's own forward."""
    if is_permute_module(module) or isinstance(module, nn.LayerNorm) or norm_axis(module) is not None:
        return set()
    if evidence.example is not None:
        calls = (call for call in evidence.calls(name) if call.function == "permute")
        return {axes_of(call.args[1:] or (call.kwargs.get("dims", ()),)) for call in calls}
    traced = evidence.traced(name)
    if isinstance(traced, Untraceable):
        return set()
    return {axes for node in traced.evaluate.nodes if (axes := permuted_axes(node, module)) is not None}


class _Permute(nn.Module):
    def __init__(self, dims: Sequence[int]) -> None:
        super().__init__()
        self.dims = list(dims)

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.dims)


class _Block(nn.Module):
    """The block of ConvNeXt (Liu et al. 2022, figure 4), for this file's examples."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4)
        self.wide, self.act, self.narrow = nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4)
        self.gamma = nn.Parameter(torch.rand(4))

    def forward(self, x: Tensor) -> Tensor:
        y = self.narrow(self.act(self.wide(self.norm(x.permute(0, 2, 3, 1)))))
        return x + torch.permute(y * self.gamma, (0, 3, 1, 2))
