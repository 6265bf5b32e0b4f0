"""Alerts that are up, as data for the page. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ..core.drift.alert_rules import AlertRule
from ..store.alerts import Alert
from .chip import Chip


class AlertCard(msgspec.Struct, frozen=True, kw_only=True):
    """One alert that is up."""

    id: str
    rule: str
    chip: Chip
    group: str
    """Of which devices: board, site, release."""
    value: str
    limit: str
    since_s: float
    message: str


def alert_card(alert: Alert, rules: Mapping[str, AlertRule]) -> AlertCard:
    """Return the card; the limit is that of the rule as it stands now."""
    rule = rules.get(alert.rule)
    among = (f"{name} {each}" for name, each in _group(alert) if each)
    return AlertCard(
        id=alert.alert,
        rule=alert.rule,
        chip=Chip(text="silenced", tone="warn") if alert.silenced else Chip(text="up", tone="bad"),
        group=f"{alert.model}, {', '.join(among) or 'all devices'}",
        value=f"{alert.metric} {alert.value:.3g}",
        limit="" if rule is None else f"{rule.upper:g}",
        since_s=alert.raised_s,
        message=alert.message,
    )


def _group(alert: Alert) -> tuple[tuple[str, str], ...]:
    return (("board", alert.board), ("site", alert.site), ("release", alert.release))
