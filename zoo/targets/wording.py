"""How the facts of limits are written."""

from collections.abc import Iterable, Sequence
from typing import Any


def sides(sizes: Sequence[Any]) -> str:
    """A shape or kernel: 1x64x8x8; "scalar" of none; "?" stands for a size that is not known."""
    return "x".join("?" if size is None else f"{size}" for size in sizes) or "scalar"


def either(things: Iterable[Any], joint: str = "or") -> str:
    """A choice: "1", "1 or 2", "1, 2 or 4"; "none" of nothing."""
    *others, last = [f"{thing}" for thing in things] or ["none"]
    return f"{', '.join(others)} {joint} {last}" if others else last


def within(low: object | None, high: object | None) -> str:
    """A range whose ends may be open: "1 to 4", "at least 1", "at most 4"; "4" where both ends are 4."""
    if low is None or high is None:
        return f"at most {high}" if low is None else f"at least {low}"
    return f"{low}" if low == high else f"{low} to {high}"
