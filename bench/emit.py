"""Does what we write as .tflite say and run as it should: read and written again, in LiteRT, and for Arm's Ethos-U?

    python -m bench.emit             four reference nets and the zoo at full size
    python -m bench.emit --quick     two nets, two small ones of the zoo, fewer samples and rounds
    python -m bench.emit --check     also exit 1 where a named figure is missed

1. The reference int8 files, read as graphs and emitted again: equal bits in LiteRT; KWS also beside what ST's boards
   printed.
2. Our own int8 of the same nets: Vela's operators on the CPU and cycles beside the reference's; every operator on its
   own and the whole net in LiteRT's reference kernels beside ONNX Runtime, where QDQ pairs are computed as written.
3. Speed in LiteRT: our float beside the reference's, our int8 beside that of ai-edge-quantizer, which is installed in
   an environment of its own; ports of a pair have the same types. KWS's reference keeps int8 weights: they are made
   float for this, and the file as it came is timed beside.
4. Nets from PyTorch (tests/compiler/zoo) with odd sizes and paddings: float and int8 beside ONNX Runtime.

Reference nets and data are in ../shared/data, which is not part of the project; nets that are not there are skipped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import record
from bench.emitters.accelerator import vela, vela_of
from bench.emitters.agreement import end_to_end, per_operator
from bench.emitters.forms import REFERENCE_NETS, Forms, forms, logits_snr_db, present
from bench.emitters.lossless import boards, lossless
from bench.emitters.promises import promises
from bench.emitters.speed import PINS, raced
from bench.emitters.zoo import held
from bench.quantizers.nets import Net
from bench.quantizers.promises import Promise, kept
from tests.compiler.zoo.catalog import ZOO

SAMPLES, QUICK_SAMPLES = 1000, 50
ROUNDS, QUICK_ROUNDS = 51, 9
SINGLE_OPERATOR_SAMPLES = 8
QUICK_NETS, QUICK_ZOO = ("kws", "ad"), ("squeezenet", "mobilenet_v1")


def main(arguments: Sequence[str]) -> int:
    """Runs the bench; 1 where `--check` finds a figure missed."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.emit", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer and smaller nets, fewer samples and rounds")
    parser.add_argument("--check", action="store_true", help="exit 1 where a named figure is missed")
    parser.add_argument("--net", action="append", choices=[net.name for net in REFERENCE_NETS] + list(ZOO),
                        help="only this one; repeat it")  # fmt: skip
    options = parser.parse_args(arguments)
    names = [net.name for net in REFERENCE_NETS] + list(ZOO)
    wanted = options.net or ([*QUICK_NETS, *QUICK_ZOO] if options.quick else names)
    figures: dict[str, Any] = {
        "nets": {net.name: reference_net(net, quick=options.quick) for net in present(wanted)},
        "zoo": {name: held(net, full=not options.quick) for name, net in ZOO.items() if name in wanted},
    }
    judged = list(promises(figures))
    report(figures, judged)
    if not options.quick and not options.net:
        whole = {**figures, "pins": PINS, "promises": [{**asdict(one), "kept": kept(one)} for one in judged]}
        packages = ("ai-edge-litert", "ethos-u-vela", "onnxruntime", "numpy", "torch")
        print(f"written: {record.write('emit', whole, packages=packages)}")
    return int(options.check and not all(kept(one) for one in judged))


def reference_net(net: Net, *, quick: bool) -> dict[str, Any]:
    """Figures 1 to 3 of one net."""
    found = forms(net)
    samples = QUICK_SAMPLES if quick else SAMPLES
    figures: dict[str, Any] = {"read_and_written": lossless(found.reference_int8, net.name, found.samples(samples))}
    if net.name == "kws":
        figures["boards"] = boards(found.reference_int8, samples)
    return figures | {
        "vela": accelerated(found),
        "plan": found.chosen,
        "steps": per_operator(found.quantized, found.data.test[:SINGLE_OPERATOR_SAMPLES]),
        "end_to_end": end_to_end(found, found.data.test[:samples]),
        "speed": raced(found, QUICK_ROUNDS if quick else ROUNDS),
    }


def accelerated(found: Forms) -> dict[str, Any]:
    """Cycles and operators left on the CPU, ours and the reference's; and of the plans that do not ship."""
    ours, reference = vela(found.quantized), vela_of(found.reference_int8)
    plans = {
        name: {
            "cycles_ratio": round(vela(graph)["cycles"] / reference["cycles"], 4),
            "logits_snr_db": round(logits_snr_db(graph, found.floating, found.data.test), 2),
        }
        for name, graph in found.plans.items()
    }
    ratio = round(ours["cycles"] / reference["cycles"], 4)
    return {"ours": ours, "reference": reference, "cycles_ratio": ratio, "plans": plans}


def report(figures: dict[str, Any], judged: Sequence[Promise]) -> None:
    """Prints times, and what was promised."""
    console = Console(width=130)
    for net, found in figures["nets"].items():
        table = Table("file, threads", "µs", title=f"{net} in LiteRT", title_justify="left")
        for name, latency in found["speed"]["latency_us"].items():
            table.add_row(name, f"{latency['value']:.1f}")
        console.print(table)
    for one in judged:
        mark = "kept  " if kept(one) else "MISSED"
        console.print(f"{mark} {one.net}: {one.figure} = {one.found:.4g} ({one.relation} {one.limit:g})")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
