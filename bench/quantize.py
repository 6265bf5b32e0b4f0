"""Is our int8 as good and as fast as int8 can be, on real nets, beside the other quantizers?

    python -m bench.quantize             all nets, all peers; installs NNCF and OpenVINO in an environment of their own
    python -m bench.quantize --quick     two nets beside ONNX Runtime's quantizer, less than a minute
    python -m bench.quantize --check     also exit 1 where a named figure is missed

Nets and data are in ../shared/data, which is not part of the project; nets that are not there are skipped. SNR is told
on logits. "Exact" means that QDQ pairs are computed as written (graph optimisation off). The emulated CPU has AVX2
without VNNI: it runs the real kernels of ONNX Runtime, whose sums of two products saturate there; its speed says
nothing. What peers made and what the emulated CPU answered is kept between runs; latency is always measured anew.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import record
from bench.quantizers.control import METRICS, bench_control
from bench.quantizers.environment import PINS, SATURATING_CPU, ScriptFailed, has_emulator
from bench.quantizers.latency import ROUNDS, rounds_ns
from bench.quantizers.nets import NETS, Data, Net, model_file
from bench.quantizers.ours import FULL_RANGE, GUARDED, OURS, ours
from bench.quantizers.outputs import Answers, answers
from bench.quantizers.peers import EXACT_REFERENCES, PEERS, quantized
from bench.quantizers.promises import Promise, control_promises, kept, promises, resource_promises
from bench.quantizers.resources import calibration_memory, compile_seconds
from bench.quantizers.score import margin_db, quality
from edgewright.compiler.measure import ratio, summarise

QUICK = ("kws", "mnist")
FLOAT = "float"


@dataclass(frozen=True)
class Models:
    """Files by name, and why some peers have none."""

    files: dict[str, Path]
    failed: dict[str, str]

    @property
    def onnx(self) -> dict[str, Path]:
        """Those that ONNX Runtime runs."""
        return {name: path for name, path in self.files.items() if path.suffix == ".onnx"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two nets beside ONNX Runtime's quantizer")
    parser.add_argument("--check", action="store_true", help="exit 1 where a named figure is missed")
    parser.add_argument("--net", action="append", choices=[net.name for net in NETS], help="only this one; repeatable")
    arguments = parser.parse_args()
    wanted = arguments.net or (QUICK if arguments.quick else [net.name for net in NETS])
    present = [net for net in NETS if net.name in wanted and net.is_present]
    if not present:
        print("skipped: no nets in ../shared/data")
        return 0
    console = Console(width=150)
    figures: dict[str, Any] = {"rounds": ROUNDS, "pins": list(PINS), "emulated_cpu": SATURATING_CPU, "nets": {}}
    judged: list[Promise] = []
    for net in present:
        found = bench_net(net, quick=arguments.quick)
        judged += promises(net.name, found)
        figures["nets"][net.name] = found
        print_table(console, net.name, found)
    if not arguments.quick:
        figures["accuracy_control"] = {
            net.name: bench_control(net, net.data()) for net in present if net.name in METRICS
        }
        for name, found in figures["accuracy_control"].items():
            judged += control_promises(name, found)
        figures["resources"] = bench_resources(present)
        judged += resource_promises(figures["resources"])
    figures["promises"] = [{**asdict(promise), "kept": kept(promise)} for promise in judged]
    print_promises(console, judged)
    path = record.write("quantize", figures, packages=("onnxruntime", "onnx", "numpy", "torch"))
    print(f"written to {path.relative_to(Path(__file__).resolve().parents[1])}")
    return 1 if arguments.check and not all(map(kept, judged)) else 0


def bench_net(net: Net, *, quick: bool) -> dict[str, Any]:
    """Every model of one net: accuracy by three kinds of arithmetic, latency in one run."""
    data = net.data()
    with tempfile.TemporaryDirectory() as folder:
        models = make_models(net, data, Path(folder), quick=quick)
        here = answers(models.files, data.test, "engine")
        exact_of = {name: path for name, path in models.onnx.items() if name in {*EXACT_REFERENCES, *FULL_RANGE}}
        exact = answers(exact_of, data.test, "exact")
        emulated: dict[str, Answers] = {}
        if has_emulator() and not quick:
            emulated = answers(models.onnx, data.test[: net.emulated_samples], "emulated")
        timed = {name: path for name, path in models.files.items() if name != GUARDED}
        rounds = rounds_ns(timed, data.test)
        sizes = {name: path.stat().st_size for name, path in models.onnx.items()}
    reference = here[FLOAT]
    best = max(exact, key=lambda name: quality(exact[name], reference, None).snr_db)
    rows: dict[str, Any] = {}
    for name in models.files:
        row = asdict(quality(here[name], reference, data.labels))
        row["below_exact_db"] = asdict(margin_db(exact[best], here[name], reference))
        if name in emulated:
            row["emulated_snr_db"] = quality(emulated[name], reference, None).snr_db
            row["emulated_below_exact_db"] = asdict(margin_db(exact[best], emulated[name], reference))
        if name in rounds:
            row["latency_ms"] = asdict(summarise(rounds[name]))
            row["time_ratio_to_float"] = asdict(ratio(rounds[name], rounds[FLOAT]))
            row["our_time_ratio"] = asdict(ratio(rounds[OURS], rounds[name]))
        row["bytes"] = sizes.get(name)
        rows[name] = row
    return {
        "calibration_samples": len(data.calibration),
        "test_samples": len(data.test),
        "emulated_samples": net.emulated_samples if emulated else 0,
        "exact": {name: quality(exact[name], reference, None).snr_db for name in exact},
        "models": rows,
        "failed": models.failed,
    }


def bench_resources(present: list[Net]) -> dict[str, Any]:
    """Memory of a calibration with VWW, time of a compilation of KWS, each where the net is there."""
    nets = {net.name: net for net in present}
    found: dict[str, Any] = {}
    if "vww" in nets:
        found["calibration"] = calibration_memory(nets["vww"])
    if "kws" in nets:
        found["compile"] = compile_seconds()
    return found


def make_models(net: Net, data: Data, folder: Path, *, quick: bool) -> Models:
    """Float, ours, and what peers make; a peer that cannot is told with its reason."""
    files = {FLOAT: model_file(net)}
    for name, content in ours(net, data).items():
        files[name] = folder / f"{name}.onnx"
        files[name].write_bytes(content)
    failed = {}
    for peer in PEERS:
        if quick and not peer.is_onnxruntime_variant:
            continue
        try:
            files[peer.name] = quantized(peer, net, data)
        except ScriptFailed as error:
            failed[peer.name] = str(error).strip().splitlines()[-1]
    return Models(files, failed)


def print_table(console: Console, name: str, found: dict[str, Any]) -> None:
    exact = ", ".join(f"{each} {snr:.1f} dB" for each, snr in found["exact"].items())
    table = Table(title=f"{name}: {found['test_samples']} samples; exact: {exact}")
    for column in ("model", "SNR dB", "below exact", "saturating", "agrees", "Δ top-1", "ms", "x float", "ours x this"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for model, row in found["models"].items():
        if model == FLOAT:
            table.add_row(
                model, *[""] * 5, _value(row["latency_ms"], ".4f"), "1", _interval(row["our_time_ratio"], ".3f")
            )
            continue
        table.add_row(
            model,
            f"{row['snr_db']:.1f}",
            _value(row["below_exact_db"], ".1f"),
            f"{row['emulated_snr_db']:.1f}" if "emulated_snr_db" in row else "",
            f"{row['agreement']:.4f}",
            _value(row["delta_top1"], "+.4f"),
            _value(row.get("latency_ms"), ".4f"),
            _value(row.get("time_ratio_to_float"), ".3f"),
            _interval(row.get("our_time_ratio"), ".3f"),
        )
    console.print(table)
    for peer, reason in found["failed"].items():
        print(f"{name}: {peer} failed: {reason[:200]}")


def print_promises(console: Console, judged: list[Promise]) -> None:
    table = Table(title="named figures")
    for column in ("net", "figure", "found", "limit", ""):
        table.add_column(column, justify="right" if column in {"found", "limit"} else "left")
    for promise in judged:
        table.add_row(
            promise.net,
            promise.figure,
            f"{promise.found:.4g}",
            f"{promise.relation} {promise.limit:g}",
            "kept" if kept(promise) else "MISSED",
        )
    console.print(table)


def _value(found: dict[str, float] | None, form: str) -> str:
    return "" if found is None else f"{found['value']:{form}}"


def _interval(found: dict[str, float] | None, form: str) -> str:
    if found is None:
        return ""
    return f"{found['value']:{form}} [{found['low']:{form}}, {found['high']:{form}}]"


if __name__ == "__main__":
    sys.exit(main())
