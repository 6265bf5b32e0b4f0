"""What static plans are made from: a float graph, as it is or smoothed, and the statistics of its activations."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from edgewright.targets.accumulation import Lookup

from ..data import Samples
from ..graph import Graph, graph_digest
from ..lower.model_file import settled
from ..scratch import Scratch
from .calibration.observe import collect
from .calibration.statistics import Statistics
from .corrections.bias_correction import corrected
from .corrections.equalize import equalized
from .corrections.smooth import find_smoothings
from .plan import Equalization, Plan
from .propose import propose
from .saturation.guard import guarded
from .scheme import Calibrator, Scheme


@dataclass(frozen=True)
class Basis:
    """The same function as the original graph, with factors moved between its weights."""

    original: Graph
    graph: Graph
    """The original after `moves`."""
    statistics: Statistics
    """Of `graph`."""
    moves: tuple[Equalization, ...] = ()

    def plan(self, scheme: Scheme, calibrator: Calibrator, accumulation: Lookup) -> Plan:
        """The static plan of a scheme for the original graph, guarded where the scheme says so, and bias-corrected.

        Raises:
            NotQuantizable: there is nothing that int8 could compute.
        """
        plan = self.with_moves(propose(self.graph, self.statistics, scheme, calibrator))
        if scheme.guard != "none":
            plan = guarded(self.original, plan, self.statistics, accumulation)
        return self.corrected(plan)

    def with_moves(self, plan: Plan) -> Plan:
        """A plan of `graph` as one of the original."""
        return msgspec.structs.replace(plan, equalizations=self.moves, model_digest=graph_digest(self.original))

    def without_moves(self, plan: Plan) -> Plan:
        """A plan of the original as one of `graph`."""
        return msgspec.structs.replace(plan, equalizations=())

    def corrected(self, plan: Plan) -> Plan:
        """The plan with its bias correction made anew."""
        return self.with_moves(corrected(self.graph, self.without_moves(plan), self.statistics))


def smoothed(plain: Basis, samples: Samples, scratch: Scratch) -> Basis | None:
    """The basis after smoothing, calibrated again; None where no factor is worth moving."""
    moves = find_smoothings(plain.graph, plain.statistics)
    if not moves:
        return None
    graph = settled(equalized(plain.original, moves), scratch)
    return Basis(plain.original, graph, collect(graph, samples, scratch), moves)
