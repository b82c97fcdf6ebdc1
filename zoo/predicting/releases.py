"""A release looks at one image: what it finds, and the picture of it as a file, whole or not there."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

from zoo import atomic
from zoo.data.image_files import loaded
from zoo.errors import UnusableFile, did_you_mean
from zoo.predicting.predictions import Finding
from zoo.releases.consumer import Release

if TYPE_CHECKING:
    from PIL import Image


def predict(release: Release, image_file: Path, picture_file: Path | None = None) -> list[Finding]:
    """What the release's model finds in the image; with ``picture_file`` it is drawn there too.

    Raises UnusableFile where the image is not there or the picture cannot be written, before the model is loaded
    wherever that can be known; DatasetError where the image cannot be decoded; and what ``Release.load`` raises.
    """
    try:
        if not image_file.is_file():
            raise UnusableFile(f"{image_file}: no such image file; check the path")
        file_format = None if picture_file is None else _writable_format(picture_file, image_file)
    except OSError as error:  # a folder that may not be searched, a name that is too long
        raise UnusableFile(f"{error.filename}: {error.strerror}; check the path") from error
    image = loaded(image_file, cure="give another image")
    from zoo import tasks  # both import torch
    from zoo.preprocess import to_rgb

    image, origin = to_rgb(image), release.manifest.origin
    prediction = tasks.find(origin.task).predicted(image, release.load(), origin)
    if picture_file is not None and file_format is not None:
        _write(prediction.drawn(image), picture_file, file_format)
    return list(prediction.findings())


def _writable_format(picture_file: Path, image_file: Path) -> str:
    """Pillow's name of the format by the file's suffix; raises UnusableFile where the file must not be written."""
    from PIL import Image

    Image.init()
    suffix, formats = picture_file.suffix.lower(), Image.registered_extensions()
    if formats.get(suffix) not in Image.SAVE:
        cure = did_you_mean(suffix, [known for known, name in formats.items() if name in Image.SAVE])
        kind = f"as '{suffix}'" if suffix else "without a suffix"
        raise UnusableFile(f"{picture_file}: no picture can be written {kind}; {cure or 'name it .png or .jpg'}")
    if not picture_file.parent.is_dir():
        raise UnusableFile(f"{picture_file}: there is no folder {picture_file.parent}; make it, or name another")
    if picture_file.is_dir():
        raise UnusableFile(f"{picture_file}: is a folder; name a file")
    if picture_file.exists() and picture_file.samefile(image_file):
        raise UnusableFile(f"{picture_file}: is the image itself, which would be lost; name another file")
    return formats[suffix]


def _write(picture: "Image.Image", file: Path, file_format: str) -> None:
    content = io.BytesIO()
    try:
        picture.save(content, format=file_format)
        atomic.write_bytes(file, content.getvalue())
    except (OSError, ValueError, KeyError) as error:  # what Pillow's encoders and the disk raise
        fact = " ".join(str(error).split()) or type(error).__name__
        raise UnusableFile(f"{file}: cannot be written: {fact}; name another file") from error
