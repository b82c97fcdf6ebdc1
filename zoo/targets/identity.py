"""Whether a target is still what it was: a build's settings hold its digest, so that no record holds all its facts."""

import hashlib
import json
from pathlib import Path

from zoo.errors import StepError
from zoo.targets.reading import read
from zoo.targets.target import Target

# What is for people alone, or is said already by a target that is whole.
WORDS = frozenset({"description", "sources", "extends", "removed", "versions", "rewrites", "detection_heads"})


def digest(target: Target) -> str:
    """SHA-256 over all that a lint depends on; not over what is only for people, nor which target it extends."""
    facts = target.model_dump(mode="json", exclude=set(WORDS))
    return hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_same(name: str, sha256: str, root: Path) -> Target:
    """The target of a checkout that had this digest when the build began; raises StepError where it was edited since.

    Also raises what ``zoo.targets.reading.read`` raises.
    """
    target = read(name, root)
    if digest(target) != sha256:
        raise StepError(f"configs/targets/{name}.yaml was changed while the build ran; build again")
    return target
