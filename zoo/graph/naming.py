"""A graph put in order: nodes after what they read, and every node and value with one name of its own."""

from collections import Counter
from collections.abc import Iterator, Mapping
from heapq import heapify, heappop, heappush
from itertools import pairwise

import onnx

from zoo.errors import UnreadableModel
from zoo.graph.operator_sets import own
from zoo.graph.skeleton import bodies

SHOWN = 3  # names of a cycle that an error lists


def settle(graph: onnx.GraphProto, place: str) -> tuple[str, ...]:
    """Sort the nodes and make names unique, in place and in the bodies of If, Loop and Scan too.

    A node without a name gets its operator and its position in the file, as Conv_12; what is in a body has the names of
    its node and attribute in front. Returns notes. Raises UnreadableModel where the graph is none: cycles, two makers
    of a value, values that nobody makes.
    """
    return _settle(graph, "", {}, place)


def _settle(graph: onnx.GraphProto, prefix: str, outer: Mapping[str, str], place: str) -> tuple[str, ...]:
    scope = {**outer, **{name: prefix + name for name in _defined(graph, place)}}
    repeated = _name_nodes(graph, prefix)
    notes = [f"{len(repeated)} node names are there twice, as '{repeated[0]}'; they got numbers."] if repeated else []
    if _sort(graph, place):
        notes.append("The nodes are not in the order in which they run; they were sorted.")
    for value in (*graph.input, *graph.initializer, *graph.value_info):
        value.name = scope.get(value.name, prefix + value.name)
    for sparse in graph.sparse_initializer:
        sparse.values.name = scope[sparse.values.name]
    for node in graph.node:
        for body_name, body in bodies(node):
            notes += _settle(body, f"{node.name}/{body_name}/", scope, place)
        node.domain = own(node.domain)
        node.input[:] = [_made(name, scope, node, place) for name in node.input]
        node.output[:] = [name and scope[name] for name in node.output]
    for value in graph.output:
        if value.name not in scope:
            raise UnreadableModel(f"{place}: nothing makes the graph's output '{value.name}'")
        value.name = scope[value.name]
    return tuple(notes)


def _made(name: str, scope: Mapping[str, str], node: onnx.NodeProto, place: str) -> str:
    if name and name not in scope:
        raise UnreadableModel(f"{place}: node '{node.name}' reads '{name}', which nothing makes")
    return name and scope[name]


def _defined(graph: onnx.GraphProto, place: str) -> set[str]:
    """Names of the values that a graph itself makes. Raises UnreadableModel where one is made twice."""
    made = Counter(name for node in graph.node for name in node.output if name)
    made.update(tensor.name for tensor in graph.initializer)
    made.update(sparse.values.name for sparse in graph.sparse_initializer)
    # A weight may be listed as an input too; it is one value then.
    weights = {tensor.name for tensor in graph.initializer} | {each.values.name for each in graph.sparse_initializer}
    made.update(value.name for value in graph.input if value.name not in weights)
    if twice := [name for name, count in made.items() if count > 1]:
        raise UnreadableModel(f"{place}: '{twice[0]}' is made twice; in ONNX each value has one maker")
    return set(made)


def _name_nodes(graph: onnx.GraphProto, prefix: str) -> list[str]:
    """Give each node a name that no other has; returns the names that were there twice."""
    given = Counter(node.name for node in graph.node if node.name)
    taken = set(given)
    seen: set[str] = set()
    for position, node in enumerate(graph.node):
        name = node.name or f"{node.op_type}_{position}"
        number = 0
        while name in seen or (name in taken and name != node.name):
            number += 1
            name = f"{node.name or f'{node.op_type}_{position}'}_{number}"
        seen.add(name)
        node.name = prefix + name
    return [name for name, count in given.items() if count > 1]


def _sort(graph: onnx.GraphProto, place: str) -> bool:
    """Sort the nodes, in the file's order where there is a choice; whether anything moved."""
    makers = {name: number for number, node in enumerate(graph.node) for name in node.output if name}
    needs = [{makers[name] for name in _read(node) if name in makers} for node in graph.node]
    readers: dict[int, list[int]] = {}
    for reader, read in enumerate(needs):
        for maker in read:
            readers.setdefault(maker, []).append(reader)
    waiting = [len(read) for read in needs]
    ready = [number for number, count in enumerate(waiting) if count == 0]
    heapify(ready)
    order = []
    while ready:
        number = heappop(ready)
        order.append(number)
        for reader in readers.get(number, ()):
            waiting[reader] -= 1
            if waiting[reader] == 0:
                heappush(ready, reader)
    if len(order) < len(graph.node):
        stuck = [graph.node[number].name for number, count in enumerate(waiting) if count][:SHOWN]
        raise UnreadableModel(f"{place}: the graph has a cycle, at or before the nodes {', '.join(stuck)}")
    moved = any(before > after for before, after in pairwise(order))
    if moved:
        nodes = [graph.node[number] for number in order]
        copies = onnx.GraphProto(node=nodes)
        del graph.node[:]
        graph.node.extend(copies.node)
    return moved


def _read(node: onnx.NodeProto) -> Iterator[str]:
    """Names that a node reads: its inputs, and what its bodies take from around them."""
    yield from (name for name in node.input if name)
    for _, body in bodies(node):
        yield from _captured(body)


def _captured(graph: onnx.GraphProto) -> set[str]:
    read = {name for node in graph.node for name in _read(node)} | {value.name for value in graph.output}
    own_names = {name for node in graph.node for name in node.output}
    own_names |= {value.name for value in (*graph.input, *graph.initializer)}
    return read - own_names - {sparse.values.name for sparse in graph.sparse_initializer}
