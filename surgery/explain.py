"""What surgery would do to a model, without keeping the result."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from torch import Tensor, nn

from surgery.choice import Sites
from surgery.engine import lite
from surgery.record import Report
from surgery.rule import Rule
from surgery.warm_start import DEFAULT, WarmStart


def explain(
    model: nn.Module,
    rules: Literal["default"] | Sequence[str | Rule] = "default",
    example_inputs: Any = None,
    calibration: Iterable[Tensor] | None = None,
    sites: Sites | None = None,
    warm_start: WarmStart = DEFAULT,
) -> Report:
    """Print each site with the rule that would act there, what it would do and what that preserves; return the report.

    Takes the same arguments and raises the same errors as ``surgery.lite``.
    """
    _, report = lite(model, rules, example_inputs, calibration, sites, warm_start)
    print(described(report))
    return report


def described(report: Report) -> str:
    """A table of edits, the refusals with their reasons, and a line of totals."""
    rows = [(e.site or "(the model)", e.rule, e.promise, e.action) for e in report.edits]
    lines = _columns([("site", "rule", "promise", "what"), *rows]) if rows else []
    if report.refusals:
        lines += ["", "left as they are:"]
        lines += _columns([(r.site or "(the model)", r.rule, r.reason) for r in report.refusals])
    if report.left_alone:
        lines += ["", "still there:"]
        lines += _columns([(n.site or "(the model)", n.call, f"{n.count} x", n.reason) for n in report.left_alone])
    promise = "same output" if report.same_output else "same shape, to be fine-tuned"
    totals = f"{len(report.edits)} edits, {len(report.refusals)} refusals"
    return "\n".join([*lines, "", f"{totals}: {promise}" if rows else f"{totals}: nothing to replace"]).lstrip("\n")


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
