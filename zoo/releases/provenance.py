"""What a release was built with: library versions and the checkout's commit."""

import subprocess
from importlib import metadata
from pathlib import Path

from zoo.releases.manifest import Provenance

LIBRARIES = (
    *("lite-zoo", "torch", "torchvision", "timm", "mmyolo", "mmdet", "mmengine"),
    *("onnx", "onnxscript", "onnxruntime", "onnxslim", "numpy"),
)


def provenance(name: str, profile: str, root: Path) -> Provenance:
    """The state of this installation and of the checkout at ``root``, and the commands that build the release again."""
    commit, dirty = _checkout(root.resolve())
    return Provenance(
        profile=profile,
        libraries={library: version for library in LIBRARIES if (version := _version(library))},
        commit=commit,
        dirty=dirty,
        commands=(f"doit build:{name} profile={profile}",),
    )


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def _checkout(root: Path) -> tuple[str | None, bool | None]:
    """Commit and whether it has changes; nothing where ``root`` is not itself the top of a checkout with a commit."""
    try:
        top = _git(root, "rev-parse", "--show-toplevel")
        if Path(top).resolve() != root:
            return None, None
        return _git(root, "rev-parse", "--verify", "HEAD"), bool(_git(root, "status", "--porcelain"))
    except (OSError, subprocess.SubprocessError):
        return None, None


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
