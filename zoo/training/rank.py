"""One of the processes that train together: ``python -m zoo.training.rank FITTING.json``, which torchrun starts.

What went wrong is left as JSON beside the fitting, for the process that started torchrun.
"""

import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

from zoo import errors
from zoo.atomic import write_json, write_text
from zoo.source_model import load_weights, save_weights
from zoo.training import devices
from zoo.training.fitting import Fitted, Fitting, built, fit_here

START, END, FITTED, FAILED = "start.safetensors", "end.safetensors", "fitted.json", "failed-{}.json"
SECONDS_BETWEEN_LOOKS = 0.5


def main(file: Path) -> int:
    """Take part in the training, and leave its weights where this is the first process; the exit code."""
    threading.Thread(target=_die_with, args=(os.getppid(),), daemon=True).start()
    try:
        fitting = Fitting.model_validate_json(file.read_bytes())
        with devices.joined():
            devices.agree(fitting.key, "trainings to do")
            fitted = _fit(fitting)
            if fitted is not None:
                write_text(file.with_name(FITTED), fitted.model_dump_json())
    except errors.ZooError as error:
        _leave(file, type(error).__name__, str(error))
        return 1
    except Exception as error:
        traceback.print_exc()
        _leave(file, "", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
        return 1
    return 0


def _fit(fitting: Fitting) -> Fitted | None:
    model = built(fitting)
    load_weights(model, fitting.partial / START)
    fitted = fit_here(model, fitting)
    if not devices.is_first():
        return None
    save_weights(model, fitting.partial / END)
    return fitted


def _leave(file: Path, kind: str, text: str) -> None:
    rank = os.environ["RANK"]
    write_json(file.with_name(FAILED.format(rank)), {"kind": kind, "text": text, "rank": int(rank), "at": time.time()})


def _die_with(parent: int) -> None:
    """torchrun gives each process a session of its own: ended with SIGKILL, it could not take them with it."""
    while os.getppid() == parent:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
