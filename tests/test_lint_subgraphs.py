"""Into how many accelerated parts a model breaks."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from written_graphs import graph_of, node, target_of

from zoo.graph.view import Graph
from zoo.linting.lint import lint
from zoo.linting.subgraphs import subgraphs


def graph(edges: Mapping[str, str], rejected: str = "", free: str = "") -> Graph:
    """``{"b": "a c"}``: b reads a and c. Rejected nodes are Elu, others Relu."""
    constants = {name: [1.0] for name in free}
    made = (node("Elu" if name in rejected else "Relu", read or "x", name) for name, read in edges.items())
    return graph_of(*made, constants=constants, outputs=[next(reversed(edges))])


def parts(edges: Mapping[str, str], rejected: str = "", free: str = "") -> list[str]:
    """The names in each part, parts in the graph's order."""
    report = lint(graph(edges, rejected, free), target_of("Relu"), model="m", target_name="t")
    found: dict[int, str] = {}
    for judged in report.nodes:
        if judged.subgraph is not None:
            found[judged.subgraph] = found.get(judged.subgraph, "") + judged.node
    assert list(found) == list(range(len(found)))
    assert sorted(part.nodes for part in report.summary.subgraphs) == sorted(map(len, found.values()))
    return list(found.values())


@pytest.mark.parametrize(
    ("edges", "rejected", "expected"),
    [
        ({"a": "", "b": "a", "c": "b"}, "", ["abc"]),
        ({"a": "", "b": "a", "c": "b"}, "b", ["a", "c"]),
        ({"a": "", "b": "a", "c": "b"}, "abc", []),
        ({"a": "", "b": "a", "c": "a", "d": "b c"}, "", ["abcd"]),  # a diamond
        ({"a": "", "b": "a", "c": "a", "d": "b c"}, "b", ["ac", "d"]),  # d waits for the host: one of its sides
        ({"a": "", "b": "a", "c": "a", "d": "b c"}, "bc", ["a", "d"]),
        ({"a": "", "b": "a", "c": "b", "d": "a"}, "b", ["ad", "c"]),  # branches that do not meet again
        ({"a": "", "b": "", "c": "a b"}, "b", ["ac"]),  # the host's branch starts at the input: no way back into it
        ({"a": "", "d": "", "r": "d", "c": "a r"}, "r", ["ac", "d"]),  # c joins a though d comes before the host
        ({"a": "", "b": ""}, "", ["a", "b"]),  # not connected
        ({"a": "", "r": "a", "b": "r", "c": "a b"}, "r", ["a", "bc"]),
        # p and q are convex each when {p1 p2} and {q1 q2} are merged, but would wait for each other
        ({"a": "", "b": "", "r": "a", "s": "b", "c": "b r", "d": "a s"}, "rs", ["a", "bc", "d"]),
    ],
)
def test_parts(edges: Mapping[str, str], rejected: str, expected: Sequence[str]) -> None:
    assert parts(edges, rejected) == expected


def test_a_constant_neither_breaks_nor_joins() -> None:
    assert parts({"k": "", "a": "k", "b": "k"}, free="k") == ["a", "b"]
    assert parts({"a": "", "k": "", "b": "a k"}, rejected="k", free="k") == ["ab"]
    assert parts({"a": "", "k": "a", "b": "a k"}, rejected="k", free="k") == ["ab"]  # such as the shape of a


def test_the_largest_part_by_multiply_accumulates_comes_first() -> None:
    made = [node("Relu", "x", "a", macs=5), node("Relu", "a", "b", macs=5), node("Elu", "b", "c", macs=7)]
    report = lint(graph_of(*made, node("Relu", "c", "y", macs=20)), target_of("Relu"), model="m", target_name="t")
    assert [(part.nodes, part.macs) for part in report.summary.subgraphs] == [(1, 20), (2, 10)]
    assert (report.summary.macs, report.summary.accelerated_macs) == (37, 30)
    assert (report.summary.nodes, report.summary.accelerated_nodes) == (4, 3)


Edges = list[list[int]]


@st.composite
def dags(draw: st.DrawFn) -> tuple[Edges, set[int]]:
    """What each node reads, and which nodes are rejected."""
    count = draw(st.integers(1, 12))
    sources = [draw(st.lists(st.integers(0, n - 1), max_size=3, unique=True)) if n else [] for n in range(count)]
    return sources, draw(st.sets(st.integers(0, count - 1), max_size=count // 2))


def contracted(sources: Edges, part: Sequence[int]) -> set[tuple[int, int]]:
    """The edges between parts, each node having the number of its own."""
    return {(part[each], part[n]) for n, read in enumerate(sources) for each in read if part[each] != part[n]}


def has_cycle(edges: Collection[tuple[int, int]]) -> bool:
    left = {each for edge in edges for each in edge}
    while ready := {each for each in left if not any(a in left and b == each for a, b in edges)}:
        left -= ready
    return bool(left)


def is_connected(sources: Edges, members: Collection[int]) -> bool:
    reached = {min(members)}
    while more := {
        b
        for n in members
        for each in sources[n]
        if each in members
        for a, b in ((n, each), (each, n))
        if a in reached and b not in reached
    }:
        reached |= more
    return reached == set(members)


@settings(max_examples=300, deadline=None)
@given(dags())
def test_parts_of_any_graph_are_valid_and_cannot_be_larger(drawn: tuple[Edges, set[int]]) -> None:
    sources, rejected = drawn
    part = numbered(sources, rejected)
    assert not has_cycle(contracted(sources, part))
    accelerated = [n for n in range(len(sources)) if n not in rejected]
    for number in {part[n] for n in accelerated}:
        assert is_connected(sources, [n for n in accelerated if part[n] == number])
    joined = {frozenset(edge) for edge in contracted(sources, [*part]) if min(edge) >= 0}
    for one, other in combinations(sorted({part[n] for n in accelerated}), 2):
        if frozenset((one, other)) in joined:
            assert has_cycle(contracted(sources, [one if number == other else number for number in part]))


def numbered(sources: Edges, rejected: Iterable[int]) -> list[int]:
    """Each node's part; rejected nodes have numbers below 0 of their own."""
    refused = set(rejected)
    made = [node("Relu", " ".join(f"v{each}" for each in read) or "x", f"v{n}") for n, read in enumerate(sources)]
    built = graph_of(*made, outputs=["v0"])
    found = subgraphs(built, {id(each) for n, each in enumerate(built.nodes) if n not in refused}, frozenset())
    return [found.get(id(each), -1 - n) for n, each in enumerate(built.nodes)]
