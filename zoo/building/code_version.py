"""Which code and which libraries a step's result depends on, found by reading the source without running it.

The code is the step's module and what it imports, transitively, of our own packages; comments, formatting and
docstrings do not count. Sources, tasks and generators are found by their file's name when a step runs: of those the
caller names the one that is used.
"""

import ast
import contextlib
import hashlib
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from zoo import atomic

# What these say cannot change what a step computes: its values reach the step as settings, which are in the key, or
# it is words and files around the work. Without this, rewording an error would train every model again.
NEUTRAL = frozenset(
    f"zoo.{name}"
    for name in (
        "atomic",
        "config",
        "errors",
        "job",
        "metric_names",
        "origin",
        "progress",
        "recipe",
        "records",
        "reading.registry",
        "schedule",
    )
)

# Import name -> distributions whose versions can change a result.
LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "torch": ("torch",),
    "torchvision": ("torchvision",),
    "timm": ("timm",),
    "mmengine": ("mmengine",),
    "mmyolo": ("mmyolo", "mmdet", "mmcv-lite"),
    "numpy": ("numpy",),
    "PIL": ("pillow",),
    "sklearn": ("scikit-learn",),
    "onnx": ("onnx", "onnxscript"),
    "onnxruntime": ("onnxruntime",),
    "onnxslim": ("onnxslim",),
}

# Modules that find others by folder: any of those may be used, as any rule of surgery may be in `default`.
FINDS: Mapping[str, str] = {
    "zoo.linting.recognising": "zoo/linting/patterns",
    "zoo.targets.limits": "zoo/targets/limits",
}

Used = tuple[tuple[str, str], ...]  # (package whose modules are found by name, the one that is used)


@dataclass(frozen=True)
class Version:
    """Of what a step runs."""

    code: str  # SHA-256
    libraries: Mapping[str, str]


@dataclass(frozen=True)
class _Module:
    digest: str
    imports: frozenset[str]


@dataclass
class Tree:
    """Source code below ``folders``; modules of ``packages`` are ours, all others are libraries."""

    folders: tuple[Path, ...]
    packages: frozenset[str] = frozenset({"zoo", "surgery"})
    memory: Path | None = None  # a file that spares reading the source again; whatever is wrong with it, it is remade
    _modules: dict[str, _Module | None] = field(default_factory=dict)
    _versions: dict[tuple[str, Used], Version] = field(default_factory=dict)
    _seen: dict[str, list[Any]] = field(default_factory=dict)
    _folders: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def version(self, module: str, used: Used = ()) -> Version:
        """Of a module's import closure; of each package in ``used`` that it reaches, one module is added."""
        key = (module, used)
        if key not in self._versions:
            self._versions[key] = self._version(module, dict(used))
        return self._versions[key]

    def _version(self, module: str, used: Mapping[str, str]) -> Version:
        closure: dict[str, str] = {}
        libraries: dict[str, str] = {}
        waiting = [module]
        while waiting:
            name = waiting.pop()
            if name in closure or name in NEUTRAL:
                continue
            if name.partition(".")[0] not in self.packages:
                libraries |= _installed(name.partition(".")[0])
            elif found := self._module(name):
                closure[name] = found.digest
                waiting += found.imports
                if name in used:
                    waiting.append(f"{name}.{used[name]}")
                folder = "surgery" if name.partition(".")[0] == "surgery" else FINDS.get(name)
                if folder:
                    waiting += self._inside(folder)
            else:  # not a module but something in its package, as in `from package import name`
                waiting += [name.rpartition(".")[0]] if "." in name else []
        text = "".join(f"{name}\0{digest}\n" for name, digest in sorted(closure.items()))
        return Version(hashlib.sha256(text.encode()).hexdigest(), dict(sorted(libraries.items())))

    def _module(self, name: str) -> _Module | None:
        if name not in self._modules:
            file = self._file(name)
            self._modules[name] = self._known(name, file) if file else None
        return self._modules[name]

    def _known(self, name: str, file: Path) -> _Module:
        """What was read when the file had this size and time, else read now."""
        status = file.stat()
        identity = f"{sys.version_info[:2]} {file} {status.st_size} {status.st_mtime_ns}"
        known = self._remembered.get(identity)
        if known is None:
            module = _read(name, file)
            known = [module.digest, sorted(module.imports)]
        self._seen[identity] = known
        return _Module(known[0], frozenset(known[1]))

    @cached_property
    def _remembered(self) -> dict[str, Any]:
        try:
            content = json.loads(self.memory.read_bytes()) if self.memory else {}
            return {k: v for k, v in content.items() if _is_remembered(*v)}
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            return {}

    def remember(self) -> None:
        """Keep what this build read for the next one."""
        if self.memory and self.memory.parent.is_dir() and not self._seen.keys() <= self._remembered.keys():
            with contextlib.suppress(OSError):  # a build in a folder that cannot be written fails by itself
                atomic.write_json(self.memory, self._seen)

    def _file(self, name: str) -> Path | None:
        path = name.replace(".", "/")
        candidates = (folder / f"{path}{end}" for folder in self.folders for end in (".py", "/__init__.py"))
        return next((file for file in candidates if file.is_file()), None)

    def _inside(self, place: str) -> tuple[str, ...]:
        """Every module of a folder."""
        if place not in self._folders:
            self._folders[place] = tuple(
                ".".join(file.relative_to(folder).with_suffix("").parts).removesuffix(".__init__")
                for folder in self.folders
                for file in (folder / place).rglob("*.py")
            )
        return self._folders[place]


def _is_remembered(digest: Any, imports: Any) -> bool:
    whole = isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest) is not None
    return whole and isinstance(imports, list) and all(isinstance(name, str) for name in imports)


def _read(name: str, file: Path) -> _Module:
    tree = ast.parse(file.read_bytes())
    _drop_types_only(tree)
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    imports = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            imports |= {f"{base}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            _drop_docstring(node)
    return _Module(hashlib.sha256(ast.dump(tree).encode()).hexdigest(), frozenset(imports))


def _absolute(node: ast.ImportFrom, package: str) -> str:
    parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
    return ".".join([*parents, *([node.module] if node.module else [])])


def _drop_types_only(tree: ast.Module) -> None:
    """What only a type checker reads computes nothing."""
    for node in tree.body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []


def _drop_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    match node.body:
        case [ast.Expr(value=ast.Constant(value=str())), *rest]:
            node.body = rest


@cache
def _installed(name: str) -> dict[str, str]:
    found = {}
    for distribution in LIBRARIES.get(name, ()):
        try:
            found[distribution] = version(distribution)
        except PackageNotFoundError:
            found[distribution] = "not installed"  # the step will say so, where it matters
    return found
