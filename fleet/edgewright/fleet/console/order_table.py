"""The devices of a rollout as a table with filters, a page at a time. Pure.

It stands outside of what the live feed swaps: a person reads in it, and asks for more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import msgspec

from ..core.rows import Assignment, Rollout
from ..store.order_pages import State, Wanted
from ..views import RolloutView
from .chip import Chip, Tone
from .rollout_cards import words

ON_A_PAGE = 50
STATE_TONE: dict[State, Tone] = {
    "control": "calm",
    "ordered": "calm",
    "fetching": "busy",
    "installing": "busy",
    "trial": "busy",
    "activating": "busy",
    "probation": "busy",
    "confirmed": "good",
    "refused": "bad",
    "failed": "bad",
    "rolled_back": "bad",
    "withdrawn": "warn",
    "going_back": "warn",
    "went_back": "bad",
}
ARM_WORDS = {"treated": "new release", "control": "control", "graduated": "graduated"}


class OrderRow(msgspec.Struct, frozen=True, kw_only=True):
    """One device of a rollout."""

    device: str
    target: str
    site: str
    wave: int
    arm: str
    chip: Chip
    heard_s: float
    """When the order was given, or when its end was heard."""
    why: str


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a filter."""

    value: str
    text: str
    is_chosen: bool


class OrderTable(msgspec.Struct, frozen=True, kw_only=True):
    """One page, and what it was asked for."""

    rollout: str
    rollouts: tuple[Choice, ...]
    states: tuple[Choice, ...]
    boards: tuple[Choice, ...]
    site: str
    rows: tuple[OrderRow, ...]
    orders: int
    """Of the rollout, whatever the filters."""
    after: int | None


def order_table(view: RolloutView, of: Wanted, shown: Sequence[Rollout]) -> OrderTable:
    """Return a page of a rollout's devices; `shown` are those that can be chosen."""
    rollout = view.rollout
    number_in: dict[str, int] = {}
    for each in view.counts:
        number_in[each.state] = number_in.get(each.state, 0) + each.orders
    offered = [state for state in get_args(State) if state in number_in or state == of.state]
    boards = sorted({bundle.target for bundle in rollout.bundles})
    return OrderTable(
        rollout=rollout.id,
        rollouts=tuple(
            Choice(value=one.id, text=f"{one.model} {one.version} ({one.id})", is_chosen=one.id == rollout.id)
            for one in shown
        ),
        states=tuple(
            Choice(value=one, text=f"{words(one)} ({number_in.get(one, 0)})", is_chosen=one == of.state)
            for one in offered
        ),
        boards=tuple(Choice(value=one, text=one, is_chosen=one == of.board) for one in boards),
        site=of.site or "",
        rows=tuple(_row(one) for one in view.assignments),
        orders=sum(number_in.values()),
        after=view.after,
    )


def _row(one: Assignment) -> OrderRow:
    state = _state(one)
    return OrderRow(
        device=one.device,
        target=one.target,
        site=one.site,
        wave=one.wave + 1,
        arm=ARM_WORDS[one.arm],
        chip=Chip(text=words(state), tone=STATE_TONE[state]),
        heard_s=one.dispatched_s if one.ended_s is None else one.ended_s,
        why=one.phase_reason,
    )


def _state(one: Assignment) -> State:
    """As store/order_pages.py has it."""
    if one.arm == "control":
        return "control"
    if one.withdrawn_s is not None:
        return "withdrawn"
    if one.rollback_command is not None:
        return "went_back" if one.rollback_phase == "confirmed" else "going_back"
    return one.phase or "ordered"
