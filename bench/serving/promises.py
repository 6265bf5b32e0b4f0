"""The figures that were named before anything was measured (issue E), and whether they are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

JUDGED = "edgewright, native"
"""The same float net in our faster engine, as the peers are measured at their best. The rows in ONNX Runtime, which is
the peers' engine, and in int8, which `compile` ships by default, stand beside it and are not judged."""


@dataclass(frozen=True)
class Promise:
    """One figure and its limit."""

    figure: str
    found: float
    limit: float
    at_least: bool

    @property
    def kept(self) -> bool:
        return self.found >= self.limit if self.at_least else self.found <= self.limit


def promises(figures: dict[str, Any]) -> list[Promise]:
    """Everything that was named."""
    return [*_throughput(figures), *_tensor(figures), *_steady(figures), *_overload(figures), *_cost(figures)]


def _throughput(figures: dict[str, Any]) -> list[Promise]:
    table, judged = figures["throughput"], []
    ours = table[JUDGED]
    for connections in (8, 32):
        case = f"json x{connections}"
        rival = max(
            (table[name] for name in table if name.startswith("MLServer")), key=lambda found: found[case]["per_second"]
        )
        judged.append(_more(f"JSON x{connections}, requests/s over MLServer's", ours, case, rival, case, 5.0))
        ratio = ours[case]["p99_us"] / rival[case]["p99_us"]
        judged.append(Promise(f"JSON x{connections}, p99 over MLServer's", round(ratio, 3), 1 / 3, at_least=False))
        binary = f"binary x{connections}"
        judged.append(_more(f"binary x{connections}, over MLServer's JSON", ours, binary, rival, case, 6.0))
        grpc = f"grpc x{connections}"
        judged.append(_more(f"gRPC x{connections}, over MLServer's gRPC", ours, grpc, rival, grpc, 2.0))
    beyond_us = ours["binary x8"]["server_cpu_us"] - figures["engine_us"]["native"]
    judged.append(Promise("binary, server CPU beyond the engine, us", round(beyond_us, 1), 100.0, at_least=False))
    return judged


def _more(label: str, ours: Any, case: str, theirs: Any, their_case: str, limit: float) -> Promise:
    ratio = ours[case]["per_second"] / theirs[their_case]["per_second"]
    return Promise(label, round(ratio, 2), limit, at_least=True)


def _tensor(figures: dict[str, Any]) -> list[Promise]:
    found = figures["tensor"]
    ratio = found["edgewright, binary"]["per_second"] / found["MLServer, JSON"]["per_second"]
    return [Promise("602 kB tensor, over MLServer's REST", round(ratio, 1), 20.0, at_least=True)]


def _steady(figures: dict[str, Any]) -> list[Promise]:
    found = figures["steady"]
    return [
        Promise(f"1 000/s {form}, p99 ms", round(found[form]["p99_us"] / 1000, 2), 10.0, at_least=False)
        for form in found
    ] + [Promise(f"1 000/s {form}, failed", found[form]["failed"], 0.0, at_least=False) for form in found]


def _overload(figures: dict[str, Any]) -> list[Promise]:
    limits = {"kws": 0.8, "convolutions": 0.9}
    judged = []
    for net, found in figures["overload"].items():
        judged.append(Promise(f"3 x capacity, {net}, goodput", found["goodput"], limits[net], at_least=True))
        judged.append(Promise(f"3 x capacity, {net}, slowest shed ms", found["shed_max_ms"], 50.0, at_least=False))
        judged.append(Promise(f"3 x capacity, {net}, failed", found["failed"], 0.0, at_least=False))
    return judged


def _cost(figures: dict[str, Any]) -> list[Promise]:
    swaps = figures["swaps"]
    return [
        Promise("binary p50 beyond the engine, us", max(figures["overhead_us"].values()), 150.0, at_least=False),
        Promise("hot swaps, failed requests", swaps["failed"], 0.0, at_least=False),
        Promise("hot swaps, growth of memory", swaps["growth"], 0.1, at_least=False),
    ]
