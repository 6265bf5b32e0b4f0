"""Accuracy control: the same net, budget and samples for NNCF's and for ours, and what each spent to keep the budget.

One evaluation is one run of some model over all *tune* samples. NNCF's are counted inside its validation function. Ours
are counted by the library; the ranking is counted in whole runs, and the float run of both counts.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgewright.compiler import measure, metrics
from edgewright.compiler.control.accuracy import control_accuracy
from edgewright.compiler.control.price import PriceList
from edgewright.compiler.data import Samples
from edgewright.compiler.frontends.onnx import load_onnx
from edgewright.compiler.graph import Graph, to_bytes
from edgewright.compiler.lower.onnxruntime import Arithmetic, open_session, run
from edgewright.compiler.metrics import BUILT_IN, Comparison, Metric
from edgewright.compiler.pipeline import optimise
from edgewright.compiler.plans import Planner
from edgewright.compiler.quantize.calibration.observe import collect
from edgewright.compiler.quantize.emit import emit
from edgewright.compiler.quantize.plan import Plan
from edgewright.compiler.quantize.scheme import Scheme
from edgewright.compiler.scratch import Scratch
from edgewright.targets.catalog import load_board

from .environment import CACHE, PINS, SCRIPTS, ScriptFailed, digest, peers_python, run_script
from .latency import rounds_ns
from .nets import Data, Net, input_name, model_file
from .outputs import answers

METRICS = {"kws": "agreement", "ic": "agreement", "vww": "distortion", "ad": "distortion"}
"""Without labels, as the compiler would choose them; VWW's two classes agree almost always, its scores do not."""
OURS = "ours"
FLOAT = "float"


def bench_control(net: Net, data: Data) -> dict[str, Any]:
    """Evaluations, drop on *tune* and on *test*, and latency of what each ships; the budget is half of what NNCF's
    default int8 loses on *tune*."""
    metric = BUILT_IN[METRICS[net.name]]
    session = open_session(model_file(net).read_bytes(), Arithmetic.ENGINE)
    truth = _first(run(session, {session.get_inputs()[0].name: data.tune}))
    found: dict[str, Any] = {}
    files = {FLOAT: model_file(net)}
    max_drop: float | None = None
    for backend in ("onnx", "openvino"):
        name = f"nncf {backend}"
        try:
            files[name], found[name] = _nncf(net, data, truth, metric, backend, max_drop)
        except ScriptFailed as error:
            found[name] = {"failed": str(error).strip().splitlines()[-1]}
            continue
        max_drop = found[name]["max_drop"]
    if max_drop is None:
        return {"metric": metric.name, "models": found}
    with tempfile.TemporaryDirectory() as folder:
        content, found[OURS] = _ours(net, data, metric, max_drop, Path(folder))
        files[OURS] = Path(folder) / "ours.onnx"
        files[OURS].write_bytes(content)
        tested = answers(files, data.test, "engine")
        rounds = rounds_ns(files, data.test)
    for name, row in found.items():
        if "failed" in row:
            continue
        row["test_drop"] = metrics.compare(metric, tested[name].outputs, tested[FLOAT].outputs, None).drop.value
        row["latency_ms"] = asdict(measure.summarise(rounds[name]))
        row["our_time_ratio"] = asdict(measure.ratio(rounds[OURS], rounds[name]))
    return {"metric": metric.name, "tune_samples": len(data.tune), "max_drop": max_drop, "models": found}


def _nncf(
    net: Net, data: Data, truth: NDArray[Any], metric: Metric, backend: str, max_drop: float | None
) -> tuple[Path, dict[str, Any]]:
    model = model_file(net)
    script = (SCRIPTS / "control_nncf.py").read_bytes()
    settings = repr((backend, metric.name, max_drop, PINS))
    samples = data.calibration.tobytes() + data.tune.tobytes()
    folder = CACHE / "control" / digest(model.read_bytes(), samples, script, settings)
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / ("model.onnx" if backend == "onnx" else "model.xml")
    kept = folder / "result.json"
    if kept.exists():
        return out, _read(kept)
    with tempfile.TemporaryDirectory() as work:
        np.savez(Path(work) / "data.npz", calibration=data.calibration, tune=data.tune, truth=truth)
        job = {
            "backend": backend,
            "metric": metric.name,
            "max_drop": max_drop,
            "model": str(model),
            "input": input_name(onnx.load(model)),
            "data": str(Path(work) / "data.npz"),
            "out": str(out),
        }
        result = run_script("control_nncf", job, peers_python())
    kept.write_text(json.dumps(result), encoding="utf-8")
    return out, result


def _ours(net: Net, data: Data, metric: Metric, max_drop: float, folder: Path) -> tuple[bytes, dict[str, Any]]:
    graph, _ = optimise(load_onnx(model_file(net)).graph, None)
    name = graph.graph.inputs[0].name or ""
    samples, tune = Samples({name: data.calibration}, None), Samples({name: data.tune}, None)
    with Scratch(folder) as scratch:
        statistics = collect(graph, samples, scratch)
        plans, _ = Planner(graph, statistics, samples, Arithmetic.EXACT, scratch).plan_all((Scheme(),), tune)
    planned = Scheme().name
    basis, sensitivity = plans.bases[planned], plans.sensitivity(planned)
    if sensitivity is None:
        raise ValueError(f"{net.name}: too large to be ranked")
    plain = basis.without_moves(plans.by_name[planned])
    truth = _outputs(graph, tune)

    def score(plan: Plan) -> Comparison:
        return metrics.compare(metric, _outputs(emit(graph, finished(plan)), tune), truth, None)

    def finished(plan: Plan) -> Plan:
        return basis.corrected(basis.with_moves(plan))

    result = control_accuracy(
        basis.graph,
        plain,
        basis.statistics,
        sensitivity,
        _prices(basis.graph, plain, {name: data.tune[:1]}),
        score,
        max_drop,
        len(tune),
    )
    shipped = graph if result.plan is None else emit(graph, finished(result.plan))
    report = result.report
    return to_bytes(shipped), {
        "evaluations": 1 + report.evaluations + report.ranking_runs,
        "ranking_runs": report.ranking_runs,
        "outcome": report.outcome,
        "drop": 0.0 if result.comparison is None else result.comparison.drop.value,
    }


def _prices(graph: Graph, plain: Plan, sample: dict[str, NDArray[Any]]) -> PriceList:
    """Fitted to what float and the plain plan take here, as the compiler does."""
    shapes = {name: array.shape for name, array in sample.items()}
    prices = PriceList(graph, load_board("host"), shapes, threads=1)
    rounds = measure.measure({"float": to_bytes(graph), "plain": to_bytes(emit(graph, plain))}, sample, 1)
    prices.fit(plain, measure.summarise(rounds["float"]).value, measure.summarise(rounds["plain"]).value)
    return prices


def _outputs(graph: Graph, samples: Samples) -> NDArray[Any]:
    return _first(run(open_session(to_bytes(graph), Arithmetic.ENGINE), samples.inputs))


def _first(outputs: dict[str, NDArray[Any]]) -> NDArray[Any]:
    return next(iter(outputs.values()))


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
