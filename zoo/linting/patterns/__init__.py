"""Dataflow patterns that devices know as one layer, one module each: the folder is the registry.

Each module has ``find(graph) -> Iterator[tuple[Node, ...]]``: the nodes of one match after the other. The first node of
a match speaks for it: a target's limits on the pattern are asked of that node. Values inside of a match are not read
outside of it, but for what a module's docstring says.
"""
