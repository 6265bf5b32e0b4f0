"""The standing monitor: has each alert rule judge each window of each group once, and notes what is to be told.

Level-triggered like the reconciler: a rule remembers the first window that it has not looked at, so a server that was
down goes on from there. Judging, the alert, its audit entry and the calls of its hooks are one transaction; the calls
are made by another thread (hooks/worker.py).
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection

from edgewright.bundle.reference import Reference, read_reference

from .core.drift.alert_rules import HOUR_S, AlertRule
from .core.drift.baselines import DAY_S
from .core.drift.monitor import AlertState, Change, Group, Window, message_of, observe
from .core.sums.slots import SITE, Slot, shape_of_reference
from .core.sums.windows import sum_of
from .hooks.messages import body_of
from .periodic import Periodic
from .references import reference_of
from .store import alerts, audit_log, releases, totals
from .store.database import Database, read_meta

log = logging.getLogger(__name__)

PERIOD_S = 5.0
MOST_BEHIND = 500
"""After a longer time without a server, the oldest windows are passed over."""
FORGOTTEN_S = 7 * 86400
"""A group without traffic for so long is forgotten, and its alert is over: nothing can clear it any more."""
MOST_GROUPS = 5000
"""Of one rule; further ones are passed over and logged. Boards times sites times releases can be many."""


class _Found(NamedTuple):
    """A group after a window."""

    group: Group
    state: AlertState
    change: Change | None


class Monitor:
    """`step` judges all windows that are due; `start` has it done every few seconds from a thread of its own."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock
        self._loop = Periodic("monitor", lambda: self.step(self._clock()), period_s=PERIOD_S)

    def start(self) -> None:
        """Begin to watch."""
        self._loop.start()

    def stop(self) -> None:
        """End after the window that is being judged."""
        self._loop.stop()

    def step(self, now_s: float) -> int:
        """Judge every window that is due and return how many there were."""
        with self._database.read() as connection:
            rules = alerts.every_rule(connection)
            joined_before_s = totals.joined_before_s(connection)
        done = 0
        for stored in rules:
            due = _due(stored, now_s, joined_before_s)
            for start_s in due:
                if self._loop.is_stopping:
                    return done
                found = self._judge(stored.rule, start_s)
                if found or start_s == due[-1]:  # no write, no fsync, for windows without traffic
                    with self._database.write() as connection:
                        _write(connection, stored, start_s, found, now_s=now_s)
                done += 1
        return done

    def _judge(self, rule: AlertRule, start_s: int) -> list[_Found]:
        """Judge each group of a window, outside the write transaction: with thousands of sites it takes seconds."""
        with self._database.read() as connection:
            windows = _windows(connection, rule, start_s)
            states = alerts.states_of(connection, rule.name, windows)
            room = MOST_GROUPS - alerts.count_states(connection, rule.name)
        new = [group for group in windows if group not in states]
        if len(new) > room:
            log.warning("alert rule %s has met %d groups; %d are passed over", rule.name, MOST_GROUPS, len(new) - room)
        passed_over = set(new[max(0, room) :])
        return [
            _Found(group, *observe(rule, states.get(group, AlertState()), window))
            for group, window in windows.items()
            if group not in passed_over
        ]


def first_window(rule: AlertRule, now_s: float) -> int:
    """Return the begin of the window that a new rule looks at first: the one that is running."""
    return int(now_s) // rule.window_seconds * rule.window_seconds


def _due(stored: alerts.StoredRule, now_s: float, joined_before_s: int) -> range:
    """Return the begins of the windows that are over, with their grace, and not judged yet."""
    length_s = stored.rule.window_seconds
    last_s = int(now_s - stored.rule.grace_seconds) // length_s * length_s
    first_s = max(stored.next_s, last_s - MOST_BEHIND * length_s)
    if length_s < HOUR_S and first_s < joined_before_s:
        first_s = -(-joined_before_s // length_s) * length_s  # what came before is in whole hours by now
    return range(first_s, last_s, length_s)


def _write(
    connection: Connection, stored: alerts.StoredRule, start_s: int, found: list[_Found], *, now_s: float
) -> None:
    """Write down what a window brought, unless the rule was removed or replaced meanwhile."""
    rule = stored.rule
    if not alerts.note_looked(connection, rule.name, next_s=start_s + rule.window_seconds, created_s=stored.created_s):
        return
    if start_s // DAY_S != (start_s + rule.window_seconds) // DAY_S or start_s != stored.next_s:
        _forget(connection, rule, start_s)
    after = {
        each.group: _note(connection, stored, each.group, each.state, each.change, now_s=now_s)
        if each.change is not None
        else each.state
        for each in found
    }
    alerts.put_states(connection, rule.name, after)


def _forget(connection: Connection, rule: AlertRule, start_s: int) -> None:
    """Once a day, forget the groups that have been silent for long: a release that nobody runs, a site that closed."""
    for group, state in alerts.every_state(connection, rule.name):
        if state.next_s >= start_s - FORGOTTEN_S:
            continue
        alerts.drop_state(connection, rule.name, group)
        if state.raised_s is not None:
            alerts.clear_alert(connection, state.alert, at_s=start_s)
            audit_log.append(
                connection,
                now_s=start_s,
                actor=f"rule:{rule.name}",
                action="alert.cleared",
                subject=f"alert:{state.alert}",
                detail={**group._asdict(), "message": f"no traffic for {FORGOTTEN_S // DAY_S} days"},
            )


def _windows(connection: Connection, rule: AlertRule, start_s: int) -> dict[Group, Window]:
    """Return the sums of each group over one window, exact: only what was counted on the same bins is added."""
    bundles = {one.digest: one for one in releases.every_bundle(connection) if one.model == rule.model}
    read = totals.site_slots_of if "site" in rule.by else totals.slots_of
    slots = read(connection, list(bundles), since_s=start_s, until_s=start_s + rule.window_seconds)
    parts: dict[Group, dict[str, list[tuple[Slot, Reference]]]] = {}
    for slot in slots:
        bundle = bundles[slot.key.bundle]
        reference = reference_of(bundle)
        if slot.key.shape != shape_of_reference(reference):
            continue
        group = Group(
            board=bundle.target if "board" in rule.by else "",
            site=slot.key.cohort.removeprefix(SITE) if "site" in rule.by else "",
            release=bundle.version if "release" in rule.by else "",
        )
        bins = _bins(bundle.reference, with_table=rule.metric == "accuracy")
        parts.setdefault(group, {}).setdefault(bins, []).append((slot, reference))
    return {group: _busiest(by_bins, start_s) for group, by_bins in sorted(parts.items())}


def _busiest(by_bins: dict[str, list[tuple[Slot, Reference]]], start_s: int) -> Window:
    """Take the bins that most traffic was counted on, and the reference of the busiest bundle on them."""
    bins, found = max(by_bins.items(), key=lambda each: sum(slot.totals.rows for slot, _ in each[1]))
    _, reference = max(found, key=lambda each: each[0].totals.rows)
    return Window(start_s=start_s, totals=sum_of(slot.totals for slot, _ in found), reference=reference, bins=bins)


@lru_cache(maxsize=256)
def _bins(packed: bytes, *, with_table: bool) -> str:
    """Return a short name of what a reference counts; two with the same name can be added."""
    reference = read_reference(packed)
    counted = [(one.name, one.role, one.kind, one.edges, len(one.counts)) for one in reference.histograms]
    text = repr((counted, reference.confidence_table if with_table else None))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _note(
    connection: Connection, stored: alerts.StoredRule, group: Group, state: AlertState, change: Change, *, now_s: float
) -> AlertState:
    """Write the alert down, and the calls that it makes."""
    rule = stored.rule
    message = message_of(rule, group, change)
    if change.kind == "raised":
        state = msgspec.structs.replace(state, alert=f"a-{secrets.token_hex(6)}")
        alert = alerts.Alert(
            alert=state.alert,
            rule=rule.name,
            model=rule.model,
            metric=rule.metric,
            **group._asdict(),
            raised_s=change.at_s,
            cleared_s=None,
            silenced=change.silenced,
            value=change.judged.value,
            message=message,
        )
        alerts.add_alert(connection, alert)
    else:
        alerts.clear_alert(connection, state.alert, at_s=change.at_s)
    log.warning("alert %s %s: %s", state.alert, change.kind, message)
    audit_log.append(
        connection,
        now_s=now_s,
        actor=f"rule:{rule.name}",
        action=f"alert.{change.kind}",
        subject=f"alert:{state.alert}",
        detail={
            **group._asdict(),
            "message": message,
            "silenced": change.silenced,
            "window_end_s": change.at_s,
            "numbers": msgspec.to_builtins(change.judged),
        },
    )
    if not change.silenced:
        _call_hooks(connection, stored, group, state.alert, change, message, now_s=now_s)
    return state


def _call_hooks(
    connection: Connection,
    stored: alerts.StoredRule,
    group: Group,
    alert: str,
    change: Change,
    message: str,
    *,
    now_s: float,
) -> None:
    rule = stored.rule
    wanted: dict[alerts.HookKind, bool] = {
        "webhook": rule.webhook is not None,
        "command": rule.command is not None,
        "on_drift": change.kind == "raised" and _may_retrain(connection, rule, now_s),
    }
    for kind in (kind for kind, is_wanted in wanted.items() if is_wanted):
        call = f"c-{secrets.token_hex(8)}"
        body = body_of(
            rule, group, change, call=call, alert=alert, message=message, tenant=read_meta(connection, "tenant")
        )
        alerts.add_call(
            connection,
            alerts.HookCall(
                call=call,
                rule=rule.name,
                alert=alert,
                kind=kind,
                event=change.kind,
                body=body,
                attempts=0,
                due_s=now_s,
                created_s=now_s,
            ),
        )


def _may_retrain(connection: Connection, rule: AlertRule, now_s: float) -> bool:
    if rule.on_drift is None:
        return False
    last_s = alerts.last_call_s(connection, rule.name, "on_drift")
    return last_s is None or now_s - last_s >= rule.on_drift.min_interval_seconds
