"""Names that exist because a file exists: source libraries, tasks, generators, steps, surgery rules.

Nothing is imported to find them: packages that need torch are read, not run.
"""

import ast
import re
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

# A class and its bases, or a class attribute's name; to parse all rules would take most of the time of `doit list`.
_RULE_PART = re.compile(
    r'^class (?P<kind>\w+)(?:\((?P<bases>[^)]*)\))?:|^    name\b[^=\n]*= "(?P<name>[^"\n]+)"$', re.MULTILINE
)


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
    texts = [
        file.read_text(encoding="utf-8") for folder in _folders("surgery") for file in (folder / "rules").glob("*.py")
    ]
    found = [match for text in texts for match in _RULE_PART.finditer(text)]
    bases: dict[str, list[str]] = {}
    names: dict[str, list[str]] = {}
    for match in found:
        if match["kind"]:
            bases[kind := match["kind"]] = [
                base.strip().rpartition(".")[2] for base in (match["bases"] or "").split(",")
            ]
        else:
            names.setdefault(kind, []).append(match["name"])
    return frozenset(name for kind, given in names.items() if _is_rule(kind, bases) for name in given)


def _is_rule(kind: str, bases: Mapping[str, list[str]]) -> bool:
    return any(base.endswith("Rule") or _is_rule(base, bases) for base in bases.get(kind, ()))


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
