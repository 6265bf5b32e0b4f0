"""The house keeps its shape: imports point one way, no cycles, no namespace file, the device needs no workstation."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.layering import PART_FOLDERS, ROOT, cycles, violations


def test_imports_point_one_way() -> None:
    assert violations() == []


def test_no_import_cycles() -> None:
    assert cycles() == []


def test_no_namespace_init_hides_a_part() -> None:
    assert [
        path
        for root in ("targets", "runtime", "compiler", "fleet")
        for path in (ROOT / root).glob("edgewright/__init__.py")
    ] == []


def test_every_part_is_typed() -> None:
    assert [folder for folder in PART_FOLDERS.values() if not (ROOT / folder / "py.typed").exists()] == []


@pytest.mark.parametrize(
    ("part", "line", "complaint"),
    [
        ("targets", "from edgewright.bundle import manifest", "targets must not import edgewright.bundle"),
        ("bundle", "from edgewright.runtime.telemetry import wire", "bundle must not import edgewright.runtime"),
        ("runtime", "import edgewright.compiler", "runtime must not import edgewright.compiler"),
        ("runtime", "def late() -> None:\n    import torch", "runtime must not need the package torch"),
        ("compiler", "from edgewright.fleet import core", "compiler must not import edgewright.fleet"),
        ("fleet", "from edgewright.runtime.agent import slots", "fleet must not import edgewright.runtime.agent"),
    ],
)
def test_a_planted_upward_import_is_caught(tmp_path: Path, part: str, line: str, complaint: str) -> None:
    for folder in PART_FOLDERS.values():
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / PART_FOLDERS[part] / "planted.py").write_text(line + "\n", encoding="utf-8")
    assert any(complaint in sentence for sentence in violations(tmp_path)), violations(tmp_path)


def test_a_planted_cycle_is_caught(tmp_path: Path) -> None:
    for folder in PART_FOLDERS.values():
        (tmp_path / folder).mkdir(parents=True)
    targets = tmp_path / PART_FOLDERS["targets"]
    (targets / "a.py").write_text("from .b import x\n", encoding="utf-8")
    (targets / "b.py").write_text("def f() -> None:\n    from .a import y\n", encoding="utf-8")
    assert cycles(tmp_path) == [["edgewright.targets.a", "edgewright.targets.b"]]


BLOCKED_IMPORT = """
import importlib, pkgutil, sys
for name in {blocked!r}:
    sys.modules[name] = None
import edgewright.runtime, edgewright.bundle, edgewright.targets
for package in (edgewright.runtime, edgewright.bundle, edgewright.targets):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__") and ".engines.openvino" not in module.name:
            importlib.import_module(module.name)
print("imported", len(sys.modules))
"""


def test_the_device_imports_without_the_workstation() -> None:
    blocked = ["torch", "onnx", "onnx_ir", "openvino", "fastapi", "starlette", "uvicorn", "sqlalchemy", "jinja2"]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("targets", "runtime", "compiler", "fleet")),
    }
    run = subprocess.run(
        [sys.executable, "-c", BLOCKED_IMPORT.format(blocked=blocked)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("imported")
