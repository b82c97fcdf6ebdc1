"""Whatever is in a file, it is read or refused in one line."""

import random
from collections import Counter
from pathlib import Path

from onnx import TensorProto, helper
from small_graphs import OPSET, conv, model, node, tensor, value, weight

from zoo.errors import UnreadableModel
from zoo.graph.reading import read
from zoo.graph.view import NotKnown

FILES = 400


def rich() -> bytes:
    """A little of everything: weights, constants, branches, a function, a dynamic batch."""
    then = helper.make_graph([node("Relu", "c", "t")], "then", [], [value("t")])
    other = helper.make_graph([node("Sigmoid", "c", "t")], "else", [], [value("t")])
    body = [node("Constant", "", "k", value_float=2.0), node("Mul", "a k", "b")]
    function = helper.make_function("my", "Twice", ["a"], ["b"], body, [helper.make_opsetid("", OPSET)])
    nodes = [
        conv("x w", "c", name="conv", pads=[1, 1, 1, 1]),
        node("Shape", "c", "s"),
        node("Gather", "s i", "channels"),
        node("Mul", "channels i", "m"),
        node("ReduceMax", "c", "largest", keepdims=0),
        node("Cast", "largest", "on", to=TensorProto.BOOL),
        node("If", "on", "chosen", then_branch=then, else_branch=other),
        node("Twice", "chosen", "twice", domain="my"),
        node("Einsum", "twice twice", equation="abcd,abcd->abc"),
    ]
    content = model(
        nodes,
        [weight("w", 4, 3, 3, 3), tensor("i", [1])],
        inputs=[value("x", ("N", 3, 8, 8))],
        outputs=[value("y"), value("m", None, TensorProto.INT64)],
        domains=["my"],
        functions=[function],
    )
    return content.SerializeToString()


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Some bytes changed, lost or added, or the end cut off."""
    found = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 4])):
        place = chance.randrange(len(found))
        match chance.choice(["change", "change", "change", "lose", "add", "cut"]):
            case "change":
                found[place] = chance.choice([0, 1, 255, found[place] ^ 1, chance.randrange(256)])
            case "lose":
                del found[place : place + chance.randrange(1, 6)]
            case "add":
                found[place:place] = chance.randbytes(chance.randrange(1, 4))
            case _:
                del found[place + 1 :]
    return bytes(found)


def outcome(file: Path, counts: Counter[str]) -> str:
    """Read a file and its constants, counting them; the refusal, or nothing."""
    try:
        graph = read(file)
    except UnreadableModel as error:
        return str(error)
    for made in (each for every in graph.nodes for each in every.outputs if each.is_constant):
        try:
            made.data()
            counts["constants"] += 1
        except NotKnown:
            counts["not known"] += 1
    return ""


def test_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    content, chance = rich(), random.Random(0)
    file = tmp_path / "model.onnx"
    counts: Counter[str] = Counter()
    refusals = []
    for _ in range(FILES):
        file.write_bytes(damaged(content, chance))
        refusals.append(outcome(file, counts))
    assert all("\n" not in refusal for refusal in refusals)
    assert all(refusal.startswith(f"{file}: ") for refusal in refusals if refusal)
    refused = sum(map(bool, refusals))
    assert min(refused, FILES - refused, counts["constants"]) > 10
