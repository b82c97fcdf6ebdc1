"""Who may import whom: dodo -> zoo.building -> torch-free modules; steps never each other; surgery only torch."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
FRAMEWORKS = frozenset(
    {"torch", "torchvision", "numpy", "PIL", "sklearn", "cv2", "timm", "mmengine", "mmyolo", "mmdet", "mmcv"}
    | {"onnx", "onnxruntime", "onnxscript", "onnxslim", "safetensors", "tensorboard"}
)
TORCH_FREE = {
    *("zoo", "dodo"),
    *(f"zoo.{name}" for name in ("atomic", "cli", "config", "errors", "index", "job", "origin", "plan", "progress")),
    *(f"zoo.{name}" for name in ("measured_as", "recipe", "records", "sources", "tasks")),
    *("zoo.graph.view", "zoo.metric_names", "zoo.predicting.predictions"),
    *(
        f"zoo.{folder.replace('/', '.')}.{file.stem}"
        for folder in (
            *("building", "commands", "data", "layouts", "linting", "linting/formats", "linting/patterns", "reading"),
            *("targets", "targets/limits", "targets/operators", "terminal"),
        )
        for file in (REPOSITORY / "zoo" / folder).glob("[!_]*.py")
    ),
}


def name_of(file: Path) -> str:
    return ".".join(file.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


FILES = {
    name_of(file): file for package in ("zoo", "surgery") for file in sorted((REPOSITORY / package).rglob("*.py"))
} | {"dodo": REPOSITORY / "dodo.py"}


def imports(module: str, *, everywhere: bool) -> set[str]:
    """Names a module imports, ours as modules; those that run at import only, or those inside functions too."""
    file = FILES[module]
    tree = ast.parse(file.read_text(encoding="utf-8"))
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(tree) if everywhere else at_import(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            found |= {name if (name := f"{base}.{alias.name}") in FILES else base for alias in node.names}
    return found


def at_import(node: ast.AST) -> Iterator[ast.AST]:
    """The statements that run when the module is imported."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            yield from (statement for part in child.orelse for statement in (part, *at_import(part)))
            continue
        yield child
        yield from at_import(child)


def reached(module: str) -> dict[str, str]:
    """Everything that importing a module imports, each with the module that does."""
    found: dict[str, str] = {}
    waiting = [module]
    while waiting:
        current = waiting.pop()
        for name in imports(current, everywhere=False):
            parents = [name.rsplit(".", count)[0] for count in range(name.count(".") + 1)]
            for each in parents:
                if each not in found:
                    found[each] = current
                    if each in FILES:
                        waiting.append(each)
    return found


def ours(names: set[str]) -> set[str]:
    return {name for name in names if name.partition(".")[0] in ("zoo", "surgery")}


@pytest.mark.parametrize("module", sorted(TORCH_FREE | {name for name in FILES if name.startswith("zoo.sources.")}))
def test_importing_it_imports_no_framework(module: str) -> None:
    found = {f"{name} (by {by})" for name, by in reached(module).items() if name.partition(".")[0] in FRAMEWORKS}
    assert not found


@pytest.mark.parametrize("module", sorted(name for name in FILES if name.startswith("surgery")))
def test_surgery_imports_torch_and_itself_only(module: str) -> None:
    others = {name.partition(".")[0] for name in imports(module, everywhere=True)} - {"surgery", "torch"}
    assert not others & (FRAMEWORKS | {"zoo", "pydantic", "yaml", "doit", "rich", "click"})


@pytest.mark.parametrize("module", sorted(name for name in FILES if name.startswith("zoo.steps.")))
def test_a_step_imports_no_other_step_and_nothing_of_the_build(module: str) -> None:
    found = ours(imports(module, everywhere=True))
    assert not {name for name in found if name.startswith("zoo.steps")}
    assert not {name for name in found if name.startswith("zoo.building") or name == "zoo.plan"}


@pytest.mark.parametrize("module", sorted(name for name in FILES if not name.startswith("zoo.steps")))
def test_nobody_imports_a_step(module: str) -> None:
    assert not {name for name in imports(module, everywhere=True) if name.startswith("zoo.steps")}


@pytest.mark.parametrize("module", sorted(name for name in FILES if name.startswith("zoo.sources.")))
def test_a_source_imports_its_one_library(module: str) -> None:
    libraries = {"torchvision", "timm", "mmyolo"} & {
        name.partition(".")[0] for name in imports(module, everywhere=True)
    }
    assert libraries <= {module.rpartition(".")[2]}
    assert not {name for name in imports(module, everywhere=True) if name.startswith("surgery")}


def test_the_dodo_file_imports_the_pipeline_only() -> None:
    assert imports("dodo", everywhere=True) - {"pathlib"} == {"zoo.building.pipeline"}


def test_mmyolo_and_its_licence_stay_behind_two_modules() -> None:
    behind = {"zoo.sources.mmyolo", "zoo.tasks.detection"}
    used = {module: {name.split(".")[0] for name in imports(module, everywhere=True)} for module in FILES}
    users = {module for module, names in used.items() if "mmyolo" in names}
    assert users <= behind
    assert "zoo.sources.mmyolo" in users
