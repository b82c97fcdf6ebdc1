"""Chains of modules, each reading the one before, within one forward and across Sequentials inside each other."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from torch import fx, nn

from surgery.observing.nesting import is_within
from surgery.patterns.pattern import Match, Pattern

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@dataclass(frozen=True)
class Chains:
    """Matches of a pattern that are nothing but modules called once each, by their names; and the other matches."""

    names: tuple[tuple[str, ...], ...] = ()
    others: tuple[Match, ...] = ()


def chains(pattern: Pattern, graph: fx.Graph) -> Chains:
    """All matches in a graph, in order; of two that share a module the first."""
    names: list[tuple[str, ...]] = []
    others: list[Match] = []
    owner = graph.owning_module
    assert owner is not None
    calls = Counter(owner.get_submodule(name) for name in called(graph.nodes))
    taken: set[str] = set()
    for match in pattern.matches(graph):
        targets = tuple(called(match.calls))
        if not taken.isdisjoint(targets):
            continue
        alone = len(targets) == len(match.calls) and all(calls[owner.get_submodule(name)] == 1 for name in targets)
        if alone and match.declined is None and all(len(node.users) == 1 for node in match.calls[:-1]):
            names.append(targets)
            taken.update(targets)
        else:
            others.append(match)
    return Chains(tuple(names), tuple(others))


def crossing(pattern: Pattern, graph: fx.Graph) -> tuple[tuple[str, ...], ...]:
    """Chains that lie in several plain Sequentials, or in one and beside it. The graph is changed."""
    spelled_out = _spell_out(graph)
    found = chains(pattern, graph).names if spelled_out else ()
    return tuple(names for names in found if not _within_one(names, spelled_out))


def calls_of(sequential: nn.Module) -> fx.Graph:
    """The forward of a plain Sequential, which need not be traced to be known."""
    graph = fx.Graph()
    graph.owning_module = sequential  # type: ignore[assignment]
    value = graph.placeholder("input")
    for name in sequential._modules:
        value = graph.create_node("call_module", name, (value,))
    graph.output(value)
    return graph


def is_plain_sequential(module: nn.Module) -> bool:
    """Whether it does nothing but call one module after the other."""
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def called(nodes: object) -> Iterator[str]:
    """Names of the modules that nodes call."""
    return (str(node.target) for node in nodes if node.op == "call_module")  # type: ignore[attr-defined]


def _spell_out(graph: fx.Graph) -> set[str]:
    """Calls of plain Sequentials become calls of their layers; the names of these Sequentials."""
    owner = graph.owning_module
    assert owner is not None
    names: set[str] = set()
    waiting = list(graph.find_nodes(op="call_module"))
    while waiting:
        node = waiting.pop()
        module = owner.get_submodule(str(node.target))
        one_input = len(node.args) == 1 and isinstance(node.args[0], fx.Node) and not node.kwargs
        if not is_plain_sequential(module) or not one_input or any(getattr(module, hooks) for hooks in _HOOKS):
            continue
        value = node.args[0]
        with graph.inserting_before(node):
            for name in module._modules:
                value = graph.create_node("call_module", f"{node.target}.{name}", (value,))
                waiting.append(value)
        node.replace_all_uses_with(value)
        graph.erase_node(node)
        names.add(str(node.target))
    return names


def _within_one(names: tuple[str, ...], sequentials: set[str]) -> bool:
    return any(all(is_within(name, sequential) for name in names) for sequential in sequentials)
