"""Composite pattern -> module or function, as an entry of a replacement dictionary."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import fx, nn

from surgery.observing.evidence import Evidence
from surgery.observing.names import behaves_as, of_module
from surgery.observing.trace import Traced, Untraceable
from surgery.operating.rewrite import put_in_place
from surgery.patterns.pattern import CallPattern, Match, Pattern
from surgery.patterns.snippet import AnyModule
from surgery.record import Edit, Refusal
from surgery.replacement.entries import Entry
from surgery.replacement.fresh import call_of, fresh, is_replacement, settings_of
from surgery.rule import Decline, Rewrites, Rule, replace_module, submodule


class PatternEntry(Entry):
    """Where the pattern is a chain of modules, its first gives way to the replacement and the others to identities.

    Elsewhere the forward that holds it is rewritten, and modules that nothing calls any more become identities. A
    pattern lies within one forward; in a traced model (a torch.fx.GraphModule) that is all of it.
    ``kind`` is the type whose instances are sites as a whole.
    """

    def __init__(self, name: str, pattern: Pattern, value: Any, kind: type[nn.Module] | None = None) -> None:
        super().__init__(name)
        self.pattern = pattern
        self._value = value
        self._kind = kind
        self.modules_only = False  # True: only instances of ``kind``, without tracing

    def contains(self, other: Rule) -> bool:
        """Whether another rule edits something within this pattern."""
        if len(self.pattern) < 2:
            return False
        leaves = [leaf for leaf in self.pattern.leaves if isinstance(leaf, nn.Module)]
        if any(other.matches(leaf) for leaf in leaves):
            return True
        if isinstance(other, PatternEntry):
            return self.pattern.contains(other.pattern)
        names = self.pattern.alternatives[0]
        exact = [p for p in other.patterns if isinstance(p, Pattern | CallPattern)]
        return any(self.pattern.contains(p) for p in exact) or any(
            wanted and wanted <= names for p in other.patterns if p not in exact for wanted in p.alternatives
        )

    def matches(self, module: nn.Module) -> bool:
        """Instances of the composite's own class."""
        return self._kind is not None and behaves_as(module, self._kind)

    def replacement(self, module: nn.Module, params: Any) -> nn.Module:
        """For this site alone."""
        return fresh(self._value, settings_of(module), type(module).__name__)

    def emit(self, graph: fx.Graph, match: Match) -> fx.Node | Decline:
        """A call of the replacement with what the variables stand for."""
        if match.declined is not None:
            return match.declined if isinstance(match.declined, Decline) else Decline(str(match.declined))
        return call_of(self._value, graph, match.root, match.variables, {})

    def rewrite(self, graph: fx.Graph) -> Rewrites:
        """In place, larger matches as they come."""
        count, declined = 0, []
        for match in list(self.pattern.matches(graph)):
            if any(node._erased for node in match.calls):
                continue
            with graph.inserting_before(match.root):
                new = self.emit(graph, match)
            if isinstance(new, Decline):
                declined.append(new.reason)
                continue
            put_in_place(match.root, new, match.variables)
            count += 1
        return Rewrites(count, tuple(declined))

    def apply(self, model: nn.Module, edit: Edit, evidence: Evidence) -> None:
        """Raises LookupError where the site is not what the edit says."""
        owner = submodule(model, edit.site)
        for chain in edit.params.get("chains", ()):
            self._apply_chain(owner, chain)
        if "chains" not in edit.params:
            super().apply(model, edit, evidence)
            for path in edit.params.get("spent", ()):
                _put(owner, path, nn.Identity())

    def _apply_chain(self, owner: nn.Module, chain: Sequence[str]) -> None:
        modules = [submodule(owner, path) for path in chain]
        for leaf, path, module in zip(self.pattern.leaves, chain, modules, strict=True):
            if not _stands_for(leaf, module):
                raise LookupError(f"{path} is a {type(module).__name__}, not what {self.name!r} replaces")
        new = fresh(self._value, settings_of(modules[0]), type(modules[0]).__name__)
        for path, module in zip(chain, [new, *(nn.Identity() for _ in chain[1:])], strict=True):
            _put(owner, path, module)

    def sites(self, model: nn.Module, evidence: Evidence) -> Iterator[Edit | Refusal]:
        """Forwards that hold the pattern, then instances of its class."""
        for name in self._owners(evidence):
            traced = evidence.traced(name)
            if isinstance(traced, Untraceable):
                yield Refusal(self.name, name, f"may hold {self.label()}; cannot trace it: {traced.reason}")
            else:
                yield from self._propose_rewrite(name, traced, evidence)
        yield from super().sites(model, evidence)

    def _propose_rewrite(self, name: str, traced: Traced, evidence: Evidence) -> Iterator[Edit | Refusal]:
        graphs = traced.train, traced.evaluate
        chains = [self._chains(graph) for graph in graphs]
        if is_replacement(self._value) and chains[0] and chains[0] == chains[1]:
            count = len(chains[0])
            params: dict[str, Any] = {"rewrites": {"train": count, "eval": count}, "chains": chains[0]}
            yield self.edit(name, f"{count} x {self.label()}", params)
            return
        held = {target for graph in graphs for m in self.pattern.matches(graph) for target in _called(m.calls)}
        train, evaluate = (self.rewrite(graph) for graph in graphs)
        for reason in dict.fromkeys([*evaluate.declined, *train.declined]):
            yield Refusal(self.name, name, reason)
        if train.count or evaluate.count:
            evidence.keep_rewritten(self.name, name, traced)
            counts = {"train": train.count, "eval": evaluate.count}
            still = {target for graph in graphs for target in _called(graph.nodes)}
            params = {"rewrites": counts, "trace": traced.method, "spent": sorted(held - still)}
            yield self.edit(name, f"{max(counts.values())} x {self.label()} in forward", params)

    def _chains(self, graph: fx.Graph) -> list[list[str]] | None:
        """The matches as names of modules, or None where one of them is more than modules of its own."""
        if not self.pattern.is_chain_of_modules:
            return None
        called = list(_called(graph.nodes))
        chains: list[list[str]] = []
        taken: set[str] = set()
        for match in self.pattern.matches(graph):
            targets = list(_called(match.calls))
            if taken & set(targets):
                continue
            alone = all(called.count(target) == 1 for target in targets)
            if len(targets) < len(match.calls) or not alone or any(len(n.users) > 1 for n in match.calls[:-1]):
                return None
            if match.declined is not None:
                return None
            chains.append(targets)
            taken |= set(targets)
        return chains

    def _owners(self, evidence: Evidence) -> list[str]:
        """Modules whose own forward may hold the pattern."""
        if self.modules_only:
            return []
        if not self.pattern.leaves:
            return list(evidence.own_calls(self.pattern.alternatives))
        return [
            name
            for name, module in evidence.modules()
            if _has_forward(module)
            and (evidence.example is None or evidence.run(name) is not None)
            and self._has_leaves(list(_within_reach(module)))
        ]

    def _has_leaves(self, modules: list[nn.Module]) -> bool:
        return all(
            any(_stands_for(leaf, module) for module in modules)
            or (isinstance(leaf, nn.Module) and of_module(leaf) is not None)
            for leaf in self.pattern.leaves
        )


def _within_reach(module: nn.Module) -> Iterator[nn.Module]:
    """Modules that a forward may call itself: children, and what lies in lists of them."""
    for child in module.children():
        yield child
        if isinstance(child, nn.Sequential) or not _has_forward(child):
            yield from _within_reach(child)


def _has_forward(module: nn.Module) -> bool:
    return type(module).forward is not nn.Module.forward


def _stands_for(leaf: nn.Module | AnyModule, module: nn.Module) -> bool:
    return leaf.accepts(module) if isinstance(leaf, AnyModule) else behaves_as(module, type(leaf))


def _called(nodes: Any) -> Iterator[str]:
    return (str(node.target) for node in nodes if node.op == "call_module")


def _put(owner: nn.Module, path: str, new: nn.Module) -> None:
    parent, _, _ = path.rpartition(".")
    replace_module(owner.get_submodule(parent), owner.get_submodule(path), new)
