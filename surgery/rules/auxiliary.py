"""Heads that only serve the training loss."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, fx, nn

from surgery.observing.evidence import Evidence
from surgery.observing.names import of_node
from surgery.observing.trace import Traced, Untraceable
from surgery.operating.rewrite import install
from surgery.record import Edit, Refusal
from surgery.rule import Example, Promise, Rule, Stage, submodule


class RemoveAuxiliaryHeads(Rule):
    """An option: heads that run in train mode only are dead weight after it. Train mode then returns what eval does."""

    name = "remove_auxiliary_heads"
    promise = Promise.SAME_OUTPUT
    stage = Stage.BLOCK  # before anything is done to them
    default = False

    def examples(self) -> Sequence[Example]:
        """A head in an ``if self.training``; one whose output eval mode returns too stays."""
        shape = (2, 4, 5, 5)
        return [Example(lambda: _TwoHeads(False), shape, 1), Example(lambda: _TwoHeads(True), shape, 0)]

    def propose(self, model: nn.Module, evidence: Evidence) -> Iterator[Edit | Refusal]:
        """Modules with children that train mode calls and eval mode does not."""
        for name, module in evidence.modules():
            if not _has_idle_child(name, module, evidence):
                continue
            traced = evidence.traced(name)
            if isinstance(traced, Untraceable):
                yield Refusal(self.name, name, f"some of its layers never ran; cannot trace it: {traced.reason}")
                continue
            heads = sorted(_called(traced.train) - _called(traced.evaluate))
            random = {of_node(node) or "" for node in traced.train.nodes} & _RANDOM
            if heads and random:
                yield Refusal(self.name, name, f"its own forward calls {', '.join(sorted(random))}, which would go too")
            elif heads:
                yield self.edit(name, f"removed {', '.join(heads)}", {"heads": heads, "trace": traced.method})

    def apply(self, model: nn.Module, edit: Edit, evidence: Evidence) -> None:
        """Train mode runs what eval mode does; the heads become None, as where they were never asked for."""
        module = submodule(model, edit.site)
        traced = evidence.traced(edit.site, edit.params["trace"])
        if isinstance(traced, Untraceable):
            raise LookupError(f"{edit.site} cannot be traced: {traced.reason}")
        heads = sorted(_called(traced.train) - _called(traced.evaluate))
        if heads != list(edit.params["heads"]):
            raise LookupError(f"{edit.site} has heads {heads}, the plan says {edit.params['heads']}")
        install(module, Traced(traced.evaluate, traced.evaluate, traced.method))
        for head in heads:
            parent, _, key = head.rpartition(".")
            module.get_submodule(parent)._modules[key] = None


_RANDOM = {"dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout", "rand_like"}


def _has_idle_child(name: str, module: nn.Module, evidence: Evidence) -> bool:
    """Whether some direct child with parameters does nothing in eval mode, as far as can be told."""
    prefix = f"{name}." if name else ""
    if evidence.example is None:
        return "training" in getattr(type(module).forward, "__code__", _has_idle_child.__code__).co_names
    if evidence.run(name) is None:
        return False
    children = [key for key, child in module.named_children() if any(True for _ in child.parameters())]
    return any(evidence.run(prefix + key) is None for key in children)


def _called(graph: fx.Graph) -> set[str]:
    return {str(node.target) for node in graph.find_nodes(op="call_module")}


class _TwoHeads(nn.Module):
    """A classifier with an auxiliary head, for this file's examples."""

    def __init__(self, both: bool) -> None:
        super().__init__()
        self.both = both
        self.main, self.auxiliary = nn.Conv2d(4, 3, 1), nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.both or self.training:
            return torch.cat([self.main(x), self.auxiliary(x)])
        return self.main(x)  # type: ignore[no-any-return]
