"""The engines by name, imported when a bundle asks for one."""

from __future__ import annotations

import importlib
from typing import NamedTuple

from edgewright.bundle.manifest import Manifest

from .protocol import Engine, EngineMissing, ModelRefused
from .versions import satisfies


class Source(NamedTuple):
    """Where an engine comes from."""

    module: str
    """It holds the engine as `ENGINE`."""
    package: str
    """What pip is asked for."""
    versions: str = ""
    """Of the package, where no bundle says which it wants."""


_OWN = "edgewright"

ENGINES: dict[str, Source] = {
    "native": Source("edgewright.runtime.engines.native", _OWN),
    "onnxruntime": Source("edgewright.runtime.engines.onnxruntime", "onnxruntime", ">=1.31"),
    "litert": Source("edgewright.runtime.engines.litert", "ai-edge-litert", ">=1.2"),
    "openvino": Source("edgewright.runtime.engines.openvino", "openvino", ">=2025.0"),
    "tvm": Source("edgewright.runtime.engines.tvm", "apache-tvm", ">=0.27,<0.28"),
}


def find_engine(name: str) -> Engine:
    """Return an engine by its name.

    Raises:
        ModelRefused: no engine has this name.
        EngineMissing: the engine is not installed.
    """
    if name not in ENGINES:
        raise ModelRefused(f"engine {name!r} is not known here; this version has {', '.join(sorted(ENGINES))}")
    source = ENGINES[name]
    try:
        engine: Engine = importlib.import_module(source.module).ENGINE
    except ImportError as error:
        raise EngineMissing(
            f"engine {name!r} is not installed on this machine ({error}). "
            f"Install it: pip install '{source.package}{source.versions}'"
        ) from error
    return engine


def engine_for(manifest: Manifest) -> Engine:
    """Return the engine that a bundle asks for, in a version that it accepts.

    Raises:
        ModelRefused: no engine has this name, or the version range is not one.
        EngineMissing: the engine is not installed, or in another version.
    """
    wanted = manifest.engine
    engine = find_engine(wanted.name)
    if not satisfies(engine.version(), wanted.version):
        # An engine of our own comes with this program, whose versions count otherwise.
        package = ENGINES[wanted.name].package
        install = f"install --upgrade {package}" if package == _OWN else f"install '{package}{wanted.version}'"
        raise EngineMissing(
            f"the bundle needs {wanted.name} {wanted.version}, this machine has {engine.version()}. "
            f"Install it: pip {install}"
        )
    return engine
