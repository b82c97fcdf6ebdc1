"""A zoo as its consumer sees it: names, releases, files and models. torch is imported when a model is loaded."""

import fnmatch
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from zoo import index as table
from zoo.errors import IntegrityError, MissingIndex, UnknownName, WeightsMismatch, did_you_mean

if TYPE_CHECKING:
    from torch import nn

    from zoo.preprocess import Transform
    from zoo.releases.manifest import Manifest

VARIABLE = "ZOO_INDEX"
DEFAULT = Path("artifacts/demo/zoo")

Location = str | os.PathLike[str]


@dataclass(frozen=True)
class Release:
    """One version of one model. Nothing but release.json has been read; files are checked when they are asked for."""

    name: str
    version: int
    folder: Path
    manifest: "Manifest" = field(repr=False)  # release.json

    def file(self, kind: str) -> Path:
        """The path of one file, after its SHA-256 was compared: "onnx", "weights", "plan", "card" or one that the
        release's task adds, such as "detection_head".

        Raises UnknownName for another kind and IntegrityError where the file is missing or changed.
        """
        from zoo.releases.release import checked_file

        files = self.manifest.files
        if kind not in files:
            cure = did_you_mean(kind, files)
            raise UnknownName(f"{self.name} v{self.version}: no file '{kind}'; {cure}".removesuffix("; "))
        return checked_file(self.folder, files[kind])

    def transform(self) -> "Transform":
        """From a PIL image, or an array (H, W, 3) of uint8, to the model's input (3, size, size)."""
        from zoo.preprocess import Transform

        return Transform(self.manifest.origin.preprocessing)

    def load(self) -> "nn.Module":
        """The model in eval mode, built from its source library, the plan and the weights.

        ``model.preprocess`` is the release's transform; it makes one image, so batch it with ``[None]``.

        Raises IntegrityError for a changed file, WeightsMismatch where the installed source library, the plan and the
        weights do not belong together, and MissingLibrary where the source's library is not installed.
        """
        plan_file, weights = self.file("plan"), self.file("weights")

        import torch

        import surgery
        from zoo import tasks
        from zoo.origin import Origin
        from zoo.rebuild import lite_model
        from zoo.source_model import load_weights

        try:
            content = json.loads(plan_file.read_bytes())
            origin = Origin.model_validate_json(json.dumps(content["origin"]))
            plan = surgery.Plan.from_json(content["surgery"])
        except (surgery.PlanMismatch, ValueError, KeyError, TypeError) as error:
            fact = " ".join(str(error).split())[:200]
            raise WeightsMismatch(f"{plan_file}: not a plan: {fact}; build or fetch the release again") from error
        with torch.random.fork_rng(devices=[]):  # the caller's random numbers are not ours to draw
            model = lite_model(origin, plan)
        if surgery.fingerprint(model) != self.manifest.fingerprint:
            raise WeightsMismatch(
                f"{self.folder}: {origin.library}/{origin.model} with this plan is not the model that was released; "
                f"it was made with {origin.library} {origin.library_version}: install that, or build the release again"
            )
        load_weights(model, weights)
        model = tasks.find(origin.task).loadable(model, origin)
        model.preprocess = self.transform()  # type: ignore[assignment]  # a plain attribute, neither tensor nor module
        return model


def location(index: Location | None = None) -> Path:
    """The zoo's folder: ``index`` (it, or its index.json), else $ZOO_INDEX, else artifacts/demo/zoo right here.

    Raises MissingIndex for a URL.
    """
    asked = index or os.environ.get(VARIABLE) or DEFAULT
    if "://" in str(asked):
        raise MissingIndex(f"{asked}: only local folders are supported; copy the zoo here and give its folder")
    given = Path(asked).expanduser()
    return given.parent if given.name == table.FILE else given


def list_models(
    pattern: str | None = None, *, task: str | None = None, target: str | None = None, index: Location | None = None
) -> list[str]:
    """Names of all releases, sorted, that match ``pattern`` (``*`` and ``?`` as in file names) and do ``task``.

    With ``target`` only those of which it refuses nothing, on none of its devices.

    Raises MissingIndex, IntegrityError for a damaged index and UnsupportedFormat for a newer one.
    """
    releases = table.read(location(index))
    return [
        name
        for name, versions in sorted(releases.items())
        if (pattern is None or fnmatch.fnmatchcase(name, pattern))
        and (task is None or versions[max(versions)].task == task)
        and (target is None or target in versions[max(versions)].targets)
    ]


def get(name: str, version: int | None = None, *, index: Location | None = None) -> Release:
    """One release; the latest version unless another is asked for.

    Raises UnknownName for a name or version that the index does not have, IntegrityError where release.json is not
    the one that the index lists, and what ``list_models`` raises.
    """
    from zoo.releases import release

    zoo_folder = location(index)
    if not isinstance(name, str):
        raise UnknownName(f"{name!r}: not a release's name; give text, see `zoo list`")
    if version is not None and type(version) is not int:
        raise UnknownName(f"{name}: {version!r} is no version; give a whole number, or none for the latest")
    releases = table.read(zoo_folder)
    if name not in releases:
        cure = did_you_mean(name, releases) or "see `zoo list`"
        raise UnknownName(f"{zoo_folder / table.FILE}: no release '{name}'; {cure}")
    versions = releases[name]
    number = max(versions) if version is None else version
    if number not in versions:
        raise UnknownName(
            f"{name}: no version {number!r}; known: {', '.join(str(known) for known in sorted(versions))}"
        )
    folder = table.release_folder(zoo_folder, name, number)
    if not folder.resolve().is_relative_to(zoo_folder.resolve()):
        raise IntegrityError(f"{folder}: leads out of the zoo; build or fetch the release again")
    manifest, sha256 = release.read(zoo_folder, name, number)
    if sha256 != versions[number].release_sha256:
        raise IntegrityError(f"{folder}: release.json is not the one that the index lists; build or fetch it again")
    return Release(name, number, folder, manifest)


def load(name: str, version: int | None = None, *, index: Location | None = None) -> "nn.Module":
    """``get(name, version, index=index).load()``"""
    return get(name, version, index=index).load()
