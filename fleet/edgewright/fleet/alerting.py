"""What the API and the command line can ask of the standing monitor."""

from __future__ import annotations

import secrets
from typing import Any

import msgspec
from sqlalchemy import Connection

from .core.drift.alert_rules import AlertRule, rule_from
from .faults import ConflictError
from .hooks.proposal import rollout_policy
from .hooks.webhook import SECRET_BYTES, check_url, shown
from .monitoring import first_window
from .service import Fleet
from .store import alerts, audit_log
from .store.alerts import Alert

MOST_RULES = 1000


class RuleMade(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that was added."""

    rule: AlertRule
    webhook_secret: str | None
    """Shown once; receivers check signatures with it."""


class CallView(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one hook of an alert."""

    call: str
    kind: str
    event: str
    attempts: int
    is_done: bool
    ended_s: float | None
    reason: str


class AlertView(msgspec.Struct, frozen=True, kw_only=True):
    """An alert and what became of its hooks."""

    alert: Alert
    calls: tuple[CallView, ...]


class Alerting:
    """Rules and alerts of a fleet."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def add_rule(self, data: dict[str, Any]) -> RuleMade:
        """Add a rule, or put it in the place of the one of its name, which then begins anew.

        Raises:
            RuleError: the rule cannot be used.
            FleetError: its URL or the policy of its rollouts cannot be used.
            ConflictError: there are too many rules.
        """
        rule = rule_from(data, where="rule")
        if rule.webhook is not None:
            check_url(rule.webhook.url)
        if rule.on_drift is not None:
            rollout_policy(rule.on_drift)
        now_s = self._fleet.now()
        secret = secrets.token_bytes(SECRET_BYTES)
        with self._fleet.database.write() as connection:
            known = alerts.find_rule(connection, rule.name)
            if known is None and len(alerts.every_rule(connection)) >= MOST_RULES:
                raise ConflictError(f"this fleet has {MOST_RULES} alert rules, the most there may be; remove some")
            if known is not None:
                _close_all(connection, rule.name, now_s=now_s)
            alerts.put_rule(
                connection,
                alerts.StoredRule(rule=rule, secret=secret, created_s=now_s, next_s=first_window(rule, now_s)),
            )
            audit_log.append(
                connection,
                now_s=now_s,
                actor="admin",
                action="alert.rule_added" if known is None else "alert.rule_replaced",
                subject=f"rule:{rule.name}",
                detail={"rule": msgspec.to_builtins(rule)},
            )
        return RuleMade(rule=rule, webhook_secret=shown(secret) if rule.webhook else None)

    def remove_rule(self, name: str) -> None:
        """Remove a rule; its alerts end, and hooks that wait are not called.

        Raises:
            NotFoundError: there is none of that name.
        """
        now_s = self._fleet.now()
        with self._fleet.database.write() as connection:
            alerts.remove_rule(connection, name)
            _close_all(connection, name, now_s=now_s)
            audit_log.append(
                connection, now_s=now_s, actor="admin", action="alert.rule_removed", subject=f"rule:{name}", detail={}
            )

    def rules(self) -> list[AlertRule]:
        """Return all rules by name."""
        with self._fleet.database.read() as connection:
            return [stored.rule for stored in alerts.every_rule(connection)]

    def alerts(self, *, limit: int, open_only: bool = False) -> list[AlertView]:
        """Return alerts, newest first."""
        with self._fleet.database.read() as connection:
            found = alerts.every_alert(connection, limit=limit, open_only=open_only)
            calls = alerts.calls_of(connection, [one.alert for one in found])
        return [
            AlertView(alert=one, calls=tuple(_view(call) for call in calls if call.alert == one.alert)) for one in found
        ]


def _close_all(connection: Connection, rule: str, *, now_s: float) -> None:
    """End a rule's alerts and the calls that wait, and say so of each call: none ends without a word in the log."""
    for call in alerts.close_all(connection, rule, now_s=now_s):
        audit_log.append(
            connection,
            now_s=now_s,
            actor="fleet",
            action="hook.dropped",
            subject=f"alert:{call.alert}",
            detail={
                "call": call.call,
                "kind": call.kind,
                "attempts": call.attempts,
                "reason": "the rule was removed",
            },
        )


def _view(call: alerts.HookCall) -> CallView:
    return CallView(
        call=call.call,
        kind=call.kind,
        event=call.event,
        attempts=call.attempts,
        is_done=call.is_done,
        ended_s=call.ended_s,
        reason=call.reason,
    )
