"""The figures that were named before anything was measured, and whether they are met."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from .contenders import FLOAT, INT8, NATIVE

FLOAT_RATIO = {"kws": 0.42, "vww": 0.58, "ic": 0.75, "ad": 0.5, "mnist": 0.5, "mobilenet-v2": 0.9}
"""Our float time over that of the fastest float engine."""
MEAN_RATIO = 0.58
AD_RATIO = 0.6
"""Of the better of our precisions over LiteRT's int8."""
COMPILE_S = 10.0


@dataclass(frozen=True)
class Promise:
    """One figure and its limit."""

    net: str
    figure: str
    found: float
    limit: float


def kept(promise: Promise) -> bool:
    """Whether the figure is within its limit."""
    return promise.found <= promise.limit


def promises(figures: dict[str, Any]) -> list[Promise]:
    """Everything that was named."""
    judged = []
    for net, found in figures.items():
        rival = fastest(found, FLOAT)
        ratio = found["rows"][f"{NATIVE} {FLOAT}"]["ratios"][rival]["value"]
        judged.append(Promise(net, f"float, over {rival!r}", ratio, FLOAT_RATIO[net]))
        rival = fastest(found, INT8)
        ratio = found["rows"][f"{NATIVE} {INT8}"]["ratios"][rival]["value"]
        judged.append(Promise(net, f"int8, over {rival!r}", ratio, 1.0))
        judged.append(Promise(net, "int8, over our float", time_of(found, INT8) / time_of(found, FLOAT), 1.0))
        for precision in (FLOAT, INT8):
            compiling_s = found["rows"][f"{NATIVE} {precision}"]["compiling_s"]
            judged.append(Promise(net, f"compile {precision}, no tuning: s", compiling_s, COMPILE_S))
    if "ad" in figures:
        rows = figures["ad"]["rows"]
        better = min((FLOAT, INT8), key=lambda precision: time_of(figures["ad"], precision))
        if f"litert {INT8}" in rows:
            ratio = rows[f"{NATIVE} {better}"]["ratios"][f"litert {INT8}"]["value"]
            judged.append(Promise("ad", f"{better}, over 'litert int8'", ratio, AD_RATIO))
    judged.append(Promise("all", "float, geometric mean", geometric_mean(figures), MEAN_RATIO))
    return judged


def time_of(found: dict[str, Any], precision: str) -> float:
    """Of our code, in microseconds."""
    value: float = found["rows"][f"{NATIVE} {precision}"]["latency_us"]["value"]
    return value


def fastest(found: dict[str, Any], precision: str) -> str:
    """The fastest peer of a precision."""
    rivals: list[str] = [name for name in found["rows"] if precision in name and not name.startswith(NATIVE)]
    return min(rivals, key=lambda name: float(found["rows"][name]["latency_us"]["value"]))


def geometric_mean(figures: dict[str, Any]) -> float:
    """Of our float times over those of the fastest float peers."""
    logs = [
        math.log(found["rows"][f"{NATIVE} {FLOAT}"]["ratios"][fastest(found, FLOAT)]["value"])
        for found in figures.values()
    ]
    return math.exp(sum(logs) / len(logs))
