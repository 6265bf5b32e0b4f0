"""Datatypes of the V2 (Open Inference) protocol as arrays: the one table of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from .tensor_spec import Datatype

NUMBERS: dict[Datatype, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
}
"""Those that numpy computes with, and that a library or a step may have."""

NUMPY_OF_DATATYPE: dict[str, np.dtype[Any]] = {str(name): dtype for name, dtype in NUMBERS.items()} | {
    "BF16": np.dtype(np.uint16),
    "BYTES": np.dtype(np.object_),
}
"""All of them. numpy has no BF16: its tensors are bit patterns, which is what the wire has; engines know what they
mean."""
