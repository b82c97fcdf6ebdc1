"""A table on the terminal, drawn where somebody looks at it and plain where a program reads it."""

import sys
from collections.abc import Sequence

import click

Rows = Sequence[Sequence[str]]


def show(header: Sequence[str], rows: Rows) -> None:
    """Print it."""
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*header)
        for row in rows:
            table.add_row(*map(Text, row))  # what stands in brackets is no markup
        Console().print(table)
    else:
        from zoo.releases.columns import aligned

        click.echo(aligned(header, rows))
