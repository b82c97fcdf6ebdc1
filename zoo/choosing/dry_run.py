"""What ``surgery: auto`` would do to a model for a target, without training anything."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

import surgery
from surgery import SurgeryError
from zoo import sources
from zoo.choosing.choose import choose
from zoo.choosing.deployment import Deployment
from zoo.choosing.explanation import Explanation
from zoo.errors import StepError, UnknownName, did_you_mean
from zoo.origin import Origin
from zoo.reading import library, registry
from zoo.reading.document import shown
from zoo.recipe import Export, Source
from zoo.source_model import source_model
from zoo.sources import Entry
from zoo.targets import reading

SEED = 0
BATCH = 2  # random images that gates and normalizations are measured on


@dataclass(frozen=True)
class Asked:
    """A model by its source, and how a recipe exports it."""

    name: str
    source: Source
    export: Export
    target: str | None = None
    device: str = ""
    left: Mapping[str, str] = field(default_factory=dict)


def explain(
    model: str, target: str | None = None, device: str = "", *, root: Path | None = None, size: int | None = None
) -> Explanation:
    """The choices for a recipe's or a library's model (``library/model``), built with random weights.

    ``target`` is by default the recipe's; ``size`` are pixels of the input, by default what published weights expect.
    Raises UnknownName for a model, target or device that does not exist, MissingLibrary, StepError where the model
    cannot be exported or operated on, and InvalidInput for recipes or targets that are wrong.
    """
    with _built(model, target, device, root, size) as built:
        return _chosen(*built)


def operate(
    model: str, target: str | None = None, device: str = "", *, root: Path | None = None, size: int | None = None
) -> tuple[Explanation, surgery.Report]:
    """The choices and the surgery that they lead to, its plan included; as ``explain``."""
    with _built(model, target, device, root, size) as (network, images, deployment):
        explanation = _chosen(network, images, deployment)
        rules, sites = list(explanation.rules), explanation.sites
        return explanation, surgery.lite(network, rules, (images[:1],), [images], sites)[1]


def _chosen(network: nn.Module, images: Tensor, deployment: Deployment) -> Explanation:
    return choose(network, lambda each: deployment.lint(each, images[:1]), deployment.order, (images[:1],), [images])


@contextmanager
def _built(
    model: str, target: str | None, device: str, root: Path | None, size: int | None
) -> Iterator[tuple[nn.Module, Tensor, Deployment]]:
    """The network, images for it and its way to the device; the caller's random numbers stay as they are."""
    asked = _asked(model, root)
    name = target or asked.target
    if name is None:
        raise UnknownName(f"{model}: no recipe of that name, so that a target has to be named; add --target")
    origin = _origin(asked.source, size)
    own = name == asked.target  # what the recipe says of its target holds for no other
    deployment = Deployment(
        name=asked.name,
        origin=origin,
        export=asked.export,
        target=reading.read(name, root),
        target_name=name,
        device=device or (asked.device if own else ""),
        left=asked.left if own else {},
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        torch.manual_seed(SEED)
        network = source_model(origin).eval()
        images = torch.randn(BATCH, 3, origin.preprocessing.size, origin.preprocessing.size)
        try:
            yield network, images, deployment
        except SurgeryError as error:
            raise StepError(f"{model}: surgery: {error}") from error


def _asked(model: str, root: Path | None) -> Asked:
    recipes = library.load(root).recipes if root is not None else {}
    if model in recipes:
        recipe = recipes[model]
        return Asked(model, recipe.source, recipe.export, recipe.target, recipe.device or "", recipe.left)
    name, _, rest = model.partition("/")
    if not rest:
        raise UnknownName(
            f"{model}: no recipe of that name, and no library/model; {did_you_mean(model, recipes)}".rstrip("; ")
        )
    _entry(name, rest)  # before it is a source, whose names have a pattern
    field = sources.find(name).FIELDS[0]
    return Asked(model, Source.model_validate({"library": name, field: rest}), Export())


def _entry(library: str, model: str) -> Entry:
    """The library's model. Raises UnknownName where it has none of that name, or one for a task that is none here."""
    catalogue, known = sources.find(library).catalogue(), registry.modules("zoo.tasks")
    if model not in catalogue:
        raise UnknownName(f"{library} has no model '{shown(model)}'; {did_you_mean(model, catalogue)}".rstrip("; "))
    entry = catalogue[model]
    if entry.task not in known:
        task = entry.task.replace("_", " ")
        raise UnknownName(
            f"{library}/{model} is a model for {task}, which no task covers; known: {', '.join(sorted(known))}"
        )
    return entry


def _origin(source: Source, size: int | None) -> Origin:
    """As if its published weights were loaded, so that its classes and its input are theirs; of none, its config's."""
    module, entry = sources.find(source.library), _entry(source.library, source.name)
    weights = source.weights or entry.default or (entry.weights[-1] if entry.weights else None)
    labels = module.labels(source.name, weights)
    preprocessing = module.preprocessing(source.name, weights)
    if size is not None:
        preprocessing = preprocessing.model_copy(update={"size": size, "resize": size})
    return Origin(
        library=source.library,
        library_version=module.version(),
        model=source.name,
        options={} if source.anchors is None else {"anchors": source.anchors},
        weights=None,
        task=entry.task,
        num_classes=len(labels),
        labels=labels,
        preprocessing=preprocessing,
        licences=module.licences(source.name, weights),
    )
