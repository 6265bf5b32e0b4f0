"""A model in the form in which some engine loads it: an ONNX file, code, or the files of another engine."""

from __future__ import annotations

import shutil
from pathlib import Path

from . import model_file
from .engine_model import EngineModel
from .model_file import ModelFile
from .native.library import FILE, NativeModel
from .native.session import NativeSession
from .onnxruntime import Arithmetic, open_session
from .session import Session

Compiled = ModelFile | NativeModel | EngineModel


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
