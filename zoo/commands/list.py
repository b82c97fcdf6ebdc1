"""`zoo list`: the models of a zoo."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zoo import index as contents
from zoo.errors import UnknownName, did_you_mean
from zoo.metric_names import spelt
from zoo.releases import consumer
from zoo.terminal import options, table

if TYPE_CHECKING:
    from zoo.index import Entry

HEADER = ("name", "version", "task", "metric", "MACs (M)", "parameters (M)", "speed-up")


@click.command("list")
@click.argument("pattern", required=False)
@click.option("--task", help="Only models for this task, such as classification.")
@click.option("--target", help="Only models of which this target refuses nothing, such as tidl-9.1.")
@options.where
@options.as_json
def command(pattern: str | None, task: str | None, target: str | None, index: str | None, json_: bool) -> None:
    """List the models whose name matches PATTERN (quote it: 'mobilenet*').

    --target asks what the linter found when a model was released, on all of the target's devices.
    """
    releases = contents.read(consumer.location(index))
    names = consumer.list_models(pattern, task=task, target=target, index=index)
    newest = [releases[name][max(releases[name])] for name in names]
    if target is not None and not names:
        _check_target(target)
    if json_:
        click.echo(json.dumps([asdict(entry) for entry in newest], indent=2, sort_keys=True))
        return
    table.show(HEADER, [_listed(entry) for entry in newest])


def _check_target(name: str) -> None:
    """Raises UnknownName for a target that there is not, so that a misspelt one does not look like a device that runs
    nothing.
    """
    from zoo.targets import reading

    if name not in (known := reading.names(Path.cwd())):
        raise UnknownName(f"no target '{name}'; {did_you_mean(name, known) or 'see `zoo targets`'}")


def _listed(entry: "Entry") -> tuple[str, ...]:
    return (
        entry.name,
        str(entry.version),
        entry.task,
        f"{entry.value * 100:.1f} % {spelt(entry.metric)} on {entry.dataset}",
        f"{entry.macs / 1e6:.1f}",
        f"{entry.parameters / 1e6:.2f}",
        f"{entry.speed_up:.2f}x",
    )
