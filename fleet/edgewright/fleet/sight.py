"""What a tick sees: reads the store for one rollout, and reads again only what changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec
from sqlalchemy import Connection

from .core.gates.control import due_blocks
from .core.gates.evidence import KnownBundle, TargetEvidence, gather
from .core.gates.site_drift import MOST_SITES
from .core.observations import GateMemory
from .core.rows import Assignment, Rollout
from .core.situation import GoodRelease, Situation
from .core.sums.slots import FLEET, HOUR_S, cohort_of, cohort_of_site, control_cohort_of
from .good import good_releases
from .observing import blocks_of
from .references import reference_of
from .store import floors, releases, rollouts, totals, windows
from .store.roster import Roster
from .traffic import AHEAD_S

GATHER_SHARE = 0.1
"""At most this share of the time goes into reading traffic: in a large fleet it is read less often than every tick."""


class _Traffic(msgspec.Struct, frozen=True, kw_only=True):
    key: tuple[int, int, int]
    again_s: float
    evidence: tuple[TargetEvidence, ...]
    good: tuple[GoodRelease, ...]


class Sight:
    """One reader. Not thread-safe. `stopwatch` tells what reading costs; a simulation brings its own."""

    def __init__(
        self, *, telemetry_revision: Callable[[], int], stopwatch: Callable[[], float] = time.perf_counter
    ) -> None:
        self._telemetry_revision = telemetry_revision
        self._stopwatch = stopwatch
        self.roster = Roster()
        self._traffic: dict[str, _Traffic] = {}
        self._memory: dict[str, tuple[int, GateMemory]] = {}
        self._bundles: tuple[int, list[KnownBundle], dict[str, str]] = (0, [], {})
        self._taken_back: dict[str, tuple[tuple[int, int], frozenset[str]]] = {}

    def forget(self, open_rollouts: Sequence[Rollout]) -> None:
        """Keep only what belongs to rollouts that have not ended."""
        kept = {rollout.id for rollout in open_rollouts}
        self._traffic = {one: self._traffic[one] for one in kept & self._traffic.keys()}
        self._memory = {one: self._memory[one] for one in kept & self._memory.keys()}
        self._taken_back = {one: self._taken_back[one] for one in kept & self._taken_back.keys()}

    def see(self, connection: Connection, rollout: Rollout, *, now_s: float) -> Situation:
        """Return all that a decision about a rollout may look at; `roster` was refreshed in the same snapshot."""
        devices, assignments = self.roster.devices_for(rollout), self.roster.assignments_of(rollout.id)
        memory = self._memory_of(connection, rollout)
        traffic = self._read_traffic(connection, rollout, assignments, now_s=now_s)
        due = due_blocks(rollout, assignments, memory, now_s) if rollout.state in windows.GATED else []
        known = self._known(connection, rollout.model)
        blocks = blocks_of(connection, rollout, due, known, last_seen_s=self.roster.last_seen_s) if due else []
        return Situation(
            rollout=rollout,
            now_s=now_s,
            devices=devices,
            assignments=assignments,
            evidence=traffic.evidence,
            memory=memory,
            blocks=blocks,
            good_releases=traffic.good,
            taken_back=self._read_taken_back(connection, rollout),
            is_stopped=floors.stop_of(connection) is not None,
        )

    def _memory_of(self, connection: Connection, rollout: Rollout) -> GateMemory:
        """Memory is saved with the rollout's row, so it changes only with its revision."""
        known = self._memory.get(rollout.id)
        if known is None or known[0] != rollout.revision:
            known = (rollout.revision, rollouts.memory_of(connection, rollout.id))
            self._memory[rollout.id] = known
        return known[1]

    def _read_traffic(
        self, connection: Connection, rollout: Rollout, assignments: Sequence[Assignment], *, now_s: float
    ) -> _Traffic:
        key = (self._telemetry_revision(), rollout.revision, self.roster.revision)
        known = self._traffic.get(rollout.id)
        if known is not None and (known.key == key or (known.key[1] == key[1] and now_s < known.again_s)):
            return known
        started_s = self._stopwatch()
        bundles = self._known(connection, rollout.model)
        evidence = self._gather(connection, rollout, assignments, bundles, now_s)
        good = good_releases(connection, rollout.model, bundles, now_s=now_s, until_s=now_s + AHEAD_S)
        again_s = now_s + (self._stopwatch() - started_s) / GATHER_SHARE
        self._traffic[rollout.id] = _Traffic(key=key, again_s=again_s, evidence=evidence, good=good)
        return self._traffic[rollout.id]

    @staticmethod
    def _gather(
        connection: Connection,
        rollout: Rollout,
        assignments: Sequence[Assignment],
        bundles: Sequence[KnownBundle],
        now_s: float,
    ) -> tuple[TargetEvidence, ...]:
        if rollout.state not in windows.GATED:
            return ()
        since_s = rollout.created_s - rollout.policy.horizon_seconds
        digests = [one.digest for one in bundles]
        cohorts = (FLEET, cohort_of(rollout.id, rollout.wave), control_cohort_of(rollout.id, rollout.wave))
        slots = totals.slots_of(connection, digests, since_s=since_s, until_s=now_s + AHEAD_S, cohorts=cohorts)
        sites = {one.site for one in assignments if one.wave == rollout.wave and one.site}
        if 1 < len(sites) <= MOST_SITES:
            slots += totals.slots_of(
                connection,
                digests,
                since_s=(rollout.wave_started_s or since_s) - HOUR_S,
                until_s=now_s + AHEAD_S,
                cohorts=[cohort_of_site(site) for site in sites],
            )
        reporting = windows.reporting(connection, digests, since_s=since_s)
        return gather(rollout, assignments, slots, reporting, bundles)

    def _known(self, connection: Connection, model: str) -> list[KnownBundle]:
        if self._bundles[0] != self.roster.bundle_count:
            every = releases.every_bundle(connection)
            known = [KnownBundle(digest=one.digest, target=one.target, reference=reference_of(one)) for one in every]
            self._bundles = (self.roster.bundle_count, known, {one.digest: one.model for one in every})
        _, known, model_of = self._bundles
        return [one for one in known if model_of[one.digest] == model]

    def _read_taken_back(self, connection: Connection, rollout: Rollout) -> frozenset[str]:
        key = rollouts.version_of_all(connection)
        known = self._taken_back.get(rollout.id)
        if known is None or known[0] != key:
            known = (key, rollouts.taken_back(connection, rollout.model, but=rollout.id))
            self._taken_back[rollout.id] = known
        return known[1]
