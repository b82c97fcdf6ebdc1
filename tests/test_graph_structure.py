"""Order, names, operator sets, functions and control flow of the graph that is read."""

from collections.abc import Sequence

import onnx
import pytest
from onnx import NodeProto, TensorProto, helper
from small_graphs import IMAGE, OPSET, conv, model, node, one, tensor, value, weight

from zoo.errors import UnreadableModel
from zoo.graph.reading import read
from zoo.graph.view import Graph


def names(graph: Graph) -> list[str]:
    return [each.name for each in graph.nodes]


def refusal(content: onnx.ModelProto) -> str:
    with pytest.raises(UnreadableModel) as caught:
        read(content)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_graph_in_order() -> None:
    graph = read(model([conv("x w", "a", name="first"), node("Relu", "a")], [weight("w", 4, 3, 3, 3)]))
    assert names(graph) == ["first", "Relu_1"]
    assert [each.name for each in graph.inputs] == ["x"]
    assert [each.name for each in graph.outputs] == ["y"]
    assert graph.opsets == {"": OPSET}
    assert graph.ir_version == onnx.IR_VERSION
    assert graph.initializer_bytes == 4 * 4 * 3 * 3 * 3
    assert graph.notes == ()
    assert graph.producers["a"] is graph.nodes[0]
    assert graph.consumers["a"] == (graph.nodes[1],)
    assert [each.opset for each in graph.nodes] == [OPSET, OPSET]


def test_nodes_are_sorted() -> None:
    graph = read(model([node("Relu", "b", "y"), node("Sigmoid", "a", "b"), node("Tanh", "x", "a")]))
    assert names(graph) == ["Tanh_2", "Sigmoid_1", "Relu_0"]
    assert graph.outputs[0].dims == IMAGE
    assert graph.notes == ("The nodes are not in the order in which they run; they were sorted.",)


def test_names_that_are_there_twice_get_numbers() -> None:
    nodes = [node("Relu", "x", "a", name="n"), node("Relu", "a", "b", name="n"), node("Relu", "b", "c", name="n_1")]
    graph = read(model([*nodes, node("Relu", "c", name="Relu_3"), node("Relu", "c", "d")]))
    assert len(set(names(graph))) == 5
    assert names(graph)[0] == "n"
    assert {"n_1", "Relu_3", "Relu_4"} <= set(names(graph))
    assert graph.notes == ("1 node names are there twice, as 'n'; they got numbers.",)


def test_a_name_made_up_does_not_meet_one_given() -> None:
    graph = read(model([node("Relu", "x", "a"), node("Relu", "a", name="Relu_0")]))
    assert names(graph) == ["Relu_0_1", "Relu_0"]


def test_inputs_and_outputs_that_are_left_out() -> None:
    graph = read(model([node("Clip", "x - high")], [tensor("high", 6.0, "float32")]))
    assert [each and each.name for each in one(graph, "Clip").inputs] == ["x", None, "high"]


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        (
            [node("Add", "x b", "a"), node("Relu", "a", "b"), node("Relu", "b")],
            "a cycle, at or before the nodes Add_0,",
        ),
        ([node("Relu", "x"), node("Tanh", "x")], "'y' is made twice; in ONNX each value has one maker"),
        ([node("Relu", "x", "x"), node("Relu", "x")], "'x' is made twice"),
        ([node("Relu", "q", name="n")], "node 'n' reads 'q', which nothing makes"),
        ([node("Relu", "x", "z")], "nothing makes the graph's output 'y'"),
    ],
)
def test_a_graph_that_is_none(nodes: Sequence[NodeProto], message: str) -> None:
    assert message in refusal(model(nodes))


def test_inputs_and_weights_that_are_there_twice() -> None:
    weights = [weight("w", 4, 3, 3, 3), weight("w", 4, 3, 1, 1)]
    assert "'w' is made twice" in refusal(model([conv()], weights))
    assert "'x' is made twice" in refusal(model([node("Relu")], inputs=[value("x"), value("x")]))
    made = [node("Relu", "x", "w"), conv()]
    assert "'w' is made twice" in refusal(model(made, weights[:1]))


def test_weights_that_are_listed_as_inputs_too() -> None:
    inputs = [value("x", IMAGE), value("w", (4, 3, 3, 3))]
    graph = read(model([conv()], [weight("w", 4, 3, 3, 3)], inputs=inputs, ir_version=3))
    assert [each.name for each in graph.inputs] == ["x"]
    assert one(graph, "Conv").input(1).is_constant
    assert graph.ir_version == 3


def test_sparse_weights() -> None:
    sparse = helper.make_sparse_tensor(tensor("w", [2.0, 3.0], "float32"), tensor("i", [1, 5], "int64"), [2, 3])
    content = model([node("MatMul", "x w")], inputs=[value("x", (1, 2))])
    content.graph.sparse_initializer.append(sparse)
    graph = read(content)
    found = one(graph, "MatMul").input(1)
    assert found.shape == (2, 3)
    assert found.data().tolist() == [[0, 2, 0], [0, 0, 3]]
    assert graph.initializer_bytes == 2 * 4 + 2 * 8


def test_an_unknown_opset_is_read_with_a_note() -> None:
    graph = read(model([node("Relu")], opset=9999))
    assert graph.opsets == {"": 9999}
    assert graph.notes[0].startswith("The model is in ONNX opset 9999, the installed onnx knows up to")


def test_opsets_that_are_no_opsets() -> None:
    assert "imports opset 0 of ONNX's own operators; it must be one number above 0" in refusal(
        model([node("Relu")], opset=0)
    )
    contradiction = model([node("Relu")])
    contradiction.opset_import.append(helper.make_opsetid("ai.onnx", 11))
    assert f"imports opset 11 and {OPSET} of ONNX's own operators" in refusal(contradiction)


def test_a_model_without_opset() -> None:
    content = model([node("Relu")])
    del content.opset_import[:]
    assert "does not say which opset of ONNX's operators" in refusal(content)
    content.ir_version = 2
    assert read(content).opsets == {"": 1}


def test_both_names_of_the_own_domain() -> None:
    content = model([node("Relu", domain="ai.onnx")])
    graph = read(content)
    assert (graph.nodes[0].domain, graph.outputs[0].dims) == ("", IMAGE)


def test_a_custom_domain() -> None:
    content = model([node("Fancy", "x", "a", domain="my"), node("Relu", "a")], domains=["my"])
    graph = read(content)
    assert graph.opsets == {"": OPSET, "my": 1}
    assert (graph.nodes[0].op, graph.nodes[0].domain, graph.nodes[0].macs) == ("Fancy", "my", None)
    assert graph.notes == ("No shape is known for 2 of 2 values, first of 'a' behind Fancy 'Fancy_0'.",)
    content.graph.value_info.append(value("a", (1, 5)))
    assert read(content).outputs[0].dims == (1, 5)


def test_a_custom_domain_that_is_not_imported() -> None:
    graph = read(model([node("Fancy", "x", "a", domain="my"), node("Relu", "x")], outputs=[value("y"), value("a")]))
    assert graph.notes[0] == "The model uses operators of the domain 'my' and does not import their opset."
    assert graph.outputs[0].dims == IMAGE


def test_an_operator_that_onnx_does_not_have() -> None:
    graph = read(model([node("Fancy")]))
    assert graph.nodes[0].op == "Fancy"
    assert graph.notes == ("No shape is known for 1 of 1 values, first of 'y' behind Fancy 'Fancy_0'.",)


def with_function(opset: int = OPSET, *, recursive: bool = False) -> onnx.ModelProto:
    body = [node("Twice", "a", "b", domain="my")] if recursive else [node("Relu", "a", "m"), node("Add", "m m", "b")]
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("my", 1)]
    function = helper.make_function("my", "Twice", ["a"], ["b"], body, imports)
    calls = [node("Twice", "x", "z", domain="my"), node("Twice", "z", "y", domain="my")]
    return model(calls, domains=["my"], functions=[function])


def test_local_functions_are_looked_into() -> None:
    graph = read(with_function())
    assert [each.op for each in graph.nodes] == ["Relu", "Add", "Relu", "Add"]
    assert len(set(names(graph))) == 4
    assert (graph.outputs[0].dims, graph.notes) == (IMAGE, ())


def test_a_function_tells_the_opset_that_the_model_does_not() -> None:
    content = with_function()
    del content.opset_import[0]
    graph = read(content)
    assert graph.opsets == {"": OPSET, "my": 1}
    assert graph.outputs[0].dims == IMAGE


def test_functions_that_cannot_be_looked_into_stay_calls() -> None:
    other = read(with_function(opset=13))
    assert [each.op for each in other.nodes] == ["Twice", "Twice"]
    assert other.notes[0] == "Functions in another opset than the model's are not looked into: my.Twice."
    endless = read(with_function(recursive=True))
    assert [each.op for each in endless.nodes] == ["Twice", "Twice"]
    assert endless.notes[0].startswith("The model's functions cannot be inlined: ")


def branching() -> onnx.ModelProto:
    """An If whose two branches use the same names and read a value from around them."""
    convolved = [conv("a w", "c"), node("Relu", "c", "out")]
    then = helper.make_graph(convolved, "then", [], [value("out")], [weight("w", 4, 3, 1, 1)])
    other = helper.make_graph([conv("a w", "out")], "else", [], [value("out")], [weight("w", 4, 3, 3, 3)])
    branch = node("If", "condition", "y", name="if", then_branch=then, else_branch=other)
    decide = node("Cast", "flag", "condition", to=TensorProto.BOOL)
    inputs = [value("x", IMAGE), value("flag", ())]
    return model([branch, decide, node("Tanh", "x", "a")], inputs=inputs)


def test_nodes_in_the_branches_of_an_if() -> None:
    graph = read(branching())
    assert names(graph)[-1] == "if"
    assert {each.name: each.within for each in graph.nodes} == {
        "Cast_1": "",
        "Tanh_2": "",
        "if/then_branch/Conv_0": "if",
        "if/then_branch/Relu_1": "if",
        "if/else_branch/Conv_0": "if",
        "if": "",
    }
    assert set(graph.nodes[0].attributes) | set(graph.nodes[-1].attributes) == {"to"}
    convolutions = {each.name: each for each in graph.nodes if each.op == "Conv"}
    assert convolutions["if/then_branch/Conv_0"].outputs[0].dims == (1, 4, 8, 8)
    assert convolutions["if/then_branch/Conv_0"].macs == 4 * 8 * 8 * 3
    assert convolutions["if/else_branch/Conv_0"].outputs[0].dims == (1, 4, 6, 6)
    assert convolutions["if/else_branch/Conv_0"].macs == 4 * 6 * 6 * 3 * 9
    assert graph.initializer_bytes == 4 * (4 * 3 + 4 * 3 * 9)
    assert graph.notes == (
        "The nodes are not in the order in which they run; they were sorted.",
        "'if' holds 3 nodes; they are listed and counted once, however often they run.",
    )


def test_an_if_reads_what_its_branches_return() -> None:
    graph = read(branching())
    read_by = {each.name for each in one(graph, "If").inputs if each}
    assert read_by == {"condition", "if/then_branch/out", "if/else_branch/out"}
    order = {each.name: position for position, each in enumerate(graph.nodes)}
    for each in graph.nodes:
        made = [graph.producers[read.name].name for read in each.variables if read.name in graph.producers]
        assert all(order[name] < order[each.name] for name in made)


def test_nodes_in_the_body_of_a_loop() -> None:
    inputs = [value("i", (), TensorProto.INT64), value("on", (), TensorProto.BOOL), value("state", IMAGE)]
    outputs = [value("on", (), TensorProto.BOOL), value("next", IMAGE)]
    body = helper.make_graph([conv("state w", "next", pads=[1, 1, 1, 1])], "body", inputs, outputs)
    loop = node("Loop", "times - x", name="loop", body=body)
    graph = read(model([loop], [weight("w", 3, 3, 3, 3), tensor("times", 4, "int64")]))
    found = one(graph, "Conv")
    assert (found.within, found.name, found.macs) == ("loop", "loop/body/Conv_0", 3 * 8 * 8 * 3 * 9)
    assert [each.name for each in found.variables] == ["loop/body/state"]
    assert found.input(1).is_constant
    assert not one(graph, "Loop").folded


def test_a_branch_that_reads_what_nobody_makes() -> None:
    then = helper.make_graph([node("Relu", "q", "out")], "then", [], [value("out")])
    branch = node("If", "x", "y", name="if", then_branch=then, else_branch=then)
    assert "_branch/Relu_0' reads 'q', which nothing makes" in refusal(model([branch]))
