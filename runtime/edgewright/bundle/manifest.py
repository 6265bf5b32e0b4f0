"""The manifest: what a bundle says about itself.

It is pure data with a strict reader. Nothing here touches a file, and nothing imports numpy, so that the agent can
read a manifest in a few megabytes. The byte-level description is docs/formats/bundle.md.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from .steps import Step as Step
from .steps import Steps
from .tensor_spec import Datatype as Datatype
from .tensor_spec import Dimension as Dimension
from .tensor_spec import Strict, Text
from .tensor_spec import TensorSpec as TensorSpec

FORMAT_VERSION = 2
"""The newest version. Versions down to `OLDEST_READABLE_VERSION` are read; `oldest_version_for` says which to write."""

OLDEST_READABLE_VERSION = 1

Precision = Literal["float32", "float16", "bfloat16", "int8"]

# The constraints hold for what is read and for what `write_manifest` writes; a struct made in code is not checked.
Name = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._+-]{0,63}\Z")]
"""Becomes part of file names and topics, so it is plain."""
Digest = Annotated[str, Meta(pattern=r"\Asha256:[0-9a-f]{64}\Z")]
Hex = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Count = Annotated[int, Meta(ge=0, lt=2**53)]
"""Every JSON reader holds these exactly."""


class TargetRequirement(Strict, frozen=True, kw_only=True):
    """What a device must be to run this bundle."""

    name: Name
    digest: Digest
    """`sha256:…` of the canonical board data (edgewright.targets.board.Board.digest)."""
    arch: Name
    """`x86_64`, `aarch64`, `armv7l`, `cortex-m`: as `platform.machine()` prints it where there is an OS."""
    isa: tuple[Text, ...]
    """Instruction-set features that the device must have, spelled as in /proc/cpuinfo."""


class EngineRequirement(Strict, frozen=True, kw_only=True):
    """Which engine loads `model/`, and how it is set up."""

    name: Name
    version: Text
    """Version range as in PEP 440, for example `>=1.31,<2`."""
    options: dict[Text, Text | int | bool] = msgspec.field(default_factory=dict)
    """Engine options, for example `{"intra_op_threads": 1, "allow_spinning": false}`."""


class MemoryNeed(Strict, frozen=True, kw_only=True):
    """Predicted memory of the loaded model, in bytes, without the engine itself."""

    model_bytes: Count
    peak_bytes: Count


class Interval(Strict, frozen=True, kw_only=True):
    """A 95 % interval."""

    low: float
    high: float


class Latency(Strict, frozen=True, kw_only=True):
    """How long one inference of batch 1 takes on the target, in milliseconds."""

    p50_ms: float
    interval: Interval
    kind: Literal["measured", "estimated"]
    method: Text
    """How it was found, in one sentence that a person can check."""


class Accuracy(Strict, frozen=True, kw_only=True):
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


class PassRecord(Strict, frozen=True, kw_only=True):
    """One compiler pass that made this model: its name, its options, what it reports to have done."""

    name: Text
    options: dict[Text, Text | int | float | bool | None] = msgspec.field(default_factory=dict)
    evidence: dict[Text, Text | int | float | bool | None] = msgspec.field(default_factory=dict)


class Lineage(Strict, frozen=True, kw_only=True):
    """Where the model came from: enough to make it again, byte for byte."""

    source_digest: Digest
    data_digest: Digest | None
    measurements_digest: Digest | None
    passes: tuple[PassRecord, ...]
    tools: dict[Text, Text]


class Entry(Strict, frozen=True, kw_only=True):
    """One file of the bundle other than the manifest."""

    path: Text
    size_bytes: Count
    sha256: Hex


class StatePair(Strict, frozen=True, kw_only=True):
    """Implicit state of a recurrent model: what `output` gives is fed to `input` of the next step of a sequence."""

    input: Text
    output: Text


class Manifest(Strict, frozen=True, kw_only=True):
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
    """Before `preprocess`; with those of `state`, which clients do not send."""
    outputs: tuple[TensorSpec, ...]
    """After `postprocess`; with those of `state`."""
    preprocess: Steps = ()
    """What the device does to the inputs before the engine runs."""
    postprocess: Steps = ()
    """What it does to the outputs afterwards."""
    model_inputs: tuple[TensorSpec, ...] = ()
    """What the engine is given, where there are steps; else empty, and `inputs` are the model's."""
    model_outputs: tuple[TensorSpec, ...] = ()
    state: tuple[StatePair, ...] = ()
    """Zero at the start of a sequence. Inputs and outputs of the model itself, untouched by steps."""
    memory: MemoryNeed
    latency: Latency
    accuracy: Accuracy | None
    """None where the model was compiled without labels and without a float model to compare with."""
    flags: tuple[Text, ...] = ()
    """Warnings that travel with the bundle, for example `budget-missed`."""
    lineage: Lineage
    entries: tuple[Entry, ...]
    """Every other file, sorted by path."""


def oldest_version_for(*, processed: bool, stateful: bool) -> int:
    """The format version that a bundle is written in: the oldest that can say it, so that older devices run it too."""
    return 2 if processed or stateful else 1
