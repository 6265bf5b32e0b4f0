"""What a virtual device is, what it holds, and how it is to behave."""

from __future__ import annotations

import msgspec

from edgewright.runtime.telemetry.records import UpdatePhase


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What enrolment gave the device, and what it is."""

    tenant: str
    device: str
    secret: bytes
    target: str
    target_digest: str


class Behaviour(msgspec.Struct, frozen=True, kw_only=True):
    """How one bundle does on this device."""

    update_ends: UpdatePhase = "confirmed"
    """`refused`, `failed` or `rolled_back`: the update ends so, before it would be confirmed."""
    requests_per_step: int = 0
    weights: tuple[tuple[float, ...], ...] = ()
    """For each histogram of the reference, how likely each bin is."""
    failure_rate: float = 0.0
    energy_uj: int = 0
    """Of one request; 0: the board measures none."""
    shadow_rows: int = 0
    """Samples in one step that it answers as the shadow of another; half of them otherwise."""
    label_rate: float = 0.0
    """Share of samples whose truth is told."""
    accuracy: float = 0.5
    """Chance that such a sample was answered right."""
    confidence: tuple[float, ...] = (1.0,)
    """How likely each bin of confidence is, for such samples."""


class Installed(msgspec.Struct, frozen=True, kw_only=True):
    """What a slot holds."""

    version: str
    bundle: str


class Applied(msgspec.Struct, frozen=True):
    """An order that a device began to carry out."""

    epoch: int
    command: str
    bundle: str
