"""PyTorch in: `pkg.mod:build` makes the module, safetensors hold the weights, `torch.export` makes the graph.

Weights are read from safetensors only: a pickled checkpoint runs code when it is loaded.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import logging
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..faults import ModelError, ToolchainMissing, first_line
from ..graph import to_bytes
from .onnx import MAX_MODEL_BYTES, import_proto
from .source import SourceModel

EXPORT_OPSET = 18
"""What torch's exporter writes without a conversion."""
EXPORTER_WARNINGS = (
    r".*LeafSpec.* is deprecated",
    r"The tensor attributes .*_flat_weights.* were assigned during export",
)
"""Raised in the name of standard library modules."""
EXPORTER_MODULES = r"(torch\.(export|onnx|fx|_dynamo|_export)|onnxscript)\b.*"


def load_torch(build: str, weights: Path | None, samples: Mapping[str, NDArray[Any]]) -> SourceModel:
    """Builds, loads and exports a module; the batch stays free.

    Args:
        build: `package.module:function`; the function takes nothing and returns a `torch.nn.Module`.
        weights: safetensors file for `load_state_dict`, or None where `build` returns a trained module.
        samples: two or more samples per input, as the model takes them; `x` stands for the only input.
    """
    try:
        import torch
    except ImportError as error:
        raise ToolchainMissing(
            "PyTorch is not installed, and module:function needs it: pip install 'edgewright[compiler]'"
        ) from error
    module = _build(build, torch.nn.Module)
    if weights is not None:
        _load_weights(module, weights)
    module.eval()
    _check_size(module, build)
    proto = _export(module, build, _named(module, samples))
    graph = import_proto(proto, build)
    hashed = hashlib.sha256(to_bytes(graph))
    return SourceModel(
        graph=graph,
        name=build.rpartition(":")[0].rpartition(".")[2],
        digest=f"sha256:{hashed.hexdigest()}",
        format="torch",
    )


def import_attribute(reference: str, what: str) -> Any:
    """`pkg.mod:name` as an object; modules of the working folder are found as with `python -m`."""
    module_name, _, attribute = reference.partition(":")
    if not module_name or not attribute:
        raise ModelError(f"{what} {reference!r}: expected package.module:function")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ModelError(
            f"{what} {reference!r}: {error}. Run from the folder that holds the module, or install its package"
        ) from error
    except Exception as error:  # the user's module may raise anything while it is imported
        raise ModelError(
            f"{what} {reference!r}: importing {module_name} raised {type(error).__name__}: {error}"
        ) from error


def _build(build: str, module_class: type[Any]) -> Any:
    function = import_attribute(build, "model")
    try:
        module = function()
    except Exception as error:  # the user's code may raise anything
        raise ModelError(f"model {build!r} raised {type(error).__name__}: {first_line(error)}") from error
    if not isinstance(module, module_class):
        raise ModelError(f"model {build!r} returned {type(module).__name__}, expected a torch.nn.Module")
    return module


def _load_weights(module: Any, weights: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if weights.suffix in {".pt", ".pth", ".bin", ".ckpt"}:
        raise ModelError(
            f"{weights}: a pickled checkpoint runs code when it is loaded, so it is not read. "
            "Save with safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"
        )
    try:
        module.load_state_dict(load_file(weights), strict=True)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{weights}: not a readable safetensors file: {error}") from error
    except RuntimeError as error:
        # load_state_dict lists every missing and unexpected key in this error.
        raise ModelError(f"{weights}: does not fit the module: {error}") from error


def _check_size(module: Any, build: str) -> None:
    """The exporter hands the model over as one protobuf."""
    size_bytes = sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))
    if size_bytes > MAX_MODEL_BYTES:
        raise ModelError(
            f"model {build!r} has {size_bytes} bytes of weights; up to {MAX_MODEL_BYTES} are exported here. Export it "
            "yourself with torch.onnx.export(..., dynamo=True, external_data=True), and compile that file"
        )


def _named(module: Any, samples: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Two samples per parameter of `forward`."""
    names = [
        name
        for name, parameter in inspect.signature(module.forward).parameters.items()
        if parameter.default is inspect.Parameter.empty and parameter.kind is not inspect.Parameter.VAR_POSITIONAL
    ]
    if len(names) == 1 and len(samples) == 1:
        return {names[0]: next(iter(samples.values()))[:2]}
    missing = sorted(set(names) - set(samples))
    if missing:
        raise ModelError(f"forward takes {', '.join(names)}; the data has no array named {', '.join(missing)}")
    return {name: samples[name][:2] for name in names}


def _export(module: Any, build: str, samples: Mapping[str, NDArray[Any]]) -> Any:
    import torch

    arguments = tuple(torch.from_numpy(np.ascontiguousarray(array)) for array in samples.values())
    batch = torch.export.Dim("batch", min=1)
    shapes = tuple({0: batch} for _ in arguments)
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # The exporter warns about its own insides; what the user's module warns about is still heard.
            for message in EXPORTER_WARNINGS:
                warnings.filterwarnings("ignore", message=message)
            warnings.filterwarnings("ignore", module=EXPORTER_MODULES)
            program = torch.export.export(module, arguments, dynamic_shapes=shapes, strict=False)
            exported = torch.onnx.export(
                program,
                input_names=list(samples),
                opset_version=EXPORT_OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # torch raises dozens of types here, all meaning: not exportable
        raise ModelError(
            f"model {build!r} cannot be exported by torch.export with a free batch: {first_line(error)}. "
            "Export it to ONNX yourself and compile the file"
        ) from error
    finally:
        quiet.setLevel(level)
    if exported is None:
        raise ModelError(f"model {build!r}: the exporter gave no program")
    return exported.model_proto
