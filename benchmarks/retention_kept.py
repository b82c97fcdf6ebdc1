"""Figures of retention.py that the repository keeps: a line of JSON for each, so that hours are not spent twice."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retention_trials import Trial

from zoo.atomic import write_text

FIELDS = ("trial", "key", "metric", "value", "settled", "seconds")


def read(file: Path) -> dict[Trial, dict[str, Any]]:
    """By trial; nothing where there is no file."""
    lines = file.read_text("utf-8").splitlines() if file.is_file() else []
    return {Trial.named(found["trial"]): found for found in map(json.loads, lines)}


def write(file: Path, results: Mapping[Trial, Mapping[str, Any]]) -> None:
    """These and no others: what was measured with other settings than the present ones goes."""
    ordered = sorted(results.items(), key=lambda pair: pair[0].name)
    rows = ({field: {**result, "trial": trial.name}.get(field) for field in FIELDS} for trial, result in ordered)
    write_text(file, "".join(json.dumps(row) + "\n" for row in rows))
