"""What hooks are told: one JSON document, the same for webhooks and programs."""

from __future__ import annotations

import msgspec

from ..core.drift.alert_rules import AlertRule
from ..core.drift.monitor import Change, Group


def body_of(
    rule: AlertRule, group: Group, change: Change, *, call: str, alert: str, message: str, tenant: str | None
) -> bytes:
    """Return the document (docs/guides/drift.md has its keys)."""
    return msgspec.json.encode(
        {
            "id": call,
            "type": f"alert.{change.kind}",
            "tenant": tenant,
            "alert": alert,
            "rule": rule.name,
            "model": rule.model,
            "metric": rule.metric,
            **group._asdict(),
            "at_s": change.at_s,
            "message": message,
            "value": change.judged.value,
            "limit": rule.upper if change.kind == "raised" else rule.lower,
            "p_value": change.judged.p_value,
            "samples": change.judged.samples,
            "feature": change.judged.feature,
        }
    )
