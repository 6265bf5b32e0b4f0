"""How fast is the server, beside its peers, and how does it behave when it has too much to do?

    python -m bench.serve [--quick] [--check] [--only PART]

Server and load have a core each. MLServer, LitServe and BentoML are installed in environments of their own, serve the
same ONNX file in ONNX Runtime with their best settings for one core (MLServer without worker processes, with and
without its batching: the better one counts), and get the same bytes from the same client, written in C
(serving/load.c). Contenders take turns in rounds; those that wait are stopped (SIGSTOP). KWS and its data are in
../shared/data, which is not part of the project. Memory, readiness and idle CPU of a whole device are
in bench/footprint.py.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import record
from bench.serving import nets, overload, servers, swaps, throughput
from bench.serving.load import Load, compile_load
from bench.serving.promises import promises
from bench.serving.requests import write_requests
from edgewright.bundle.archive import read_manifest
from edgewright.runtime.engines.catalog import engine_for
from edgewright.runtime.engines.protocol import LoadOptions

LOAD_CORE = 1
ENGINES = ("onnxruntime", "native", "int8")
Figures = dict[str, Any]


class Bench:
    """The parts in order; each returns its figures."""

    def __init__(self, base: Path, load: Load, *, quick: bool) -> None:
        self._base = base
        self._load = load
        self._rounds = 1 if quick else 3
        self._seconds = 1.0 if quick else 2.0
        self._swaps = 5 if quick else 100
        self._kws = nets.kws(base, servers.edgewright_command())
        self._forms = write_requests(self._kws, base)

    def parts(self) -> dict[str, Callable[[], Figures]]:
        return {
            "engine_us": self._engine_us,
            "overhead_us": self._overhead_us,
            "throughput": self._throughput,
            "tensor": self._tensor,
            "steady": self._steady,
            "overload": self._overload,
            "swaps": self._swap,
        }

    def _throughput(self) -> Figures:
        return throughput.measure(self._kws, self._base, self._load, rounds=self._rounds, seconds=self._seconds)

    def _engine_us(self) -> Figures:
        os.sched_setaffinity(0, {throughput.SERVER_CORE})
        found = {engine: _engine_us(self._kws, engine) for engine in ENGINES}
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
        return found

    def _overhead_us(self) -> Figures:
        """Median of one request at a time beyond the median of the engine's call on the same core, in turns."""
        found = {}
        for engine in ENGINES:
            with servers.ours(self._kws, engine, self._base / f"one-{engine}", throughput.SERVER_CORE) as server:
                beyond = []
                for _ in range(2 * self._rounds + 1):
                    os.sched_setaffinity(0, {throughput.SERVER_CORE})
                    alone = _engine_us(self._kws, engine)
                    os.sched_setaffinity(0, {LOAD_CORE})
                    counted = self._load.run(server.port, self._forms["binary"], connections=1, seconds=1.0)
                    beyond.append(counted["ok_from_sent"]["p50_us"] - alone)
                found[engine] = round(statistics.median(beyond), 1)
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
        return found

    def _tensor(self) -> Figures:
        """A 1 x 3 x 224 x 224 float tensor through an identity, one connection and four."""
        net = nets.generated(self._base, "identity", nets.identity())
        forms = write_requests(net, self._base)
        core = throughput.SERVER_CORE
        found: Figures = {}
        with (
            servers.ours(net, "onnxruntime", self._base / "tensor", core) as ours,
            servers.mlserver(net, self._base, core) as theirs,
        ):
            for name, server, form in (("edgewright, binary", ours, "binary"), ("MLServer, JSON", theirs, "json")):
                best: Figures = {"per_second": 0.0}
                for connections in (1, 4):
                    counted = self._load.run(
                        server.port, forms[form], connections=connections, seconds=max(4.0, 2 * self._seconds)
                    )
                    if counted["per_second"] > best["per_second"]:
                        best = {"per_second": counted["per_second"], **counted["ok_from_sent"]}
                found[name] = best
        return found

    def _steady(self) -> Figures:
        core = throughput.SERVER_CORE
        with servers.ours(self._kws, "onnxruntime", self._base / "steady", core) as server:
            return {
                form: overload.steady(server, self._load, self._forms[form], 3 * self._seconds)
                for form in ("binary", "json")
            }

    def _overload(self) -> Figures:
        found = {}
        slow = nets.generated(self._base, "convolutions", nets.convolutions())
        for net in (self._kws, slow):
            request = write_requests(net, self._base)["binary"]
            core = throughput.SERVER_CORE
            with servers.ours(net, "onnxruntime", self._base / f"overload-{net.name}", core) as server:
                found[net.name] = overload.overload(server, self._load, request, self._seconds)
                found[net.name]["engine_us"] = _engine_us(net, "onnxruntime")
        return found

    def _swap(self) -> Figures:
        return swaps.swaps(self._base, self._load, throughput.SERVER_CORE, self._swaps)


def _engine_us(net: nets.Net, engine: str) -> float:
    """Median of the engine's call alone, in this process."""
    directory = net.bundles[engine]
    manifest = read_manifest(directory)
    instance = engine_for(manifest).load(directory, manifest, LoadOptions())
    sample = {net.input.name: net.sample}
    times: list[float] = []
    end_s = time.perf_counter() + 0.5
    while time.perf_counter() < end_s or len(times) < 50:
        begun_ns = time.perf_counter_ns()
        instance.run(sample)
        times.append((time.perf_counter_ns() - begun_ns) / 1000)
    instance.close()
    return round(statistics.median(times[len(times) // 5 :]), 1)


def show(figures: Figures) -> None:
    """Print the table of contenders, then the other figures as they are."""
    for name, cases in figures.get("throughput", {}).items():
        for case, found in cases.items():
            print(
                f"{name:<26}{case:<12}{found['per_second']:>9.0f}/s   p50 {found['p50_us']:>8.0f} us   "
                f"p99 {found['p99_us']:>8.0f} us   CPU {found['server_cpu_us']:>6.0f} us   failed {found['failed']}"
            )
    for part, found in figures.items():
        if part != "throughput":
            print(f"{part}: {found}")


def main() -> int:
    """Measure, print, write results/serve.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--check", action="store_true", help="exit 1 when a named figure is missed")
    parser.add_argument("--only", action="append", metavar="PART", help="measure this part only; nothing is written")
    options = parser.parse_args()
    if not nets.KWS.exists():
        print("skipped: KWS is not in ../shared/data")
        return 0
    with tempfile.TemporaryDirectory(prefix="edgewright-serve-") as folder:
        base = Path(folder)
        bench = Bench(base, compile_load(base, LOAD_CORE), quick=options.quick)
        figures = {name: part() for name, part in bench.parts().items() if not options.only or name in options.only}
    show(figures)
    if options.only:
        return 0
    judged = promises(figures)
    for promise in judged:
        sign = ">=" if promise.at_least else "<="
        verdict = "ok" if promise.kept else "MISSED"
        print(f"{verdict:<8}{promise.figure:<52}{promise.found:>10} ({sign} {promise.limit:.4g})")
    figures["promises"] = {promise.figure: {"found": promise.found, "kept": promise.kept} for promise in judged}
    packages = ("onnxruntime", "numpy", "uvloop", "httptools", "msgspec", "hpack", "protobuf")
    print(f"written to {record.write('serve', figures, packages=packages).name}")
    return 1 if options.check and not all(promise.kept for promise in judged) else 0


if __name__ == "__main__":
    sys.exit(main())
