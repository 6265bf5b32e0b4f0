"""May this model be loaded beside what runs? Pure; the answer is a reason in words, or None."""

from __future__ import annotations

from edgewright.targets.faults import EnvironmentFault

from ..memory_readings import MemoryReadings

MAX_STALLED_PERCENT = 10.0
"""Above it the device is thrashing already: systemd-oomd begins to think of killing at 60."""


class NoRoom(EnvironmentFault):
    """There is not enough memory for one more model now."""


def refusal(need_bytes: int, readings: MemoryReadings) -> str | None:
    """Return why a model that takes so much while it loads must not be loaded now."""
    if readings.stalled_percent > MAX_STALLED_PERCENT:
        return (
            f"this device is short of memory: for {readings.stalled_percent:g} % of the last 10 s nothing could run "
            f"for want of it, at most {MAX_STALLED_PERCENT:g} % is right for loading a model"
        )
    if need_bytes > readings.free_bytes:
        return (
            f"not enough memory: the model needs {_mib(need_bytes)} MiB while it loads, "
            f"{_mib(readings.free_bytes)} MiB are free beside what runs"
        )
    return None


def _mib(size_bytes: int) -> int:
    return -(-size_bytes // 2**20)
