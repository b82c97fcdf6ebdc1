"""The command `zoo`. Exit codes: 0 all well, 1 something is damaged, 2 a name, place or file that cannot be used."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo import index as table
from zoo.errors import IntegrityError, ZooError
from zoo.metric_names import spelt
from zoo.releases import consumer

if TYPE_CHECKING:
    from zoo.index import Entry
    from zoo.releases.manifest import Manifest

DAMAGED = 1
BAD_INPUT = 2

where = click.option(
    "--index",
    metavar="PATH",
    help="The zoo's folder or its index.json. Default: $ZOO_INDEX, else artifacts/demo/zoo.",
)
as_json = click.option("--json", "json_", is_flag=True, help="Print JSON.")


class Commands(click.Group):
    """Turns every error that a user can cause into one line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ZooError as error:
            click.echo(f"zoo: {error}", err=True)
            ctx.exit(DAMAGED if isinstance(error, IntegrityError) else BAD_INPUT)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lite-zoo", prog_name="zoo")
def main() -> None:
    """Find, inspect and verify the models of a zoo.

    A zoo is a folder with an index.json, as `doit build` makes it.
    """


@main.command("list")
@click.argument("pattern", required=False)
@click.option("--task", help="Only models for this task, such as classification.")
@where
@as_json
def list_(pattern: str | None, task: str | None, index: str | None, json_: bool) -> None:
    """List the models whose name matches PATTERN (quote it: 'mobilenet*')."""
    releases = table.read(consumer.location(index))
    newest = [releases[name][max(releases[name])] for name in consumer.list_models(pattern, task=task, index=index)]
    if json_:
        click.echo(json.dumps([asdict(entry) for entry in newest], indent=2, sort_keys=True))
        return
    rows = [_listed(entry) for entry in newest]
    _print_table(("name", "version", "task", "metric", "MACs (M)", "parameters (M)", "speed-up"), rows)


@main.command()
@click.argument("name")
@click.option("--version", type=click.IntRange(min=1), help="Default: the latest.")
@where
@as_json
def show(name: str, version: int | None, index: str | None, json_: bool) -> None:
    """Show everything that is known about the release NAME."""
    release = consumer.get(name, version, index=index)
    if json_:
        click.echo(json.dumps(release.manifest.model_dump(mode="json"), indent=2, sort_keys=True))
        return
    for label, value in _facts(release.manifest, release.folder):
        click.echo(f"{label:<15} {value}")


@main.command()
@click.argument("name")
@click.argument("image", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Draw it here: a .png, .jpg or what Pillow writes."
)
@click.option("--version", type=click.IntRange(min=1), help="Default: the latest.")
@where
@as_json
def predict(name: str, image: Path, output: Path | None, version: int | None, index: str | None, json_: bool) -> None:
    """Run the release NAME on IMAGE and print what it finds: classes, each one's share of the pixels, or boxes.

    Corners of boxes are left, top, right, bottom in pixels of the image as it is stored: like training, this does not
    turn an image as its EXIF orientation says.
    """
    from zoo.predicting.releases import predict as found

    findings = found(consumer.get(name, version, index=index), image, output)
    if json_:
        click.echo(json.dumps([finding.as_json() for finding in findings], indent=2, sort_keys=True))
        return
    for finding in findings:
        click.echo(finding)
    if not findings:
        click.echo("nothing found")


@main.command()
@click.argument("name", required=False)
@where
def verify(name: str | None, index: str | None) -> None:
    """Compare every byte of every release, or of NAME's, with its digests; exit 1 on damage."""
    from zoo.releases.verification import verify as check

    found = list(check(consumer.location(index), name))
    damaged = [(label, damage) for label, damage in found if damage]
    for label, damage in damaged:
        click.echo(f"{label}: {damage}", err=True)
    click.echo(f"{len(found) - len(damaged)} of {len(found)} releases are as they were released")
    if damaged:
        sys.exit(DAMAGED)


@main.command()
@click.option("--profile", default="demo", show_default=True, help="The profile whose zoo to read, in ./artifacts.")
@click.option("--markdown", is_flag=True, help="Print Markdown.")
@where
def results(profile: str, markdown: bool, index: str | None) -> None:
    """Print the metric, MACs, parameters and latency of every model, before and after."""
    from zoo.releases import results as shown

    manifests = shown.latest(consumer.location(index or Path("artifacts") / profile / "zoo"))
    rows = [shown.cells(manifest) for manifest in manifests]
    if markdown:
        click.echo(shown.markdown(rows))
    else:
        _print_table(shown.HEADER, rows)
    click.echo(f"\n{shown.footnote(manifests)}")


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


def _facts(manifest: "Manifest", folder: Path) -> list[tuple[str, str]]:
    from zoo.releases.results import HEADER, cells

    origin, size = manifest.origin, manifest.origin.preprocessing.size
    edits = ", ".join(f"{rule} {count}" for rule, count in sorted(manifest.surgery.edits.items()))
    facts = [
        ("name", f"{manifest.name} v{manifest.version}"),
        ("source", f"{origin.library}/{origin.model} ({origin.library} {origin.library_version})"),
        ("task", f"{origin.task}, {origin.num_classes} classes, input {size} x {size}"),
        ("target", manifest.target),
        ("lite", "yes" if manifest.lite else "no: surgery found nothing to replace"),
        ("edits", edits or "none"),
        ("measured on", f"{manifest.accuracy.lite.dataset}, {manifest.accuracy.lite.images} images"),
        *zip(HEADER[1:], cells(manifest)[1:], strict=True),
        ("licences", "; ".join(f"{what}: {text}" for what, text in manifest.licences.model_dump().items())),
        ("folder", str(folder)),
    ]
    facts += [(kind, f"{file.path}  {file.size} bytes  sha256 {file.sha256}") for kind, file in manifest.files.items()]
    return facts


def _print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        table_ = Table(*header)
        for row in rows:
            table_.add_row(*row)
        Console().print(table_)
    else:
        from zoo.releases.columns import aligned

        click.echo(aligned(header, rows))
