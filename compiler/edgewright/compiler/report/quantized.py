"""What `edgewright quantize` tells: the JSON of `--json`."""

from __future__ import annotations

import msgspec

from edgewright.bundle.manifest import Interval

from ..data_warning import DataWarning

FORMAT_VERSION = 1


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Immutable, keyword-only."""


class Quality(_Part, frozen=True, kw_only=True):
    """How close the quantized model stays to the float one, on the samples that neither calibration nor tuning saw."""

    samples: int
    snr_db: float
    """On logits where the model ends in a softmax or sigmoid, by the target's arithmetic."""
    exact_snr_db: float
    """The same with exact sums: what the plan costs. If it is higher, the target's CPU saturates."""
    argmax_agreement: float | None
    """Share of samples with the same largest output, by the target's arithmetic; None where there are no classes."""


class Speed(_Part, frozen=True, kw_only=True):
    """One call on this machine, one thread, in milliseconds."""

    float_ms: float
    quantized_ms: float
    time_ratio: float
    """Quantized over float, round by round; below 1 is faster."""
    time_ratio_interval: Interval


class WorstLayer(_Part, frozen=True, kw_only=True):
    """One of the layers that add most error by themselves."""

    name: str
    operator: str
    snr_db: float
    """From the model's inputs on."""
    local_snr_db: float
    """Of this layer alone, given the float model's values."""


class QuantizeReport(_Part, frozen=True, kw_only=True):
    """One run."""

    format_version: int = FORMAT_VERSION
    model_digest: str
    plan_digest: str
    scheme: str
    target: str
    float_bytes: int
    quantized_bytes: int
    operators: dict[str, int]
    """How many compute in what: `int8`, `int16`, `dynamic`, `weights`, `float`."""
    stays_float: dict[str, str]
    """Operators with weights that stay float, and why."""
    forced: dict[str, str] = {}
    """Tensors whose numbers are not those that ONNX Runtime would get, because the format knows no others or wants them
    equal, and why."""
    quality: Quality | None
    """None where no data was given, as are the next two."""
    speed: Speed | None
    worst: tuple[WorstLayer, ...]
    warnings: tuple[DataWarning, ...]
    """About the data."""


def encode(report: QuantizeReport) -> bytes:
    """Canonical JSON."""
    return msgspec.json.format(msgspec.json.encode(report, order="sorted"), indent=2) + b"\n"
