"""How long it takes to lint a large ONNX file, and how much memory.

    .venv/bin/python benchmarks/lint_speed.py                        # 100 MB of weights inside the file, for tidl-9.1
    .venv/bin/python benchmarks/lint_speed.py --external             # the weights in a file beside it
    .venv/bin/python benchmarks/lint_speed.py --megabytes 1900 --target tidl-11.2 --runs 1

The model is a residual net of random weights with gates, of which the target refuses some nodes, so that the rules of
surgery are looked up too. Each run is a process of its own, measured from its start to its end; printed is the
fastest, since other programs can only add to wall time, with its parts and its CPU time. Goals: 5 s, 1.5 GB. Exits
with 1 where a goal is missed and says which. Of wall time that is information and not yet a fault of the linter: on a
busy machine the CPU time, which has the same goal, tells what is.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
SECONDS, MEGABYTES = 5.0, 1500.0
CHANNELS, SIDE = 256, 28
BLOCK_MEGABYTES = 2 * 4 * CHANNELS * CHANNELS * 9 / 1e6


def make(file: Path, megabytes: float, *, external: bool) -> None:
    """Write a model whose weights take so many megabytes."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    nodes, weights = [], []

    def convolution(read: str, made: str, shape: tuple[int, ...], **settings: Any) -> None:
        weights.append(numpy_helper.from_array(random.standard_normal(shape, dtype=np.float32), f"{made}.weight"))
        nodes.append(helper.make_node("Conv", [read, f"{made}.weight"], [made], name=f"{made}_conv", **settings))

    convolution("image", "stem", (CHANNELS, 3, 7, 7), strides=[8, 8], pads=[3, 3, 3, 3])
    last = "stem"
    for number in range(max(1, round(megabytes / BLOCK_MEGABYTES))):
        block = f"block{number}"
        convolution(last, f"{block}.first", (CHANNELS, CHANNELS, 3, 3), pads=[1] * 4)
        nodes.append(helper.make_node("Relu", [f"{block}.first"], [f"{block}.relu"]))
        convolution(f"{block}.relu", f"{block}.second", (CHANNELS, CHANNELS, 3, 3), pads=[1] * 4)
        nodes.append(helper.make_node("GlobalAveragePool", [f"{block}.second"], [f"{block}.mean"]))
        nodes.append(helper.make_node("HardSigmoid", [f"{block}.mean"], [f"{block}.gate"]))
        nodes.append(helper.make_node("Mul", [f"{block}.second", f"{block}.gate"], [f"{block}.gated"]))
        nodes.append(helper.make_node("Add", [last, f"{block}.gated"], [block]))
        last = block
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, 8 * SIDE, 8 * SIDE))
    result = helper.make_tensor_value_info(last, TensorProto.FLOAT, (1, CHANNELS, SIDE, SIDE))
    graph = helper.make_graph(nodes, "net", [image], [result], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, file, save_as_external_data=external, location="weights.bin" if external else None)


def lint(file: Path, target: str) -> dict[str, Any]:
    """Read and judge a model in this process; seconds of each part and what was found."""
    begin = time.perf_counter()
    from zoo.graph.reading import read
    from zoo.linting.lint import lint as judge
    from zoo.reading import library

    declared = library.load(REPOSITORY).targets[target]
    ready = time.perf_counter()
    graph = read(file)
    known = time.perf_counter()
    report = judge(graph, declared, model=file.name, target_name=target)
    judged = time.perf_counter()
    return {
        "parts": {"imports and targets": ready - begin, "reading": known - ready, "judging": judged - known},
        "cpu": time.process_time(),
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "nodes": len(graph.nodes),
        "findings": len(report.findings),
    }


def run(file: Path, target: str) -> tuple[float, dict[str, Any]]:
    """The same in a process of its own, with the wall time of it all."""
    command = [sys.executable, str(Path(__file__)), "--in-process", str(file), "--target", target]
    begin = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return time.perf_counter() - begin, json.loads(done.stdout)


def main() -> int:
    """Make a model, lint it some times, print the fastest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=100)
    parser.add_argument("--target", default="tidl-9.1")
    parser.add_argument("--external", action="store_true", help="keep the weights in a file beside the model")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--in-process", type=Path, metavar="FILE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.in_process:
        print(json.dumps(lint(options.in_process, options.target)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        make(file, options.megabytes, external=options.external)
        size = sum(each.stat().st_size for each in Path(folder).iterdir()) / 1e6
        runs = [run(file, options.target) for _ in range(options.runs)]
    seconds, told = min(runs, key=lambda each: each[0])
    cpu = min(each["cpu"] for _, each in runs)
    memory = max(each["megabytes"] for _, each in runs)
    print(f"{size:.0f} MB, {told['nodes']} nodes, {told['findings']} findings for {options.target}")
    parts = ", ".join(f"{part} {spent:.2f}" for part, spent in told["parts"].items())
    print(f"{seconds:.2f} s of {SECONDS:.0f}, {cpu:.2f} s of CPU time: {parts}")
    print(f"{memory:.0f} MB of {MEGABYTES:.0f}")
    missed = [name for name, failed in _goals(seconds, cpu, memory).items() if failed]
    if missed:
        print(f"missed: {', '.join(missed)}")
    return 1 if missed else 0


def _goals(seconds: float, cpu: float, memory: float) -> dict[str, bool]:
    """Whether each is missed."""
    return {"wall time": seconds > SECONDS, "CPU time": cpu > SECONDS, "memory": memory > MEGABYTES}


if __name__ == "__main__":
    sys.exit(main())
