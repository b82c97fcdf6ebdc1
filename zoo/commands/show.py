"""`zoo show`: everything that is known about one release."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zoo.releases import consumer
from zoo.terminal import options

if TYPE_CHECKING:
    from zoo.releases.manifest import Manifest


@click.command("show")
@click.argument("name")
@options.version
@options.where
@options.as_json
def command(name: str, version: int | None, index: str | None, json_: bool) -> None:
    """Show everything that is known about the release NAME."""
    release = consumer.get(name, version, index=index)
    if json_:
        click.echo(json.dumps(release.manifest.model_dump(mode="json"), indent=2, sort_keys=True))
        return
    for label, value in _facts(release.manifest, release.folder):
        click.echo(f"{label:<15} {value}")


def _facts(manifest: "Manifest", folder: Path) -> list[tuple[str, str]]:
    from zoo.releases.acceptance import told
    from zoo.releases.results import HEADER, cells
    from zoo.releases.training import started, trained

    origin, size = manifest.origin, manifest.origin.preprocessing.size
    accuracy, held = manifest.accuracy, manifest.acceptance
    edits = ", ".join(f"{rule} {count}" for rule, count in sorted(manifest.surgery.edits.items()))
    facts = [
        ("name", f"{manifest.name} v{manifest.version}"),
        ("source", f"{origin.library}/{origin.model} ({origin.library} {origin.library_version})"),
        ("task", f"{origin.task}, {origin.num_classes} classes, input {size} x {size}"),
        ("target", manifest.target),
        ("lite", "yes" if manifest.lite else "no: surgery found nothing to replace"),
        ("edits", edits or "none"),
        *([("warm start", started(manifest.surgery.warm_start))] if manifest.surgery.warm_start else []),
        ("measured on", f"{accuracy.lite.dataset}, {accuracy.lite.images} images"),
        *([("measured as", origin.measured_as)] if origin.measured_as else []),
        *zip(HEADER[1:], cells(manifest)[1:], strict=True),
        ("baseline", trained(accuracy.source)),
        *([("fitting", trained(fitted))] if (fitted := accuracy.after_surgery).trained_on else []),
        ("fine-tuning", trained(accuracy.lite)),
        ("accepted", told(held, accuracy.headline) if held else "the recipe asks for nothing"),
        ("licences", "; ".join(f"{what}: {text}" for what, text in manifest.licences.model_dump().items())),
        ("folder", str(folder)),
    ]
    facts += [(kind, f"{file.path}  {file.size} bytes  sha256 {file.sha256}") for kind, file in manifest.files.items()]
    return facts
