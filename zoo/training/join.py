"""A further node's part in a training: ``python -m zoo.training.join STEP``, where STEP is the training step's folder.

Waits until the node that builds has come to that step, starts this node's processes and ends with them.
"""

import os
import sys
import time
from pathlib import Path

from zoo.errors import StepError, ZooError
from zoo.training.fitting import Fitting
from zoo.training.launching import FITTING, run, torchrun

SECONDS_BETWEEN_LOOKS = 1.0


def join(step: Path) -> int:
    """The exit code of this node's processes.

    Raises StepError where there is no artifacts folder that the step's could be in, or this is not a further node.
    """
    if not step.parents[1].is_dir():
        raise StepError(f"{step.parents[1]}: no such folder; name a step's below the artifacts that all nodes share")
    if os.environ.get("NODE_RANK") == "0":
        raise StepError("$NODE_RANK is 0, which is the node that builds; set it to 1 or more here")
    while not (found := sorted(step.glob(f"partial/*/{FITTING}"), key=lambda file: file.stat().st_mtime)):
        time.sleep(SECONDS_BETWEEN_LOOKS)
    fitting = Fitting.model_validate_json(found[-1].read_bytes())
    if fitting.launch.nodes == 1:
        raise StepError(f"{step}: is trained on one node; set launch.nodes in the profile, or the recipe's train.nodes")
    return run(torchrun(fitting.launch, found[-1]), fitting.launch)


def main(arguments: list[str]) -> int:
    """The command; 2 where it cannot be done."""
    if len(arguments) != 1:
        print("usage: python -m zoo.training.join artifacts/PROFILE/MODEL/STEP", file=sys.stderr)
        return 2
    try:
        return join(Path(arguments[0]).absolute())
    except ZooError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
