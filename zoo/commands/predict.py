"""`zoo predict`: a release on an image."""

import json
from pathlib import Path

import click

from zoo.releases import consumer
from zoo.terminal import options


@click.command("predict")
@click.argument("name")
@click.argument("image", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Draw it here: a .png, .jpg or what Pillow writes."
)
@options.version
@options.where
@options.as_json
def command(name: str, image: Path, output: Path | None, version: int | None, index: str | None, json_: bool) -> None:
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
