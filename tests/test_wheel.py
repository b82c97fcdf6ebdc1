"""What a consumer installs: the wheel alone, in an empty folder, with nothing but an index to read."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_build import NAME, SIZE, SmallBuild

from zoo.targets.reading import names, read

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources and installed into a folder of its own."""
    sources, target = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("installed")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources)
    for package in ("zoo", "surgery", "configs/targets"):
        shutil.copytree(ROOT / package, sources / package, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(target), str(sources)],
        check=True,
    )
    wheel = next(target.glob("lite_zoo-*.whl"))
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", str(target), str(wheel)], check=True)
    return target


def run(code: str, installed: Path, cwd: Path, build: SmallBuild | None = None) -> str:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    if build is not None:
        environment["ZOO_INDEX"] = str(build.zoo / "index.json")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_release_loads_from_the_installed_wheel(installed: Path, small_build: SmallBuild, tmp_path: Path) -> None:
    code = f"""
import zoo, surgery, torch
print(zoo.__file__)
print(surgery.__file__)
model = zoo.load({NAME!r})
print(tuple(model(torch.zeros(1, 3, {SIZE}, {SIZE})).shape), model.training)
print(zoo.get({NAME!r}).file("onnx"))
"""
    lines = run(code, installed, tmp_path, small_build).splitlines()
    assert [Path(line).parents[1] for line in lines[:2]] == [installed, installed]
    assert lines[2] == "(1, 10) False"
    assert lines[3] == str(small_build.zoo / "models" / NAME / "v1" / "model.onnx")


def test_the_command_lists_and_verifies(installed: Path, small_build: SmallBuild, tmp_path: Path) -> None:
    script = installed / "bin" / "zoo"
    environment = {**os.environ, "PYTHONPATH": str(installed), "ZOO_INDEX": str(small_build.zoo)}
    for command, expected in (("list", NAME), ("verify", "1 of 1 releases")):
        done = subprocess.run([script, command], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert expected in done.stdout


def test_the_wheel_holds_the_two_packages_and_no_recipe(installed: Path) -> None:
    holds = {path.name for path in installed.iterdir() if path.suffix != ".whl" and path.name != "bin"}
    assert {name for name in holds if not name.endswith(".dist-info")} == {"zoo", "surgery"}
    assert {file.parent for file in installed.rglob("*.yaml")} == {installed / "zoo/targets/profiles"}


def test_every_target_is_read_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    code = """
from zoo.targets.reading import names, read
print(*(f"{name} {len(read(name).operators)}" for name in names()))
"""
    here = " ".join(f"{name} {len(read(name).operators)}" for name in names())
    assert run(code, installed, tmp_path).strip() == here
