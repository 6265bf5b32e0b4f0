"""report.json. It holds no time and no machine path, so that the same build writes the same report."""

from __future__ import annotations

from typing import Literal

import msgspec

from edgewright.bundle.manifest import Accuracy, Interval, Latency, PassRecord

from ..control.outcome import ControlReport
from ..data_warning import DataWarning
from ..faults import EXIT_BUDGET_MISSED, EXIT_SHIPPED
from ..lower.ethos_u.report import NpuReport

FORMAT_VERSION = 1


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Immutable, keyword-only."""


class CandidateReport(_Part, frozen=True, kw_only=True):
    """One way to ship the model, considered for one target."""

    name: str
    precision: str
    model_bytes: int
    latency: Latency
    time_ratio: float
    """Latency over the float model's."""
    time_ratio_interval: Interval
    """Of which the whole must lie below 1 before int8 ships: statistical where measured, else the estimate's error."""
    tune: Accuracy
    test: Accuracy
    verdict: str
    float_operators: dict[str, int]
    """Operators of an int8 candidate that still compute in float."""
    npu: NpuReport | None = None
    """What the compiler of the accelerator says, where it runs on one."""


class TargetReport(_Part, frozen=True, kw_only=True):
    """What came out for one target."""

    target: str
    target_digest: str
    outcome: Literal["shipped", "budget-missed", "failed"]
    exit_code: int
    reason: str
    bundle: str | None = None
    """File name in the output folder."""
    bundle_digest: str | None = None
    bundle_bytes: int | None = None
    c_source: str | None = None
    """File name of the C source, where it was asked for."""
    chosen: str | None = None
    flags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """Why some form of the model was not tried."""
    candidates: tuple[CandidateReport, ...] = ()
    control: ControlReport | None = None
    """Of accuracy control, where int8 was faster but lost too much."""

    @property
    def files(self) -> tuple[str, ...]:
        """Names of what it put into the output folder."""
        return tuple(name for name in (self.bundle, self.c_source) if name is not None)


class SourceReport(_Part, frozen=True, kw_only=True):
    """What went in."""

    format: str
    model_digest: str
    data_digest: str
    samples: dict[str, int]
    split_by: str
    ignored_arrays: tuple[str, ...]


class Report(_Part, frozen=True, kw_only=True):
    """The whole run."""

    format_version: int = FORMAT_VERSION
    model: str
    version: str
    source: SourceReport
    metric: str
    budget: str
    warnings: tuple[DataWarning, ...] = ()
    """About the data; each has its fix."""
    passes: tuple[PassRecord, ...]
    targets: tuple[TargetReport, ...]
    tools: dict[str, str]
    exit_code: int


def exit_code_of(targets: tuple[TargetReport, ...]) -> int:
    """The gravest: 5 toolchain missing, 4 unsupported, 3 budget missed, 2 bad target, 0 when every target shipped."""
    return max((target.exit_code for target in targets), default=EXIT_SHIPPED)


def exit_code_of_outcome(outcome: str) -> int:
    """Of a target that has a bundle."""
    return EXIT_SHIPPED if outcome == "shipped" else EXIT_BUDGET_MISSED


def encode(report: Report) -> bytes:
    """Canonical bytes of report.json."""
    return msgspec.json.format(msgspec.json.encode(report, order="sorted"), indent=2) + b"\n"
