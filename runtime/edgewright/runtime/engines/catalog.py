"""The engines by name, imported when a bundle asks for one."""

from __future__ import annotations

import importlib

from edgewright.bundle.manifest import Manifest

from .protocol import Engine, EngineMissing, ModelRefused
from .versions import satisfies

ENGINES: dict[str, tuple[str, str]] = {
    "onnxruntime": ("edgewright.runtime.engines.onnxruntime", "pip install 'onnxruntime>=1.31'"),
}
"""Name of the engine: the module that holds it as `ENGINE`, and the line that installs it."""


def find_engine(name: str) -> Engine:
    """Return an engine by its name.

    Raises:
        ModelRefused: no engine has this name.
        EngineMissing: the engine is not installed.
    """
    if name not in ENGINES:
        raise ModelRefused(f"engine {name!r} is not known here; this version has {', '.join(sorted(ENGINES))}")
    module, install = ENGINES[name]
    try:
        engine: Engine = importlib.import_module(module).ENGINE
    except ImportError as error:
        raise EngineMissing(
            f"engine {name!r} is not installed on this machine ({error}). Install it: {install}"
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
        raise EngineMissing(
            f"the bundle needs {wanted.name} {wanted.version}, this machine has {engine.version()}. "
            f"Install it: pip install '{wanted.name}{wanted.version}'"
        )
    return engine
