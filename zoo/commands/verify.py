"""`zoo verify`: is every byte as it was released?"""

import sys

import click

from zoo.releases import consumer
from zoo.terminal import options
from zoo.terminal.exit_codes import WRONG


@click.command("verify")
@click.argument("name", required=False)
@options.where
def command(name: str | None, index: str | None) -> None:
    """Compare every byte of every release, or of NAME's, with its digests; exit 1 on damage."""
    from zoo.releases.verification import verify

    found = list(verify(consumer.location(index), name))
    damaged = [(label, damage) for label, damage in found if damage]
    for label, damage in damaged:
        click.echo(f"{label}: {damage}", err=True)
    click.echo(f"{len(found) - len(damaged)} of {len(found)} releases are as they were released")
    if damaged:
        sys.exit(WRONG)
