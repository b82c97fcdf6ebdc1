"""`zoo lint`: what of a model a device does not accelerate, and what would change that."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zoo.errors import UnknownName
from zoo.reading import registry
from zoo.terminal import options, output_file
from zoo.terminal.exit_codes import WRONG

if TYPE_CHECKING:
    from zoo.targets.target import Target

ALL = "all"
FORMATS = sorted(registry.modules("zoo.linting.formats"))


@click.command("lint")
@click.argument("model")
@click.option("--target", "asked", multiple=True, metavar="TARGET", help="See `zoo targets`; may be repeated, or all.")
@click.option("--device", default="", metavar="DEVICE", help="One of the target's, or all for a line for each.")
@click.option("--format", "format_", type=click.Choice(FORMATS), default="table", show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the report here.")
@click.option("--all", "every_node", is_flag=True, help="List every node too; json and html always do.")
@click.option("--host", multiple=True, metavar="TENSOR", help="What follows it is the host's; may be repeated.")
@options.version
@options.where
def command(
    model: str,
    asked: tuple[str, ...],
    device: str,
    format_: str,
    output: Path | None,
    every_node: bool,
    host: tuple[str, ...],
    version: int | None,
    index: str | None,
) -> None:
    """Find what of MODEL a target does not accelerate.

    MODEL is an ONNX file or a release's name. Each finding says what was found, in which layer, and which surgery rule
    would remove it. Without a device, what any of the target's devices refuses is refused. A release's own target and
    device are the default, and what follows the end of a detector's network is the host's. Several targets or devices
    are compared, a line each.

    Exit codes: 0 the model is clean: the target refuses nothing, and the file leaves nothing open; 1 it is not; 2 a
    model, target or device cannot be used.
    """
    several = len(asked) > 1 or ALL in (*asked, device)
    if several and (every_node or format_ != "table"):
        raise click.UsageError("several targets or devices are compared in a table; --format and --all are for one")
    if every_node and format_ != "table":
        raise click.UsageError(f"--all is for --format table; {format_} holds what it can already")

    from zoo.graph.reading import read
    from zoo.linting import comparison, subject
    from zoo.linting.formats import find
    from zoo.linting.formats.table import write_with_nodes
    from zoo.linting.lint import lint

    found = subject.find(model, version, index=index)
    targets, boundary = _targets(asked, found.target), found.host | set(host)
    device = device or ("" if asked else found.device)
    graph = read(found.file)
    if several:
        compared = comparison.compare(graph, targets, model=model, device=device, host=boundary)
        text, clean = comparison.write(compared), comparison.clean(compared)
    else:
        ((name, target),) = targets.items()
        report = lint(graph, target, model=model, target_name=name, device=device, host=boundary)
        text, clean = write_with_nodes(report) if every_node else find(format_).write(report), report.clean
    if output is None:
        click.echo(text, nl=False)
    else:
        output_file.write(output, text)
    if not clean:
        sys.exit(WRONG)


def _targets(asked: tuple[str, ...], own: str | None) -> "dict[str, Target]":
    """The targets by name, each once: those that were asked for, else the release's own."""
    from zoo.targets import reading

    known = reading.names(Path.cwd())
    names = known if ALL in asked else asked or ([own] if own else [])
    if not names:
        raise UnknownName(f"an ONNX file does not say its target; give --target, one of {', '.join(known)}")
    return {name: reading.read(name, Path.cwd()) for name in names}
