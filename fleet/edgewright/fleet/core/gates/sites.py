"""The share of failed devices of each site against the limit: an e-process over sites.

The first failures of sites (failures.py) are quick, but they say nothing about how many devices of a site fail: with an
intraclass correlation of .05 and sites of 50 devices, 2 % and 3 % of failed devices give nearly as many sites with a
failure. So each site also gives Y, its failed devices over the devices that it is *planned* to have on the release, and
a bet multiplies its wealth by

    1 + stake * size / largest * (Y / limit - 1)

a fair game at best where sites are expected to lose at most the limit, however their devices hang together (betting on
bounded means: Waudby-Smith & Ramdas 2023). Sites have a say by their size, so that the limit is one on devices and not
on places; where size and quality hang together, that is the mean over sites in their order.

- **Planned** are the devices that the rollout is for, whether their orders are out or not, controls among them. So Y
  only grows while results come in, every prefix is worth at most what it will be worth in the end, and one may look at
  any time (Ville, on the final shares). A wave of a tenth of each site can prove little here; first failures can.
- **Who joins** after the rollout was made is in neither count: a site that grows would make Y fall, and what was seen
  at an earlier look could be more than in the end. Who leaves makes Y grow, which is allowed.
- **Order**: by the first order to a site.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from ..policy.selector import parse
from ..rows import Assignment, Device, Rollout
from ..sequential.mixture import log_mean_exp


class Bets(msgspec.Struct, frozen=True):
    """How the money on the shares of sites is laid out."""

    stakes: tuple[float, ...]
    """Shares of the largest bet that cannot go bankrupt."""
    parts: tuple[float, ...]
    """Of the money, on each stake; they add up to 1."""
    weight: float
    """Of the whole gate; the rest of it is the first failures'."""


_BETS: Mapping[int, Bets] = {
    1: Bets((0.6, 0.3, 0.15, 0.08), (0.25, 0.25, 0.25, 0.25), 0.5),
    2: Bets((0.6, 0.3, 0.1, 0.05), (2 / 9, 2 / 9, 4 / 9, 1 / 9), 0.6),
}
"""By the rollout's `gate_design`. Sites of 50 at a correlation of .05 tell 3 % from 2 % best with a stake of .1, many
small ones with .05; 10 % is found best with .5, and where one site is much larger than the others, these need larger
ones. A part of .6 costs the first failures little: ln(.5 / .4) against the gain of one failed site, ln(1 / 2 %).

Found of 3 % by these bets, in 6 000 runs (design 1 in brackets): 400 sites of 50 at .05 in 99.1 % (98.5), at .1 in 87.8
(84.5); 400 sites of 2 to 400 devices in 82.5 (81.9); 1 000 sites of 10 in 98.6 (97.5); 100 sites of 500 in 55.2 (55.8).
At the limit 0.9 % are stopped (0.8)."""


def bets_of(rollout: Rollout) -> Bets:
    """Return a rollout's bets."""
    return _BETS[rollout.gate_design]


MOST_NAMED = 1000
"""Runs of like sites that a decision names."""


Share = tuple[int, int]
"""Failed and planned devices of a site."""


class Plan(msgspec.Struct, frozen=True):
    """How many devices each site is planned to have on the release, by `(target, site)`, and who is not in it."""

    devices: Mapping[tuple[str, str], int] = {}
    joiners: Collection[str] = frozenset()


def plan_of(rollout: Rollout, devices: Iterable[Device], assignments: Sequence[Assignment]) -> Plan:
    """Return the plan: devices of the rollout's boards and group that were there when it was made, by site."""
    targets = {bundle.target for bundle in rollout.bundles}
    ordered = {one.device: one for one in assignments}
    is_in_group = parse(rollout.policy.group).matches
    counts: dict[tuple[str, str], int] = {}
    joiners = set()
    for device in devices:
        one = ordered.pop(device.id, None)
        if device.enrolled_s > rollout.created_s:
            joiners.add(device.id)
        elif one is not None:
            _count(counts, one.target, one.site)
        elif device.target in targets and is_in_group(device):
            _count(counts, device.target, device.site)
    for one in ordered.values():  # devices that left after their orders
        _count(counts, one.target, one.site)
    return Plan(counts, joiners)


def _count(counts: dict[tuple[str, str], int], target: str, site: str) -> None:
    if site:
        counts[target, site] = counts.get((target, site), 0) + 1


class Shares(msgspec.Struct):
    """Failed and planned devices of the sites that have orders, in the order of their first one."""

    sites: dict[str, tuple[int, int]] = {}
    """By site, or by device where it has none."""
    largest: int = 1
    """Planned devices of the largest site, orders or not."""

    def add(self, site: str, device: str, planned: int, failed: bool) -> None:
        key = f"site {site}" if site else f"device {device}"
        before, size = self.sites.get(key, (0, planned))
        self.sites[key] = before + failed, size


def peak(shares: Iterable[Share], largest: int, limit: float, bets: Bets) -> tuple[float, float]:
    """Return the highest ln E over all prefixes of sites, and ln E after the last one.

    Args:
        shares: failed and planned devices of each site.
        largest: planned devices of the largest one.
        limit: the share that may fail.
        bets: how the money is laid out.
    """
    wealth = [math.log(part * len(bets.parts)) for part in bets.parts]
    best = 0.0
    gains: dict[tuple[int, int], list[float]] = {}
    for share in shares:
        gain = gains.get(share)
        if gain is None:
            gain = gains[share] = _gains(*share, largest, limit, bets.stakes)
        wealth = [old + more for old, more in zip(wealth, gain, strict=True)]
        if share[0] and max(wealth) > best:  # a site without a failure only lowers E
            best = max(best, log_mean_exp(wealth))
    return best, log_mean_exp(wealth)


def _gains(failed: int, planned: int, largest: int, limit: float, stakes: Sequence[float]) -> list[float]:
    """Return what a site adds to the ln of each bet's wealth."""
    excess = min(planned, largest) / largest * (min(1.0, failed / planned) / limit - 1)
    return [math.log1p(stake * excess) for stake in stakes]


def to_text(shares: Iterable[Share]) -> str:
    """Return the shares for the audit log, like sites in a row joined: `0/50*12 3/50`; empty for too many of them."""
    runs: list[tuple[tuple[int, int], int]] = []
    for share in shares:
        if runs and runs[-1][0] == share:
            runs[-1] = (share, runs[-1][1] + 1)
        else:
            runs.append((share, 1))
    if len(runs) > MOST_NAMED:
        return ""
    return " ".join(f"{failed}/{planned}" + (f"*{times}" if times > 1 else "") for (failed, planned), times in runs)


def from_text(text: str, most: int) -> list[Share]:
    """Return the shares that `to_text` wrote.

    Raises:
        ValueError: not such a text, or more than `most` sites.
    """
    found: list[Share] = []
    for run in text.split():
        share, _, times = run.partition("*")
        failed, planned = map(int, share.split("/"))
        count = int(times or 1)
        if not 0 <= failed <= planned or planned < 1 or not 1 <= count <= most - len(found):
            raise ValueError(f"{run} is no share of the failed devices of sites")
        found += [(failed, planned)] * count
    return found
