"""What versions of a device's tools accelerate of published models, before and after surgery chosen for them.

    .venv/bin/python benchmarks/target_table.py                       # all models, all TIDL versions; half an hour
    .venv/bin/python benchmarks/target_table.py --models mobilenet_v3_large_lite --targets tidl-8.6 tidl-11.2
    .venv/bin/python benchmarks/target_table.py --json table.json     # the numbers, and what was chosen

Models have random weights and the input size of their published ones; nothing is trained. Each is a process of its own,
which takes the targets one after the other. Printed is a Markdown table: accelerated share of multiply-accumulates and
of nodes, and the number of accelerated subgraphs, before and after, then the findings that are left.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
MODELS = (
    "mobilenet_v3_large_lite",
    "efficientnet_b0_lite",
    "convnext_tiny_lite",
    "swin_t_lite",
    "deeplabv3_mobilenet_v3_large_lite",
    "yolox_tiny_lite",
    "yolov8_n_lite",
)
SIZES = {"deeplabv3_mobilenet_v3_large_lite": 512}  # not the 520 of the weights, of which a stride of 16 is no fraction


def targets() -> list[str]:
    """The TIDL versions, oldest first."""
    names = [file.stem for file in (REPOSITORY / "configs" / "targets").glob("tidl-*.yaml")]
    return sorted(names, key=lambda name: [int(part) for part in name.removeprefix("tidl-").split(".")])


def measure(model: str, names: list[str]) -> None:
    """In a process of its own: one line of JSON for each target."""
    from zoo.choosing.dry_run import explain
    from zoo.errors import ZooError

    for name in names:
        try:
            row = explain(model, name, root=REPOSITORY, size=SIZES.get(model)).to_json()
        except ZooError as error:
            row = {"failed": str(error)}
        print(json.dumps({"model": model, "target": name, **row}), flush=True)


def rows(models: list[str], names: list[str]) -> list[dict[str, Any]]:
    """Everything measured, as each model ends."""
    found = []
    for model in models:
        command = [sys.executable, __file__, "--measure", model, "--targets", *names]
        run = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=False)
        lines = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
        done = {line["target"] for line in lines}
        reason = f"the process ended with {run.returncode}"
        lines += [{"model": model, "target": name, "failed": reason} for name in names if name not in done]
        for line in lines:
            print(as_row(line), flush=True)
        found += lines
    return found


def as_row(row: dict[str, Any]) -> str:
    """One line of the table."""
    start = f"| {row['model'].removesuffix('_lite')} | {row['target'].removeprefix('tidl-')} |"
    if "failed" in row:
        return f"{start} {row['failed']} | | | |"
    before, after = (share(row[when]) for when in ("before", "after"))
    rules = ", ".join(f"{choice['rule']} {len(choice['sites'])}" for choice in row["choices"])
    return f"{start} {before} | {after} | {rules or 'none'} | {len(row['left'])} |"


def share(summary: dict[str, Any]) -> str:
    """MACs and nodes that are accelerated, and in how many subgraphs."""
    return f"{summary['mac_share']:.1%}, {summary['node_share']:.1%}, {summary['subgraphs']}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--targets", nargs="+", default=targets())
    parser.add_argument("--json", type=Path)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure, arguments.targets)
        return
    print("| model | TIDL | MACs, nodes, subgraphs before | after | rules and their sites | left |")
    print("|---|---|---|---|---|---|", flush=True)
    found = rows(arguments.models, arguments.targets)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if any("failed" in row for row in found):
        sys.exit(1)


if __name__ == "__main__":
    main()
