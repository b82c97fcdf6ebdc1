"""Where a model comes from: enough to build the source model again, in another process and another place."""

from typing import Annotated, Any

from pydantic import Field

from zoo.config import Config, ModelName, Name, Positive, Preprocessing


class Licences(Config):
    """SPDX identifiers or, where there is none, the publisher's own words."""

    code: str
    weights: str


class Origin(Config):
    """The source model as built: what the baseline step leaves in ``source.json`` and a release carries on."""

    library: Name
    library_version: str
    model: ModelName
    # What the recipe changes in the model as the library builds it: JSON values, arguments of the source's `build`.
    options: dict[str, Any] = Field(default_factory=dict)
    weights: str | None  # published weights it started from; none: trained from scratch
    task: Name
    num_classes: Positive
    labels: Annotated[tuple[str, ...], Field(strict=False)]
    preprocessing: Preprocessing
    measured_as: str = ""  # whose preprocessing that is; releases from before it was recorded do not say
    licences: Licences
