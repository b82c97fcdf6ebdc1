"""Where the boxes of a dataflow graph go: in layers from top to bottom, edges around what they do not touch.

After Sugiyama, Tagawa and Toda 1981: layers by longest path, long edges broken at each layer, order by barycentre.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

BOX_HEIGHT = 40.0
LAYER_GAP = 30.0
BOX_GAP = 18.0
_BEND = 8.0  # room that an edge takes where it passes a layer
_SWEEPS = 40

Point = tuple[float, float]


@dataclass(frozen=True)
class Layout:
    """Centres of the boxes, and the points of each edge from the bottom of one box to the top of another; pixels."""

    centres: tuple[Point, ...]
    routes: tuple[tuple[Point, ...], ...]
    width: float
    height: float


def layout(widths: Sequence[float], edges: Sequence[tuple[int, int]]) -> Layout:
    """Place boxes of these widths; ``edges`` go from a box to a later one. The same input gives the same layout."""
    layer = _layers(len(widths), edges)
    chains = [_chain(edge, layer, len(widths) * (i + 1)) for i, edge in enumerate(edges)]
    rows = _rows(layer, chains)
    sizes = dict(enumerate(widths))
    links = [pair for chain in chains for pair in pairwise(chain)]
    x = _positions(_ordered(rows, links), links, sizes)
    left = min((x[i] - width / 2 for i, width in enumerate(widths)), default=0.0)
    left = min([left, *(x[stop] - _BEND for chain in chains for stop in chain[1:-1])])
    right = max((x[i] + width / 2 for i, width in enumerate(widths)), default=0.0)
    right = max([right, *(x[stop] + _BEND for chain in chains for stop in chain[1:-1])])
    centres = tuple((x[i] - left, _y(layer[i])) for i in range(len(widths)))
    routes = tuple(_route(chain, layer, x, left) for chain in chains)
    return Layout(centres, routes, right - left, _y(len(rows) - 1) + BOX_HEIGHT / 2 if rows else 0.0)


def _y(layer: int) -> float:
    return layer * (BOX_HEIGHT + LAYER_GAP) + BOX_HEIGHT / 2


def _layers(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Each box below all that it reads; a chain that begins with no reads stands right above its first reader."""
    layer = [0] * count
    for start, end in sorted(edges, key=lambda edge: (edge[1], edge[0])):
        layer[end] = max(layer[end], layer[start] + 1)
    above, below = _neighbours(edges)
    loose: set[int] = set()
    for i in range(count):
        sources = above.get(i, [])
        if not sources or (len(sources) == 1 and sources[0] in loose and len(below[sources[0]]) == 1):
            loose.add(i)
    for i in sorted(loose, reverse=True):
        if i in below:
            layer[i] = min(layer[reader] for reader in below[i]) - 1
    return layer


def _chain(edge: tuple[int, int], layer: Sequence[int], first: int) -> list[int]:
    """The edge's two boxes and a stop on every layer between."""
    start, end = edge
    return [start, *(first + i for i in range(layer[end] - layer[start] - 1)), end]


def _rows(layer: Sequence[int], chains: Sequence[Sequence[int]]) -> list[list[int]]:
    rows: list[list[int]] = [[] for _ in range(max(layer, default=-1) + 1)]
    for box, row in enumerate(layer):
        rows[row].append(box)
    for chain in chains:
        for below, stop in enumerate(chain[1:-1], 1):
            rows[layer[chain[0]] + below].append(stop)
    return rows


def _ordered(rows: list[list[int]], links: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Each row sorted by the mean place of its neighbours, down and up in turn."""
    above, below = _neighbours(links)
    place = {item: float(i) for row in rows for i, item in enumerate(row)}
    for sweep in range(_SWEEPS):
        for row in rows if sweep % 2 == 0 else rows[::-1]:
            sides = above if sweep % 2 == 0 else below
            row.sort(key=lambda item: (_mean([place[n] for n in sides.get(item, [])], place[item]), item))
            place |= {item: float(i) for i, item in enumerate(row)}
    return rows


def _positions(
    rows: Sequence[Sequence[int]], links: Sequence[tuple[int, int]], sizes: Mapping[int, float]
) -> dict[int, float]:
    """Each item near the mean of its neighbours, no two closer than they are wide."""
    above, below = _neighbours(links)
    x: dict[int, float] = {}
    for row in rows:
        x |= zip(row, _apart([0.0] * len(row), [sizes.get(item, _BEND) for item in row]), strict=True)
    for sweep in range(_SWEEPS):
        for row in rows if sweep % 2 == 0 else rows[::-1]:
            near = [[x[n] for n in (*above.get(item, ()), *below.get(item, ()))] for item in row]
            wanted = [_mean(values, x[item]) for values, item in zip(near, row, strict=True)]
            x |= zip(row, _apart(wanted, [sizes.get(item, _BEND) for item in row]), strict=True)
    return x


def _apart(wanted: Sequence[float], widths: Sequence[float]) -> list[float]:
    placed: list[float] = []
    for i, (position, width) in enumerate(zip(wanted, widths, strict=True)):
        least = placed[-1] + (widths[i - 1] + width) / 2 + BOX_GAP if placed else position
        placed.append(max(position, least))
    shift = _mean([w - p for w, p in zip(wanted, placed, strict=True)], 0.0)
    return [position + shift for position in placed]


def _route(chain: Sequence[int], layer: Sequence[int], x: Mapping[int, float], left: float) -> tuple[Point, ...]:
    """Straight down beside the boxes of each layer, so that it only bends between layers."""
    first, last = layer[chain[0]], layer[chain[-1]]
    stops = [
        (x[stop] - left, _y(first + below) + side)
        for below, stop in enumerate(chain[1:-1], 1)
        for side in (-BOX_HEIGHT / 2, BOX_HEIGHT / 2)
    ]
    start = (x[chain[0]] - left, _y(first) + BOX_HEIGHT / 2)
    return (start, *stops, (x[chain[-1]] - left, _y(last) - BOX_HEIGHT / 2))


def _neighbours(links: Sequence[tuple[int, int]]) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    above: dict[int, list[int]] = {}
    below: dict[int, list[int]] = {}
    for upper, lower in links:
        above.setdefault(lower, []).append(upper)
        below.setdefault(upper, []).append(lower)
    return above, below


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
