"""What the speed of a layer depends on: kind, shapes, types and attributes; not names, not the values of weights."""

from __future__ import annotations

import hashlib
from dataclasses import fields, is_dataclass

import numpy as np

from .machine import Machine
from .net import Layer

NOT_COUNTED = frozenset({"name", "origin"})
"""Fields that are there for people."""


def shape_key(layer: Layer, machine: Machine) -> str:
    """32 hex digits: layers with the same key are as fast as each other by the same tile."""
    return hashlib.sha256(f"{machine.name} {_described(layer)}".encode()).hexdigest()[:32]


def _described(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype.name}{value.shape}"
    if is_dataclass(value) and not isinstance(value, type):
        # Tensor.origin is a property, and its border says the same
        parts = [f"{field.name}={_described(getattr(value, field.name))}" for field in fields(value)
                 if field.name not in NOT_COUNTED]  # fmt: skip
        return f"{type(value).__name__}({', '.join(parts)})"
    if isinstance(value, tuple):
        return f"({', '.join(map(_described, value))})"
    return repr(value)
