"""Did the data change in one place? The inputs of each site, of the new release and of the old one beside it.

| inputs at a site, new release | inputs there, old release | other sites | says |
|---|---|---|---|
| left the reference | left the reference | some have not | the data drifted at that site, whatever runs there |
| left the reference | left the reference | none has not | the data drifted everywhere: a matter of the board |
| left the reference | as they were | - | the new release is what differs: no drift of the data |

Differences of differences: what a site does to both releases is the site's, what a release does at all sites is the
release's.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from edgewright.bundle.reference import Reference

from ..drift.report import FeatureDrift, compare, verdict_of
from ..policy.sections import DriftGate
from ..sums.windows import Totals

MOST_SITES = 100
"""Those with the most rows; the chance of a false alarm is shared by all that are compared. A wave over more sites is
not read site by site at all: the standing monitor does that (drift/monitor.py)."""


class SiteTraffic(msgspec.Struct, frozen=True, kw_only=True):
    """One board's traffic at one site."""

    site: str
    treated: Totals
    """On the new release."""
    control: Totals
    """On the old release, at the same times."""


def drifted_sites(
    sites: Sequence[SiteTraffic], new: Reference, old: Reference | None, gate: DriftGate
) -> tuple[str, ...]:
    """Return the sites whose inputs left the reference on all releases, while those of another site have not."""
    busiest = sorted(sites, key=lambda one: (-one.treated.rows - one.control.rows, one.site))[:MOST_SITES]
    groups = {one.site: _verdicts(one, new, old, gate, 2 * len(busiest)) for one in busiest}
    if not any(verdicts and "drifted" not in verdicts for verdicts in groups.values()):
        return ()
    return tuple(sorted(site for site, verdicts in groups.items() if verdicts == {"drifted"}))


def _verdicts(
    one: SiteTraffic, new: Reference, old: Reference | None, gate: DriftGate, comparisons: int
) -> frozenset[str]:
    """Return what the inputs of the releases at one site say, each against its own; empty if one has too few rows."""
    arms = [(one.treated, new), *([(one.control, old)] if old is not None else [])]
    if any(totals.rows < gate.min_samples for totals, _ in arms):
        return frozenset()
    return frozenset(verdict_of(_inputs(totals, reference, gate, comparisons)) for totals, reference in arms)


def _inputs(totals: Totals, reference: Reference, gate: DriftGate, comparisons: int) -> tuple[FeatureDrift, ...]:
    """Compare the inputs; none come back where the counts are not of this reference."""
    if len(totals.histograms) != len(reference.histograms):
        return ()
    places = [place for place, one in enumerate(reference.histograms) if one.role == "input"]
    histograms = [reference.histograms[place] for place in places]
    live = [totals.histograms[place] for place in places]
    return compare(histograms, live, [one.counts for one in histograms], gate, comparisons=comparisons)
