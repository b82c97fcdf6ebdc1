"""Libraries that publish models: one module each, found by its name; the folder is the registry.

A module here imports its library inside its functions: knowing which models exist costs no framework import.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from zoo.config import Preprocessing
from zoo.errors import UnknownName, did_you_mean
from zoo.origin import Licences
from zoo.reading import registry

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Entry:
    """One published model: its ML task as recipes name it, and its published weights.

    ``default`` are the weights of a recipe that names none; where there is no default, a recipe must name them, and
    ``weights`` are sorted from old to new.
    """

    task: str
    weights: tuple[str, ...]
    default: str | None = None


class Source(Protocol):
    """What a module of this folder offers.

    Every function raises MissingLibrary where the library is not installed, and UnknownName, with near names, for a
    model or weights that it does not have.
    """

    FIELDS: tuple[str, ...]  # what a recipe's ``source`` may say beside ``library``; the first names the model

    def version(self) -> str:
        """The installed library's version."""

    def catalogue(self) -> Mapping[str, Entry]:
        """Every published model by name, without importing the library."""

    def build(self, model: str, *, num_classes: int, image_size: int | None = None, **options: Any) -> "nn.Module":
        """The model with fresh weights, drawn from torch's global generator.

        ``image_size`` is for models that are built for one; ``options`` are an origin's.
        It takes a tensor. A classifier returns logits, a segmenter a dict of them, a detector what its head gives.
        """

    def published(self, model: str, weights: str, *, image_size: int | None = None) -> "dict[str, Tensor]":
        """The state_dict of published weights, for the model as `build` makes it with their number of classes.

        Raises MissingWeights where they are not in the cache and cannot be downloaded, IntegrityError where the file
        in the cache is damaged.
        """

    def labels(self, model: str, weights: str | None) -> tuple[str, ...]:
        """What each output of the published weights means; its length is their number of classes.

        ``weights=None`` is for a model of which none are published: as its own config says. So it is of preprocessing.
        """

    def preprocessing(self, model: str, weights: str | None) -> Preprocessing:
        """What the published weights expect of their input."""

    def licences(self, model: str, weights: str | None) -> Licences:
        """Of the model's code and of its published weights; ``weights=None`` for those that a build trains."""


def find(library: str) -> Source:
    """The module of a library.

    Raises UnknownName for a library that no module covers.
    """
    known = registry.modules("zoo.sources")
    if library not in known:
        raise UnknownName(f"unknown source library '{library}'; {did_you_mean(library, known)}".rstrip("; "))
    return cast(Source, importlib.import_module(f"{__name__}.{library}"))
