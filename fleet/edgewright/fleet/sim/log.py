"""What must be true of the log of a fleet in the end: whole, explainable, and at one with what hooks were told."""

from __future__ import annotations

from collections import Counter

import msgspec

from ..explaining import explain_rollout
from .promises import promise
from .servers import Servers

MOST_EXPLAINED = 6
"""Newest rollouts of a life; explaining costs a fold of all their blocks."""


def look_at_the_log(servers: Servers) -> int:
    """Check the log and return how many decisions were computed again from it.

    Raises:
        BrokenPromiseError: it is not intact, does not explain a rollout, or knows of other alerts than there were.
    """
    verdict = servers.fleet.verify_audit()
    promise(verdict.intact, f"the audit log is not intact: {verdict.problem}")
    _look_at_alerts(servers)
    steps = 0
    for rollout in servers.fleet.rollouts()[:MOST_EXPLAINED]:
        explained = explain_rollout(servers.database, rollout.id)
        promise(explained.agrees, f"the log of {rollout.id} does not add up: {'; '.join(explained.problems)}")
        steps += len(explained.steps)
    return steps


def _look_at_alerts(servers: Servers) -> None:
    with servers.database.read() as connection:
        twice = connection.exec_driver_sql(
            "SELECT rule, board, site, release FROM alerts WHERE cleared_s IS NULL GROUP BY 1, 2, 3, 4 "
            "HAVING count(*) > 1"
        ).all()
        ended = {
            call: bool(is_done)
            for call, is_done in connection.exec_driver_sql(
                "SELECT call, is_done FROM hook_calls WHERE ended_s IS NOT NULL"
            )
        }
        entries = Counter(
            msgspec.json.decode(detail)["call"]
            for (detail,) in connection.exec_driver_sql("SELECT detail FROM audit WHERE action LIKE 'hook.%'")
        )
    promise(not twice, f"two alerts of one rule and group are up: {twice}")
    promise(entries == Counter(ended.keys()), f"hooks ended {sorted(ended)}, the log has {dict(entries)}")
    path = servers.database.directory / "hooks" / "told.jsonl"
    lines = path.read_bytes().splitlines() if path.exists() else []
    told = {msgspec.json.decode(line)["id"] for line in lines}
    missing = {call for call, is_done in ended.items() if is_done} - told
    promise(not missing, f"calls {sorted(missing)} are said to be done; nobody was told")
