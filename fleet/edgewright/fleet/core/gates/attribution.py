"""The drift gate: does the new release behave worse, or did the data change?

Devices on the new release (*treated*) are compared with devices of the same target on the old one in the same windows
(*control*), and each group with the reference of its own bundle.

| inputs, treated vs control | outputs, treated vs control | says | outcome |
|---|---|---|---|
| alike | alike | nothing changed | pass |
| alike | differ | a bad build, unless its own reference and its estimated accuracy explain the change | fail |
| alike | differ | the same, while its own reference cannot tell yet: they may explain it still | wait |
| differ | differ | the groups see different data: their outputs prove nothing | inconclusive |
| - | - | both groups' inputs left their references: the data drifted | alert, no rollback |
| - | - | the same at some sites only (site_drift.py): the data drifted there | alert that names them, no rollback |

More failed requests, or a lower estimated accuracy, fail the gate by themselves. With nothing to compare with (a first
release), outputs that leave the reference while the inputs do not are inconclusive: they may as well come from
calibration data that are not like the real ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from edgewright.bundle.reference import Histogram, Reference

from ..drift.report import FeatureDrift, Verdict, compare, estimate_accuracy, verdict_of
from ..policy.sections import Action, DriftGate
from ..rows import Number
from ..statistics import chi2_two_samples, chi2_upper, normal_upper
from .evidence import TargetEvidence
from .status import GateOutcome, GateStatus

MIN_ERRORS = 3
"""Failed requests below this are never held against a release."""


def drift_gate(
    target: str, evidence: TargetEvidence | None, gate: DriftGate, *, wave_over: bool, has_say: bool = True
) -> GateStatus:
    """Return what the pooled traffic of one target says.

    Args:
        target: the board.
        evidence: its traffic in the current wave.
        gate: the policy.
        wave_over: the horizon has passed, so waiting brings nothing.
        has_say: it may stop something; else it only tells.
    """
    status = _pooled(target, evidence, gate, wave_over=wave_over)
    if evidence is not None and evidence.drifted_sites:
        status = msgspec.structs.replace(status, drifted_sites=evidence.drifted_sites, data_drift=False)
    if has_say or status.outcome == "pass":
        return status
    reason = f"{status.reason} (pooled traffic; the blocks of devices and controls have the say)"
    return msgspec.structs.replace(status, outcome="pass", action=None, reason=reason)


def _pooled(target: str, evidence: TargetEvidence | None, gate: DriftGate, *, wave_over: bool) -> GateStatus:
    if evidence is None or evidence.treated.rows == 0:
        return _undecided(target, gate, "no traffic on the new release yet", {"samples": 0}, (), wave_over)
    picture = _Picture(evidence, gate)
    numbers = picture.numbers()
    alarm = picture.alarm()
    if alarm is not None:
        return _status(target, "fail", gate.action, alarm, numbers, picture)
    undecided = picture.undecided()
    if undecided is not None:
        return _undecided(target, gate, undecided, numbers, picture.features, wave_over, data_drift=picture.data_drift)
    return _status(target, "pass", None, picture.all_clear(), numbers, picture)


class _Picture:
    """The four comparisons of one target's evidence, made once."""

    def __init__(self, evidence: TargetEvidence, gate: DriftGate) -> None:
        self._evidence = evidence
        self._gate = gate
        treated, control, new, old = (
            evidence.treated,
            evidence.control,
            evidence.treated_reference,
            evidence.control_reference,
        )
        self._own = compare(new.histograms, treated.histograms, _counts(new), gate, comparisons=3)
        self._old_own = compare(old.histograms, control.histograms, _counts(old), gate, comparisons=3) if old else ()
        self._against = _compare_common(new, old, evidence, gate) if old is not None else ()
        self.features: tuple[FeatureDrift, ...] = self._against or self._own
        self._new_accuracy = estimate_accuracy(new, treated.histograms)
        self._old_accuracy = estimate_accuracy(old, control.histograms) if old else None

    @property
    def data_drift(self) -> bool:
        """The inputs left the reference on every group that there is."""
        groups = [self._own, self._old_own] if self._old_own else [self._own]
        return all(verdict_of(group, role="input") == "drifted" for group in groups)

    def alarm(self) -> str | None:
        """Return why the release is worse; None if it is not known to be."""
        return self._more_errors() or self._less_accurate() or self._bad_build()

    def undecided(self) -> str | None:
        """Return why nothing can be said yet; None if the release may pass."""
        rows, gate = self._evidence.treated.rows, self._gate
        if rows < gate.min_samples:
            return f"{rows} of {gate.min_samples} samples on the new release"
        outputs = self._outputs()
        if outputs == "inconclusive" and any(feature.role == "output" for feature in self.features):
            return self._too_few()
        if outputs == "drifted" and not self._explained():
            if not self._against:
                return f"outputs left the reference and there is nothing to compare with: {_named(self.features, gate)}"
            if self._inputs() == "drifted":
                return (
                    f"both releases see different inputs, so outputs cannot be compared: {_named(self.features, gate)}"
                )
            return (
                f"outputs differ from the old release, and {rows} samples are too few to tell whether this release's "
                f"own reference predicts that: {_named(self.features, gate)}"
            )
        return None

    def _too_few(self) -> str:
        rows, control = self._evidence.treated.rows, self._evidence.control.rows
        seen = [one.psi_critical for one in self.features if one.role == "output" and one.psi_critical is not None]
        beside = f" and {control} of the old release" if self._against else ""
        return (
            f"{rows} samples{beside} can tell a PSI of {max(seen, default=0.0):.2f} from noise; "
            f"the limit is {self._gate.max_psi:g}: more traffic is needed"
        )

    def all_clear(self) -> str:
        """Return why the release passes."""
        samples = f"{self._evidence.treated.rows} samples"
        if not self.features:
            return f"{samples}; the model has no features to compare, only its errors were"
        if self._outputs() == "drifted":
            return f"{samples}: outputs differ from the old release as this release's own reference predicts"
        against = {
            "drawn": "its controls",
            "concurrent": "the old release at the same time",
            "before": "the same devices before",
        }
        name = against.get(self._evidence.control_kind, "its reference") if self._against else "its reference"
        return f"{samples}: outputs like {name}"

    def numbers(self) -> dict[str, Number]:
        """Return what the decision rests on, for the audit log."""
        treated, control = self._evidence.treated, self._evidence.control
        numbers: dict[str, Number] = {
            "samples": treated.rows,
            "control_samples": control.rows,
            "control": self._evidence.control_kind,
            "devices": treated.devices,
            "control_devices": control.devices,
            "errors": treated.failures,
            "control_errors": control.failures,
            "max_psi": self._gate.max_psi,
            "max_ks": self._gate.max_ks,
        }
        for one in self.features:
            numbers[f"psi {one.role} {one.name}"] = round(one.psi, 6)
        if self._new_accuracy is not None:
            numbers["estimated_accuracy"] = round(self._new_accuracy.value, 6)
        if self._old_accuracy is not None:
            numbers["control_estimated_accuracy"] = round(self._old_accuracy.value, 6)
        return numbers

    def _inputs(self) -> Verdict:
        if any(feature.role == "input" for feature in self.features):
            return verdict_of(self.features, role="input")
        groups = {verdict_of(group, role="input") for group in (self._own, self._old_own)}
        return "drifted" if groups == {"drifted", "stable"} else "inconclusive"

    def _outputs(self) -> Verdict:
        return verdict_of(self.features, role="output")

    def _bad_build(self) -> str | None:
        if not self._against or self._outputs() != "drifted" or self._inputs() == "drifted" or self._explained():
            return None
        if self._may_be_explained():
            return None
        return f"bad build: outputs differ from the old release on like inputs: {_named(self._against, self._gate)}"

    def _explained(self) -> bool:
        """A better model may answer differently: its own reference then says so, and the accuracy is no lower."""
        return (
            bool(self._against)
            and verdict_of(self._own, role="output") == "stable"
            and self._new_accuracy is not None
            and self._old_accuracy is not None
            and self._new_accuracy.value >= self._old_accuracy.value - self._allowed_drop
        )

    def _may_be_explained(self) -> bool:
        """Its own reference needs more samples to say so than the comparison with the old release needs to differ."""
        has_accuracy = self._new_accuracy is not None and self._old_accuracy is not None
        return bool(self._against) and has_accuracy and verdict_of(self._own, role="output") == "inconclusive"

    @property
    def _allowed_drop(self) -> float:
        return self._gate.max_accuracy_drop_percentage / 100

    def _less_accurate(self) -> str | None:
        new, old = self._new_accuracy, self._old_accuracy
        if new is None or old is None or min(new.samples, old.samples) < self._gate.min_samples:
            return None
        if self._inputs() == "drifted":
            return None
        error = math.hypot(new.standard_error, old.standard_error)
        drop = old.value - new.value
        if drop < self._allowed_drop or normal_upper(drop / error if error else math.inf) > self._gate.alpha / 3:
            return None
        return (
            f"bad build: estimated accuracy {100 * new.value:.1f} %, {100 * drop:.1f} points below the old release "
            f"(limit {self._gate.max_accuracy_drop_percentage:g})"
        )

    def _more_errors(self) -> str | None:
        treated, control = self._evidence.treated, self._evidence.control
        if treated.failures < MIN_ERRORS:
            return None
        share = treated.failures / treated.requests
        usual = control.failures / control.requests if control.requests else 0.0
        if 100 * (share - usual) < self._gate.max_error_percentage:
            return None
        if control.requests:
            counts = [[one.failures, one.requests - one.failures] for one in (treated, control)]
            if chi2_upper(*chi2_two_samples(counts[0], counts[1])) > self._gate.alpha / 3:
                return None
        return (
            f"{treated.failures} of {treated.requests} requests failed ({100 * share:.1f} %), "
            f"{100 * usual:.1f} % on the old release (limit {self._gate.max_error_percentage:g} points more)"
        )


def _counts(reference: Reference) -> list[tuple[int, ...]]:
    return [histogram.counts for histogram in reference.histograms]


def _compare_common(
    new: Reference, old: Reference, evidence: TargetEvidence, gate: DriftGate
) -> tuple[FeatureDrift, ...]:
    """Compare the features that both bundles count on the same edges: only those can be compared bin by bin."""
    treated, control = evidence.treated.histograms, evidence.control.histograms
    if len(treated) != len(new.histograms) or len(control) != len(old.histograms):
        return ()
    place_of = {_bins(histogram): place for place, histogram in enumerate(old.histograms)}
    common = [
        (histogram, treated[place], control[place_of[_bins(histogram)]])
        for place, histogram in enumerate(new.histograms)
        if _bins(histogram) in place_of
    ]
    return compare(
        [one for one, _, _ in common], [one for _, one, _ in common], [one for _, _, one in common], gate, comparisons=3
    )


def _bins(histogram: Histogram) -> tuple[str, str, str, tuple[float, ...], int]:
    return histogram.name, histogram.role, histogram.kind, histogram.edges, len(histogram.counts)


def _named(features: Sequence[FeatureDrift], gate: DriftGate) -> str:
    drifted = [one for one in features if one.role == "output" and one.verdict == "drifted"]
    return ", ".join(f"{one.name} PSI {one.psi:.2f} (limit {gate.max_psi:g}, n {one.samples})" for one in drifted[:3])


def _undecided(
    target: str,
    gate: DriftGate,
    reason: str,
    numbers: dict[str, Number],
    features: tuple[FeatureDrift, ...],
    wave_over: bool,
    *,
    data_drift: bool = False,
) -> GateStatus:
    outcome: GateOutcome = "inconclusive" if wave_over else "wait"
    action: Action | None = "PAUSE" if wave_over and gate.on_inconclusive == "PAUSE" else None
    return GateStatus(
        gate="drift",
        target=target,
        outcome=outcome,
        action=action,
        reason=f"{target}: {reason}",
        numbers=numbers,
        features=features,
        data_drift=data_drift,
    )


def _status(
    target: str,
    outcome: GateOutcome,
    action: Action | None,
    reason: str,
    numbers: dict[str, Number],
    picture: _Picture,
) -> GateStatus:
    return GateStatus(
        gate="drift",
        target=target,
        outcome=outcome,
        action=action,
        reason=f"{target}: {reason}",
        numbers=numbers,
        features=picture.features,
        data_drift=picture.data_drift,
    )
