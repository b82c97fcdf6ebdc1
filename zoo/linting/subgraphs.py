"""Into how many parts a device's runtime cuts a model: sets of accelerated nodes that it runs in one go each.

A part is connected, and no way leads out of it and back into it, through the host or through another part: its inputs
are all there before it starts. Parts are as large as that allows: no two that an edge joins could be one.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from zoo.graph.view import Graph, Node


def subgraphs(graph: Graph, accelerated: Collection[int], free: Collection[int]) -> Mapping[int, int]:
    """The number of its part, from 0 in the graph's order, by the id of each accelerated node.

    ``accelerated`` and ``free`` are ids of nodes. A constant does not join what reads it.
    """
    nodes = [node for node in graph.nodes if id(node) not in free]
    parts = _Parts(len(nodes))
    for index, sources in enumerate(_sources(nodes)):
        if id(nodes[index]) in accelerated:
            parts.add_accelerated(index, sources)
        else:
            parts.add_refused(index, sources)
    numbers: dict[int, int] = {}
    return {
        id(node): numbers.setdefault(parts.of(index), len(numbers))
        for index, node in enumerate(nodes)
        if id(node) in accelerated
    }


def _sources(nodes: Sequence[Node]) -> list[list[int]]:
    """The places of the nodes that each node reads from, in order."""
    made = {value.name: index for index, node in enumerate(nodes) for value in node.outputs}
    return [
        sorted({made[value.name] for value in node.inputs if value is not None and value.name in made})
        for node in nodes
    ]


class _Parts:
    """Parts that grow node by node, each node after its sources.

    Of two parts that an edge joins, a second way between them leads through a refused node, and stays: accelerated
    nodes alone would have been merged before. So it is enough that parts and refused nodes know the parts that lead to
    them through refused nodes, as the bits of a number. Time grows with the nodes and the parts that one node knows of.
    """

    def __init__(self, count: int) -> None:
        self._merged_into = list(range(count))
        self._own = [0] * count  # a part's bits, one for each part that was merged into it; none of a refused node
        self._behind = [0] * count  # the bits of the parts that lead here through refused nodes
        self._readers: list[list[int]] = [[] for _ in range(count)]
        self._made = 0

    def of(self, node: int) -> int:
        """The part that a node is in, known by one of its nodes; a refused node is by itself."""
        root = node
        while self._merged_into[root] != root:
            root = self._merged_into[root]
        while self._merged_into[node] != root:
            self._merged_into[node], node = root, self._merged_into[node]
        return root

    def add_refused(self, node: int, sources: Iterable[int]) -> None:
        """The next node, which runs on the host."""
        for source in self._read(node, sources):
            self._behind[node] |= self._behind[source] | self._own[source]

    def add_accelerated(self, node: int, sources: Iterable[int]) -> None:
        """The next node, merged with the parts of all sources that it can be merged with."""
        read = self._read(node, sources)
        for source in read:
            self._behind[node] |= self._behind[source]
        part = node
        for source in read:
            if self._own[source] and not self._own[source] & self._behind[part]:
                part = self._merge(source, part)
        if not self._own[part]:
            self._own[part] = 1 << self._made
            self._made += 1

    def _read(self, node: int, sources: Iterable[int]) -> list[int]:
        read = list(dict.fromkeys(map(self.of, sources)))
        for source in read:
            self._readers[source].append(node)
        return read

    def _merge(self, one: int, other: int) -> int:
        before = self._behind[one], self._behind[other]
        kept, gone = (one, other) if len(self._readers[one]) >= len(self._readers[other]) else (other, one)
        self._merged_into[gone] = kept
        self._own[kept] |= self._own[gone]
        self._behind[kept] |= self._behind[gone]
        self._readers[kept] += self._readers[gone]
        if any(self._behind[kept] != known for known in before):
            self._tell_readers(kept)
        return kept

    def _tell_readers(self, part: int) -> None:
        """Pass on, to all that lies behind a part, what it has come to know."""
        waiting = [part]
        while waiting:
            source = waiting.pop()
            for reader in map(self.of, self._readers[source]):
                known = self._behind[source] | (0 if self._own[reader] else self._own[source])
                if reader != source and known | self._behind[reader] != self._behind[reader]:
                    self._behind[reader] |= known
                    waiting.append(reader)
