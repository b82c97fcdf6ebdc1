"""A training on as many devices as its launch says: here, or in processes that torchrun starts, one for each device.

Of several nodes, the one that builds starts its own; on each of the others ``zoo.training.join`` does. They share the
folder of artifacts.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zoo import errors, progress
from zoo.atomic import write_text
from zoo.config import Launch
from zoo.errors import StepError, ZooError
from zoo.source_model import load_weights, save_weights
from zoo.training import rank
from zoo.training.fitting import Fitted, Fitting, fit_here

FITTING = "fitting.json"
PROGRESS = re.compile(r" {0,3}(\d{1,3})% (.*)")


def fit(model: nn.Module, fitting: Fitting) -> Fitted:
    """Train the model in place; raises what zoo.training.runner.train does, and StepError where processes fail."""
    if fitting.launch.launcher == "none":
        return fit_here(model, fitting)
    command = torchrun(fitting.launch, fitting.partial / FITTING)
    fitting.partial.mkdir(parents=True, exist_ok=True)
    for old in (rank.END, rank.FITTED, rank.FAILED.format("*")):
        for file in fitting.partial.glob(old):
            file.unlink()
    save_weights(model, fitting.partial / rank.START)
    write_text(fitting.partial / FITTING, fitting.model_dump_json())  # last: other nodes wait for it
    try:
        code = run(command, fitting.launch)
    finally:
        (fitting.partial / FITTING).unlink(missing_ok=True)
    if code or not (fitting.partial / rank.FITTED).is_file():
        raise _failure(fitting, code)
    load_weights(model, fitting.partial / rank.END)
    return Fitted.model_validate_json((fitting.partial / rank.FITTED).read_bytes())


def torchrun(launch: Launch, file: Path) -> list[str]:
    """The command that starts this node's processes.

    Raises StepError where the environment does not say which of several nodes this is, and where they meet.
    """
    own = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={launch.devices}"]
    module = ["-m", rank.__name__, str(file)]
    if launch.nodes == 1:
        return [*own, "--standalone", *module]
    number, address, port = (_variable(name, launch) for name in ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT"))
    where = [f"--nnodes={launch.nodes}", f"--node-rank={number}", f"--master-addr={address}", f"--master-port={port}"]
    return [*own, *where, *module]


def run(command: list[str], launch: Launch) -> int:
    """Run it to its end, in this process's group, so that whoever ends that ends it; its exit code."""
    threads = str(max(1, torch.get_num_threads() // launch.devices))
    with subprocess.Popen(
        command, env={**os.environ, "OMP_NUM_THREADS": threads}, stdout=subprocess.PIPE, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if found := PROGRESS.fullmatch(line.rstrip("\n")):
                progress.report(found[2], int(found[1]) / 100)
            else:
                print(line, end="", flush=True)
    return process.returncode


def _variable(name: str, launch: Launch) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise StepError(
            f"launch: {launch.nodes} nodes, but ${name} is not set; set NODE_RANK (0 on the node that builds), "
            "MASTER_ADDR (its address) and MASTER_PORT (a free port of it) on each node"
        )
    if name != "MASTER_ADDR" and not value.isdecimal():
        raise StepError(f"launch: ${name} is '{value}', not a number; see docs/guides/training.md")
    return value


def _failure(fitting: Fitting, code: int) -> ZooError:
    """What went wrong first: a process whose neighbour failed fails too, for want of it."""
    found = [json.loads(file.read_bytes()) for file in fitting.partial.glob(rank.FAILED.format("*"))]
    if not found:
        return StepError(
            f"{fitting.name}: a process of {_described(fitting.launch)} ended without a word (torchrun's exit code "
            f"{code}); the log has what it printed, and perhaps memory ran out: a smaller batch needs less"
        )
    return _error(min(found, key=lambda each: (not each["kind"], each["at"])), fitting.launch)


def _error(failed: Mapping[str, Any], launch: Launch) -> ZooError:
    if failed["kind"]:
        error: ZooError = getattr(errors, failed["kind"])(failed["text"])
        return error
    return StepError(f"process {failed['rank']} of {_described(launch)}: {failed['text']}; its traceback is in the log")


def _described(launch: Launch) -> str:
    return f"{launch.nodes} nodes with {launch.devices} devices each" if launch.nodes > 1 else f"{launch.devices}"
