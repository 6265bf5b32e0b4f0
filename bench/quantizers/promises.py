"""The figures that were named before anything was measured, and whether they are met."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from .ours import GUARDED, OURS
from .peers import PEERS

WITHIN_DB = 2.0
TIME_RATIO = 1.05
AGREEMENT = {"kws": 0.985, "mnist": 0.995, "ic": 0.96}
DELTA_TOP1 = {"kws": 0.01, "ic": 0.005}
"""In both directions: damage that happens to score better is damage."""
CALIBRATION_GROWTH_BYTES = 300_000_000
"""Beside the model itself."""
COLD_S, CACHED_S = 15.0, 2.0


@dataclass(frozen=True)
class Promise:
    """One figure and its limit."""

    net: str
    figure: str
    found: float
    relation: Literal["<=", ">="]
    limit: float


def kept(promise: Promise) -> bool:
    """Whether the figure is within its limit."""
    if promise.relation == "<=":
        return promise.found <= promise.limit
    return promise.found >= promise.limit


def promises(net: str, found: dict[str, Any]) -> list[Promise]:
    """What was promised of one net."""
    rows = found["models"]
    mine = rows[OURS]
    judged = [Promise(net, "dB below exact int8, here", mine["below_exact_db"]["value"], "<=", WITHIN_DB)]
    rival = fastest_rival(found)
    if rival is not None:
        figure = f"time over {rival!r}, upper 95 % bound"
        judged.append(Promise(net, figure, rows[rival]["our_time_ratio"]["high"], "<=", TIME_RATIO))
    emulated = rows[GUARDED].get("emulated_below_exact_db")
    if emulated is not None:
        judged.append(Promise(net, "dB below exact int8, saturating CPU", emulated["value"], "<=", WITHIN_DB))
    if net in AGREEMENT:
        judged.append(Promise(net, "agreement with float", mine["agreement"], ">=", AGREEMENT[net]))
    if net in DELTA_TOP1:
        judged.append(Promise(net, "|Δ top-1|", abs(mine["delta_top1"]["value"]), "<=", DELTA_TOP1[net]))
    return judged


def control_promises(net: str, found: dict[str, Any]) -> list[Promise]:
    """What was promised of accuracy control, beside each of NNCF's."""
    judged = []
    for backend, row in found["backends"].items():
        if "failed" in row:
            continue
        what, mine, theirs = f"accuracy control, budget of nncf {backend}", row["ours"], row["nncf"]
        judged += [
            Promise(net, f"{what}: drop on tune", mine["drop"], "<=", row["max_drop"]),
            Promise(net, f"{what}: evaluations", mine["evaluations"], "<=", theirs["evaluations"] - 1),
            Promise(net, f"{what}: time over theirs, upper 95 % bound", row["time_ratio"]["high"], "<=", 1.0),
        ]
    return judged


def resource_promises(found: dict[str, Any]) -> list[Promise]:
    """What was promised of memory and time."""
    judged = []
    if "calibration" in found:
        memory = found["calibration"]
        limit = memory["model_bytes"] + CALIBRATION_GROWTH_BYTES
        judged.append(Promise("vww", "calibrating 10 000 samples: bytes", memory["growth_bytes"], "<=", limit))
    if "compile" in found:
        judged.append(Promise("kws", "compile, cold: s", found["compile"]["cold_s"], "<=", COLD_S))
        judged.append(Promise("kws", "compile, cached: s", found["compile"]["cached_s"], "<=", CACHED_S))
    return judged


def fastest_rival(found: dict[str, Any]) -> str | None:
    """The fastest of ONNX Runtime's int8 variants that are within the limit of the lowest bar; ours is held to the
    highest."""
    variants = {peer.name for peer in PEERS if peer.is_onnxruntime_variant}
    bar = min(found["exact"].values()) - WITHIN_DB
    good = [name for name, row in found["models"].items() if name in variants and row["snr_db"] >= bar]
    return min(good, key=lambda name: found["models"][name]["latency_ms"]["value"], default=None)
