"""`zoo surgery`: which rules a target needs, where and why."""

import sys
from pathlib import Path

import click

from zoo.atomic import to_json
from zoo.terminal import options, output_file
from zoo.terminal.exit_codes import WRONG


@click.command("surgery")
@click.argument("model")
@click.option("--target", metavar="TARGET", help="See `zoo targets`. Default: the recipe's.")
@click.option("--device", default="", metavar="DEVICE", help="One of the target's. Default: what holds on every one.")
@click.option("--dry-run", is_flag=True, help="Print what would be done, and why.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the plan and its reasons to this folder.")
@click.option("--size", type=click.IntRange(min=1), help="Pixels of the input. Default: what published weights expect.")
@options.as_json
def command(
    model: str, target: str | None, device: str, dry_run: bool, output: Path | None, size: int | None, json_: bool
) -> None:
    """Choose the surgery that MODEL needs for a target.

    MODEL is a recipe's name or library/model, such as timm/mobilenetv3_large_100.ra_in1k. It is built with random
    weights, linted, operated on and linted again until nothing is left that the target refuses, or no rule helps. What
    is printed says of every rule where it acts and what that removes, and of everything left why.

    With -o the folder gets explanation.json, report.json and plan.json, which `surgery.replay` repeats on the model
    with weights of yours. `doit build` does the same for a recipe that says `surgery: auto`, and trains the result.

    Exit codes: 0 the target refuses nothing of the result, 1 something is left, 2 bad input.
    """
    if dry_run == (output is not None):
        raise click.UsageError("give either --dry-run, which writes nothing, or -o FOLDER")
    if output is not None:
        output_file.make_folder(output)
    from zoo.choosing.dry_run import explain, operate

    root = Path.cwd() if Path("recipes").is_dir() else None
    if output is None:
        explanation = explain(model, target, device, root=root, size=size)
    else:
        explanation, report = operate(model, target, device, root=root, size=size)
        for name, content in (
            ("explanation", explanation.to_json()),
            ("report", report.to_json()),
            ("plan", report.plan.to_json()),
        ):
            output_file.write(output / f"{name}.json", to_json(content))
    click.echo(to_json(explanation.to_json()) if json_ else explanation.as_text() + "\n", nl=False)
    if not explanation.clean:
        sys.exit(WRONG)
