"""`zoo targets`: the devices that a model can be linted for."""

import json
from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

import click

from zoo.terminal import options

if TYPE_CHECKING:
    from zoo.targets.target import Device, Target

WIDTH = 80


@click.command("targets")
@options.as_json
def command(json_: bool) -> None:
    """List the targets that `zoo lint` knows, with their devices.

    A target is a file in configs/targets/, of the working directory or of those that come with lite-zoo.
    """
    from zoo.targets import reading

    found = {name: reading.read(name, Path.cwd()) for name in reading.names(Path.cwd())}
    if json_:
        about = {
            name: {
                "description": target.description,
                "devices": {own: list(device.aliases) for own, device in target.devices.items()},
                "operators": len(target.operators),
                "patterns": len(target.patterns),
                "opset": target.opset.max,
            }
            for name, target in found.items()
        }
        click.echo(json.dumps(about, indent=2, sort_keys=True))
        return
    width = max(map(len, found))
    for name, target in found.items():
        for line in _about(target):
            click.echo(f"{name:<{width}}  {line}")
            name = ""


def _about(target: "Target") -> Iterator[str]:
    yield from wrap(target.description, WIDTH)
    yield f"{len(target.operators)} operators, opset {target.opset.max} at most"
    if target.devices:
        yield from wrap(f"devices: {', '.join(map(_with_aliases, target.devices.items()))}", WIDTH)


def _with_aliases(item: "tuple[str, Device]") -> str:
    name, device = item
    return f"{name} ({', '.join(device.aliases)})" if device.aliases else name
