"""The plans of a run: one calibration, one ranking, and from them a plan for every scheme that some target can use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgewright.targets.accumulation import Lookup, saturating

from .control.accuracy import rank
from .control.noise import Sensitivity
from .data import Samples
from .faults import NotQuantizable
from .graph import Graph
from .logits import with_logits
from .lower.model_file import discard, write_model
from .lower.onnxruntime import Arithmetic, open_session, run
from .metrics import snr_db
from .quantize.bias_correction import corrected
from .quantize.dynamic import propose_dynamic
from .quantize.emit import emit
from .quantize.plan import Plan
from .quantize.propose import propose
from .quantize.saturation import guarded
from .quantize.scheme import Calibrator, Scheme
from .quantize.statistics import Statistics
from .quantize.weight_only import propose_weights
from .scratch import Scratch

CALIBRATORS: tuple[Calibrator, ...] = ("min-max", "mse", "percentile")
"""To choose from. Entropy was 6 to 20 dB worse than these on three of five nets (bench/quantize.py's)."""
CHOICE_SAMPLES = 64

Origin = Literal["proposed", "given"]


@dataclass
class Plans:
    """Plans by the name of their variant, and what they were made from."""

    graph: Graph
    statistics: Statistics | None
    """None where nothing static was planned."""
    tune: Samples
    by_name: Mapping[str, Plan] = field(default_factory=dict)
    origin: Origin = "proposed"
    _sensitivity: Sensitivity | None = None

    def sensitivity(self) -> Sensitivity | None:
        """The ranking of operators, measured when first asked for; it holds for all plans and targets."""
        static = [plan for plan in self.by_name.values() if plan.scheme.method == "static"]
        if self._sensitivity is None and self.statistics is not None and static:
            self._sensitivity = rank(self.graph, static[0], self.statistics, self.tune)
        return self._sensitivity


def plan_all(
    graph: Graph,
    schemes: Iterable[Scheme],
    statistics: Statistics,
    samples: Samples,
    arithmetic: Arithmetic,
    scratch: Scratch,
) -> tuple[dict[str, Plan], set[str]]:
    """A plan for every scheme, by its name, and why some have none.

    Args:
        graph: the optimised float graph.
        schemes: what some target could use.
        statistics: of the graph's activations.
        samples: of calibration, to choose the calibrator on.
        arithmetic: one that gives exact sums on this machine.
        scratch: for large models.
    """
    plans: dict[str, Plan] = {}
    reasons: set[str] = set()
    calibrator: Calibrator | None = None
    for scheme in sorted(schemes, key=lambda scheme: scheme.name):
        try:
            if scheme.method == "static" and calibrator is None:
                calibrator = choose_calibrator(graph, statistics, samples, arithmetic, scratch)
            plans[scheme.name] = make_plan(graph, scheme, statistics, saturating, calibrator or "min-max")
        except NotQuantizable as reason:
            reasons.add(str(reason))
    return plans, reasons


def choose_calibrator(
    graph: Graph, statistics: Statistics, samples: Samples, arithmetic: Arithmetic, scratch: Scratch
) -> Calibrator:
    """The calibrator whose plan comes nearest to the float model's logits, on a few of the calibration samples.

    None is best everywhere: clipping outliers gains 2 dB on one net and loses 4 on the next. The choice does not depend
    on the target.

    Raises:
        NotQuantizable: no plan can be made.
    """
    few = samples.take(np.linspace(0, len(samples) - 1, min(len(samples), CHOICE_SAMPLES)).astype(np.intp))
    truth = _logits(graph, few, Arithmetic.ENGINE, scratch)
    found = {}
    for calibrator in CALIBRATORS:
        plan = corrected(graph, propose(graph, statistics, Scheme(), calibrator), statistics)
        found[calibrator] = snr_db(_logits(emit(graph, plan), few, arithmetic, scratch), truth)
    return max(CALIBRATORS, key=lambda calibrator: found[calibrator])


def _logits(graph: Graph, samples: Samples, arithmetic: Arithmetic, scratch: Scratch) -> NDArray[Any]:
    probed, name = with_logits(graph)
    model = write_model(probed, scratch)
    outputs = run(open_session(model, arithmetic), samples.inputs)
    discard(model)
    return outputs[name] if name is not None else next(iter(outputs.values()))


def make_plan(
    graph: Graph, scheme: Scheme, statistics: Statistics, accumulation: Lookup, calibrator: Calibrator = "min-max"
) -> Plan:
    """The plan of a scheme.

    Args:
        graph: the optimised float graph.
        scheme: what to use.
        statistics: of the graph's activations; only static schemes look at them.
        accumulation: how the kernels that the scheme guards against add.
        calibrator: of static schemes.

    Raises:
        NotQuantizable: the scheme has nothing to work on.
    """
    if scheme.method == "dynamic":
        return propose_dynamic(graph, scheme)
    if scheme.method == "weights":
        return propose_weights(graph, scheme)
    plan = propose(graph, statistics, scheme, calibrator)
    if scheme.guard != "none":
        plan = guarded(graph, plan, statistics, accumulation)
    return corrected(graph, plan, statistics)
