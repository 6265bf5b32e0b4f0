"""The direction of dependencies, read from the source text: who may import whom (docs/adr/0001, DESIGN §1)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

PART_FOLDERS: dict[str, str] = {
    "targets": "targets/edgewright/targets",
    "bundle": "runtime/edgewright/bundle",
    "runtime": "runtime/edgewright/runtime",
    "compiler": "compiler/edgewright/compiler",
    "fleet": "fleet/edgewright/fleet",
}

MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "targets": (),
    "bundle": ("edgewright.targets",),
    "runtime": ("edgewright.targets", "edgewright.bundle"),
    # A candidate is scored and timed in the engine classes that devices load it with.
    "compiler": (
        "edgewright.targets",
        "edgewright.bundle",
        "edgewright.runtime.telemetry",
        "edgewright.runtime.engines",
    ),
    "fleet": ("edgewright.targets", "edgewright.bundle", "edgewright.runtime.telemetry"),
}

FORBIDDEN_PACKAGES: dict[str, frozenset[str]] = {
    "targets": frozenset({"torch", "onnx", "onnx_ir", "onnxruntime", "openvino", "fastapi", "starlette", "sqlalchemy"}),
    "bundle": frozenset({"torch", "onnx", "onnx_ir", "onnxruntime", "openvino", "fastapi", "starlette", "sqlalchemy"}),
    "runtime": frozenset({"torch", "onnx", "onnx_ir", "fastapi", "starlette", "sqlalchemy", "uvicorn", "jinja2"}),
    "compiler": frozenset({"fastapi", "starlette", "sqlalchemy", "paho"}),
    "fleet": frozenset({"torch", "onnx", "onnx_ir", "onnxruntime"}),
}


@dataclass(frozen=True)
class Import:
    """One import statement: the module that holds it, what it names, and where."""

    module: str
    imported: str
    line: int
    top_level: bool


def module_name(path: Path, root: Path) -> str:
    """Return the dotted name of a source file, `edgewright.…`."""
    relative = path.relative_to(root)
    parts = list(relative.with_suffix("").parts[1:])
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


def imports_of(path: Path, root: Path) -> Iterator[Import]:
    """Yield every import of a file; relative ones are resolved."""
    name = module_name(path, root)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    top = set(map(id, tree.body))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(name, alias.name, node.lineno, id(node) in top)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - (node.level - 1)]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                yield Import(name, f"{base}.{alias.name}" if base else alias.name, node.lineno, id(node) in top)


def sources(root: Path = ROOT) -> dict[str, list[Path]]:
    """Return the source files of each part."""
    return {part: sorted((root / folder).rglob("*.py")) for part, folder in PART_FOLDERS.items()}


def violations(root: Path = ROOT) -> list[str]:
    """Return one sentence for each import that points the wrong way or names a package that the part must not need."""
    found = []
    for part, files in sources(root).items():
        allowed = (f"edgewright.{part}", *MAY_IMPORT[part])
        for path in files:
            for item in imports_of(path, root):
                where = f"{path.relative_to(root)}:{item.line}"
                first = item.imported.split(".")[0]
                if first == "edgewright" and not any(
                    item.imported == name or item.imported.startswith(name + ".") for name in allowed
                ):
                    found.append(f"{where}: {part} must not import {item.imported}")
                elif first in FORBIDDEN_PACKAGES[part]:
                    if part == "runtime" and "engines" in path.parts:
                        continue
                    found.append(f"{where}: {part} must not need the package {first}")
    return found


def cycles(root: Path = ROOT) -> list[list[str]]:
    """Return the import cycles among our modules, counting imports inside functions too: a late import hides none."""
    known = {module_name(path, root) for files in sources(root).values() for path in files}
    edges: dict[str, set[str]] = {name: set() for name in known}
    for files in sources(root).values():
        for path in files:
            for item in imports_of(path, root):
                target = item.imported if item.imported in known else item.imported.rpartition(".")[0]
                if target in known and target != item.module:
                    edges[item.module].add(target)
    return _components(edges)


def _components(edges: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components with more than one module (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for successor in sorted(edges[node]):
            if successor not in index:
                visit(successor)
                low[node] = min(low[node], low[successor])
            elif successor in stack:
                low[node] = min(low[node], index[successor])
        if low[node] == index[node]:
            component = []
            while True:
                member = stack.pop()
                component.append(member)
                if member == node:
                    break
            if len(component) > 1:
                found.append(sorted(component))

    for node in sorted(edges):
        if node not in index:
            visit(node)
    return found
