"""Rollouts: make one, look at it, press its buttons."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Body, Depends, Query, Response

from ..core.rows import Rollout
from ..service import Fleet
from ..store.order_pages import ANY, LAST_POSITION, State, Wanted
from ..views import RolloutView
from .auth import Gate
from .documents import Documents, answer
from .requests import RolloutRequest

MOST_ON_A_PAGE = 10_000
DEFAULT_PAGE = 1000
Reason = Annotated[str, Body(embed=True, max_length=500)]


class RolloutList(msgspec.Struct, frozen=True, kw_only=True):
    """Rollouts, newest first."""

    rollouts: list[Rollout]


def build(fleet: Fleet, gate: Gate, documents: Documents) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1/rollouts", tags=["rollouts"], dependencies=[Depends(gate.require_admin)])

    @router.post("", status_code=201, responses=documents.of(Rollout, status=201, errors=(400, 401, 404, 409)))
    def create(request: RolloutRequest) -> Response:
        """Start to roll a release out, wave by wave."""
        return answer(fleet.create_rollout(request.model, request.version, request.policy), status_code=201)

    @router.get("", responses=documents.of(RolloutList))
    def list_rollouts() -> Response:
        """List rollouts, newest first."""
        return answer(RolloutList(rollouts=fleet.rollouts()))

    @router.get("/{rollout}", responses=documents.of(RolloutView, errors=(401, 404)))
    def get_rollout(
        rollout: str,
        limit: Annotated[int | None, Query(ge=0, le=MOST_ON_A_PAGE)] = None,
        after: Annotated[int, Query(ge=-1, le=LAST_POSITION, description="`after` of the page before.")] = -1,
        state: State | None = None,
        board: Annotated[str | None, Query(max_length=200)] = None,
        site: Annotated[str | None, Query(max_length=200)] = None,
    ) -> Response:
        """Return one rollout with its gates, its orders counted, and its orders: all, or with `limit` a page of them.

        A filter or `after` without `limit` gives pages of 1000.
        """
        of = Wanted(state=state, board=board, site=site)
        if limit is None and after < 0 and of == ANY:
            return answer(fleet.rollout(rollout))
        page = fleet.rollout_page(rollout, limit=DEFAULT_PAGE if limit is None else limit, after=after, of=of)
        return answer(page)

    @router.post("/{rollout}/{event}", responses=documents.of(Rollout, errors=(401, 404, 409)))
    def press(
        rollout: str, event: Literal["approve", "pause", "resume", "abort", "rollback"], reason: Reason = ""
    ) -> Response:
        """Approve a wave, pause, resume, abort (stop where it is) or roll back (devices return to what fits)."""
        return answer(fleet.fire(rollout, event, reason=reason))

    @router.post("/{rollout}/boards/{target}/rollback", responses=documents.of(Rollout, errors=(401, 404, 409)))
    def roll_back_board(rollout: str, target: str, reason: Reason = "") -> Response:
        """Take the release back from the devices of one board; the others go on."""
        return answer(fleet.steering.roll_back_board(rollout, target, reason=reason))

    return router
