"""The figures that were named before anything was measured, and whether they are met."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.emitters.zoo import below_qdq_db
from bench.quantizers.promises import Promise

CYCLES_RATIO = 1.05
MOST_STEPS = 1
EQUAL_ANSWERS = 0.97
SPEED_RATIO = 0.97
FLOAT_ERROR = 1e-4
BELOW_QDQ_DB = 1.0


def promises(figures: dict[str, Any]) -> Iterator[Promise]:
    """Everything that was promised of what was measured."""
    for net, found in figures["nets"].items():
        yield from _reference_net(net, found)
    for net, found in figures["zoo"].items():
        yield Promise(net, "float error over the largest output", found["float_error"], "<=", FLOAT_ERROR)
        yield Promise(net, "int8 below its QDQ graph: dB", below_qdq_db(found), "<=", BELOW_QDQ_DB)
        yield Promise(net, "transposes", found["transposes"], "<=", 0)


def _reference_net(net: str, found: dict[str, Any]) -> Iterator[Promise]:
    again = found["read_and_written"]
    for kernels in ("optimised", "reference"):
        yield Promise(
            net, f"read and written: equal samples, {kernels} kernels", again[kernels], ">=", again["samples"]
        )
    for board, equal in found.get("boards", {}).items():
        yield Promise(net, f"read and written: samples as {board} printed", equal["ours"], ">=", equal["reference"])
    if "vela" in found:
        yield Promise(net, "Vela: operators on the CPU", len(found["vela"]["ours"]["on_cpu"]), "<=", 0)
        yield Promise(net, "Vela: cycles over the reference's", found["vela"]["cycles_ratio"], "<=", CYCLES_RATIO)
    yield Promise(net, "steps from ONNX Runtime, worst operator", max(found["steps"].values()), "<=", MOST_STEPS)
    yield Promise(net, "answers as ONNX Runtime", found["end_to_end"]["equal_answers"], ">=", EQUAL_ANSWERS)
    for pair, ratio in found["speed"]["theirs_over_ours"].items():
        yield Promise(net, f"speed over theirs: {pair}", ratio["value"], ">=", SPEED_RATIO)
