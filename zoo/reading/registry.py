"""Names that exist because a file exists: source libraries, tasks, generators, steps, surgery rules.

Nothing is imported to find them: packages that need torch are read, not run.
"""

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path


@cache
def modules(package: str) -> frozenset[str]:
    """Public module names directly inside an installed package such as ``zoo.tasks``.

    Its parent packages are imported, the package itself is not.
    """
    files = (file for folder in _folders(package) for file in folder.glob("*.py"))
    return frozenset(file.stem for file in files if not file.stem.startswith("_"))


@cache
def rules() -> frozenset[str]:
    """Names of the surgery rules: the ``name = "..."`` of each class that derives, in the end, from a ``...Rule``."""
    classes = [
        statement
        for folder in _folders("surgery")
        for file in (folder / "rules").glob("*.py")
        for statement in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(statement, ast.ClassDef)
    ]
    bases = {each.name: {ast.unparse(base).rpartition(".")[2] for base in each.bases} for each in classes}
    return frozenset(name for each in classes if _is_rule(each.name, bases) for name in _name_of(each))


def _is_rule(name: str, bases: Mapping[str, set[str]]) -> bool:
    return any(base.endswith("Rule") or _is_rule(base, bases) for base in bases.get(name, ()))


@cache
def keyword_arguments(module: str, function: str) -> Mapping[str, str]:
    """Keyword-only arguments of a module's function, each with its annotation as it is written there."""
    package, _, name = module.rpartition(".")
    return {
        argument.arg: ast.unparse(argument.annotation) if argument.annotation else ""
        for folder in _folders(package)
        for statement in ast.parse((folder / f"{name}.py").read_text(encoding="utf-8")).body
        if isinstance(statement, ast.FunctionDef) and statement.name == function
        for argument in statement.args.kwonlyargs
    }


def _folders(package: str) -> list[Path]:
    spec = find_spec(package)
    return [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []


def _name_of(rule: ast.ClassDef) -> Iterator[str]:
    for statement in rule.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="name")], value=ast.Constant(value=str(text))):
                yield text
            case ast.AnnAssign(target=ast.Name(id="name"), value=ast.Constant(value=str(text))):
                yield text
