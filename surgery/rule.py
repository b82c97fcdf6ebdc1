"""What a rule is: it finds sites, and changes them in a way that a plan can repeat."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Any, ClassVar

import torch
from torch import fx, nn

from surgery.errors import one_line
from surgery.observing.attribute_reads import missed
from surgery.observing.evidence import Evidence
from surgery.observing.names import as_its_class, changes_input, has_own_forward, of_node
from surgery.observing.trace import Traced, Untraceable
from surgery.operating.rewrite import has_views, put_in_place
from surgery.operating.rewritten_forward import install_rewritten
from surgery.operating.walk import modules
from surgery.patterns.pattern import CallPattern, Match, Pattern
from surgery.record import Edit, Refusal
from surgery.record import Promise as Promise
from surgery.risk import Risk

_HOOKS = (
    *("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"),
    *("_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks_with_kwargs"),
)
_PLAIN: frozenset[Any] = frozenset({list, tuple, dict})
_HOLDS = frozenset(vars(nn.Module()))  # what every module has; its children are replaced where they stand


class Stage(IntEnum):
    """When a rule's turn comes: composite layers before the layers that they contain."""

    BLOCK = 1
    FOLD = 2
    LAYER = 3
    PART = 4  # layers that formulas of other layers are made of
    CLEANUP = 5  # only where something else was edited, or the rule is named


@dataclass(frozen=True)
class Decline:
    """Why a rule leaves a call that it matched."""

    reason: str


@dataclass(frozen=True)
class Rewrites:
    """What a rule did to one graph: number of places, and why it left others."""

    count: int
    declined: tuple[str, ...] = ()


@dataclass(frozen=True)
class Example:
    """A module that a rule rewrites at ``edits`` sites (0: one that it leaves) and an input shape for it."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    edits: int


class Rule:
    """Finds sites and changes them. Most rules only name ``types`` and ``patterns`` and say what replaces them.

    The docstring of a rule is its reason. ``apply`` depends on nothing but the model and the edit, so that replay
    repeats it; weights are not part of a plan.
    """

    name: ClassVar[str]
    promise: ClassVar[Promise]
    stage: ClassVar[Stage] = Stage.LAYER
    default: ClassVar[bool] = True  # False: an option, applied only where it is named
    types: ClassVar[tuple[type[nn.Module], ...]] = ()
    class_names: ClassVar[tuple[str, ...]] = ()  # dotted, for classes of libraries that surgery does not import
    patterns: ClassVar[tuple[Pattern | CallPattern, ...]] = ()
    inplace_only: ClassVar[bool] = False  # only calls that change their input are of interest
    # ATen operators, as ``surgery.operators`` and as exporters name them, without views and constants: what an edit
    # takes away or gives other settings, and what it may put there.
    removes: ClassVar[frozenset[str]] = frozenset()
    emits: ClassVar[frozenset[str]] = frozenset()
    risk: ClassVar[Risk] = Risk.NONE
    follows: ClassVar[bool] = False  # acts on what other rules leave behind

    def examples(self) -> Sequence[Example]:
        """What the rule rewrites and what it leaves; the generic test proves the promise on them."""
        raise NotImplementedError(f"rule {self.name} has no examples")

    # Hooks of a rule that replaces modules.

    def matches(self, module: nn.Module) -> bool:
        """Whether a module is one of this rule's, by type."""
        kind: Any = type(module)
        return not has_own_forward(module) and _is_one_of(kind, self.types, self.class_names)

    def matched_before(self, module: nn.Module) -> bool:
        """Whether a module was one of this rule's until a forward was set on it."""
        return has_own_forward(module) and not self.matches(module) and self.matches(as_its_class(module))

    def own_forward(self, name: str) -> Refusal:
        """Why such a module stays."""
        return Refusal(self.name, name, "its forward was set on this one module, not in its class")

    def params(self, module: nn.Module, name: str, evidence: Evidence) -> Mapping[str, Any] | Refusal:
        """JSON values that ``replacement`` needs beyond the module itself."""
        return {}

    def replacement(self, module: nn.Module, params: Mapping[str, Any]) -> nn.Module:
        """The module that takes this one's place."""
        raise NotImplementedError(f"rule {self.name} does not replace modules")

    def warm_start(self, model: nn.Module, edit: Edit, evidence: Evidence) -> None:
        """Set the weights of what an edit made from what was measured; not part of the plan."""

    # Hook of a rule that rewrites calls.

    def emit(self, graph: fx.Graph, match: Match) -> fx.Node | Decline:
        """The node that takes a match's place; new nodes go where the match's root stands."""
        raise NotImplementedError(f"rule {self.name} does not rewrite calls")

    def operations(self) -> tuple[frozenset[str], ...]:
        """Sets of operations; a module's own forward with all of a set is worth tracing."""
        return tuple(names for pattern in self.patterns for names in pattern.alternatives)

    def rewrite(self, graph: fx.Graph) -> Rewrites:
        """Rewrite a module's own graph in place."""
        count, declined = 0, []
        for pattern in self.patterns:
            there = set(graph.nodes)
            for match in pattern.matches(
                graph
            ):  # one after the other: a match may read what takes the last one's place
                if match.root not in there or match.root.op == "call_module":
                    continue  # made by this rule, or replaced as a module
                with graph.inserting_before(match.root):
                    new = self._emit(graph, match)
                if isinstance(new, Decline):
                    declined.append(new.reason)
                    continue
                put_in_place(match.root, new, match.variables)
                count += 1
        return Rewrites(count, tuple(declined))

    def _emit(self, graph: fx.Graph, match: Match) -> fx.Node | Decline:
        if match.declined is not None:
            return Decline(str(match.declined))
        written = match.root.args[0] if match.root.args and changes_input(match.root) else None
        if isinstance(written, fx.Node) and has_views(written):
            return Decline(f"{of_node(match.root)} works inplace on a value that others see through views")
        return self.emit(graph, match)

    # The interface that the engine uses.

    def propose(self, model: nn.Module, evidence: Evidence) -> Iterator[Edit | Refusal]:
        """Edits that this rule would make, and sites that it declines."""
        if self.operations():  # first: replay traces them again, with the same children
            yield from self._propose_rewrites(model, evidence)
        yield from self._propose_modules(model, evidence)

    def apply(self, model: nn.Module, edit: Edit, evidence: Evidence) -> None:
        """Make one edit in place. Raises LookupError where the site is not what the edit says."""
        module = submodule(model, edit.site)
        if "rewrites" in edit.params:
            install_rewritten(module, edit, evidence, self._rewritten_places)
        elif not self.matches(module):
            raise LookupError(f"{edit.site} is a {type(module).__name__}, not what rule {self.name} replaces")
        else:
            kept = evidence.replacements.take(self.name, edit.site)
            replace_module(model, module, kept or self.replacement(module, edit.params))

    def _propose_modules(self, model: nn.Module, evidence: Evidence) -> Iterator[Edit | Refusal]:
        for name, module in evidence.modules():
            if not self.matches(module):
                if self.matched_before(module):
                    yield self.own_forward(name)
                continue
            if not name:
                yield Refusal(self.name, name, "the model itself is this layer; put it into a Sequential")
                continue
            yield self._edit_or_refusal(module, name, evidence)

    def _edit_or_refusal(self, module: nn.Module, name: str, evidence: Evidence) -> Edit | Refusal:
        try:
            params = self.params(module, name, evidence)
            if isinstance(params, Refusal):
                return params
            new = self.replacement(module, params)
            json.dumps(dict(params))
            reason = missed(evidence.model, name, module, new, evidence.has_run(name))
        except Exception as error:  # rules are open to others' code
            return Refusal(self.name, name, f"the rule fails: {one_line(error)}")
        if reason:
            return Refusal(self.name, name, reason)
        evidence.replacements.keep(self.name, name, new)
        return self.edit(name, f"{_kind(module)} -> {_kind(new)}", params)

    def _propose_rewrites(self, model: nn.Module, evidence: Evidence) -> Iterator[Edit | Refusal]:
        for name, calls in evidence.own_calls(self.operations(), self.inplace_only).items():
            yield from self.propose_in(name, calls, evidence)

    def propose_in(self, name: str, calls: Iterable[str], evidence: Evidence) -> Iterator[Edit | Refusal]:
        """The edit that rewrites one module's own forward, which makes these calls, and what it declines there."""
        traced = evidence.traced(name)
        if isinstance(traced, Untraceable):
            yield Refusal(self.name, name, f"calls {', '.join(sorted(calls))}; cannot trace it: {traced.reason}")
            return
        train, evaluate = self.rewrite(traced.train), self.rewrite(traced.evaluate)
        counts = {"train": train.count, "eval": evaluate.count}
        for reason in dict.fromkeys([*evaluate.declined, *train.declined]):
            yield Refusal(self.name, name, reason)
        if any(counts.values()):
            evidence.rewritten.keep(self.name, name, traced)
            params = {"rewrites": counts, "trace": traced.method}
            bound = ", for images like the example's" if traced.decided else ""
            action = f"{max(counts.values())} x {self.action(traced)} in forward{bound}"
            yield self.edit(name, action, params)

    def action(self, traced: Traced) -> str:
        """What was rewritten in a forward, for people."""
        return self.label()

    def _rewritten_places(self, traced: Traced) -> dict[str, int]:
        return {"train": self.rewrite(traced.train).count, "eval": self.rewrite(traced.evaluate).count}

    def label(self) -> str:
        """What the rule rewrites, for people."""
        return self.name

    def edit(self, site: str, action: str, params: Mapping[str, Any]) -> Edit:
        """An edit of this rule."""
        return Edit(self.name, site, action, self.promise.value, dict(params))


@cache
def _is_one_of(kind: Any, types: tuple[type[nn.Module], ...], class_names: tuple[str, ...]) -> bool:
    inherits = any(issubclass(kind, known) and kind.forward is known.forward for known in types)
    return inherits or f"{kind.__module__}.{kind.__qualname__}" in class_names


def submodule(model: nn.Module, name: str) -> nn.Module:
    """The module of that name. Raises LookupError where there is none."""
    try:
        return model.get_submodule(name)
    except AttributeError as error:
        raise LookupError(f"the model has no module {name!r}") from error


def replace_module(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put ``new`` wherever ``old`` stands, so that a shared module stays shared.

    It takes over flag, hooks, device, dtype, memory format, and frozen parameters stay frozen.
    """
    if new is not old:
        new.train(old.training)
        _match_tensors(old, new)
        for hooks in _HOOKS:
            getattr(new, hooks).update(getattr(old, hooks))
        new._is_full_backward_hook = old._is_full_backward_hook
    for parent in modules(model):
        if old in parent._modules.values():
            parent._modules.update((key, new) for key, child in list(parent._modules.items()) if child is old)
        if type(parent).__module__.startswith("torch.nn.modules."):
            continue
        held = vars(parent)
        for key in [k for k, value in held.items() if value.__class__ in _PLAIN and value and k not in _HOLDS]:
            if _holds(held[key], old):
                held[key] = _with(held[key], old, new)


def _holds(container: Any, module: nn.Module) -> bool:
    return any(item is module for item in (container.values() if isinstance(container, dict) else container))


def _with(container: Any, old: nn.Module, new: nn.Module) -> Any:
    """A copy of a plain list, tuple or dict that a model keeps beside its children, with one of them replaced."""
    if isinstance(container, dict):
        return {key: new if item is old else item for key, item in container.items()}
    return type(container)(new if item is old else item for item in container)


def _match_tensors(old: nn.Module, new: nn.Module) -> None:
    parameters = list(old.parameters())
    if not parameters:
        return
    new.to(device=parameters[0].device, dtype=parameters[0].dtype)
    if any(p.ndim == 4 and not p.is_contiguous() for p in parameters):
        new.to(memory_format=torch.channels_last)
    if not any(p.requires_grad for p in parameters):
        new.requires_grad_(False)


def _kind(module: nn.Module) -> str:
    return type(module).__name__
