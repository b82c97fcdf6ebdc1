"""What a layout finds under a dataset's root: samples by split, and what is wrong with how they are listed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from zoo.config import Dataset


@dataclass(frozen=True, slots=True)
class Sample:
    """One image, and what the layout knows of it without opening it."""

    image: Path
    label_map: Path | None = None
    size: tuple[int, int] | None = None  # width and height in pixels, as its annotations say
    label: int | None = None  # its class, where an image has one


@dataclass(frozen=True)
class Contents:
    """A dataset as it is listed; nothing is opened but lists and annotations."""

    layout: str  # where the layout has its files, in words
    labels: tuple[str, ...]
    samples: Mapping[str, Sequence[Sample]]  # by split
    problems: tuple[str, ...] = ()  # what is not cured by leaving samples out
    entries: Mapping[str, str] = field(default_factory=dict)  # of annotations, that cannot be used: where, what
    indexes: tuple[Path, ...] = ()  # lists and annotations that were read

    @property
    def files(self) -> Iterator[Path]:
        """Images and label maps, split by split."""
        for samples in self.samples.values():
            for sample in samples:
                yield sample.image
                if sample.label_map is not None:
                    yield sample.label_map


def miscounted(contents: Contents, dataset: Dataset) -> list[str]:
    """What is wrong with how many images there are, as the config's ``expected`` says it; a split without any is not
    among them, as its layout names it.
    """
    found = []
    for split, expected in dataset.expected.items():
        numbers = sorted(expected) if isinstance(expected, tuple) else [expected]
        count = len(contents.samples.get(split, ()))
        if not count or count in numbers:
            continue
        larger = next((number for number in numbers if number > count), None)
        if larger is None:
            found.append(
                f"{split} has {count} images, {count - numbers[-1]} more than the {numbers[-1]} that there are"
            )
        else:
            found.append(f"{split} is half-copied: {count} images of {larger}")
    return found
