"""The manifest: what a bundle says about itself.

It is pure data with a strict reader. Nothing here touches a file, and nothing imports numpy, so that the agent can
read a manifest in a few megabytes. The byte-level description is docs/formats/bundle.md.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

FORMAT_VERSION = 1
"""The version this code writes. Versions down to `OLDEST_READABLE_VERSION` are read."""

OLDEST_READABLE_VERSION = 1

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

Precision = Literal["float32", "float16", "bfloat16", "int8"]

# The constraints hold for what is read and for what `write_manifest` writes; a struct made in code is not checked.
Name = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._+-]{0,63}\Z")]
"""Becomes part of file names and topics, so it is plain."""
Text = Annotated[str, Meta(pattern=r"\A[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]{0,4096}\Z")]
"""One line for people, without the characters that could rewrite or reorder a terminal."""
Digest = Annotated[str, Meta(pattern=r"\Asha256:[0-9a-f]{64}\Z")]
Hex = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Count = Annotated[int, Meta(ge=0, lt=2**53)]
"""Every JSON reader holds these exactly."""
Dimension = Annotated[int, Meta(ge=-1, lt=2**31)]


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=False):
    """Immutable, keyword-only, and unknown keys are refused."""


class TensorSpec(_Strict, frozen=True, kw_only=True):
    """One input or output of the model as a client sees it."""

    name: Text
    datatype: Datatype
    shape: Annotated[tuple[Dimension, ...], Meta(max_length=16)]
    """Dimensions; -1 is free. The first is the batch."""
    layout: Text | None = None
    """For pictures and the like: `NCHW`, `NHWC`; None where it means nothing."""


class TargetRequirement(_Strict, frozen=True, kw_only=True):
    """What a device must be to run this bundle."""

    name: Name
    digest: Digest
    """`sha256:…` of the canonical board data (edgewright.targets.board.Board.digest)."""
    arch: Name
    """`x86_64`, `aarch64`, `armv7l`, `cortex-m`: as `platform.machine()` prints it where there is an OS."""
    isa: tuple[Text, ...]
    """Instruction-set features that the device must have, spelled as in /proc/cpuinfo."""


class EngineRequirement(_Strict, frozen=True, kw_only=True):
    """Which engine loads `model/`, and how it is set up."""

    name: Name
    version: Text
    """Version range as in PEP 440, for example `>=1.31,<2`."""
    options: dict[Text, Text | int | bool] = {}
    """Engine options, for example `{"intra_op_threads": 1, "allow_spinning": false}`."""


class MemoryNeed(_Strict, frozen=True, kw_only=True):
    """Predicted memory of the loaded model, in bytes, without the engine itself."""

    model_bytes: Count
    peak_bytes: Count


class Interval(_Strict, frozen=True, kw_only=True):
    """A 95 % interval."""

    low: float
    high: float


class Latency(_Strict, frozen=True, kw_only=True):
    """How long one inference of batch 1 takes on the target, in milliseconds."""

    p50_ms: float
    interval: Interval
    kind: Literal["measured", "estimated"]
    method: Text
    """How it was found, in one sentence that a person can check."""


class Accuracy(_Strict, frozen=True, kw_only=True):
    """What the shipped model scores on the *test* part of the data, beside the float model on the same samples."""

    metric: Text
    value: float
    interval: Interval
    float_value: float
    drop: float
    """In the metric's own budget unit (points for top1 and auc, relative for errors, dB for snr); positive is worse."""
    drop_interval: Interval
    samples: Count
    snr_db: float | None = None
    argmax_agreement: float | None = None


class PassRecord(_Strict, frozen=True, kw_only=True):
    """One compiler pass that made this model: its name, its options, what it reports to have done."""

    name: Text
    options: dict[Text, Text | int | float | bool | None] = {}
    evidence: dict[Text, Text | int | float | bool | None] = {}


class Lineage(_Strict, frozen=True, kw_only=True):
    """Where the model came from: enough to make it again, byte for byte."""

    source_digest: Digest
    data_digest: Digest | None
    measurements_digest: Digest | None
    passes: tuple[PassRecord, ...]
    tools: dict[Text, Text]


class Entry(_Strict, frozen=True, kw_only=True):
    """One file of the bundle other than the manifest."""

    path: Text
    size_bytes: Count
    sha256: Hex


class Manifest(_Strict, frozen=True, kw_only=True):
    """manifest.json. Deterministic: no build time, no host name, no absolute path."""

    format_version: int
    model: Name
    version: Name
    security_epoch: Count
    """The floor below which no rollback goes; raised by the release owner only, not by every release."""
    precision: Precision
    target: TargetRequirement
    engine: EngineRequirement
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    preprocess: tuple[PassRecord, ...] = ()
    postprocess: tuple[PassRecord, ...] = ()
    memory: MemoryNeed
    latency: Latency
    accuracy: Accuracy | None
    """None where the model was compiled without labels and without a float model to compare with."""
    flags: tuple[Text, ...] = ()
    """Warnings that travel with the bundle, for example `budget-missed`."""
    lineage: Lineage
    entries: tuple[Entry, ...]
    """Every other file, sorted by path."""
