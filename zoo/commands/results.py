"""`zoo results`: the models before and after."""

from pathlib import Path

import click

from zoo.releases import consumer
from zoo.terminal import options, table


@click.command("results")
@click.option("--profile", default="demo", show_default=True, help="The profile whose zoo to read, in ./artifacts.")
@click.option("--markdown", is_flag=True, help="Print Markdown.")
@options.where
def command(profile: str, markdown: bool, index: str | None) -> None:
    """Print the metric, training time, input size, MACs, parameters and latency of every model, before and after."""
    from zoo.releases import results

    manifests = results.latest(consumer.location(index or Path("artifacts") / profile / "zoo"))
    rows = [results.cells(manifest) for manifest in manifests]
    if markdown:
        click.echo(results.markdown(rows))
    else:
        table.show(results.HEADER, rows)
    click.echo(f"\n{results.footnote(manifests)}")
