"""`zoo data`: is a local copy of a dataset whole, and one that is made of another."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zoo.errors import DatasetError
from zoo.terminal import output_file, progress_bar
from zoo.terminal.exit_codes import WRONG

if TYPE_CHECKING:
    from zoo.config import Dataset
    from zoo.data.checking import Checked


@click.group("data")
def command() -> None:
    """Look at the datasets that models are trained on."""


@command.command("check")
@click.argument("name")
@click.option("--root", metavar="FOLDER", help="Where the copy is. Default: root in its config.")
@click.option("--profile", default="demo", show_default=True, help="Whose generated data to look at, in ./artifacts.")
@click.option("--jobs", type=click.IntRange(min=1), help="Processes that decode images. Default: one for each core.")
@click.option(
    "--list", "listed", type=click.Path(path_type=Path), metavar="FILE", help="Write all that is damaged here."
)
def check(name: str, root: str | None, profile: str, jobs: int | None, listed: Path | None) -> None:
    """Check a local copy of the dataset of configs/datasets/NAME.yaml.

    Images are counted, and each is decoded with its label map or compared with its annotations; every label has to be
    one of the classes. A digest of the list of files is printed, and compared with files_digest in the config where it
    has one. Nothing is written but --list FILE.

    Exit codes: 0 the copy is whole, 1 it is not, each problem a line, 2 a name or folder that does not exist.
    """
    from zoo.building import cores
    from zoo.data.checking import check as checked
    from zoo.reading import one_dataset

    if listed is not None:
        output_file.require(listed)  # not after hours of decoding
    dataset = one_dataset.read(name, Path.cwd())
    folder = _folder(name, dataset, root, profile)
    try:
        with progress_bar.shown(f"decoding {name}") as advance:
            found = checked(
                name,
                dataset,
                folder,
                inside=dataset.generator is not None,
                jobs=jobs or cores.available(),
                advance=advance,
            )
    except OSError as error:
        raise DatasetError(f"{error.filename or folder}: {error.strerror}; make it readable") from error
    _show(name, dataset, folder, found, listed)
    if listed is not None:
        output_file.write(listed, "".join(f"{each}\n" for each in found.damaged))
    if found.problems:
        sys.exit(WRONG)


@command.command("coco-voc")
@click.argument("coco", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
def coco_voc(coco: Path, folder: Path) -> None:
    """Make the dataset coco_voc of a copy of COCO 2017: label maps of VOC's 21 classes.

    FOLDER gets labels/, and images/ with links into COCO. It is made whole or not at all.
    """
    from zoo.data.coco_voc import make

    with progress_bar.shown("drawing label maps") as advance:
        counts = make(coco, folder, advance)
    click.echo(f"{folder}: " + ", ".join(f"{split} {count} images" for split, count in counts.items()))


def _folder(name: str, dataset: "Dataset", root: str | None, profile: str) -> Path:
    """Where the copy is; raises DatasetError where there is none."""
    from zoo.data.summary import expanded_root

    if root is None and dataset.generator is not None:
        folder = Path("artifacts", profile, "data", name)
        if not folder.is_dir():
            made = "" if profile == "demo" else f" profile={profile}"
            raise DatasetError(f"{folder}: not made yet; doit data:{name}{made}")
        return folder
    if root is None:
        return expanded_root(name, dataset)
    folder = Path(root).expanduser() if root.startswith("~/") else Path(root)
    if not root or not folder.is_dir():
        raise DatasetError(f"{folder if root else '--root'}: no such folder; give --root the folder of the copy")
    return folder


def _show(name: str, dataset: "Dataset", folder: Path, found: "Checked", listed: Path | None) -> None:
    for problem in found.problems:
        click.echo(f"{folder}: {problem}", err=True)
    counts = ", ".join(f"{split} {count}" for split, count in found.counts.items())
    facts = [("dataset", dataset.description), ("folder", str(folder))]
    facts += [("images", counts), ("classes", str(found.classes))] if counts else []
    if found.digest:
        facts.append(("files", f"{found.digest} (SHA-256 of {found.digest_of}{_compared(name, dataset, found)})"))
    facts += [("note", note) for note in found.notes]
    for label, value in facts:
        click.echo(f"{label:<8} {value}")
    if not found.problems:
        click.echo("whole: every image can be decoded, and every label is a class")
        return
    click.echo(f"not whole: {_counted(len(found.problems))}; {_cure(dataset, folder, found, listed)}")


def _compared(name: str, dataset: "Dataset", found: "Checked") -> str:
    if dataset.generator is not None:
        return ", compared with dataset.json"
    if dataset.files_digest is not None:
        return ", compared with the config"
    return "" if found.problems else f"; written into configs/datasets/{name}.yaml as files_digest, it is compared"


def _counted(problems: int) -> str:
    return "1 problem" if problems == 1 else f"{problems} problems"


def _cure(dataset: "Dataset", folder: Path, found: "Checked", listed: Path | None) -> str:
    more = "" if listed or len(found.damaged) <= 3 else "; --list FILE names all that is damaged"
    if dataset.generator is not None:
        return f"remove {folder} and make it again{more}"
    where = f", from {dataset.homepage}" if dataset.homepage else ""
    return f"expected {found.layout or dataset.layout}; copy it again{where}{more}"
