"""Alert rules and alerts."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Response

from ..alerting import Alerting, AlertView, RuleMade
from ..core.drift.alert_rules import AlertRule
from .auth import Gate
from .documents import Documents, answer


class RuleList(msgspec.Struct, frozen=True, kw_only=True):
    """All rules, by name."""

    rules: list[AlertRule]


class AlertList(msgspec.Struct, frozen=True, kw_only=True):
    """Alerts, newest first."""

    alerts: list[AlertView]


def build(alerting: Alerting, gate: Gate, documents: Documents) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1", tags=["alerts"], dependencies=[Depends(gate.require_admin)])

    @router.post("/alert-rules", status_code=201, responses=documents.of(RuleMade, status=201, errors=(400, 401, 409)))
    def add(rule: dict[str, Any]) -> Response:
        """Add a rule, or replace the one of its name; keys are those of docs/guides/drift.md."""
        return answer(alerting.add_rule(rule), status_code=201)

    @router.get("/alert-rules", responses=documents.of(RuleList))
    def list_rules() -> Response:
        """List the rules."""
        return answer(RuleList(rules=alerting.rules()))

    @router.delete("/alert-rules/{rule}", status_code=204, responses=documents.refusals(401, 404))
    def remove(rule: str) -> Response:
        """Remove a rule; its alerts end."""
        alerting.remove_rule(rule)
        return Response(status_code=204)

    @router.get("/alerts", responses=documents.of(AlertList))
    def list_alerts(
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        open: Annotated[bool, Query(description="Only those that are up.")] = False,  # noqa: A002  (the API's word)
    ) -> Response:
        """List alerts with what became of their hooks, newest first."""
        return answer(AlertList(alerts=alerting.alerts(limit=limit, open_only=open)))

    return router
