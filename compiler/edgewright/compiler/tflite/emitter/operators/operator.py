"""What there is for an ONNX operator: its function, and what TFLite's kernels of it can do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..sites import Form, Site
from ..walk import Walk

Lower = Callable[[Walk, Site], None]

INT8 = frozenset({"int8"})
INT8_AND_16 = frozenset({"int8", "int16"})

FLOAT_ONLY = Form()


@dataclass(frozen=True)
class Operator:
    """One row of the support table."""

    lower: Lower
    form: Form = FLOAT_ONLY
