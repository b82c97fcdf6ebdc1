"""Whatever is in a model, each target that comes with the project says something of it, in every format."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, defs, helper, numpy_helper

from zoo.errors import ZooError
from zoo.graph.reading import read
from zoo.linting.formats import find
from zoo.linting.lint import lint
from zoo.targets import reading

MODELS = 400
TARGETS = {name: reading.read(name) for name in reading.names()}
UNLISTED = {"Einsum", "Gelu", "GroupNormalization", "LSTM", "Range", "RoiAlign", "Shape", "Where"}
OPSETS = (6, 9, 11, 13, 16, 18, 21)
SHAPES = [
    (1, 4, 8, 8),
    (1, 4, 8, 8),
    (1, 8),
    (),
    (0,),
    (1, 4, 1, 1),
    ("n", 4, "h", None),
    (1, 2, 2, 4, 8, 8),
    (1, 0, 8, 8),
]
WHOLE = ([0], [1], [2, 2], [1, 4, 8, 8], [-1], [9, 9], [[1, 2]], 0, 5, [0, 0, 1, 1, 0, 0, 1, 1], [], [2**40])
REAL = ([1.0], [1, 1, 2, 2], [0.5], np.nan, np.inf, 0, [1, 1, 3, np.nan], [], 6.0, 3.0, 2.0)
WEIGHTS = ((4, 4, 3, 3), (4, 1, 7, 7), (4,), (4, 4), (1, 4, 1, 1))
OF_TYPE: dict[str, Callable[[random.Random], Any]] = {
    "INT": lambda chance: chance.choice([0, 1, -1, 2, 3, -3, 99, 2**40]),
    "INTS": lambda chance: [chance.choice([0, 1, 2, 3, -1, -7]) for _ in range(chance.choice([1, 2, 2, 4, 5]))],
    "FLOAT": lambda chance: chance.choice([0.0, 1.0, 1 / 6, 0.5, np.nan, np.inf]),
    "FLOATS": lambda chance: chance.choice([[1.0, 1.0, 2.0, 2.0], [np.nan]]),
    "STRING": lambda chance: chance.choice(["nearest", "linear", "SAME_UPPER", "half_pixel", "constant", "x"]),
}


def drawn(chance: random.Random, ops: Sequence[str], opset: int) -> onnx.ModelProto:
    """A few operators in a row, of inputs and attributes of which most are of the right type and few fit."""
    values, nodes, constants, told = ["x"], [], [], []
    for place in range(chance.randint(1, 6)):
        op = chance.choice(ops)
        schema = defs.get_schema(op, opset) if defs.has(op, opset) else None
        least = schema.min_input if schema else 1
        inputs = [operand(chance, values, constants) for _ in range(least + chance.choice([0, 0, 1, 2]))]
        attributes = {
            name: OF_TYPE[said.type.name](chance) if chance.random() < 0.97 else "of another type"
            for name, said in (schema.attributes.items() if schema else ())
            if said.type.name in OF_TYPE and (said.required or chance.random() < 0.3)
        }
        nodes.append(helper.make_node(op, inputs, [f"v{place}"], **attributes))
        values.append(f"v{place}")
        if chance.random() < 0.4:
            told.append(helper.make_tensor_value_info(f"v{place}", TensorProto.FLOAT, chance.choice(SHAPES)))
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, chance.choice(SHAPES))
    last = helper.make_value_info(values[-1], helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    graph = helper.make_graph(nodes, "drawn", [image], [last], constants, value_info=told)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def operand(chance: random.Random, values: Sequence[str], constants: list[TensorProto]) -> str:
    """A value, a new constant, or nothing."""
    kind = chance.random()
    if kind < 0.55:
        return chance.choice(values)
    if kind > 0.97:
        return ""
    name = f"k{len(constants)}"
    constants.append(
        chance.choice(
            [
                lambda: numpy_helper.from_array(np.array(chance.choice(WHOLE), np.int64), name),
                lambda: numpy_helper.from_array(np.array(chance.choice(REAL), np.float32), name),
                lambda: numpy_helper.from_array(np.ones(chance.choice(WEIGHTS), np.float32), name),
                lambda: numpy_helper.from_array(np.array([3], chance.choice([np.uint8, np.bool_, np.complex64])), name),
                lambda: helper.make_tensor(name, TensorProto.STRING, [1], [b"text"]),
            ]
        )()
    )
    return name


def test_whatever_is_in_a_model_something_is_said_of_it() -> None:
    chance = random.Random(0)
    ops = sorted(UNLISTED.union(*(target.operators for target in TARGETS.values())))
    counts: Counter[str] = Counter()
    for _ in range(MODELS):
        model = drawn(chance, ops, chance.choice(OPSETS))
        try:
            graph = read(model)
        except ZooError:
            counts["refused"] += 1
            continue
        for name, target in TARGETS.items():
            report = lint(graph, target, model="drawn", target_name=name)
            counts["clean" if report.clean else "not clean"] += 1
        for format_ in ("json", "sarif", "html", "table"):
            assert find(format_).write(report)
    assert counts["not clean"] > MODELS
    assert min(counts["refused"], counts["clean"]) > MODELS / 20
