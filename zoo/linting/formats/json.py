"""A report as JSON: everything that the linter knows, for programs."""

import json

from zoo.linting.report import Report


def write(report: Report) -> str:
    """``Report.to_json`` with sorted keys, in ASCII, so that no name in it commands a terminal."""
    return json.dumps(report.to_json(), indent=2, sort_keys=True, allow_nan=False) + "\n"
