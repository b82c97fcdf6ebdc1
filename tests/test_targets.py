"""The target profiles of configs/targets/: each loads, says what its maker's tables say, and names what ONNX has."""

from pathlib import Path

import pytest
from onnx import defs

from zoo.reading import library
from zoo.targets.onnx_names import ATTRIBUTES
from zoo.targets.reading import names, read
from zoo.targets.target import Operator, Target

ROOT = Path(__file__).parents[1]
TARGETS = library.load(ROOT).targets
# Operators and patterns of one layer that each release lists: as many as its table does.
COUNTS = {
    "tidl-8.6": (28, {"channel_shuffle"}),
    "tidl-9.1": (31, {"channel_shuffle", "layer_norm", "gelu_erf"}),
    "tidl-9.2": (32, {"channel_shuffle", "layer_norm", "gelu_erf"}),
    "tidl-10.0": (46, set()),
    "tidl-10.1": (57, set()),
    "tidl-11.0": (72, set()),
    "tidl-11.2": (76, set()),
}
RELEASES = list(COUNTS)
WITHOUT_DEPTH_TO_SPACE = {release: ["AM62A", "AM67A"] for release in RELEASES} | {
    "tidl-8.6": [],
    "tidl-9.1": ["AM62A"],
    "tidl-11.0": [],
    "tidl-11.2": [],
}
LOOKED_UP = {"Sigmoid", "HardSigmoid", "Tanh", "Softmax", "Elu"}  # activations that need a lookup table


def entries(target: Target) -> dict[str, Operator]:
    return {**target.operators, **target.patterns}


def releases_with(name: str) -> list[str]:
    return [release for release in RELEASES if name in entries(TARGETS[release])]


def test_all_targets_are_here_and_the_same_however_they_are_read() -> None:
    assert set(TARGETS) == {*RELEASES, "generic_int8", "generic_int8_attention"} == set(names())
    assert all(read(name) == read(name, ROOT) == target for name, target in TARGETS.items())


@pytest.mark.parametrize("release", RELEASES)
def test_a_release_lists_as_many_operators_as_its_table(release: str) -> None:
    count, patterns = COUNTS[release]
    target = TARGETS[release]
    assert len(target.operators) == count
    assert patterns <= set(target.patterns)


def test_profiles_are_checked_by_the_names_that_onnx_has() -> None:
    known: dict[str, set[str]] = {}
    for schema in defs.get_all_schemas_with_history():
        if not schema.domain:
            known.setdefault(schema.name, set()).update(schema.attributes)
    text = "; ".join(" ".join([name, *sorted(attributes)]) for name, attributes in sorted(known.items()))
    assert known == ATTRIBUTES, text
    assert len({name for target in TARGETS.values() for name in target.operators}) == 76


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_a_target_cites_where_its_facts_come_from(name: str) -> None:
    own = TARGETS[name].sources[0]
    assert own.title
    if name in RELEASES:
        assert own.url is not None
        assert own.version is not None
        assert own.version in own.url
        assert TARGETS[name].versions["tidl-tools"].startswith(own.version) or name == "tidl-11.2"


def test_what_each_release_brought() -> None:
    assert releases_with("MatMul")[0] == releases_with("layer_norm")[0] == releases_with("gelu_erf")[0] == "tidl-9.1"
    assert releases_with("LayerNormalization")[0] == "tidl-10.0"
    assert releases_with("HardSwish") == releases_with("Mish") == ["tidl-10.1", "tidl-11.0", "tidl-11.2"]
    assert releases_with("hardswish") == ["tidl-8.6", "tidl-9.1", "tidl-9.2", "tidl-10.0"]
    assert releases_with("SpaceToDepth") == ["tidl-11.0", "tidl-11.2"]
    assert releases_with("Expand") == ["tidl-11.2"]
    assert releases_with("Gelu") == releases_with("LSTM") == releases_with("Softplus") == []
    means = [TARGETS[release].operators["ReduceMean"].status for release in RELEASES[3:]]
    assert means == ["fused_only", "fused_only", "fused_only", "accelerated"]
    assert [TARGETS[release].opset.max for release in RELEASES] == [11, 18, 18, 18, 19, 19, 21]
    assert [TARGETS[release].ir_version for release in RELEASES] == [None, None, 8, 8, 9, 9, 10]
    assert {TARGETS[release].runtime.max_subgraphs for release in RELEASES} == {16}


@pytest.mark.parametrize("release", RELEASES)
def test_devices_differ_as_their_makers_say(release: str) -> None:
    devices = TARGETS[release].devices
    later = RELEASES.index(release) >= RELEASES.index("tidl-9.2")
    assert set(devices) == {"TDA4VM", "AM68A", "AM69A", "AM62A", "AM62", *(["AM67A"] if later else [])}
    assert devices["TDA4VM"].aliases == ("AM68PA", "J721E")
    assert [name for name, device in devices.items() if not device.accelerator] == ["AM62"]
    assert set(devices["AM62A"].costly) - {"gelu_erf"} == LOOKED_UP
    costly = {name for name, device in devices.items() if device.costly}
    assert costly == ({"AM62A", "AM67A"} if release == "tidl-9.2" else {"AM62A"})
    without = [name for name, device in devices.items() if "DepthToSpace" in device.not_accelerated]
    assert without == WITHOUT_DEPTH_TO_SPACE[release]
