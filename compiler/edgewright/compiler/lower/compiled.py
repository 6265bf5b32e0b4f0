"""A model in the form in which some engine loads it: an ONNX file, code, or the files of another engine."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Protocol

from . import model_file
from .engine_model import EngineModel
from .model_file import ModelFile
from .native.library import FILE, NativeModel
from .native.session import NativeSession
from .onnxruntime import Arithmetic, open_session

Compiled = ModelFile | NativeModel | EngineModel


class Session(Protocol):
    """What running a model needs: the part of `onnxruntime.InferenceSession` that the compiler uses."""

    def get_inputs(self) -> list[Any]:
        """Names and shapes of the inputs."""

    def get_outputs(self) -> list[Any]:
        """Names and shapes of the outputs."""

    def run(self, names: list[str] | None, inputs: dict[str, Any]) -> list[Any]:
        """One call."""


def open_compiled(model: Compiled, arithmetic: Arithmetic, threads: int = 1) -> Session:
    """A session of its engine; native code computes exactly."""
    if isinstance(model, EngineModel):
        return model.open(arithmetic, threads)
    if isinstance(model, NativeModel):
        return NativeSession(model.here, min(threads, model.threads))
    session: Session = open_session(model, arithmetic, threads)
    return session


def digest_of(model: Compiled) -> str:
    """`sha256:…` of all that the model is."""
    return model.digest if isinstance(model, NativeModel | EngineModel) else model_file.digest_of(model)


def size_bytes(model: Compiled) -> int:
    """Of all that ships as the model."""
    return model.size_bytes if isinstance(model, NativeModel | EngineModel) else model_file.size_bytes(model)


def copy_to(model: Compiled, folder: Path) -> None:
    """Puts the model into the `model/` folder of a bundle."""
    if isinstance(model, EngineModel):
        model.copy_to(folder)
    elif isinstance(model, NativeModel):
        shutil.copyfile(model.path, folder / FILE)
    else:
        model_file.copy_to(model, folder)
