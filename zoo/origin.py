"""Where a model comes from: enough to build the source model again, in another process and another place."""

from typing import Annotated

from pydantic import Field

from zoo.config import Config, Name, Positive, Preprocessing


class Licences(Config):
    """SPDX identifiers or, where there is none, the publisher's own words."""

    code: str
    weights: str


class Origin(Config):
    """The source model as built: what the baseline step leaves in ``source.json`` and a release carries on."""

    library: Name
    library_version: str
    model: Name
    weights: Name | None  # published weights it started from; none: trained from scratch
    task: Name
    num_classes: Positive
    labels: Annotated[tuple[str, ...], Field(strict=False)]
    preprocessing: Preprocessing
    licences: Licences
