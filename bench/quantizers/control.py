"""Accuracy control: the same net, budget and samples for NNCF's and for ours, and what each spent to keep the budget.

One evaluation is one run of some model over all *tune* samples. NNCF's are counted inside its validation function. Ours
is a whole compilation: the float model and every candidate that it scores count, and the ranking in whole runs.
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

from edgewright.bundle.archive import unpack
from edgewright.compiler import measure, metrics
from edgewright.compiler.lower.onnxruntime import Arithmetic, open_session, run
from edgewright.compiler.metrics import BUILT_IN, Metric
from edgewright.compiler.pipeline import compile_model
from edgewright.compiler.report.schema import TargetReport
from edgewright.compiler.request import Request

from .environment import CACHE, PINS, SCRIPTS, ScriptFailed, digest, peers_python, run_script
from .latency import rounds_ns
from .nets import Data, Net, input_name, model_file
from .outputs import answers

METRICS = {"kws": "agreement", "ic": "agreement", "vww": "distortion", "ad": "distortion"}
"""Without labels, as the compiler would choose them; VWW's two classes agree almost always, its scores do not."""
BACKENDS = ("onnx", "openvino")
FLOAT = "float"


def bench_control(net: Net, data: Data) -> dict[str, Any]:
    """By backend of NNCF: its evaluations, drop on *tune* and on *test* and latency, and the same of ours.

    The budget is half of what that backend's default int8 loses on *tune*.
    """
    metric = BUILT_IN[METRICS[net.name]]
    session = open_session(model_file(net).read_bytes(), Arithmetic.ENGINE)
    truth = _first(run(session, {session.get_inputs()[0].name: data.tune}))
    found: dict[str, Any] = {}
    files = {FLOAT: model_file(net)}
    with tempfile.TemporaryDirectory() as folder:
        for backend in BACKENDS:
            try:
                files[f"nncf {backend}"], theirs = _nncf(net, data, truth, metric, backend)
            except ScriptFailed as error:
                found[backend] = {"failed": str(error).strip().splitlines()[-1]}
                continue
            files[f"ours {backend}"], mine = _ours(net, data, metric, theirs["max_drop"], Path(folder) / backend)
            found[backend] = {"max_drop": theirs["max_drop"], "nncf": theirs, "ours": mine}
        tested = answers(files, data.test, "engine")
        rounds = rounds_ns(files, data.test)
    for backend, row in found.items():
        if "failed" in row:
            continue
        for side in ("nncf", "ours"):
            name = f"{side} {backend}"
            compared = metrics.compare(metric, tested[name].outputs, tested[FLOAT].outputs, None)
            row[side]["test_drop"] = compared.drop.value
            row[side]["latency_ms"] = asdict(measure.summarise(rounds[name]))
        row["time_ratio"] = asdict(measure.ratio(rounds[f"ours {backend}"], rounds[f"nncf {backend}"]))
    float_ms = asdict(measure.summarise(rounds[FLOAT]))
    return {
        "metric": metric.name,
        "tune_samples": len(data.tune),
        "float_latency_ms": float_ms,
        "backends": found,
    }


def _nncf(net: Net, data: Data, truth: NDArray[Any], metric: Metric, backend: str) -> tuple[Path, dict[str, Any]]:
    model = model_file(net)
    script = (SCRIPTS / "control_nncf.py").read_bytes()
    settings = repr((backend, metric.name, None, PINS))
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
            "max_drop": None,
            "model": str(model),
            "input": input_name(onnx.load(model)),
            "data": str(Path(work) / "data.npz"),
            "out": str(out),
        }
        result = run_script("control_nncf", job, peers_python())
    kept.write_text(json.dumps(result), encoding="utf-8")
    return out, result


def _ours(net: Net, data: Data, metric: Metric, max_drop: float, folder: Path) -> tuple[Path, dict[str, Any]]:
    """What `edgewright compile` ships for this machine.

    NNCF has one set of samples to look at, and confirms on no other: here *test* is *tune* once more.
    """
    folder.mkdir()
    parts = {"calibrate": data.calibration, "tune": data.tune, "test": data.tune}
    split = np.repeat(list(parts), [len(part) for part in parts.values()])
    np.savez(folder / "data.npz", x=np.concatenate(list(parts.values())), split=split)
    request = Request(
        model=str(model_file(net)),
        targets=("host",),
        data=folder / "data.npz",
        out=folder / "out",
        metric=metric.name,
        max_drop=f"{max_drop * 100}%",
        engines=("onnxruntime",),
    )
    (target,) = compile_model(request).targets
    unpack(folder / "out" / str(target.bundle), folder / "unpacked")
    shipped = next(row for row in target.candidates if row.name == target.chosen)
    return folder / "unpacked/model/model.onnx", {
        "evaluations": _evaluations(target),
        "ranking_runs": 0.0 if target.control is None else target.control.ranking_runs,
        "shipped": shipped.name,
        "outcome": target.outcome,
        "reason": target.reason,
        "drop": shipped.tune.drop,
    }


def _evaluations(target: TargetReport) -> float:
    """Candidates, float among them, of which repaired ones and the plain plan count among the steps of control."""
    control = target.control
    first = sum("-repaired" not in row.name for row in target.candidates)
    return first if control is None else first - 1 + control.evaluations + control.ranking_runs


def _first(outputs: dict[str, NDArray[Any]]) -> NDArray[Any]:
    return next(iter(outputs.values()))


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
