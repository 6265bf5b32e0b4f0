"""What there is for a TFLite operator: its function, and how many inputs and outputs it has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ..step import Step

MANY: Final = 4096
"""Inputs or outputs of an operator that takes or gives any number."""


@dataclass(frozen=True)
class Row:
    """One operator."""

    read: Callable[[Step], None]
    least: int
    """Inputs, those that may be absent not counted."""
    most: int
    outputs: int = 1
    """At most; at least one."""
