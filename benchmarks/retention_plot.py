"""The plot of retention.py as SVG: for each model the accuracy of both arms over the epochs, and the source's."""

from collections.abc import Sequence
from html import escape

from retention_figures import Figures, Seeds, mean
from retention_trials import ARMS, EPOCHS

COLUMNS = 3
WIDTH, HEIGHT = 300, 230  # of a panel, in pixels
LEFT, RIGHT, TOP, BOTTOM = 44, 14, 30, 40  # around its axes
LINES = {"a": ("#b5502a", "(a) bare replacement"), "b": ("#1f6f8b", "(b) this project's path")}
GREY, INK = "#8a8a8a", "#222222"
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


def plot(figures: Figures, models: Sequence[str]) -> str:
    """Points are means over seeds, bars from the smallest to the largest; the dashed line is the source."""
    rows = -(-(len(models) + 1) // COLUMNS)  # one more, for the legend
    width, height = COLUMNS * WIDTH, rows * HEIGHT
    panels = [_moved(index, _panel(figures, model)) for index, model in enumerate(models)]
    body = "\n".join(
        [f'<rect width="{width}" height="{height}" fill="white"/>', *panels, _moved(len(models), _legend())]
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="11" fill="{INK}">\n{body}\n</svg>\n'
    )


def _moved(index: int, content: str) -> str:
    row, column = divmod(index, COLUMNS)
    return f'<g transform="translate({column * WIDTH} {row * HEIGHT})">\n{content}\n</g>'


def _panel(figures: Figures, model: str) -> str:
    title = f"{model}, {figures.metric(model) or 'not measured'}"
    parts = [f'<text x="{LEFT}" y="18" font-weight="bold">{escape(title)}</text>']
    for tick in TICKS:
        parts.append(_line(_x(0), _y(tick), _x(EPOCHS[-1]), _y(tick), "#e4e4e4"))
        parts.append(f'<text x="{LEFT - 6}" y="{_y(tick) + 4:.1f}" text-anchor="end">{tick:.0%}</text>')
    for epochs in EPOCHS:
        parts.append(f'<text x="{_x(epochs):.1f}" y="{_y(0) + 16:.1f}" text-anchor="middle">{epochs}</text>')
    parts.append(f'<text x="{_x(EPOCHS[-1] / 2):.1f}" y="{_y(0) + 31:.1f}" text-anchor="middle">epochs</text>')
    if source := figures.source(model):
        parts.append(_line(_x(0), _y(source), _x(EPOCHS[-1]), _y(source), GREY, ' stroke-dasharray="5 4"'))
    for arm, (colour, _) in LINES.items():
        parts.append(_curve({each: figures.of(model, ARMS[arm], each) for each in EPOCHS}, colour))
    return "\n".join(part for part in parts if part)


def _curve(measured: dict[int, Seeds], colour: str) -> str:
    found = {epochs: values for epochs, values in measured.items() if values}
    places = [(_x(epochs), _y(mean(values))) for epochs, values in found.items()]
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    bars = [
        _line(_x(epochs), _y(min(values.values())), _x(epochs), _y(max(values.values())), colour)
        for epochs, values in found.items()
        if len(values) > 1
    ]
    dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
    line = (
        [f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="1.5"/>'] if len(places) > 1 else []
    )
    return "\n".join([*line, *bars, *dots])


def _legend() -> str:
    parts = []
    for index, (colour, words) in enumerate(LINES.values()):
        y = 50 + 22 * index
        parts.append(_line(LEFT, y, LEFT + 28, y, colour))
        parts.append(f'<circle cx="{LEFT + 14}" cy="{y}" r="3" fill="{colour}"/>')
        parts.append(f'<text x="{LEFT + 36}" y="{y + 4}">{escape(words)}</text>')
    parts.append(_line(LEFT, 94, LEFT + 28, 94, GREY, ' stroke-dasharray="5 4"'))
    parts.append(f'<text x="{LEFT + 36}" y="98">the source</text>')
    return "\n".join(parts)


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, more: str = "") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"{more}/>'


def _x(epochs: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * epochs / EPOCHS[-1]


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share
