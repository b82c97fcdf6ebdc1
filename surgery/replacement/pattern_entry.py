"""Composite pattern -> module or function, as an entry of a replacement dictionary."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import fx, nn

from surgery.observing.evidence import Evidence
from surgery.observing.names import behaves_as, of_module
from surgery.observing.nesting import is_within
from surgery.observing.trace import Traced, Untraceable
from surgery.observing.untraced import Untraced
from surgery.operating.rewrite import new_modules, put_in_place
from surgery.patterns.arguments import binds, signatures
from surgery.patterns.pattern import CallPattern, Match, Pattern
from surgery.patterns.snippet import AnyModule
from surgery.record import Edit, Refusal
from surgery.replacement.chains import called, calls_of, chains, crossing, is_plain_sequential
from surgery.replacement.entries import Entry
from surgery.replacement.fresh import call_of_function, call_of_module, fresh, is_replacement, settings_of
from surgery.rule import Decline, Rewrites, Rule, replace_module, submodule


class PatternEntry(Entry):
    """Where the pattern is a chain of modules, its first gives way to the replacement and the others to identities.

    Elsewhere the forward that holds it is rewritten, and modules that nothing calls any more become identities. A
    pattern lies within one forward; in a traced model (a torch.fx.GraphModule) that is all of it. Plain Sequentials
    inside a forward count as written out in it, for chains of modules.
    ``kind`` is the type whose instances are sites as a whole.
    """

    def __init__(self, name: str, pattern: Pattern, value: Any, kind: type[nn.Module] | None = None) -> None:
        super().__init__(name)
        self.pattern = pattern
        self._value = value
        self._kind = kind

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

    def overlaps(self, other: Rule) -> bool:
        """A class of its own, all that the other rule's pattern is made of, or the one layer that it is for too."""
        if self._kind is not None:
            return True
        one_layer = [leaf for leaf in self.pattern.leaves if isinstance(leaf, nn.Module) and len(self.pattern) == 1]
        return any(map(other.matches, one_layer)) or not set(self.pattern.alternatives).isdisjoint(other.operations())

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
        if is_replacement(self._value):
            return call_of_module(self._value, graph, match.root, match.variables, self.like)
        taking = signatures(self._value)
        if taking and not any(binds(signature, match.variables, {}) for signature in taking):
            return Decline(f"{self.label()}: it does not take {len(match.variables)} tensors")
        return call_of_function(self._value, graph, match.variables, {})

    def rewrite(self, graph: fx.Graph) -> Rewrites:
        """In place. A match may read what takes the last one's place, but holds nothing that this entry made."""
        count, declined = 0, []
        there = set(graph.nodes)
        for match in self.pattern.matches(graph):
            if not there.issuperset(match.calls):
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
        """Instances of its class, then forwards that hold the pattern outside of them."""
        gone: set[str] = set()
        for proposal in super().sites(model, evidence):
            gone.add(proposal.site)
            yield proposal
        for name in self._owners(evidence):
            if not any(is_within(name, other) for other in gone):
                yield from self._sites_in(name, evidence, gone)

    def _sites_in(self, name: str, evidence: Evidence, gone: set[str]) -> Iterator[Edit | Refusal]:
        """What to do in one forward; the names of modules that give way are added to ``gone``."""
        module = evidence.model.get_submodule(name)
        untraced = isinstance(evidence, Untraced)
        if self._replaces_chains and is_plain_sequential(module) and (untraced or not self.pattern.is_checked):
            found = chains(self.pattern, calls_of(module))
            if untraced or not found.others:
                yield from self._chain_edit(name, [*found.names, *crossing(self.pattern, calls_of(module))], gone)
                reasons = [str(getattr(m.declined, "reason", m.declined)) for m in found.others if m.declined]
                yield from (Refusal(self.name, name, reason) for reason in dict.fromkeys(reasons))
                return
        traced = evidence.traced(name)
        if isinstance(traced, Untraceable):
            yield Refusal(self.name, name, f"may hold {self.label()}; cannot trace it: {traced.reason}")
            return
        across = self._across(traced.copy(module))
        one, other = chains(self.pattern, traced.train), chains(self.pattern, traced.evaluate)
        if self._replaces_chains and one == other and one.names and not one.others:
            yield from self._chain_edit(name, [*one.names, *across], gone)
        else:
            yield from self._propose_rewrite(name, traced, evidence, gone)
            yield from self._chain_edit(name, across, gone)

    @property
    def _replaces_chains(self) -> bool:
        return self.pattern.is_chain_of_modules and is_replacement(self._value)

    def _across(self, traced: Traced) -> Sequence[Sequence[str]]:
        if not self._replaces_chains:
            return ()
        one, other = crossing(self.pattern, traced.train), crossing(self.pattern, traced.evaluate)
        return one if one == other else ()

    def _chain_edit(self, name: str, found: Sequence[Sequence[str]], gone: set[str]) -> Iterator[Edit]:
        kept = []
        for names in found:
            full = {f"{name}.{module}".lstrip(".") for module in names}
            if gone.isdisjoint(full):
                gone |= full
                kept.append(list(names))
        if kept:
            params = {"rewrites": {"train": len(kept), "eval": len(kept)}, "chains": kept}
            yield self.edit(name, f"{len(kept)} x {self.label()}", params)

    def _propose_rewrite(
        self, name: str, traced: Traced, evidence: Evidence, gone: set[str]
    ) -> Iterator[Edit | Refusal]:
        graphs = traced.train, traced.evaluate
        held = {target for graph in graphs for m in self.pattern.matches(graph) for target in called(m.calls)}
        train, evaluate = (self.rewrite(graph) for graph in graphs)
        for reason in dict.fromkeys([*evaluate.declined, *train.declined]):
            yield Refusal(self.name, name, reason)
        if train.count or evaluate.count:
            evidence.rewritten.keep(self.name, name, traced)
            counts = {"train": train.count, "eval": evaluate.count}
            made = {target for graph in graphs for target in new_modules(graph)}
            still = {target for graph in graphs for target in called(graph.nodes)} - made
            spent = _spent(evidence.model.get_submodule(name), held, still)
            gone |= {f"{name}.{module}".lstrip(".") for module in spent}
            params = {"rewrites": counts, "trace": traced.method, "spent": spent}
            yield self.edit(name, f"{max(counts.values())} x {self.label()} in forward", params)

    def _owners(self, evidence: Evidence) -> list[str]:
        """Modules whose own forward may hold the pattern, and that are not themselves what it stands for."""
        leaves = [leaf for leaf in self.pattern.leaves if isinstance(leaf, nn.Module)]
        written = {name for leaf in leaves if (name := of_module(leaf))}
        wanted = [frozenset([name]) for name in written] if self.pattern.leaves else self.pattern.alternatives
        calls = evidence.own_calls(wanted)
        return [
            name
            for name, module in evidence.modules()
            if (name in calls or self.pattern.leaves)
            and not self.matches(module)
            and not any(_stands_for(leaf, module) for leaf in leaves)
            and _has_forward(module)
            and (evidence.example is None or evidence.run(name) is not None)
            and self._has_leaves(list(_within_reach(module)), calls.get(name, set()))
        ]

    def _has_leaves(self, modules: list[nn.Module], calls: set[str]) -> bool:
        return all(
            any(_stands_for(leaf, module) for module in modules)
            or (isinstance(leaf, nn.Module) and of_module(leaf) in calls)
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


def _spent(owner: nn.Module, held: set[str], still: set[str]) -> list[str]:
    """Names of modules that matches held and that nothing calls any more, under this name or another."""
    needed = {owner.get_submodule(name) for name in still}
    return sorted(name for name in held if owner.get_submodule(name) not in needed)


def _put(owner: nn.Module, path: str, new: nn.Module) -> None:
    parent, _, _ = path.rpartition(".")
    replace_module(owner.get_submodule(parent), owner.get_submodule(path), new)
