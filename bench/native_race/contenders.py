"""Who runs a net in the race: our code, and every peer in the forms that it takes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import onnx

from bench.quantizers.environment import CACHE, digest
from bench.quantizers.nets import SHARED, Data, Net, model_file
from bench.quantizers.ours import OURS, ours
from edgewright.compiler.frontends.onnx import load_onnx
from edgewright.compiler.graph import Graph, from_proto, to_bytes
from edgewright.compiler.lower.native.library import compile_library, nets_of
from edgewright.compiler.lower.native.machine import machine_of
from edgewright.compiler.lower.native.net import Net as NativeNet
from edgewright.compiler.lower.native.work import PRODUCTS, work
from edgewright.compiler.pipeline import optimise
from edgewright.compiler.tunings import Tunings
from edgewright.targets.host import detect_host

TFLITE = {
    "kws": ("kws_ref_model_float32.tflite", "kws_ref_model_int8.tflite"),
    "ic": ("pretrainedResnet_float.tflite", "pretrainedResnet_int8.tflite"),
    "vww": ("vww_96_float.tflite", "vww_96_int8.tflite"),
    "ad": ("ad01_fp32.tflite", "ad01_int8.tflite"),
}
"""Reference models as LiteRT runs them: float32 and int8."""
TUNE_S = 60.0
FLOAT, INT8 = "float32", "int8"
NATIVE = "native"


@dataclass(frozen=True)
class Contender:
    """One engine with one model file."""

    name: str
    engine: str
    path: Path


@dataclass(frozen=True)
class Code:
    """What compiling a graph to code gave."""

    path: Path
    macs: int
    tuning_s: float
    compiling_s: float
    library_bytes: int
    arena_bytes: int


def graphs(net: Net, data: Data) -> dict[str, Graph]:
    """The optimised float graph, and our full-range int8 plan of it."""
    floating, _ = optimise(load_onnx(model_file(net)).graph, None)
    return {FLOAT: floating, INT8: from_proto(onnx.load_from_string(ours(net, data)[OURS]))}


def code(net: Net, precision: str, graph: Graph, folder: Path) -> Code:
    """Tunes and compiles for this machine, from nothing."""
    host = detect_host()
    machine = machine_of(host)
    start = time.perf_counter()
    nets = nets_of(graph, machine)
    lowered_s = time.perf_counter() - start
    choices = Tunings(host, TUNE_S, None, None).choices(list(nets.values()), machine)
    tuned = time.perf_counter()
    library = compile_library(net.name, nets, machine, machine, choices, folder / f"{net.name}-{precision}")
    return Code(
        path=library.path,
        macs=macs(nets[min(nets)]),
        tuning_s=round(tuned - start - lowered_s, 2),
        compiling_s=round(time.perf_counter() - tuned + lowered_s, 2),
        library_bytes=library.size_bytes,
        arena_bytes=library.arena_bytes,
    )


def macs(net: NativeNet) -> int:
    """Multiply-accumulates of products."""
    return sum(work(layer) for layer in net.layers if isinstance(layer, PRODUCTS))


def contenders(net: Net, built: dict[str, Code], found: dict[str, Graph]) -> list[Contender]:
    """Ours and the peers: the model as it came, and as our optimiser leaves it; int8 by our plan, or their own file."""
    race = [Contender(f"{NATIVE} {precision}", NATIVE, part.path) for precision, part in built.items()]
    files = {f"{FLOAT}, as it came": model_file(net)}
    for precision, graph in found.items():
        label = f"{precision}, optimised" if precision == FLOAT else f"{precision}, our plan"
        files[label] = _written(net, precision, graph)
    for engine in ("onnxruntime", "openvino"):
        race += [Contender(f"{engine} {label}", engine, path) for label, path in files.items()]
    if net.name in TFLITE:
        for precision, name in zip((FLOAT, INT8), TFLITE[net.name], strict=True):
            race.append(Contender(f"litert {precision}", "litert", SHARED / "mlperf_tiny/models" / name))
    return race


def _written(net: Net, precision: str, graph: Graph) -> Path:
    content = to_bytes(graph)
    path = CACHE / f"{net.name}-{precision}-{digest(content)}.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
