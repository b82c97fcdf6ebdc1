"""The registry of limits: which kinds there are, how a profile's text becomes one and how it is written back."""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import onnx
import pytest
from limit_cases import ANY_LIMIT, Case, limit
from pydantic import ValidationError

import zoo.targets.limits
from zoo.errors import InvalidInput
from zoo.graph.view import Node, NotKnown, Value
from zoo.reading import strict_yaml
from zoo.reading.validation import validate
from zoo.targets import reading
from zoo.targets.limit import Limit
from zoo.targets.limits import KINDS, kinds_of
from zoo.targets.limits.attribute import AttributeIn, AttributeNotIn
from zoo.targets.target import Operator, Target

FILES = sorted(Path(__file__).parent.glob("test_limits_*.py"))
CASES: list[Case] = [case for file in FILES for case in import_module(file.stem).CASES]
FOLDER = Path(zoo.targets.limits.__file__).parent
TARGET = {
    "description": "a device",
    "sources": [{"title": "its guide"}],
    "opset": {"max": 18, "export": 18},
    "operators": {"Conv": {"limits": [dict(case.limit) for case in CASES]}},
}


def test_every_kind_has_a_node_on_either_side_and_every_module_has_kinds() -> None:
    assert {case.limit["kind"] for case in CASES} == set(KINDS)
    assert {kind.__module__.rpartition(".")[2] for kind in KINDS.values()} == {
        file.stem for file in FOLDER.glob("[!_]*.py")
    }
    assert len(FILES) == 6
    assert len(KINDS) == 41


def test_every_kind_says_what_it_is() -> None:
    own = [kind for kind in KINDS.values() if kind.__doc__ and kind.__doc__ != Limit.__doc__]
    assert len(own) == len(KINDS)


def test_a_target_is_written_and_read_back_with_all_that_its_limits_say() -> None:
    target = Target.model_validate(TARGET)
    written = json.loads(json.dumps(target.model_dump(mode="json")))
    again = Target.model_validate(written)
    assert again == target
    limits = again.operators["Conv"].limits
    assert [type(each) for each in limits] == [KINDS[case.limit["kind"]] for case in CASES]
    assert [type(each) for each in Target.model_validate_json(json.dumps(written)).operators["Conv"].limits] == [
        type(each) for each in limits
    ]
    for case, text in zip(CASES, written["operators"]["Conv"]["limits"], strict=True):
        assert set(case.limit) <= set(text)


def test_the_schema_chooses_by_kind() -> None:
    definitions = Target.model_json_schema()["$defs"]
    items = definitions["Operator"]["properties"]["limits"]["items"]
    assert items["discriminator"]["propertyName"] == "kind"
    assert set(items["discriminator"]["mapping"]) == set(KINDS)
    assert len(items["oneOf"]) == len(KINDS)
    for name, kind in KINDS.items():
        own = definitions[kind.__name__]
        assert own["properties"]["kind"]["const"] == name
        assert "kind" in own["required"]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"kind": "rnk", "max": 4}, "no kind of limit is called 'rnk'; did you mean 'rank'"),
        ({"kind": "clip_rnage"}, "did you mean 'clip_range'"),
        ({"kind": "qqqq"}, "no kind of limit is called 'qqqq'"),
        ({"max": 4}, "discriminator 'kind'"),
        ({"kind": "rank"}, "min, max or both"),
        ({"kind": "resize_scale"}, "at least one of min, max, integer"),
        ({"kind": "forbidden_window", "when": {}}, "at least one of depthwise, dilation_min"),
        ({"kind": "allowed_windows", "only": []}, "at least 1 item"),
        ({"kind": "allowed_windows", "only": [{"kernels": [[3, 3, 3]]}]}, "at most 2 items"),
        ({"kind": "attribute_in", "allowed": {}}, "at least 1 item"),
        ({"kind": "axis_in", "axes": ["-1"]}, "'width', 'height', 'channel' or 'batch'"),
        ({"kind": "plane_max", "value": "1024"}, "valid integer"),
        ({"kind": "broadcastable", "axis": 1}, "Extra inputs"),
    ],
)
def test_what_is_no_limit_is_refused(said: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        limit(said)


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("{kind: rnk, max: 3}", "limits[0].kind: there is no 'rnk'; did you mean 'rank'?"),
        ("{max: 3}", "limits[0]: required field is missing; add 'kind: ...'"),
        ("{kind: rank, max: three}", "limits[0].max: should be a whole number, not 'three'"),
        ("{kind: rank}", "limits[0]: min, max or both must be said"),
        ("{kind: rank, maximum: 3}", "limits[0].maximum: unknown field; did you mean 'max'?"),
        ("{kind: allowed_windows, only: [{kernel: [[3, 3]]}]}", "kernel: unknown field; did you mean 'kernels'?"),
        ("rank", "limits[0]: should be a mapping, not 'rank'"),
    ],
)
def test_a_file_with_a_wrong_limit_has_a_problem_of_one_line(said: str, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "operator.yaml"
    file.write_text(f"limits:\n  - {said}\n", encoding="utf-8")
    with pytest.raises(InvalidInput) as raised:
        validate(strict_yaml.load(file, tmp_path), Operator)
    assert len(raised.value.problems) == 1
    assert problem in str(raised.value)
    assert "operator.yaml:2: " in str(raised.value)


def test_a_made_limit_is_taken_as_it_is() -> None:
    made = limit({"kind": "rank", "max": 4})
    assert Operator(limits=(made,)).limits == (made,)
    assert ANY_LIMIT.dump_python(made)["max"] == 4


def test_two_limits_of_one_kind_are_refused() -> None:
    def module(name: str) -> ModuleType:
        made = ModuleType(name)
        namespace = {"__module__": name, "__annotations__": {"kind": Literal["twin"]}}
        vars(made)["Twin"] = type("Twin", (Limit,), namespace)
        return made

    assert list(kinds_of([module("one")])) == ["twin"]
    with pytest.raises(TypeError, match="Twin in two: the kind 'twin' is Twin's"):
        kinds_of([module("one"), module("two")])


def test_importing_the_limits_imports_no_framework() -> None:
    code = "import sys, zoo.targets.limits; print({'numpy', 'onnx', 'torch'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_attributes_that_shipped_targets_speak_of_are_attributes_of_onnx() -> None:
    known = {name for schema in onnx.defs.get_all_schemas_with_history() for name in schema.attributes}
    targets = [reading.read(name) for name in reading.names()]
    listed = [each for target in targets for each in (*target.operators.values(), *target.patterns.values())]
    limits = [asked for each in listed for asked in each.limits]
    named = {name for asked in limits if isinstance(asked, AttributeIn) for name in asked.allowed}
    named |= {name for asked in limits if isinstance(asked, AttributeNotIn) for name in asked.forbidden}
    assert {"mode", "keepdims", "allowzero", "reduction"} <= named
    assert named <= known


ODD = [
    Node("n", "Conv", (Value("x", (1, 8)), Value("w", (8, 8, 3, 3))), (Value("y"),), {"strides": "two"}, opset=18),
    Node("n", "Conv", (Value("x", ()), Value("w", ())), (), {"kernel_shape": (), "pads": (1,)}, opset=18),
    Node("n", "Resize", (Value("x", (0, 0, 0, 0)),), (Value("y", (1, 1, 1, 1)),), {"mode": 3}, opset=18),
    Node("n", "Upsample", (Value("x", (1, 2)),), (), {"scales": (0.0, -1.0)}, opset=7),
    Node("n", "Slice", (Value("x", (1, 2)),), (), {"starts": (0, 1), "ends": (2,), "axes": (9,)}, opset=9),
    Node("n", "Transpose", (Value("x", (1, 2)),), (Value("y"),), {"perm": (5, 6, 7, 8, 9)}, opset=18),
    Node("n", "Softmax", (), (), {"axis": "last"}, opset=18),
    Node("n", "Clip", (None, None), (), {"min": "low", "max": (1,)}, opset=6),
    Node("n", "DepthToSpace", (Value("x", (1, 8, 4, 4)),), (), {"blocksize": 0}, opset=18),
    Node("n", "ScatterND", (Value("x", (1, 2)), Value("i", (3, 7)), Value("u", ())), (), {}, opset=18),
    Node("n", "Strange", (), (), {}, domain="somewhere.else", opset=1),
    Node("n", "Softmax", (Value("x", (1, 2)),), (Value("y", (1, 2)),), {}, opset=999),
]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd.op)
def test_a_malformed_node_has_an_answer_from_every_limit(odd: Node) -> None:
    answers = 0
    for case in CASES:
        try:
            found = limit(case.limit).broken(odd)
        except NotKnown as error:
            found = str(error)
        answers += found is None or (bool(found) and "\n" not in found)
    assert answers == len(CASES) > len(KINDS)
