"""A table of Markdown."""

from collections.abc import Sequence


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Of Markdown, with an empty line behind it; a sentence in place of one without rows."""
    if not rows:
        return ["Nothing is measured yet.\n"]
    return [_row(heads), _row(["---"] * len(heads)), *map(_row, rows), ""]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
