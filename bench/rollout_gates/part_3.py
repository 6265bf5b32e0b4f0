"""Must be true 3: a bad build for one board among five, and a drift on one site, are told apart; the others finish.

Each seed is one rollout through the real core (five_boards.py), with a third of the runs each: a bad build, a drift,
both. The bad build fails installs, bricks, crashes, answers with errors, is less accurate or slow, in turn. A run is
*told apart* when exactly the bad board was halted, exactly the drifted site was named, and every other board has the
release on all devices that are switched on but the few whose install failed.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from rich.progress import track

from .five_boards import BOARDS, KINDS, SITES, FiveBoards, Troubles

SEEDS, QUICK_SEEDS = 200, 24
PROCESSES = 2
FINISHED = 0.95
LIMITS = {"not_told_apart": 0.05}
"""Share of the runs at most."""


def measure(quick: bool) -> dict[str, Any]:
    """Run them all; two processes."""
    seeds = QUICK_SEEDS if quick else SEEDS
    started_s = time.perf_counter()
    with ProcessPoolExecutor(PROCESSES) as pool:
        runs = list(track(pool.map(one_run, range(seeds), chunksize=2), description="boards and sites", total=seeds))
    wrong = [run for run in runs if run["wrong"]]
    return {
        "seeds": seeds,
        "not_told_apart": len(wrong) / seeds,
        "wrong": [{key: run[key] for key in ("seed", "troubles", "wrong")} for run in wrong[:20]],
        "bad_board_found": _share(runs, "missed the bad board", "board"),
        "site_found": _share(runs, "missed the site", "site"),
        "harmed_devices_median": _median([run["harmed"] for run in runs if "board" in run["has"]]),
        "found_by": dict(sorted(Counter(gate for run in runs for gate in run["found_by"]).items())),
        "seconds": round(time.perf_counter() - started_s, 1),
    }


def troubles_of(seed: int) -> Troubles:
    """Return what is wrong in a run."""
    draw = random.Random(f"troubles {seed}")  # noqa: S311  # a simulation
    return Troubles(
        bad_board=draw.choice(BOARDS) if seed % 3 != 1 else None,
        kind=KINDS[seed // 3 % len(KINDS)],
        drifted_site=draw.choice(SITES) if seed % 3 != 0 else None,
    )


def one_run(seed: int) -> dict[str, Any]:
    """Run one seed and say what was wrong with it, in words; an empty list is a run that told all apart."""
    troubles = troubles_of(seed)
    fleet = FiveBoards(seed, troubles)
    ledger = fleet.run()
    halted = {halt.target for halt in ledger.rollout.halted}
    named = {alert.key.removeprefix("data-drift/r1/").partition("/")[2] or "everywhere" for alert in ledger.alerts}
    wrong = []
    if ledger.rollout.state != "completed":
        wrong.append(f"ended {ledger.rollout.state}: {ledger.rollout.reason}")
    if troubles.bad_board is not None and troubles.bad_board not in halted:
        wrong.append("missed the bad board")
    if troubles.drifted_site is not None and troubles.drifted_site not in named:
        wrong.append("missed the site")
    reasons = {halt.target: halt.reason for halt in ledger.rollout.halted}
    wrong += [f"halted {board}: {reasons[board]}" for board in sorted(halted - {troubles.bad_board})]
    wrong += [f"named {site}" for site in sorted(named - {troubles.drifted_site})]
    for board in set(BOARDS) - halted:
        there, all_of_it = fleet.on_release(board)
        if there < FINISHED * all_of_it:
            wrong.append(f"{board} has {there} of {all_of_it} on the release")
    has = [name for name, is_so in (("board", troubles.bad_board), ("site", troubles.drifted_site)) if is_so]
    harmed = sum(one.target == troubles.bad_board and one.arm != "control" for one in ledger.assignments)
    halts = [decision for decision in ledger.decisions if decision.action == "board_halted"]
    return {
        "seed": seed,
        "troubles": f"{troubles.bad_board} {troubles.kind}, {troubles.drifted_site}",
        "has": has,
        "wrong": wrong,
        "harmed": harmed,
        "found_by": [f"{troubles.kind} by {halt.numbers['gate']}" for halt in halts],
    }


def _share(runs: list[dict[str, Any]], missed: str, what: str) -> float:
    with_it = [run for run in runs if what in run["has"]]
    return sum(missed not in run["wrong"] for run in with_it) / max(1, len(with_it))


def _median(values: list[int]) -> float:
    return float(sorted(values)[len(values) // 2]) if values else 0.0
