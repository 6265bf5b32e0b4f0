"""Drift statistics: equal to scipy's on binned data, and to Evidently's on the `elec` windows within the binning error.

Evidently 0.7.23 cuts both samples of a number into equal bins (Sturges' rule on both together; by value where the
reference holds at most 20 values), fills empty bins with a small share, and takes KS from the raw samples. We count on
the edges that came with the bundle: twenty quantiles of the calibration data. So two things are checked.

1. *The same formulas.* Our functions on Evidently's bins give Evidently's numbers, to 1e-9.
2. *Our bins.* PSI and JS are f-divergences: joining bins only lowers them. With R the bins that both cuttings together
   make, a cutting loses `loss = D(R) - D(bins) >= 0`, so two cuttings differ by at most the larger loss. Both must be
   finite, so each empty cell of R is given half a count, and what the fillings change is added as it is measured.
   KS: within a bin the distance function moves by no more than the bin holds, so the raw distance lies between the
   largest corner and the largest value that the bin's content allows.
"""

from __future__ import annotations

import csv
import gzip
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial import distance
from scipy.special import rel_entr

from edgewright.bundle.observe import build_reference
from edgewright.fleet.core.drift import divergence
from edgewright.fleet.core.statistics import chi2_two_samples, chi2_upper

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "drift"
LIMITS = {"scipy_largest_difference": 1e-9, "evidently_same_bins_largest_difference": 1e-9, "outside_binning_error": 0}
RANDOM_PAIRS = 2000
FEW_VALUES = 20
"""Up to so many different values in the reference, Evidently counts by value."""

Array = NDArray[np.float64]


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """One feature of one pair of windows."""

    name: str
    reference: Array
    current: Array
    evidently: dict[str, float]


def measure(quick: bool) -> dict[str, Any]:
    """Return the figures; those about Evidently are left out where its windows are not on this machine."""
    figures: dict[str, Any] = {"scipy": _against_scipy(200 if quick else RANDOM_PAIRS)}
    figures["scipy_largest_difference"] = max(figures["scipy"].values())
    if not DATA.is_dir():
        return figures | {"evidently": "not measured: its windows are not on this machine"}
    rows = [_against_evidently(one) for one in _compared()]
    figures["evidently"] = rows
    figures["evidently_same_bins_largest_difference"] = max(row["same_bins_difference"] for row in rows)
    figures["outside_binning_error"] = sum(not row["within"] for row in rows)
    return figures


def broken(figures: dict[str, Any]) -> list[str]:
    """Return the limits that are missed; the ones about Evidently hold where its windows were there to measure."""
    return [
        f"{name} is {figures[name]:g}, above {most:g}"
        for name, most in LIMITS.items()
        if name in figures and figures[name] > most
    ]


def rows(figures: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return the figures for people."""
    table = [
        (f"4 largest difference of {name}", "beside scipy", f"{value:.1e}") for name, value in figures["scipy"].items()
    ]
    if isinstance(figures["evidently"], str):
        return [*table, ("4 elec windows", "beside Evidently", figures["evidently"])]
    same = figures["evidently_same_bins_largest_difference"]
    table.append(("4 largest difference on its own bins", "beside Evidently", f"{same:.1e}"))
    outside = f"{figures['outside_binning_error']} of {len(figures['evidently'])}"
    return [*table, ("4 features outside the binning error", "beside Evidently", outside)]


def _against_scipy(pairs: int) -> dict[str, float]:
    """Return the largest difference of each statistic over random counts, relative where the value is above 1."""
    random = np.random.default_rng(20260101)
    worst = dict.fromkeys(("psi", "js", "ks", "ks_p", "chi2", "chi2_p"), 0.0)
    for _ in range(pairs):
        bins = int(random.integers(2, 40))
        law = random.dirichlet(np.ones(bins))
        other = random.dirichlet(law * 50 + 0.01)
        one, two = (random.multinomial(int(random.integers(20, 20_000)), shares) for shares in (law, other))
        for name, difference in _differences(one.tolist(), two.tolist()).items():
            worst[name] = max(worst[name], difference)
    return worst


def _differences(one: list[int], two: list[int]) -> dict[str, float]:
    p, q = np.array(one) / sum(one), np.array(two) / sum(two)
    filled = np.array([column for column in zip(one, two, strict=True) if sum(column)]).T
    statistic, degrees = chi2_two_samples(one, two)
    scipy_chi2 = stats.chi2_contingency(filled, correction=False)
    scipy_ks = float(np.abs(np.cumsum(p) - np.cumsum(q)).max())
    n, m = sum(one), sum(two)
    root = math.sqrt(n * m / (n + m))
    pairs = {
        "psi": (divergence.psi_plain(one, two), float((rel_entr(p, q) + rel_entr(q, p)).sum())),
        "js": (divergence.js(one, two), float(distance.jensenshannon(p, q, base=2))),
        "ks": (divergence.ks(one, two), scipy_ks),
        "ks_p": (divergence.ks_p_value(scipy_ks, n, m), float(stats.kstwobign.sf(scipy_ks * root))),
        "chi2": (statistic, float(scipy_chi2.statistic)),
        "chi2_p": (chi2_upper(statistic, degrees), float(scipy_chi2.pvalue)),
    }
    return {name: _difference(*values) for name, values in pairs.items()}


def _difference(ours: float, theirs: float) -> float:
    return 0.0 if ours == theirs else abs(ours - theirs) / max(1.0, abs(theirs))


def _compared() -> list[Compared]:
    with gzip.open(DATA / "elec.csv.gz", "rt") as file:
        table = np.genfromtxt(file, delimiter=",", names=True)
    with (DATA / "oracle_evidently_elec.csv").open(newline="") as file:
        return [
            Compared(
                name=f"{row['reference']} {row['current']} {row['feature']}",
                reference=table[row["feature"].removesuffix("(categorical)")][_rows(row["reference"])],
                current=table[row["feature"].removesuffix("(categorical)")][_rows(row["current"])],
                evidently={key: float(row[key]) for key in ("psi", "jensenshannon", "ks", "chisquare_p") if row[key]},
            )
            for row in csv.DictReader(file)
        ]


def _rows(text: str) -> slice:
    """Read `rows[20000:20000+1000]`."""
    first, last = text.removeprefix("rows[").removesuffix("]").split(":")
    return slice(int(first), sum(int(part) for part in last.split("+")))


def _against_evidently(one: Compared) -> dict[str, Any]:
    values = np.unique(one.reference)
    by_value = len(values) <= FEW_VALUES
    cuts = _cuts_of_values(one) if by_value else _sturges(one)
    same = _same_formulas(one, cuts)
    mine = cuts if "chisquare_p" in one.evidently else _bundle_edges(one.reference)
    row: dict[str, Any] = {"feature": one.name, "same_bins_difference": max(same.values())}
    checks = [_divergence_within(one, name, mine, cuts) for name in ("psi", "jensenshannon")]
    if "ks" in one.evidently:
        checks.append(_ks_within(one, mine))
    return row | {check["statistic"]: check for check in checks} | {"within": all(one["within"] for one in checks)}


def _cuts_of_values(one: Compared) -> Array:
    """Return cuts so that each value of either window has a bin of its own."""
    every = np.unique(np.concatenate((one.reference, one.current)))
    return every[1:]


def _sturges(one: Compared) -> Array:
    edges = np.histogram_bin_edges(np.concatenate((one.reference, one.current)), bins="sturges")
    return edges[1:-1]


def _bundle_edges(sample: Array) -> Array:
    """Return the edges that the compiler would put into a bundle calibrated on this sample."""
    reference = build_reference({"x": sample[:, None].astype(np.float64)}, {}, None)
    (found,) = [each for each in reference.histograms if each.role == "input"]
    return np.array(found.edges)


def _counts(sample: Array, cuts: Array) -> list[int]:
    """Count as devices do: bin i holds cuts[i-1] <= value < cuts[i]."""
    return [int(n) for n in np.bincount(np.searchsorted(cuts, sample, side="right"), minlength=len(cuts) + 1)]


def _filled(counts: Sequence[int]) -> Array:
    """Return shares with Evidently's filling of empty bins (`get_binned_data`, feel_zeroes=True)."""
    shares = np.array(counts) / sum(counts)
    least = float(shares[shares > 0].min())
    shares[shares == 0] = least / 10**6 if least <= 0.0001 else 0.0001
    return shares


def _same_formulas(one: Compared, cuts: Array) -> dict[str, float]:
    reference, current = _counts(one.reference, cuts), _counts(one.current, cuts)
    found = {
        "psi": divergence.psi_of_shares(_filled(current).tolist(), _filled(reference).tolist()),
        "jensenshannon": divergence.js(current, reference) * math.sqrt(math.log(2)),  # Evidently takes base e
    }
    if "ks" in one.evidently:  # from the raw samples, which only scipy has; `_ks_within` sets our distance beside it
        found["ks"] = float(stats.ks_2samp(one.reference, one.current).pvalue)
    if "chisquare_p" in one.evidently:
        expected = [count * sum(current) / sum(reference) for count in reference]
        statistic = math.fsum((a - b) ** 2 / b for a, b in zip(current, expected, strict=True))
        found["chisquare_p"] = chi2_upper(statistic, len(expected) - 1)
    return {name: _difference(value, one.evidently[name]) for name, value in found.items()}


def _divergence_within(one: Compared, name: str, mine: Array, theirs: Array) -> dict[str, Any]:
    """Check |ours - Evidently's| against the larger loss of the two cuttings, plus what filling empty bins changes."""
    both = np.union1d(mine, theirs)
    fine = [np.array(_counts(sample, both)) + 0.5 for sample in (one.current, one.reference)]
    finest = _of(name, *fine)
    ours = _of(name, *(np.array(_counts(sample, mine)) + 0.5 for sample in (one.current, one.reference)))
    if name == "jensenshannon":
        ours = divergence.js(_counts(one.current, mine), _counts(one.reference, mine)) ** 2 * math.log(2)
    told = one.evidently[name] ** (2 if name == "jensenshannon" else 1)
    smoothed = [_of(name, *(_joined(counts, both, cuts) for counts in fine)) for cuts in (mine, theirs)]
    losses = [finest - value for value in smoothed]
    bound = max(losses) + abs(ours - smoothed[0]) + abs(told - smoothed[1])
    return {
        "statistic": "psi" if name == "psi" else "js_squared",
        "ours": ours,
        "evidently": told,
        "binning_error": bound,
        "within": bool(min(losses) >= -1e-9 and abs(ours - told) <= bound + 1e-12),
    }


def _of(name: str, one: Array, other: Array) -> float:
    if name == "psi":
        return divergence.psi_plain(one.tolist(), other.tolist())
    return divergence.js(one.tolist(), other.tolist()) ** 2 * math.log(2)


def _joined(counts: Array, both: Array, cuts: Array) -> Array:
    """Add up the cells of the joint cutting that one of the two cuttings holds together."""
    place = np.searchsorted(cuts, np.concatenate(([-np.inf], both)), side="right")
    return np.bincount(place, weights=counts, minlength=len(cuts) + 1).astype(np.float64)


def _ks_within(one: Compared, mine: Array) -> dict[str, Any]:
    """Check that the raw distance, which is behind Evidently's p-value, lies in what our bins allow."""
    p, q = (np.array(_counts(sample, mine)) / len(sample) for sample in (one.reference, one.current))
    corner = np.cumsum(p) - np.cumsum(q)
    before = np.concatenate(([0.0], corner[:-1]))
    highest = max(np.minimum(before + p, corner + q).max(), -np.maximum(before - q, corner - p).min())
    ours = divergence.ks(_counts(one.reference, mine), _counts(one.current, mine))
    raw = stats.ks_2samp(one.reference, one.current)
    return {
        "statistic": "ks",
        "ours": ours,
        "raw": float(raw.statistic),
        "evidently_p": one.evidently["ks"],
        "binning_error": float(highest - ours),
        "within": bool(ours - 1e-12 <= raw.statistic <= highest + 1e-12),
    }
