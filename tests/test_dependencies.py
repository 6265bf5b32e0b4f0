"""What `pip install edgewright` brings to a device: followed through the metadata of what is installed here."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.layering import ROOT

WORKSTATION = {
    "torch",
    "onnx",
    "onnx-ir",
    "onnxscript",
    "fastapi",
    "starlette",
    "uvicorn",
    "sqlalchemy",
    "jinja2",
    "pydantic",
}
ENGINES = {"onnxruntime", "openvino", "ai-edge-litert", "apache-tvm"}


def closure(requirements: list[str]) -> set[str]:
    """Return the names of all packages that these requirements bring, without extras."""
    found: set[str] = set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        requirement = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        name = canonicalize_name(requirement.name)
        if name not in found:
            found.add(name)
            waiting += [Requirement(text) for text in metadata.requires(name) or []]
    return found


def project() -> dict[str, object]:
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert isinstance(table, dict)
    return table


def test_a_device_gets_no_workstation_packages() -> None:
    dependencies = project()["dependencies"]
    assert isinstance(dependencies, list)
    brought = closure(dependencies)
    assert {"numpy", "paho-mqtt"} <= brought
    assert brought & (WORKSTATION | ENGINES) == set()


def test_whoever_compiles_can_run_what_he_compares_with() -> None:
    extras = project()["optional-dependencies"]
    assert isinstance(extras, dict)
    assert "onnxruntime" in closure(extras["onnxruntime"])
    assert "onnxruntime" in closure(extras["compiler"])


ABSENT_ENGINES = """
import importlib, pkgutil, sys
for name in ("onnxruntime", "openvino", "ai_edge_litert", "tflite_runtime", "tvm", "tvm_ffi"):
    sys.modules[name] = None
ENGINES = ("onnxruntime", "openvino", "litert", "tvm")
import edgewright.runtime, edgewright.bundle, edgewright.targets
for package in (edgewright.runtime, edgewright.bundle, edgewright.targets):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        engine = module.name.startswith(tuple(f"edgewright.runtime.engines.{e}" for e in ENGINES))
        if not engine and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
from edgewright.runtime.engines.catalog import find_engine
from edgewright.runtime.engines.protocol import EngineMissing
print(find_engine("native").version())
for name in ENGINES:
    try:
        find_engine(name)
    except EngineMissing as missing:
        print(missing)
"""


def test_a_device_without_any_engine_package_runs_native_bundles() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ABSENT_ENGINES], capture_output=True, text=True, check=True, timeout=60
    )
    version, *missing = done.stdout.splitlines()
    assert version == "1"
    for line, package in zip(missing, ("onnxruntime", "openvino", "ai-edge-litert", "apache-tvm"), strict=True):
        assert f"pip install '{package}>=" in line


def test_the_closure_would_see_them() -> None:
    assert "starlette" in closure(["fastapi"])


def test_everything_installed_is_pinned() -> None:
    pinned = {
        canonicalize_name(line.split("==")[0])
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    }
    table = project()
    extras = table["optional-dependencies"]
    base = table["dependencies"]
    assert isinstance(extras, dict)
    assert isinstance(base, list)
    wanted = closure([*base, *extras["compiler"], *extras["fleet"], *extras["native"], *extras["dev"]])
    assert wanted - pinned == set()


@pytest.mark.parametrize("module", ["edgewright.runtime.engines.onnxruntime", "edgewright.compiler.lower.onnxruntime"])
def test_the_engine_does_not_call_home(module: str, tmp_path: Path) -> None:
    """ONNX Runtime's usage reports begin with a device id and a queue on disk, as soon as it is imported."""
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"TMPDIR": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path / "home")}
    subprocess.run([sys.executable, "-c", f"import {module}"], env=environment, check=True, timeout=60)
    assert list(tmp_path.iterdir()) == []
