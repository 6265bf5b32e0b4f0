"""Many runs of a policy over one fleet: what may come of it, with how much chance."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import msgspec

from ..core.policy.policy import Policy
from ..core.rows import GATE_DESIGN, ReleaseBundle, Rollout
from .detectable import Detectable, detectable
from .fast import rehearse_once
from .run import Run
from .scenario import Scenario
from .trace import Trace, TraceError

STOPPED = frozenset({"rolled_back", "rolling_back", "aborted"})
Z_95 = 1.959964
WORTH_PROCESSES = 50_000
"""Devices times runs; fewer are done before other processes have started."""


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """How a figure is spread over the runs."""

    median: float
    p90: float
    largest: float


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """A share of the runs, with its 95 % interval (Wilson)."""

    runs: int
    """In which it was so."""
    percentage: float
    low: float
    high: float


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one scenario."""

    scenario: str
    about: str
    is_good: bool
    runs: int
    states: dict[str, int]
    stopped: Share
    """Of the whole rollout, or of any board. Where `is_good`, this is the share of false stops."""
    paused: Share
    """Somebody had to look: a wave that proved nothing, or a policy whose action is PAUSE."""
    stopped_by: dict[str, int]
    devices_at_risk: Spread
    """That had got the release where it is bad when it was stopped, or in the end; all, in a good scenario."""
    devices_failed: Spread
    hours: Spread
    bytes_sent: Spread


class Rehearsal(msgspec.Struct, frozen=True, kw_only=True):
    """A policy on a fleet."""

    model: str
    devices: int
    boards: dict[str, int]
    sites: int
    runs: int
    """Of each scenario."""
    outcomes: tuple[Outcome, ...]
    waves: tuple[Detectable, ...]
    """What each wave of a good release can find."""


def rehearse(
    trace: Trace,
    policy: Policy,
    scenarios: Sequence[Scenario],
    *,
    runs: int,
    seed: int,
    on_run: Callable[[], None] = lambda: None,
) -> tuple[Rehearsal, dict[str, tuple[Run, ...]]]:
    """Rehearse each scenario `runs` times, and say what can be found at all. Returns also the single runs, by scenario.

    Raises:
        PolicyError: a query in the policy cannot be read.
        TraceError: nobody can be reached.
    """
    if all(device.online_percentage == 0 for device in trace.devices):
        raise TraceError("no device of the trace can be reached: every online_percentage is 0")
    jobs = [(scenario, seed + number) for scenario in scenarios for number in range(runs)]
    found: dict[str, list[Run]] = {scenario.name: [] for scenario in scenarios}
    for (scenario, _), run in zip(jobs, _run_all(trace, policy, jobs), strict=True):
        found[scenario.name].append(run)
        on_run()
    boards = Counter(device.board for device in trace.devices)
    rehearsal = Rehearsal(
        model=trace.model,
        devices=len(trace.devices),
        boards=dict(sorted(boards.items())),
        sites=len({device.site for device in trace.devices if device.site}),
        runs=runs,
        outcomes=tuple(_outcome(scenario, found[scenario.name]) for scenario in scenarios),
        waves=_detectable(trace, policy, [run for each in found.values() for run in each]),
    )
    return rehearsal, {name: tuple(each) for name, each in found.items()}


def _run_all(trace: Trace, policy: Policy, jobs: Sequence[tuple[Scenario, int]]) -> Iterator[Run]:
    if len(jobs) * len(trace.devices) < WORTH_PROCESSES:
        yield from (rehearse_once(trace, policy, scenario, seed=seed) for scenario, seed in jobs)
        return
    # Fresh processes: forking one that has threads is not safe. The trace goes to each process once.
    with ProcessPoolExecutor(
        min(os.cpu_count() or 1, len(jobs)),
        mp_context=get_context("spawn"),
        initializer=_prepare,
        initargs=(trace, policy),
    ) as pool:
        yield from pool.map(_rehearse, jobs)


_given: list[tuple[Trace, Policy]] = []
"""Of a process of the pool."""


def _prepare(trace: Trace, policy: Policy) -> None:
    _given.append((trace, policy))


def _rehearse(job: tuple[Scenario, int]) -> Run:
    scenario, seed = job
    trace, policy = _given[-1]
    return rehearse_once(trace, policy, scenario, seed=seed)


def _outcome(scenario: Scenario, runs: Sequence[Run]) -> Outcome:
    stopped = sum(run.state in STOPPED or bool(run.halted) for run in runs)
    return Outcome(
        scenario=scenario.name,
        about=scenario.about,
        is_good=scenario.is_good,
        runs=len(runs),
        states=dict(sorted(Counter(run.state for run in runs).items())),
        stopped=_share(stopped, len(runs)),
        paused=_share(sum(run.state == "paused" for run in runs), len(runs)),
        stopped_by=dict(sorted(Counter(run.stopped_by for run in runs if run.stopped_by).items())),
        devices_at_risk=_spread([run.exposed for run in runs]),
        devices_failed=_spread([run.failed for run in runs]),
        hours=_spread([run.hours for run in runs]),
        bytes_sent=_spread([run.bytes_sent for run in runs]),
    )


def _detectable(trace: Trace, policy: Policy, runs: Sequence[Run]) -> tuple[Detectable, ...]:
    longest = max(runs, key=lambda run: len(run.stages))
    if not longest.stages:
        return ()
    boards = Counter(device.board for device in trace.devices)
    common = next(board for board in trace.boards if board.name == boards.most_common(1)[0][0])
    rollout = Rollout(
        id="rehearsal",
        model=trace.model,
        version="",
        bundles=tuple(ReleaseBundle(target=board.name, digest="") for board in trace.boards),
        policy=policy,
        seed=0,
        created_s=0.0,
        gate_design=GATE_DESIGN,
    )
    return detectable(rollout, common, longest.stages)


def _spread(values: Sequence[float]) -> Spread:
    ordered = sorted(values)
    return Spread(
        median=ordered[(len(ordered) - 1) // 2], p90=ordered[math.ceil(0.9 * len(ordered)) - 1], largest=ordered[-1]
    )


def _share(hits: int, runs: int) -> Share:
    """Return a share with Wilson's interval (JASA 22, 1927)."""
    share, z2 = hits / runs, Z_95**2
    middle = (share + z2 / (2 * runs)) / (1 + z2 / runs)
    half = Z_95 * math.sqrt(share * (1 - share) / runs + z2 / (4 * runs**2)) / (1 + z2 / runs)
    return Share(
        runs=hits, percentage=100 * share, low=100 * max(0.0, middle - half), high=100 * min(1.0, middle + half)
    )
