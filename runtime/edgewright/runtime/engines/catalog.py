"""The engines by name, imported when a bundle asks for one."""

from __future__ import annotations

import importlib

from edgewright.bundle.manifest import Manifest

from .protocol import Engine, EngineMissing, ModelRefused
from .versions import satisfies

ENGINES: dict[str, tuple[str, str]] = {
    "native": ("edgewright.runtime.engines.native", "edgewright"),
    "onnxruntime": ("edgewright.runtime.engines.onnxruntime", "onnxruntime"),
}
"""Name of the engine: the module that holds it as `ENGINE`, and the package that brings it."""

_NEEDED = {"onnxruntime": ">=1.31"}
"""What pip is asked for where no bundle says which version it wants."""


def find_engine(name: str) -> Engine:
    """Return an engine by its name.

    Raises:
        ModelRefused: no engine has this name.
        EngineMissing: the engine is not installed.
    """
    if name not in ENGINES:
        raise ModelRefused(f"engine {name!r} is not known here; this version has {', '.join(sorted(ENGINES))}")
    module, package = ENGINES[name]
    try:
        engine: Engine = importlib.import_module(module).ENGINE
    except ImportError as error:
        raise EngineMissing(
            f"engine {name!r} is not installed on this machine ({error}). "
            f"Install it: pip install '{package}{_NEEDED.get(name, '')}'"
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
        _, package = ENGINES[wanted.name]
        install = f"install '{package}{wanted.version}'" if package == wanted.name else f"install --upgrade {package}"
        raise EngineMissing(
            f"the bundle needs {wanted.name} {wanted.version}, this machine has {engine.version()}. "
            f"Install it: pip {install}"
        )
    return engine
