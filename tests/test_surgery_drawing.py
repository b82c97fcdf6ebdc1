"""Drawings are well-formed, complete, legible and always the same."""

from collections import Counter
from itertools import combinations, pairwise
from xml.etree import ElementTree

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from surgery.drawing.dataflow import dataflow, module_label
from surgery.drawing.drawing import before_after, draw
from surgery.drawing.layout import BOX_GAP, BOX_HEIGHT, LAYER_GAP, layout
from surgery.errors import SurgeryError
from surgery.observing.evidence import Evidence
from surgery.observing.trace import Traced

SVG = "{http://www.w3.org/2000/svg}"
X = torch.randn(2, 4, 8, 8)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(4, 4, 7, padding=3, groups=4), nn.BatchNorm2d(4))
        self.scale = nn.Parameter(torch.ones(4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        left, right = self.conv(x).chunk(2, 1)
        return x + F.gelu(torch.cat([right, left], 1).reshape(n, -1, h, w)) * self.scale


class Depends(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def boxes(text: str) -> dict[str, list[str | None]]:
    """Texts of each box by its identity."""
    root = ElementTree.fromstring(text)
    found = [(group.get("data-box"), [t.text for t in group.iter(f"{SVG}text")]) for group in root.iter(f"{SVG}g")]
    assert len({name for name, _ in found if name}) == sum(name is not None for name, _ in found), "each occurs once"
    return {name: texts for name, texts in found if name}


def colours(text: str) -> Counter[tuple[str | None, str | None]]:
    root = ElementTree.fromstring(text)
    groups = [group for group in root.iter(f"{SVG}g") if group.get("data-box")]
    return Counter((g.get("data-colour"), g.findtext(f"{SVG}text")) for g in groups)


def test_every_call_is_drawn_once_with_its_shape() -> None:
    text = draw(Block(), X)
    found = boxes(text)
    assert list(found.values()) == [
        ["x", "2 x 4 x 8 x 8"],
        ["Conv2d 7x7, groups 4", "conv.0 · 2 x 4 x 8 x 8"],
        ["BatchNorm2d", "conv.1 · 2 x 4 x 8 x 8"],
        ["chunk 2, 1"],
        ["getitem 0", "2 x 2 x 8 x 8"],
        ["getitem 1", "2 x 2 x 8 x 8"],
        ["cat 1", "2 x 4 x 8 x 8"],
        ["reshape", "2 x 4 x 8 x 8"],
        ["gelu", "2 x 4 x 8 x 8"],
        ["scale", "4 x 1 x 1"],
        ["mul", "2 x 4 x 8 x 8"],
        ["add", "2 x 4 x 8 x 8"],
        ["output", "2 x 4 x 8 x 8"],
    ]
    edges = [path for path in ElementTree.fromstring(text).iter(f"{SVG}path") if path.get("marker-end")]
    assert len(edges) == len(dataflow(Block(), X).edges) == 14
    assert draw(Block(), X) == text


def test_a_module_inside_a_model_and_graphs_that_are_traced_already() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1), Block())
    assert boxes(draw(model, X, "1")) == boxes(draw(Block(), X))
    traced = Evidence(model, None, None).traced("")
    assert isinstance(traced, Traced)
    assert [texts[0] for texts in boxes(draw(traced)).values()] == ["input", "Conv2d 1x1", "Block", "output"]
    with pytest.raises(LookupError, match="no module 'nosuch'"):
        draw(model, X, "nosuch")
    with pytest.raises(SurgeryError, match="cannot be drawn: "):
        draw(Depends())


def test_what_goes_and_what_comes_is_coloured() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.SiLU(), nn.Conv2d(4, 4, 1), nn.ReLU())
    text = before_after(model, X, ["silu_to_relu"])
    assert {pair: n for pair, n in colours(text).items() if pair[0] in {"gone", "new"}} == {
        ("gone", "SiLU"): 1,
        ("new", "ReLU"): 1,
    }
    assert len(boxes(text)) == 12
    assert before_after(model, X, ["silu_to_relu"]) == text
    captions = [t.text for t in ElementTree.fromstring(text).iter(f"{SVG}text")]
    assert [c for c in captions if c in {"before", "after"}] == ["before", "after"]


def test_a_squeeze_excite_gate_is_gone() -> None:
    from torchvision.ops.misc import SqueezeExcitation

    class WithGate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.gate, self.head = nn.Conv2d(4, 4, 1), SqueezeExcitation(4, 2), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.head(self.gate(self.conv(x)))

    text = before_after(nn.Sequential(WithGate()), X, site="0")
    assert colours(text)["gone", "SqueezeExcitation"] == 1


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pad, self.block, self.join = nn.Sequential(), Block(), Join()

    def forward(self, x: Tensor) -> Tensor:
        y = self.block(self.pad(x))
        return self.join(x=x, pair=(y, x))


class Join(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.act = nn.ReLU()

    def forward(self, pair: tuple[Tensor, Tensor], x: Tensor, scale: float = 2.0) -> Tensor:
        return self.act(pair[0] + pair[1]) + x * scale


def test_what_modules_inside_compute() -> None:
    outside, within = dataflow(Outer(), X), dataflow(Outer(), X, inside=True)
    assert [box.label for box in outside.boxes] == ["x", "Block", "Join", "output"]
    assert [box.name for box in within.boxes if box.name] == ["block.conv.0", "block.conv.1", "join.act"]
    block, labels = dataflow(Block(), X), [box.label for box in within.boxes]
    last = len(block.boxes) - 2  # the block's sum; where its output was, the other module begins
    assert [label.removeprefix("block.") for label in labels[: last + 1]] == [box.label for box in block.boxes[:-1]]
    assert labels[last + 1 :] == ["getitem 0", "getitem 1", "add", "ReLU", "mul 2.0", "add", "output"]
    assert all(box.shape == tuple(X.shape) for box in within.boxes if box.name)
    assert {edge for edge in within.edges if edge[1] <= last} == {edge for edge in block.edges if edge[1] <= last}
    first, second, total, act, product, end, output = range(last + 1, len(labels))
    pair = {(source, item) for source in (0, last) for item in (first, second)}  # which of a tuple is not told
    rest = {(first, total), (second, total), (total, act), (act, end), (0, product), (product, end), (end, output)}
    assert {edge for edge in within.edges if edge[1] > last} == pair | rest


def test_names_are_escaped() -> None:
    class Odd(nn.ReLU):
        pass

    Odd.__name__ = 'A<B> & "C"'
    assert ['A<B> & "C"', "0 · 2 x 4 x 8 x 8"] in boxes(draw(nn.Sequential(Odd()), X)).values()


@pytest.mark.parametrize(
    ("module", "label"),
    [
        (nn.Conv2d(4, 4, (1, 7)), "Conv2d 1x7"),
        (nn.Conv2d(4, 4, 3, stride=2, dilation=2), "Conv2d 3x3, stride 2, dilation 2"),
        (nn.MaxPool2d(2), "MaxPool2d 2x2, stride 2"),
        (nn.Linear(3, 4), "Linear 3 → 4"),
        (nn.ReLU(), "ReLU"),
        (nn.Conv2d(4, 4, 3, stride=(1, 2)), "Conv2d 3x3, stride (1, 2)"),
    ],
)
def test_labels_say_what_one_asks_first(module: nn.Module, label: str) -> None:
    assert module_label(module) == label


@settings(max_examples=60, deadline=None)
@given(
    widths=st.lists(st.integers(20, 200), min_size=1, max_size=12),
    pairs=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=20),
)
def test_boxes_never_overlap_and_edges_go_down(widths: list[int], pairs: list[tuple[int, int]]) -> None:
    edges = sorted({(min(p), max(p)) for p in pairs if p[0] != p[1] and max(p) < len(widths)})
    placed = layout(widths, edges)
    for (i, (x, y)), (j, (u, v)) in combinations(enumerate(placed.centres), 2):
        assert abs(y - v) >= BOX_HEIGHT or abs(x - u) >= (widths[i] + widths[j]) / 2 + BOX_GAP - 1e-6
    for (x, y), width in zip(placed.centres, widths, strict=True):
        assert x - width / 2 >= -1e-6
        assert x + width / 2 <= placed.width + 1e-6
        assert BOX_HEIGHT / 2 <= y <= placed.height - BOX_HEIGHT / 2
    for route, (start, end) in zip(placed.routes, edges, strict=True):
        assert route[0] == (placed.centres[start][0], placed.centres[start][1] + BOX_HEIGHT / 2)
        assert route[-1] == (placed.centres[end][0], placed.centres[end][1] - BOX_HEIGHT / 2)
        assert all(above[1] < below[1] for above, below in pairwise(route))
        for (x, y), (u, v) in pairwise(route):  # beside a layer it runs straight, and between layers nothing stands
            assert v - y <= LAYER_GAP + 1e-6 or (x == u and v - y == BOX_HEIGHT)
        for x, y in route[1:-1]:
            near = [(u, w) for (u, v), w in zip(placed.centres, widths, strict=True) if abs(v - y) <= BOX_HEIGHT / 2]
            assert all(abs(x - u) > w / 2 for u, w in near)
