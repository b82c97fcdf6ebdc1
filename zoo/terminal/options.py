"""Options that several commands have."""

import click

where = click.option(
    "--index",
    metavar="PATH",
    help="The zoo's folder or its index.json. Default: $ZOO_INDEX, else artifacts/demo/zoo.",
)
as_json = click.option("--json", "json_", is_flag=True, help="Print JSON.")
version = click.option("--version", type=click.IntRange(min=1), help="Default: the latest.")
