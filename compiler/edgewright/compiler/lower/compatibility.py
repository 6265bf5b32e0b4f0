"""Which models an engine reads, by its version: the file format (IR version) and the standard operators (opset).

onnx writes the newest format that it knows (IR 14 since 1.23), and an engine refuses what is newer than itself. So what
is written follows the oldest engine that may load it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..faults import UnsupportedModel
from ..graph import IR_VERSION, Graph

Release = tuple[int, int]


@dataclass(frozen=True)
class Readable:
    """The newest that an engine loads."""

    ir_version: int
    opset: int


READABLE: dict[str, dict[Release, Readable]] = {"onnxruntime": {(1, 31): Readable(ir_version=13, opset=26)}}
"""From which release on. ONNX Runtime 1.31 is built with onnx 1.21; sources are onnxruntime.ai/docs/reference/
compatibility.html and docs/Versioning.md of onnx, and a test that loads such models in the engine that is installed."""

_LOWER_BOUND = re.compile(r"(?:>=|==|~=|>)\s*(\d+)\.(\d+)")
_UPPER_BOUND = re.compile(r"(<=?|==)\s*(\d+)(?:\.(\d+))?")


def oldest_release(version_range: str) -> Release | None:
    """The lowest release in a range such as `>=1.31,<2` (PEP 440, releases only), or None where it has no lower end."""
    found = [(int(match[1]), int(match[2])) for match in _LOWER_BOUND.finditer(version_range)]
    return max(found, default=None)


def has_releases(version_range: str) -> bool:
    """Whether the range's lowest release also keeps to its upper ends; `>=1.31,<1.20` holds none."""
    oldest = oldest_release(version_range) or (0, 0)
    for match in _UPPER_BOUND.finditer(version_range):
        bound = (int(match[2]), int(match[3] or 0))
        if oldest > bound or (match[1] == "<" and oldest == bound):
            return False
    return True


def readable(engine: str, version_range: str) -> Readable | None:
    """What every version in the range reads, or None where the oldest of them is older than all that are known here."""
    oldest = oldest_release(version_range)
    known = READABLE.get(engine, {})
    rows = [release for release in known if oldest is not None and release <= oldest]
    return known[max(rows)] if rows else None


def check_readable(graph: Graph, engine: str, version_range: str, where: str) -> None:
    """Raises where some engine in the range would refuse the graph.

    Raises:
        UnsupportedModel: no release is in the range, or it begins before the oldest that is known, or the opset is too
            new for it.
    """
    newest = readable(engine, version_range)
    if newest is None or not has_releases(version_range):
        first = min(READABLE[engine])
        raise UnsupportedModel(
            f"{where}: no {engine} of {version_range} is {first[0]}.{first[1]} or newer, for which bundles are made; "
            f"install a newer {engine} there and write its range into the board file"
        )
    opset = graph.opset_imports.get("", 0)
    if opset > newest.opset or newest.ir_version < IR_VERSION:
        raise UnsupportedModel(
            f"{where}: the model uses opset {opset} (IR {IR_VERSION}), and the oldest {engine} of {version_range} "
            f"reads opset {newest.opset} (IR {newest.ir_version}) at most; export it with opset_version={newest.opset}"
        )
