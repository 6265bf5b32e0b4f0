"""The plans of a run: one calibration, one ranking, and from them a plan for every scheme that some target can use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgewright.targets.accumulation import saturating

from .control.accuracy import rank
from .control.noise import Sensitivity
from .data import Samples
from .faults import NotQuantizable
from .graph import Graph
from .logits import with_logits
from .lower.model_file import discard, write_model
from .lower.onnxruntime import Arithmetic, open_session, run
from .metrics import snr_db
from .quantize.basis import Basis, smoothed
from .quantize.calibration.statistics import Statistics
from .quantize.emit import emit
from .quantize.plan import Plan
from .quantize.scheme import Calibrator, Scheme
from .quantize.uncalibrated.dynamic import propose_dynamic
from .quantize.uncalibrated.weight_only import propose_weights
from .scratch import Scratch

CALIBRATORS: tuple[Calibrator, ...] = ("min-max", "mse", "percentile")
"""To choose from. Entropy was 6 to 20 dB worse than these on three of five nets (bench/quantize.py's)."""
CHOICE_SAMPLES = 64
LEAST_GAIN_DB = 1.0
"""What smoothing has to gain before it is used. Its factors fit the samples that it is judged by: with 20 of them, a
ConvNeXt gained 0.6 dB there and lost 9 dB on others. Where it helps, it gains more."""


@dataclass
class Plans:
    """Plans by the name of their variant, and what they were made from."""

    tune: Samples
    by_name: Mapping[str, Plan] = field(default_factory=dict)
    bases: Mapping[str, Basis] = field(default_factory=dict)
    """Of the static plans that are our own."""
    _sensitivities: dict[int, Sensitivity | None] = field(default_factory=dict)

    def sensitivity(self, name: str) -> Sensitivity | None:
        """The ranking of a static plan's operators, measured when first asked for; all that share a basis share it."""
        basis = self.bases[name]
        if id(basis) not in self._sensitivities:
            plan = basis.without_moves(self.by_name[name])
            self._sensitivities[id(basis)] = rank(basis.graph, plan, basis.statistics, self.tune)
        return self._sensitivities[id(basis)]


@dataclass(frozen=True)
class Recipe:
    """How static plans of a run are made."""

    basis: Basis
    calibrator: Calibrator


def uncalibrated_plan(graph: Graph, scheme: Scheme) -> Plan:
    """The plan of a scheme that needs no data.

    Raises:
        NotQuantizable: the scheme has nothing to work on.
    """
    return propose_dynamic(graph, scheme) if scheme.method == "dynamic" else propose_weights(graph, scheme)


class Planner:
    """Makes plans from one calibration; recipes are chosen once, when the first static plan is made."""

    def __init__(
        self,
        graph: Graph,
        statistics: Statistics,
        calibrate: Samples,
        tune: Samples,
        arithmetic: Arithmetic,
        scratch: Scratch,
    ) -> None:
        """Takes what all plans share.

        Args:
            graph: the optimised float graph.
            statistics: of its activations.
            calibrate: what the statistics were taken from; a smoothed graph is calibrated on the same.
            tune: other samples, to choose recipes on: those that were fitted would flatter what was fitted to them.
            arithmetic: one that gives exact sums on this machine.
            scratch: for large models.
        """
        self._plain = Basis(graph, graph, statistics)
        self._calibrate = calibrate
        self._tune = tune
        self._arithmetic = arithmetic
        self._scratch = scratch
        self._recipes: dict[Scheme, Recipe] = {}
        """By the scheme that they were judged by."""
        self._bases: dict[bool, list[Basis]] = {}
        """By whether weights have a scale per channel."""

    def plan_all(self, schemes: Iterable[Scheme]) -> tuple[Plans, set[str]]:
        """A plan for every scheme, by its name, and why some have none."""
        plans: dict[str, Plan] = {}
        bases: dict[str, Basis] = {}
        reasons: set[str] = set()
        for scheme in sorted(schemes, key=lambda scheme: scheme.name):
            try:
                plans[scheme.name] = self.plan(scheme)
                if scheme.method == "static":
                    bases[scheme.name] = self.recipe(scheme).basis
            except NotQuantizable as reason:
                reasons.add(str(reason))
        return Plans(self._tune, plans, bases), reasons

    def plan(self, scheme: Scheme) -> Plan:
        """The plan of one scheme.

        Raises:
            NotQuantizable: the scheme has nothing to work on.
        """
        if scheme.method != "static":
            return uncalibrated_plan(self._plain.original, scheme)
        recipe = self.recipe(scheme)
        return recipe.basis.plan(scheme, recipe.calibrator, saturating)

    def recipe(self, scheme: Scheme) -> Recipe:
        """The recipe whose plan comes nearest to the float model's logits, on a few *tune* samples.

        None is best everywhere: clipping outliers gains 2 dB on one net and loses 4 on the next, and smoothing gains up
        to 6 dB per channel and loses as much with one scale per tensor. The choice does not depend on the target: all
        schemes by ONNX Runtime's rules share it.

        Raises:
            NotQuantizable: no plan can be made.
        """
        judged = Scheme(per_channel=scheme.per_channel)
        if scheme.rules == "tflite":
            judged = msgspec.structs.replace(judged, rules="tflite", activations=scheme.activations)
        if judged not in self._recipes:
            self._recipes[judged] = self._best_recipe(judged)
        return self._recipes[judged]

    def _best_recipe(self, scheme: Scheme) -> Recipe:
        few = self._few()
        truth = self._logits(self._plain.original, few, Arithmetic.EXACT)
        best, best_db = None, -np.inf
        for recipe in self._candidates(per_channel=scheme.per_channel):
            basis = recipe.basis
            plan = basis.plan(scheme, recipe.calibrator, saturating)
            rounded = emit(basis.graph, basis.without_moves(plan))
            closeness_db = snr_db(self._logits(rounded, few, self._arithmetic), truth)
            if basis is not self._plain:
                closeness_db -= LEAST_GAIN_DB
            if best is None or closeness_db > best_db:
                best, best_db = recipe, closeness_db
        if best is None:
            raise NotQuantizable("there is no recipe for a plan")
        return best

    def _candidates(self, *, per_channel: bool) -> list[Recipe]:
        if per_channel not in self._bases:
            moved = smoothed(self._plain, self._calibrate, self._scratch) if per_channel else None
            self._bases[per_channel] = [self._plain] if moved is None else [self._plain, moved]
        return [Recipe(basis, calibrator) for basis in self._bases[per_channel] for calibrator in CALIBRATORS]

    def _few(self) -> Samples:
        count = min(len(self._tune), CHOICE_SAMPLES)
        return self._tune.take(np.linspace(0, len(self._tune) - 1, count).astype(np.intp))

    def _logits(self, graph: Graph, samples: Samples, arithmetic: Arithmetic) -> NDArray[Any]:
        probed, name = with_logits(graph)
        model = write_model(probed, self._scratch)
        outputs = run(open_session(model, arithmetic), samples.inputs)
        discard(model)
        return outputs[name] if name is not None else next(iter(outputs.values()))
