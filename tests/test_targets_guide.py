"""The guide to targets: its profiles are read, and its examples show every kind of limit with every field."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, TypeAdapter

from zoo.errors import InvalidInput
from zoo.targets.limit import Limit
from zoo.targets.limits import KINDS, AnyLimit
from zoo.targets.reading import read
from zoo.targets.target import Device, Operator, Opsets, Target

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs/guides/targets.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", GUIDE, flags=re.MULTILINE | re.DOTALL)
LIMITS = [limit for block in BLOCKS if isinstance(given := yaml.safe_load(block), list) for limit in given]
PROFILES = [block for block in BLOCKS if "description: The accelerator" in block]


@pytest.fixture
def chips(tmp_path: Path) -> Path:
    """The guide's two profiles beside each other."""
    for name, text in zip(("chip", "chip-5.0"), PROFILES, strict=True):
        (tmp_path / f"{name}.yaml").write_text(text)
    return tmp_path


def test_every_kind_of_limit_is_shown_with_every_field() -> None:
    limits = [TypeAdapter(AnyLimit).validate_python(limit) for limit in LIMITS]
    conditions = [condition for limit in limits for condition in _inside(limit)]
    common = set(Limit.model_fields)
    shown = _fields_said([*limits, *conditions])
    missing = {model: set(model.model_fields) - common - said for model, said in shown.items()}
    assert {model.__name__: fields for model, fields in missing.items() if fields} == {}
    assert set(KINDS.values()) <= set(shown)
    assert len(KINDS) >= 38
    assert {model.__name__ for model in set(shown) - set(KINDS.values())} == {"Window", "Interpolation", "Signs"}
    assert common <= set().union(*shown.values())


def _inside(limit: Limit) -> Iterator[BaseModel]:
    """The conditions that a limit holds."""
    for _, value in limit:
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, BaseModel):
                yield each


def _fields_said(models: Iterable[BaseModel]) -> dict[type[BaseModel], set[str]]:
    said: dict[type[BaseModel], set[str]] = {}
    for model in models:
        said.setdefault(type(model), set()).update(model.model_fields_set)
    return said


def test_its_profiles_are_read_and_one_extends_the_other(chips: Path) -> None:
    first, second = read(str(chips / "chip.yaml")), read(str(chips / "chip-5.0.yaml"))
    assert set(first.operators) - set(second.operators) == {"Clip"}
    assert [limit.kind for limit in first.operators["Conv"].limits].count("forbidden_window") == 2
    assert second.operators["Add"] == Operator()
    assert [cited.version for cited in second.sources] == ["5.0", "4.2"]


def test_its_patterns_and_devices_are_ones_that_a_profile_can_have() -> None:
    parts: Mapping[str, Any] = {key: value for block in BLOCKS for key, value in _mapping(block).items()}
    patterns = TypeAdapter(dict[str, Operator]).validate_python(parts["patterns"])
    assert [name for name, entry in patterns.items() if entry.cost] == ["silu"]
    devices = TypeAdapter(dict[str, Device]).validate_python(parts["devices"])
    assert {field for device in devices.values() for field in device.model_fields_set} == set(Device.model_fields)


def _mapping(block: str) -> dict[str, Any]:
    given = yaml.safe_load(block)
    return given if isinstance(given, dict) else {}


def test_its_table_is_of_the_targets_that_are_there() -> None:
    rows = re.findall(r"^\| ([a-z0-9_.\-]+) \| (\d+) \| (\d+) \|", GUIDE, flags=re.MULTILINE)
    targets = {file.stem: read(file.stem) for file in (ROOT / "configs/targets").glob("*.yaml")}
    assert {name: (int(count), int(opset)) for name, count, opset in rows} == {
        name: (len(target.operators), target.opset.max) for name, target in targets.items()
    }


def test_its_error_is_the_one_that_is_made(chips: Path) -> None:
    text = (chips / "chip.yaml").read_text()
    (chips / "chip.yaml").write_text(text.replace("kind: allowed_windows", "kind: alowed_windows"))
    with pytest.raises(InvalidInput) as caught:
        read(str(chips / "chip.yaml"))
    (shown,) = re.findall(r"^configs/targets/chip\.yaml(:.*)$", GUIDE, flags=re.MULTILINE)
    assert str(caught.value).partition("chip.yaml")[2] == shown


def test_every_field_of_a_profile_is_mentioned() -> None:
    fields = set(Target.model_fields) | set(Operator.model_fields) | set(Opsets.model_fields)
    assert {field for field in fields if not re.search(rf"`(\w+\.)?{field}\b|\b{field}:", GUIDE)} == set()
