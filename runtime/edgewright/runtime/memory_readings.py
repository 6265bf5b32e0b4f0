"""How much memory one more model or process may take here: what the kernel and the control groups say. No numpy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMemory:
    """One control group (v2) above this process that has a limit."""

    limit_bytes: int
    """`memory.max`, or `memory.high`: beyond the latter the kernel slows the group down."""
    used_bytes: int
    reclaimable_bytes: int
    """Cached file content that the group is charged for, and that goes when memory is needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryReadings:
    """What was read at one time."""

    available_bytes: int | None
    """`MemAvailable`; None where the kernel does not tell."""
    groups: tuple[GroupMemory, ...] = ()
    stalled_percent: float = 0.0
    """Share of the last ten seconds in which nothing could run for want of memory (PSI `full avg10`)."""

    @property
    def free_bytes(self) -> int:
        """The most that may be taken now; a very large number where nothing tells."""
        rooms = [group.limit_bytes - group.used_bytes + group.reclaimable_bytes for group in self.groups]
        return min([2**62 if self.available_bytes is None else self.available_bytes, *(max(0, room) for room in rooms)])


def read_memory(root: Path = Path("/")) -> MemoryReadings:
    """Read /proc and the control groups under `root`."""
    lines = _text(root / "proc/meminfo").splitlines()
    available = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    top = root / "sys/fs/cgroup"
    group = top / _text(root / "proc/self/cgroup").strip().rpartition("::/")[2]
    # A limit may be set on any group above ours.
    above = (group, *(parent for parent in group.parents if parent.is_relative_to(top)))
    return MemoryReadings(
        available_bytes=available[0] if available else None,
        groups=tuple(limited for each in above for limited in _limits(each)),
        stalled_percent=_stalled(_text(root / "proc/pressure/memory")),
    )


def _limits(group: Path) -> list[GroupMemory]:
    used = _text(group / "memory.current").strip()
    limits = [_text(group / name).strip() for name in ("memory.max", "memory.high")]
    found = [int(limit) for limit in limits if limit.isdigit()]
    if not used.isdigit() or not found:
        return []
    reclaimable = _reclaimable(_text(group / "memory.stat"))
    return [GroupMemory(limit_bytes=min(found), used_bytes=int(used), reclaimable_bytes=reclaimable)]


def _reclaimable(memory_stat: str) -> int:
    return sum(int(line.split()[1]) for line in memory_stat.splitlines() if line.startswith("inactive_file "))


def _stalled(pressure: str) -> float:
    for line in pressure.splitlines():
        if line.startswith("full "):
            fields = dict(word.partition("=")[::2] for word in line.split()[1:])
            try:
                return float(fields.get("avg10", "0"))
            except ValueError:
                return 0.0
    return 0.0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # another kernel, another control group version: then it sets no limit
        return ""
