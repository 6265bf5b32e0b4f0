"""What a tensor is in a manifest: name, datatype, shape. Without numpy."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Datatype = Literal[
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
    "BYTES",
    "BF16",
]
"""Tensor datatypes, spelled as in the V2 (Open Inference) protocol."""

# The constraints hold for what is read and for what `write_manifest` writes; a struct made in code is not checked.
Text = Annotated[str, Meta(pattern=r"\A[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]{0,4096}\Z")]
"""One line for people, without the characters that could rewrite or reorder a terminal."""
Dimension = Annotated[int, Meta(ge=-1, lt=2**31)]


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=False):
    """Immutable, keyword-only, and unknown keys are refused."""


class TensorSpec(Strict, frozen=True, kw_only=True):
    """One input or output of the model as a client sees it."""

    name: Text
    datatype: Datatype
    shape: Annotated[tuple[Dimension, ...], Meta(max_length=16)]
    """Dimensions; -1 is free. The first is the batch."""
    layout: Text | None = None
    """For pictures and the like: `NCHW`, `NHWC`; None where it means nothing."""
