"""The plans of a run: one calibration, one ranking, and from them a plan for every scheme that some target can use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from edgewright.targets.accumulation import Lookup

from .control.accuracy import rank
from .control.noise import Sensitivity
from .data import Samples
from .graph import Graph
from .quantize.bias_correction import corrected
from .quantize.dynamic import propose_dynamic
from .quantize.plan import Plan
from .quantize.propose import propose
from .quantize.saturation import guarded
from .quantize.scheme import Scheme
from .quantize.statistics import Statistics
from .quantize.weight_only import propose_weights

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


def make_plan(graph: Graph, scheme: Scheme, statistics: Statistics, accumulation: Lookup) -> Plan:
    """The plan of a scheme.

    Args:
        graph: the optimised float graph.
        scheme: what to use.
        statistics: of the graph's activations; only static schemes look at them.
        accumulation: how the kernels that the scheme guards against add.

    Raises:
        NotQuantizable: the scheme has nothing to work on.
    """
    if scheme.method == "dynamic":
        return propose_dynamic(graph, scheme)
    if scheme.method == "weights":
        return propose_weights(graph, scheme)
    plan = propose(graph, statistics, scheme)
    if scheme.guard != "none":
        plan = guarded(graph, plan, statistics, accumulation)
    return corrected(graph, plan, statistics)
