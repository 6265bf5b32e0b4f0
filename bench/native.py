"""How fast is our own code beside the engines that exist, on this machine, with one thread?

    python -m bench.native [--quick] [--check] [--layers] [--net NAME]

For each net: our code in float32 and int8 (tuned from nothing), ONNX Runtime, OpenVINO and LiteRT at their best
settings, blocks of calls in turn in one process. The peers' packages are installed in an environment of their own.
`--check` exits 1 when a figure that was named before is missed. `--layers` prints instead where our time goes, layer by
layer in its place, by first tiles and by tuned ones.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bench import record
from bench.native_race.contenders import FLOAT, INT8, NATIVE, TUNE_S, Code, code, contenders, graphs
from bench.native_race.layers import layer_times, show
from bench.native_race.peak import peak_gmacs
from bench.native_race.promises import Promise, geometric_mean, kept, promises
from bench.quantizers.environment import peers_python, run_script
from bench.quantizers.nets import NETS, Data, Net
from edgewright.compiler.lower.native.library import nets_of
from edgewright.compiler.lower.native.machine import machine_of
from edgewright.compiler.measure import median_interval
from edgewright.compiler.tunings import Tunings
from edgewright.targets.host import detect_host

PINS = ("ai-edge-litert==2.3.0", "numpy==2.4.6", "onnxruntime==1.31.1", "openvino==2026.4.1", "msgspec==0.22.0")
SCRIPTS = Path(__file__).resolve().parent / "native_race/scripts"
ROOT = Path(__file__).resolve().parents[1]
ROUNDS, QUICK_ROUNDS = 51, 9


def main(arguments: Sequence[str]) -> int:
    """Runs the bench; 1 where `--check` finds a figure missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.native", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, small nets only")
    parser.add_argument("--check", action="store_true", help="exit 1 when a named figure is missed")
    parser.add_argument("--net", action="append", help="only this net; repeat it")
    parser.add_argument("--layers", action="store_true", help="where our own time goes, layer by layer")
    options = parser.parse_args(arguments)
    small = {net.name for net in NETS} - ({"mobilenet-v2"} if options.quick else set())
    wanted = [net for net in NETS if net.is_present and net.name in (options.net or small)]
    if not wanted:
        print("no net is here: ../shared/data is missing", file=sys.stderr)
        return 0
    if options.layers:
        for net in wanted:
            layers(net)
        return 0
    figures = {net.name: race(net, QUICK_ROUNDS if options.quick else ROUNDS) for net in wanted}
    judged = promises(figures)
    report(figures, judged)
    if not options.quick and not options.net:
        whole = {"nets": figures, "promises": [{**asdict(one), "kept": kept(one)} for one in judged], "pins": PINS}
        print(f"written: {record.write('native', whole, packages=('onnxruntime', 'numpy'))}")
    return int(options.check and not all(kept(one) for one in judged))


def race(net: Net, rounds: int) -> dict[str, Any]:
    """All figures of one net."""
    data = net.data()
    found = graphs(net, data)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        built: dict[str, Code] = {precision: code(net, precision, graph, folder) for precision, graph in found.items()}
        raced = timed(data, contenders(net, built, found), rounds, folder)
    sgemm, peak = raced["sgemm_gmacs"], peak_gmacs()
    rows: dict[str, Any] = {name: {"latency_us": microseconds(values)} for name, values in raced["rounds_ns"].items()}
    for precision, part in built.items():
        row = rows[f"{NATIVE} {precision}"]
        row |= {name: value for name, value in asdict(part).items() if name != "path"}
        row["gmacs"] = round(part.macs / row["latency_us"]["value"] / 1e3, 2)
        row["of_sgemm"] = round(row["gmacs"] / sgemm, 3)
        row["macs"] = part.macs
        for rival, values in raced["rounds_ns"].items():
            if not rival.startswith(NATIVE):
                row.setdefault("ratios", {})[rival] = ratio(raced["rounds_ns"][f"{NATIVE} {precision}"], values)
    return {
        "rows": rows,
        "failed": raced["failed"],
        "sgemm_gmacs": round(sgemm, 1),
        "peak_gmacs": round(peak, 1),
        "agreement": agreement(raced),
    }


def layers(net: Net) -> None:
    """Prints every layer of one net, in both precisions, untuned and tuned."""
    host = detect_host()
    machine = machine_of(host)
    for precision, graph in graphs(net, net.data()).items():
        found = list(nets_of(graph, machine).values())
        for name, limit_s in (("first tiles", 0.0), ("tuned", TUNE_S)):
            choices = Tunings(host, limit_s, None, None).choices(found[:1], machine)
            show(f"{net.name} {precision}, {name}", layer_times(graph, machine, choices))


def timed(data: Data, race: list[Any], rounds: int, folder: Path) -> dict[str, Any]:
    """Runs the race in the peers' environment."""
    np.savez(folder / "sample.npz", x=data.test[:1])
    job = {
        "contenders": [{"name": one.name, "engine": one.engine, "path": str(one.path)} for one in race],
        "sample": str(folder / "sample.npz"),
        "rounds": rounds,
        "paths": [str(ROOT / "runtime"), str(ROOT / "targets")],
    }
    return run_script("race", job, peers_python(PINS), SCRIPTS)


def microseconds(values: Sequence[int]) -> dict[str, float]:
    """Median of the rounds with its interval."""
    found = median_interval([value / 1e3 for value in values])
    return {"value": round(found.value, 2), "low": round(found.low, 2), "high": round(found.high, 2)}


def ratio(ours: Sequence[int], theirs: Sequence[int]) -> dict[str, float]:
    """Our time over theirs, round by round."""
    found = median_interval([mine / other for mine, other in zip(ours, theirs, strict=True)])
    return {"value": round(found.value, 4), "low": round(found.low, 4), "high": round(found.high, 4)}


def agreement(raced: dict[str, Any]) -> dict[str, float]:
    """Largest difference of our float output to ONNX Runtime's, over the largest output."""
    outputs = raced["outputs"]
    reference = np.array(outputs[f"onnxruntime {FLOAT}, as it came"])
    peak = float(np.abs(reference).max())
    return {
        name: float(np.abs(np.array(outputs[f"{NATIVE} {name}"]) - reference).max() / peak) for name in (FLOAT, INT8)
    }


def report(figures: dict[str, Any], judged: Sequence[Promise]) -> None:
    """Prints the table and what was promised."""
    console = Console()
    for net, found in figures.items():
        table = Table(
            title=f"{net}: numpy's sgemm {found['sgemm_gmacs']} GMAC/s, peak {found['peak_gmacs']}; 1 thread",
            title_justify="left",
        )
        for column in ("engine", "µs", "GMAC/s", "of sgemm", "compile s", "tune s"):
            table.add_column(column, justify="left" if column == "engine" else "right")
        for name, row in sorted(found["rows"].items(), key=lambda item: item[1]["latency_us"]["value"]):
            ours = [str(row.get(key, "")) for key in ("gmacs", "of_sgemm", "compiling_s", "tuning_s")]
            table.add_row(name, f"{row['latency_us']['value']:.1f}", *ours)
        console.print(table)
        for name, why in found["failed"].items():
            console.print(f"  left out: {name}: {why}", style="dim")
    for one in judged:
        mark = "kept  " if kept(one) else "MISSED"
        console.print(f"{mark} {one.net}: {one.figure} = {one.found:.3f} (<= {one.limit})")
    console.print(f"geometric mean of float ratios: {geometric_mean(figures):.3f}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
