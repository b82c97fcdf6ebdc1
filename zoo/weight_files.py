"""Files of published weights: where they are kept, whether they are whole, how they are fetched by URL.

They stand in torch.hub's cache, ``$TORCH_HOME/hub/checkpoints``, under the last part of their URL, which often ends in
the beginning of their SHA-256: ``resnet18-f37072fd.pth``. A library's files have names of their own. Those of others
may have one that many have, ``epoch_300.pth``: where no digest is in it, a part of the URL's is added.
"""

import hashlib
import os
import re
from pathlib import Path
from urllib.parse import urlparse

from zoo.errors import IntegrityError, MissingWeights

DIGEST = re.compile(r"-([0-9a-f]{8,64})$")  # in a file's name, before its suffix


def place(name: str) -> Path:
    """Where a file of weights belongs."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints" / name


def of_url(url: str, *, by_library: bool = True) -> Path:
    """Where the file of a URL belongs, which a library publishes or somebody else."""
    name = Path(urlparse(url).path)
    if by_library or DIGEST.search(name.stem):
        return place(name.name)
    return place(f"{name.stem}-url_{hashlib.sha256(url.encode()).hexdigest()[:12]}{name.suffix}")


def fetched(url: str, what: str, *, by_library: bool = True) -> Path:
    """The file of a URL, downloaded if it is not here; ``what`` begins the messages.

    Raises MissingWeights where it cannot be downloaded, IntegrityError where it is not what its name says.
    """
    if not _names_a_file(url):
        raise MissingWeights(f"{what}: this is no URL of a file; correct it")
    file = of_url(url, by_library=by_library)
    digest = found[1] if (found := DIGEST.search(file.stem)) else ""
    if is_file(file):
        verify(file, digest, what, url)
    else:
        _download(url, file, digest, what)
    return file


def is_file(file: Path) -> bool:
    """Whether a file is there; unlike Path.is_file, without an exception for a name that is too long."""
    return os.path.isfile(file)  # noqa: PTH113


def verify(file: Path, digest: str, what: str, url: str) -> None:
    """Raises IntegrityError where a file's SHA-256 does not begin with ``digest``.

    torch and the Hugging Face hub compare digests only when they download.
    """
    with file.open("rb") as stream:
        actual = hashlib.file_digest(stream, "sha256").hexdigest()
    if not actual.startswith(digest):
        raise IntegrityError(
            f"{what}: {file} is damaged: its SHA-256 begins with {actual[: len(digest)]}, not {digest}; delete it "
            f"and build again, or download {url} by hand"
        )


def missing(what: str, url: str, file: Path, error: Exception) -> MissingWeights:
    """The error that says what to download and where to place it."""
    return MissingWeights(
        f"{what} are not here and cannot be downloaded ({reason(error)}); download {url} on a connected machine and "
        f"place it at {file}"
    )


def reason(error: Exception) -> str:
    """An exception's text as it may stand in a one-line message."""
    return " ".join(str(error).split())[:120] or type(error).__name__


def _names_a_file(url: str) -> bool:
    try:
        parts = urlparse(url)
    except ValueError:
        return False
    return bool(parts.scheme and Path(parts.path).name)


def _download(url: str, file: Path, digest: str, what: str) -> None:
    from http.client import HTTPException  # here, because it imports ssl and `doit list` reads the sources' catalogues

    import torch

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file), hash_prefix=digest or None, progress=False)
    except (OSError, HTTPException) as error:
        raise missing(what, url, file, error) from error
    except RuntimeError as error:  # the digest is not the one in the name
        raise IntegrityError(f"{what}: the download is damaged ({error}); build again") from error
