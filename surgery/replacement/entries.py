"""The five kinds of entry of a replacement dictionary, each as a rule."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any
from weakref import ref

import torch
from torch import Tensor, fx, nn

from surgery.fingerprint import fingerprint
from surgery.observing.evidence import Evidence
from surgery.observing.names import MODULE_NAMES, of_node
from surgery.observing.trace import Traced, Untraceable
from surgery.operating.copying import copy_model
from surgery.patterns.pattern import CallPattern, Match
from surgery.patterns.snippet import AnyModule, class_of
from surgery.record import Edit, Refusal
from surgery.replacement.carried import carried, inputs
from surgery.replacement.fresh import call_of_function, call_of_module, fresh, is_replacement, settings_of
from surgery.rule import Decline, Promise, Rule


class Entry(Rule):
    """One entry of a replacement dictionary."""

    promise = Promise.SAME_SHAPE

    def __init__(self, name: str) -> None:
        self.name = name  # type: ignore[misc]
        self._seen: Callable[[], nn.Module | None] = lambda: None
        self._left: tuple[Refusal, ...] = ()
        self.like: Tensor | None = None  # a weight of the model: what is made is placed like it

    def propose(self, model: nn.Module, evidence: Evidence) -> Iterator[Edit | Refusal]:
        """Once for each model: what an entry puts in may hold what it takes out."""
        self.like = _first_weight(model)
        if self._seen() is not model:
            found = list(self.sites(model, evidence))
            self._seen = ref(model)
            self._left = tuple(item for item in found if isinstance(item, Refusal))
            yield from found
        else:
            yield from self._left

    def sites(self, model: nn.Module, evidence: Evidence) -> Iterator[Edit | Refusal]:
        """Edits that this entry would make, and sites that it declines."""
        yield from super().propose(model, evidence)

    def apply(self, model: nn.Module, edit: Edit, evidence: Evidence) -> None:
        """Raises LookupError where the site is not what the edit says."""
        self.like = _first_weight(model)
        super().apply(model, edit, evidence)

    def overlaps(self, other: Rule) -> bool:
        """Whether this entry is for the very layers or calls that the other rule is for, rather than for a part."""
        return False

    def label(self) -> str:
        """What becomes what."""
        return self.name.removeprefix("dict: ")


class ModuleEntry(Entry):
    """Types, dotted names or predicates of modules -> module: an instance is copied, a type or factory is called."""

    def __init__(self, name: str, kind: AnyModule, value: Any) -> None:
        super().__init__(name)
        self._kind = kind
        self._value = value
        self.left: frozenset[str] = frozenset()  # calls of the same operations, which nothing else takes either

    @property
    def same_operations(self) -> frozenset[str]:
        """What calls of its modules' operations are named."""
        return frozenset(name for kind in self._kinds() if (name := MODULE_NAMES.get(kind)))

    def _kinds(self) -> list[Any]:
        return [class_of(kind) or kind if isinstance(kind, str) else kind for kind in self._kind.kinds]

    def sites(self, model: nn.Module, evidence: Evidence) -> Iterator[Edit | Refusal]:
        """Modules; and where the same operation is called, that this entry is not for calls."""
        yield from super().sites(model, evidence)
        for site, names in evidence.own_calls(frozenset([name]) for name in self.left).items():
            called = names if evidence.example is not None else _called(names, evidence.traced(site))
            if called:
                what = f"its forward is written with {', '.join(sorted(called))}"
                yield Refusal(
                    self.name, site, f"{what}, and this entry is for modules: the function is the key for calls"
                )

    def overlaps(self, other: Rule) -> bool:
        """Modules of a type that the other rule replaces too; or of a class not of torch, which may hold anything."""
        kinds = self._kinds()
        if any(isinstance(kind, str) or not str(kind.__module__).startswith("torch.nn.") for kind in kinds):
            return True
        return any(isinstance(kind, type) and issubclass(kind, other.types) for kind in kinds)

    def matches(self, module: nn.Module) -> bool:
        """By type; subclasses count unless they changed ``forward``."""
        return self._kind.accepts(module)

    def params(self, module: nn.Module, name: str, evidence: Evidence) -> Mapping[str, Any] | Refusal:
        """None; a module that cannot be built for this site is a refusal."""
        try:
            new = self.replacement(module, {})
        except Exception as error:  # constructors and factories are the user's code
            return Refusal(self.name, name, f"{type(error).__name__}: {error}")
        return Refusal(self.name, name, "its factory gives it back as it was") if _alike(module, new) else {}

    def replacement(self, module: nn.Module, params: Mapping[str, Any]) -> nn.Module:
        """For this site alone. A factory is called with a copy of the module."""
        if is_replacement(self._value):
            return fresh(self._value, settings_of(module), type(module).__name__)
        new = self._value(copy_model(module))
        if not isinstance(new, nn.Module):
            raise TypeError(f"the factory of {self.name!r} gives a {type(new).__name__}, not a module")
        return new


class CallEntry(Entry):
    """Function, operator or tensor method -> function of the same arguments, or module of its tensors."""

    def __init__(self, name: str, calls: CallPattern, value: Any) -> None:
        super().__init__(name)
        self.patterns = (calls,)  # type: ignore[misc]
        self._value = value

    def overlaps(self, other: Rule) -> bool:
        """Calls that the other rule rewrites too, by themselves."""
        return not set(self.operations()).isdisjoint(other.operations())

    def emit(self, graph: fx.Graph, match: Match) -> fx.Node | Decline:
        """The other call; not inplace."""
        if is_replacement(self._value):
            return call_of_module(self._value, graph, match.root, inputs(match.root), self.like)
        found = carried(self._value, match.root)
        return Decline(found) if isinstance(found, str) else call_of_function(self._value, graph, *found)


class CustomEntry(Entry):
    """Any other key -> function(model) -> model. Only who has the function can make the edit again from a plan."""

    def __init__(self, name: str, function: Callable[[nn.Module], nn.Module]) -> None:
        super().__init__(name)
        self._function = function

    def sites(self, model: nn.Module, evidence: Evidence) -> Iterator[Edit | Refusal]:
        """The model as a whole, where the function changes anything."""
        try:
            new = self._called(model)
        except Exception as error:  # the user's code
            yield Refusal(self.name, "", f"{type(error).__name__}: {error}")
            return
        if not _alike(model, new):
            yield self.edit("", f"{self.label()} (custom function)", {})

    def apply(self, model: nn.Module, edit: Edit, evidence: Evidence) -> None:
        """The model becomes what the function makes of a copy of it."""
        new = self._called(model)
        model.__class__ = type(new)
        vars(model).clear()
        vars(model).update(vars(new))

    def _called(self, model: nn.Module) -> nn.Module:
        new = self._function(copy_model(model))
        if not isinstance(new, nn.Module):
            raise TypeError(f"the function of {self.name!r} gives a {type(new).__name__}, not a model")
        return new


def _called(names: set[str], traced: Traced | Untraceable) -> set[str]:
    """Those of the names that a forward calls; where that cannot be told, those that it mentions."""
    if isinstance(traced, Untraceable):
        return names
    nodes = (node for graph in (traced.train, traced.evaluate) for node in graph.nodes if node.op != "call_module")
    return names.intersection(map(of_node, nodes))


def _first_weight(model: nn.Module) -> Tensor | None:
    return next((p for p in model.parameters() if p.is_floating_point()), None)


def _alike(one: nn.Module, other: nn.Module) -> bool:
    """Whether two modules are built alike and hold equal tensors."""
    if fingerprint(one) != fingerprint(other) or _codes(one) != _codes(other):
        return False
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def _codes(model: nn.Module) -> list[str]:
    return [module.code for module in model.modules() if isinstance(module, fx.GraphModule)]
