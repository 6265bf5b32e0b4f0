"""May this device run this bundle? Pure; the answer is a reason in words, or None."""

from __future__ import annotations

from dataclasses import dataclass

from edgewright.bundle.manifest import Manifest

from .model_state import Order


@dataclass(frozen=True, kw_only=True)
class DeviceFacts:
    """What this device is."""

    target: str
    """Name of the board that it is, or claims to be."""
    target_digest: str
    arch: str
    isa: frozenset[str]
    memory_bytes: int
    """The most that one more process may use now."""
    emulate: bool


def refusal(manifest: Manifest, order: Order, facts: DeviceFacts, security_floor: int) -> str | None:
    """Return why the bundle is refused, or None where it may be tried."""
    checks = (_identity(manifest, order), _target(manifest, facts), _machine(manifest, facts))
    for reason in checks:
        if reason:
            return reason
    if manifest.security_epoch < security_floor:
        return (
            f"security epoch {manifest.security_epoch} is below this device's floor {security_floor} for "
            f"{manifest.model}: a newer release has closed the way back"
        )
    if manifest.memory.peak_bytes > facts.memory_bytes:
        return (
            f"too big for this device: the model needs {_mib(manifest.memory.peak_bytes)} MiB while it loads, "
            f"{_mib(facts.memory_bytes)} MiB are free"
        )
    return None


def _identity(manifest: Manifest, order: Order) -> str | None:
    if (manifest.model, manifest.version) != (order.model, order.version):
        return f"the bundle is {manifest.model} {manifest.version}, the order is for {order.model} {order.version}"
    if manifest.security_epoch != order.security_epoch:
        return f"the bundle's security epoch is {manifest.security_epoch}, the order says {order.security_epoch}"
    return None


def _target(manifest: Manifest, facts: DeviceFacts) -> str | None:
    wanted = manifest.target
    if wanted.name != facts.target:
        return f"compiled for target {wanted.name}, this device is {facts.target}: compile with --target {facts.target}"
    if wanted.name == "host" and wanted.digest != facts.target_digest:
        return (
            f"compiled for another host machine ({wanted.digest[:19]}…, this one is {facts.target_digest[:19]}…): "
            "compile on this machine, or for a named board"
        )
    return None


def _machine(manifest: Manifest, facts: DeviceFacts) -> str | None:
    if facts.emulate:
        return None
    wanted = manifest.target
    if wanted.arch != facts.arch:
        return f"compiled for {wanted.arch} processors, this one is {facts.arch}"
    missing = sorted(set(wanted.isa) - facts.isa)
    if missing:
        return f"needs processor features that this machine lacks: {', '.join(missing)}"
    return None


def _mib(size_bytes: int) -> int:
    return -(-size_bytes // 2**20)
