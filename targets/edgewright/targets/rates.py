"""Latency constants by instruction set, for boards without measured ones: `host` and users' own board files."""

from __future__ import annotations

from .board import LatencyModel, MacRates, Precision

_ASSUMED = "assumed for the instruction set; not yet fitted"


def assumed_latency(isa: tuple[str, ...], bandwidth_bytes_per_s: int) -> tuple[LatencyModel, ...]:
    """A float32 and an int8 model for a CPU with these features."""
    float32, int8 = _rates(isa)
    rates_by_precision: tuple[tuple[Precision, MacRates], ...] = (("float32", float32), ("int8", int8))
    return tuple(
        LatencyModel(
            precision=precision,
            macs_per_cycle=rates,
            bandwidth_bytes_per_s=bandwidth_bytes_per_s,
            operator_overhead_us=2.0,
            parallel_fraction=0.9,
            low_factor=2.5,
            high_factor=2.5,
            source=_ASSUMED,
        )
        for precision, rates in rates_by_precision
    )


def _rates(isa: tuple[str, ...]) -> tuple[MacRates, MacRates]:
    if {"avx512_vnni", "avx_vnni"} & set(isa):
        return MacRates(conv=14, depthwise=4, matmul=8), MacRates(conv=24, depthwise=4, matmul=16)
    if "avx512f" in isa:
        return MacRates(conv=14, depthwise=4, matmul=8), MacRates(conv=12, depthwise=3, matmul=12)
    if "avx2" in isa:
        return MacRates(conv=9, depthwise=3, matmul=6), MacRates(conv=8, depthwise=2, matmul=8)
    if "asimddp" in isa:
        return MacRates(conv=5, depthwise=2, matmul=4), MacRates(conv=8, depthwise=3, matmul=8)
    return MacRates(conv=2, depthwise=0.8, matmul=1.5), MacRates(conv=2.5, depthwise=1, matmul=2)
