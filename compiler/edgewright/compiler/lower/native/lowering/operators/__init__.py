"""One function per ONNX operator, by domain and type."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from ..walk import Walk

Operator = Callable[[Walk, ir.Node], None]

OPERATORS: dict[tuple[str, str], Operator] = {}
