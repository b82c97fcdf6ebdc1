"""Drawings of what a module computes, before and after surgery: SVG, readable on light and on dark pages."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal
from xml.sax.saxutils import escape, quoteattr

from torch import nn

from surgery.drawing.dataflow import Box, Dataflow, dataflow, of_graph
from surgery.drawing.layout import BOX_HEIGHT, Layout, Point, layout
from surgery.engine import lite
from surgery.observing.trace import Traced

_MARGIN = 12.0
_CAPTION = 26.0
_BETWEEN = 56.0
_LETTER = 7.0  # average width at the label's size
_GREY = "#7d8590"  # seen on white as on black
# Fill and border; the text inside is dark on all.
_COLOURS = {
    "call": ("#eef2f6", "#8a97a5"),
    "parameter": ("#f3eefa", "#9a86b8"),
    "input": ("#ffffff", _GREY),
    "output": ("#ffffff", _GREY),
    "gone": ("#fde3d3", "#d9753b"),
    "new": ("#d6f2e0", "#2f9259"),
}


def draw(module: nn.Module | Traced, example_inputs: Any = None, site: str = "", inside: bool = False) -> str:
    """SVG of a module's dataflow: its own calls and its children as boxes, with shapes where it can be run.

    ``site`` names a module of it to draw; ``inside`` draws what children compute that hold modules themselves. Raises
    SurgeryError where it cannot be traced.
    """
    flow = of_graph(module) if isinstance(module, Traced) else dataflow(module, example_inputs, site, inside)
    placed = _place(flow)
    return _svg(placed.width, placed.height, _group(flow, placed, "", set(), "", 0.0, 0.0))


def before_after(
    model: nn.Module,
    example_inputs: Any,
    rules: Literal["default"] | Sequence[str] = "default",
    site: str = "",
    inside: bool = False,
) -> str:
    """SVG of one module of a model before and after surgery, side by side; what goes and what comes is coloured.

    ``inside`` draws what children compute that hold modules themselves. Raises what ``surgery.lite`` raises, and
    SurgeryError where the module cannot be traced.
    """
    edited, _ = lite(model, rules, example_inputs)
    flows = dataflow(model, example_inputs, site, inside), dataflow(edited, example_inputs, site, inside)
    placed = [_place(flow) for flow in flows]
    signs = [Counter(map(_sign, flow.boxes)) for flow in flows]
    gone, new = _extra(flows[0], signs[1]), _extra(flows[1], signs[0])
    height = max(p.height for p in placed)
    right = placed[0].width + _BETWEEN
    body = _caption("before", placed[0].width / 2) + _caption("after", right + placed[1].width / 2)
    body += _group(flows[0], placed[0], "before", gone, "gone", 0.0, _CAPTION)
    body += _group(flows[1], placed[1], "after", new, "new", right, _CAPTION)
    return _svg(right + placed[1].width, height + _CAPTION, body)


def _sign(box: Box) -> tuple[str, str, str]:
    return box.kind, box.label, box.name


def _extra(flow: Dataflow, other: Counter[tuple[str, str, str]]) -> set[int]:
    """Boxes that the other drawing has no counterpart of."""
    left, extra = Counter(other), set()
    for i, box in enumerate(flow.boxes):
        if left[_sign(box)]:
            left[_sign(box)] -= 1
        else:
            extra.add(i)
    return extra


def _second_line(box: Box) -> str:
    shape = "" if box.shape is None else " x ".join(map(str, box.shape))
    return " · ".join(part for part in (box.name, shape) if part)


def _place(flow: Dataflow) -> Layout:
    return layout([_width(box) for box in flow.boxes], flow.edges)


def _width(box: Box) -> float:
    return max(70.0, _LETTER * max(len(box.label), 0.9 * len(_second_line(box))) + 20)


def _group(flow: Dataflow, placed: Layout, prefix: str, marked: set[int], mark: str, x: float, y: float) -> list[str]:
    lines = [f'<g transform="translate({x:.1f} {y:.1f})">']
    lines += [_edge(route) for route in placed.routes]
    for i, (box, centre) in enumerate(zip(flow.boxes, placed.centres, strict=True)):
        identity = f"{prefix}:{i}".lstrip(":")
        lines += _box(box, centre, identity, mark if i in marked else box.kind)
    return [*lines, "</g>"]


def _edge(route: Sequence[Point]) -> str:
    path = [f"M{route[0][0]:.1f} {route[0][1]:.1f}"]
    for (x0, y0), (x1, y1) in pairwise(route):
        middle = (y0 + y1) / 2
        path.append(f"C{x0:.1f} {middle:.1f} {x1:.1f} {middle:.1f} {x1:.1f} {y1:.1f}")
    return f'<path d="{" ".join(path)}" fill="none" stroke="{_GREY}" stroke-width="1.4" marker-end="url(#arrow)"/>'


def _box(box: Box, centre: Point, identity: str, colour: str) -> list[str]:
    fill, border = _COLOURS[colour]
    width, (x, y) = _width(box), centre
    corner = BOX_HEIGHT / 2 if box.kind in {"input", "output"} else 5
    second = _second_line(box)
    lines = [
        f"<g data-box={quoteattr(identity)} data-colour={quoteattr(colour)}>",
        f'<rect x="{x - width / 2:.1f}" y="{y - BOX_HEIGHT / 2:.1f}" width="{width:.1f}" height="{BOX_HEIGHT:.1f}"'
        f' rx="{corner:g}" fill="{fill}" stroke="{border}" stroke-width="1.4"/>',
        _text(box.label, (x, y - 3 if second else y + 4), 12, "#16202b"),
    ]
    if second:
        lines.append(_text(second, (x, y + 12), 10, "#4a5866"))
    return [*lines, "</g>"]


def _text(text: str, at: Point, size: int, colour: str) -> str:
    return f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" font-size="{size}" fill="{colour}">{escape(text)}</text>'


def _caption(text: str, x: float) -> list[str]:
    return [f'<text x="{x:.1f}" y="12" font-size="13" font-weight="600" fill="{_GREY}">{text}</text>']


def _svg(width: float, height: float, body: Sequence[str]) -> str:
    w, h = width + 2 * _MARGIN, height + 2 * _MARGIN
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{w:.0f}" height="{h:.0f}" viewBox="0 0 {w:.0f} {h:.0f}"'
        ' font-family="Helvetica, Arial, sans-serif" text-anchor="middle">',
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0L8 4L0 8z" fill="{_GREY}"/></marker></defs>',
        f'<g transform="translate({_MARGIN:g} {_MARGIN:g})">',
    ]
    return "\n".join([*head, *body, "</g>", "</svg>", ""])
