"""How images are fitted into a model's input when it is measured, and who says so.

Published weights are measured as their library evaluates them; a model that is trained here as its dataset's config
says. A profile may set another size, and the rest is scaled with it.
"""

from dataclasses import dataclass
from typing import Literal

from zoo.config import Dataset, Preprocessing


@dataclass(frozen=True)
class MeasuredAs:
    """A protocol of evaluation."""

    preprocessing: Preprocessing
    words: str  # whose it is, for the release


def by_library(preprocessing: Preprocessing, library: str, weights: str, size: int | None, profile: str) -> MeasuredAs:
    """What the library says of its weights; at ``size`` pixels where the profile has one."""
    return _at(MeasuredAs(preprocessing, f"how {library} evaluates its weights {weights}"), size, profile)


def by_dataset(
    name: str, dataset: Dataset, geometry: Literal["crop", "letterbox"], size: int | None, profile: str
) -> MeasuredAs | None:
    """What the dataset's config says, at ``size`` pixels where the profile has one, or that size alone where the
    config says nothing; None where neither does.
    """
    said = dataset.evaluation
    own = said.size if said else size
    if own is None:
        return None
    preprocessing = Preprocessing(
        geometry=geometry,
        resize=said.resize or own if said else own,
        size=own,
        interpolation=said.interpolation if said else "bilinear",
        mean=dataset.mean,
        std=dataset.std,
    )
    if said is None:
        return MeasuredAs(preprocessing, f"the size that profile {profile} has, as dataset {name} states no evaluation")
    return _at(MeasuredAs(preprocessing, f"the evaluation that dataset {name} states"), size, profile)


def _at(measured_as: MeasuredAs, size: int | None, profile: str) -> MeasuredAs:
    own = measured_as.preprocessing
    if size is None or size == own.size:
        return measured_as
    scaled = own.model_copy(update={"size": size, "resize": round(own.resize * size / own.size)})
    return MeasuredAs(
        scaled, f"{measured_as.words}, at {size} pixels in place of {own.size} as profile {profile} has it"
    )
