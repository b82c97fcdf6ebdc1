"""What surgery leaves behind: inplace layers that break backward, and identities."""

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from surgery.observing.evidence import Evidence
from surgery.observing.names import behaves_as, canonical, has_own_forward, is_inplace
from surgery.operating.rewrite import redirect_later_readers
from surgery.record import Edit, Refusal
from surgery.rule import Example, Promise, Rewrites, Rule, Stage, submodule
from surgery.rule_parts.taken_apart import may_be_taken_apart

# Functions with an ``inplace`` argument whose method form ends in an underscore.
_INPLACE = (
    *("relu", "relu6", "silu", "hardswish", "hardsigmoid", "mish", "elu", "leaky_relu", "hardtanh"),
    *("celu", "selu", "threshold", "rrelu", "sigmoid", "tanh"),
    *("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"),
)


class NotInplace(Rule):
    """An inplace dropout or activation after a replaced one overwrites a value that backward needs."""

    name = "not_inplace"
    promise = Promise.SAME_OUTPUT
    follows = True
    stage = Stage.CLEANUP
    inplace_only = True

    def examples(self) -> Sequence[Example]:
        """Modules and calls; layers that are not inplace stay."""

        class Calls(nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return F.dropout(F.relu(x * 2, inplace=True).relu_(), 0.5, self.training, inplace=True)

        shape = (2, 4, 5, 5)
        both = lambda: nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(inplace=True), nn.Dropout(inplace=True))  # noqa: E731
        return [Example(both, shape, 2), Example(Calls, shape, 3), Example(nn.ReLU, shape, 0)]

    def matches(self, module: nn.Module) -> bool:
        """Any layer that has the flag set; a block with children only hands it on to them."""
        return getattr(module, "inplace", False) is True and not module._modules and not has_own_forward(module)

    def replacement(self, module: nn.Module, params: Mapping[str, Any]) -> nn.Module:
        """The same layer with the flag off."""
        new = copy(module)
        new.inplace = False  # type: ignore[assignment]
        return new

    def operations(self) -> tuple[frozenset[str], ...]:
        """Any function that can be inplace."""
        return tuple(frozenset([name]) for name in _INPLACE)

    def rewrite(self, graph: fx.Graph) -> Rewrites:
        """Turns off the argument; ``x.relu_()`` becomes ``x.relu()`` and later readers of x read that."""
        count = 0
        for node in graph.nodes:
            called = node.op in {"call_function", "call_method"} and canonical(node.target) in _INPLACE
            if not called or not is_inplace(node.target, node.kwargs):
                continue
            if node.kwargs.get("inplace") is True:
                node.kwargs = {**node.kwargs, "inplace": False}
            elif node.op == "call_method":
                node.target = canonical(node.target)
            else:
                node.target = getattr(F, canonical(node.target))
            redirect_later_readers(node, node)
            count += 1
        return Rewrites(count)


class RemoveIdentity(Rule):
    """An identity in a Sequential does nothing; the other layers keep their names."""

    name = "remove_identity"
    promise = Promise.SAME_OUTPUT
    follows = True
    stage = Stage.CLEANUP

    def examples(self) -> Sequence[Example]:
        """In a Sequential; not where a forward calls it by name."""

        class Named(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.drop = nn.Identity()

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.drop(x)  # type: ignore[no-any-return]

        shape = (2, 4, 5, 5)
        inside = lambda: nn.Sequential(nn.Identity(), nn.Conv2d(4, 4, 1), nn.Identity())  # noqa: E731
        return [Example(inside, shape, 2), Example(Named, shape, 0)]

    def propose(self, model: nn.Module, evidence: Evidence) -> Iterator[Edit | Refusal]:
        """Identities directly inside a Sequential that ran them; somebody else may index or iterate over it."""
        for name, parent in model.named_modules():
            plain = behaves_as(parent, nn.Sequential)
            keys = [key for key, child in parent._modules.items() if _is_identity(child)] if plain else []
            if keys and not may_be_taken_apart(model, name):
                for key in keys:
                    site = f"{name}.{key}".lstrip(".")
                    if evidence.example is None:
                        reason = "without example inputs it is not known whether layers are indexed"
                        yield Refusal(self.name, site, reason)
                    elif (run := evidence.run(name)) and (own := evidence.run(site)) and run.count == own.count:
                        yield self.edit(site, "Identity removed", {})

    def apply(self, model: nn.Module, edit: Edit, evidence: Evidence) -> None:
        """Delete the entry."""
        path, _, key = edit.site.rpartition(".")
        parent = submodule(model, path)
        if not _is_identity(parent._modules.get(key)):
            raise LookupError(f"{edit.site} is no Identity")
        del parent._modules[key]


def _is_identity(module: nn.Module | None) -> bool:
    return type(module) is nn.Identity and not has_own_forward(module)
