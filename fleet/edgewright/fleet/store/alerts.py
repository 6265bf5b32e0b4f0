"""Alert rules, what the monitor remembers, alerts, and the hooks that are to be called."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, Row, delete, func, select, update
from sqlalchemy.dialects.sqlite import insert

from ..core.drift.alert_rules import AlertRule
from ..core.drift.monitor import AlertState, Group
from ..faults import NotFoundError
from .lookup import rows_of
from .schema import alert_rules, alert_states, alerts, hook_calls

HookKind = Literal["webhook", "command", "on_drift"]
_state_encoder = msgspec.msgpack.Encoder()
_state_decoder = msgspec.msgpack.Decoder(AlertState)
_rule_decoder = msgspec.json.Decoder(AlertRule)


class StoredRule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule, and how far it has looked."""

    rule: AlertRule
    secret: bytes
    """Signs its webhooks; shown once."""
    created_s: float
    next_s: int
    """Begin of the first window that was not looked at."""


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """An alert of one group, up while `cleared_s` is None."""

    alert: str
    rule: str
    model: str
    metric: str
    board: str
    site: str
    release: str
    raised_s: float
    cleared_s: float | None
    silenced: bool
    """Only noted: people had been told of this group a short while before."""
    value: float
    """When it was raised, in the unit of the metric."""
    message: str


class HookCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call of one hook. The same call may be made again, with the same id, until it is answered."""

    call: str
    rule: str
    alert: str
    kind: HookKind
    event: Literal["raised", "cleared"]
    body: bytes
    attempts: int
    due_s: float
    created_s: float
    ended_s: float | None = None
    is_done: bool = False
    """False with `ended_s`: given up."""
    reason: str = ""
    """Why the last attempt failed, or what came of it."""


def put_rule(connection: Connection, stored: StoredRule) -> None:
    """Store a rule; one of the same name is replaced, and what was learnt for it is forgotten."""
    values = {
        "rule": msgspec.json.encode(stored.rule),
        "secret": stored.secret,
        "created_s": stored.created_s,
        "next_s": stored.next_s,
    }
    statement = insert(alert_rules).values(name=stored.rule.name, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))
    connection.execute(delete(alert_states).where(alert_states.c.rule == stored.rule.name))


def remove_rule(connection: Connection, name: str) -> None:
    """Remove a rule and what was learnt for it.

    Raises:
        NotFoundError: there is none of that name.
    """
    if connection.execute(delete(alert_rules).where(alert_rules.c.name == name)).rowcount != 1:
        raise NotFoundError(f"no alert rule {name!r}; `edgewright fleet alert rule list` shows those there are")
    connection.execute(delete(alert_states).where(alert_states.c.rule == name))


def close_all(connection: Connection, rule: str, *, now_s: float) -> list[HookCall]:
    """End the alerts of a rule that is no more, and the calls that wait; return these."""
    connection.execute(
        update(alerts).where(alerts.c.rule == rule, alerts.c.cleared_s.is_(None)).values(cleared_s=now_s)
    )
    waiting = (hook_calls.c.rule == rule, hook_calls.c.ended_s.is_(None))
    ended = [_call(row) for row in connection.execute(select(hook_calls).where(*waiting))]
    connection.execute(update(hook_calls).where(*waiting).values(ended_s=now_s, reason="the rule was removed"))
    return ended


def find_rule(connection: Connection, name: str) -> StoredRule | None:
    """Return a rule, or None."""
    row = connection.execute(select(alert_rules).where(alert_rules.c.name == name)).one_or_none()
    return None if row is None else _rule(row)


def every_rule(connection: Connection) -> list[StoredRule]:
    """Return all rules by name."""
    return [_rule(row) for row in connection.execute(select(alert_rules).order_by(alert_rules.c.name))]


def note_looked(connection: Connection, name: str, *, next_s: int, created_s: float) -> bool:
    """Remember how far a rule has looked; False where it was removed or replaced in between."""
    where = (alert_rules.c.name == name, alert_rules.c.created_s == created_s)
    return connection.execute(update(alert_rules).where(*where).values(next_s=next_s)).rowcount == 1


def states_of(connection: Connection, rule: str, groups: Iterable[Group]) -> dict[Group, AlertState]:
    """Return what the monitor remembers of these groups; those it does not know are left out."""
    key = (alert_states.c.rule, alert_states.c.board, alert_states.c.site, alert_states.c.release)
    rows = rows_of(connection, alert_states, key, [(rule, *group) for group in groups])
    return {Group(row.board, row.site, row.release): _state_decoder.decode(row.state) for row in rows}


def every_state(connection: Connection, rule: str) -> list[tuple[Group, AlertState]]:
    """Return all that the monitor remembers for a rule."""
    rows = connection.execute(select(alert_states).where(alert_states.c.rule == rule))
    return [(Group(row.board, row.site, row.release), _state_decoder.decode(row.state)) for row in rows]


def drop_state(connection: Connection, rule: str, group: Group) -> None:
    """Forget a group."""
    where = [alert_states.c[name] == value for name, value in group._asdict().items()]
    connection.execute(delete(alert_states).where(alert_states.c.rule == rule, *where))


def count_states(connection: Connection, rule: str) -> int:
    """Return how many groups a rule has met."""
    query = select(func.count()).select_from(alert_states).where(alert_states.c.rule == rule)
    return int(connection.execute(query).scalar_one())


def put_states(connection: Connection, rule: str, states: dict[Group, AlertState]) -> None:
    """Store what the monitor remembers."""
    rows = [{"rule": rule, **group._asdict(), "state": _state_encoder.encode(state)} for group, state in states.items()]
    if rows:
        statement = insert(alert_states)
        keys = ["rule", *Group._fields]
        connection.execute(
            statement.on_conflict_do_update(index_elements=keys, set_={"state": statement.excluded.state}), rows
        )


def add_alert(connection: Connection, alert: Alert) -> None:
    """Add an alert."""
    connection.execute(insert(alerts).values(msgspec.structs.asdict(alert)))


def is_up(connection: Connection, alert: str) -> bool:
    """Tell whether an alert is up."""
    query = select(alerts.c.alert).where(alerts.c.alert == alert, alerts.c.cleared_s.is_(None))
    return connection.execute(query).one_or_none() is not None


def clear_alert(connection: Connection, alert: str, *, at_s: float) -> None:
    """Note that an alert is over."""
    connection.execute(update(alerts).where(alerts.c.alert == alert).values(cleared_s=at_s))


def every_alert(connection: Connection, *, limit: int, open_only: bool = False) -> list[Alert]:
    """Return alerts, newest first."""
    query = select(alerts).order_by(alerts.c.raised_s.desc(), alerts.c.alert).limit(limit)
    if open_only:
        query = query.where(alerts.c.cleared_s.is_(None))
    return [Alert(**row._mapping) for row in connection.execute(query)]  # noqa: SLF001  (public: sqlalchemy.Row)


def add_call(connection: Connection, call: HookCall) -> None:
    """Add a call that is to be made."""
    connection.execute(insert(hook_calls).values(msgspec.structs.asdict(call)))


def next_call(connection: Connection, kinds: Iterable[HookKind], *, now_s: float) -> HookCall | None:
    """Return the call that has been due for longest, or None."""
    query = (
        select(hook_calls)
        .where(hook_calls.c.ended_s.is_(None), hook_calls.c.due_s <= now_s, hook_calls.c.kind.in_(list(kinds)))
        .order_by(hook_calls.c.due_s, hook_calls.c.call)
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else _call(row)


def save_call(connection: Connection, call: HookCall) -> bool:
    """Store what came of a call, unless it was ended meanwhile; tell which."""
    values = {"attempts": call.attempts, "due_s": call.due_s, "reason": call.reason}
    values |= {"ended_s": call.ended_s, "is_done": call.is_done}
    where = (hook_calls.c.call == call.call, hook_calls.c.ended_s.is_(None))
    return connection.execute(update(hook_calls).where(*where).values(**values)).rowcount == 1


def calls_of(connection: Connection, alert_ids: Iterable[str]) -> list[HookCall]:
    """Return the calls of some alerts, oldest first."""
    query = select(hook_calls).where(hook_calls.c.alert.in_(list(alert_ids)))
    return [_call(row) for row in connection.execute(query.order_by(hook_calls.c.created_s, hook_calls.c.call))]


def last_call_s(connection: Connection, rule: str, kind: HookKind) -> float | None:
    """Return when a rule last called for something of this kind."""
    query = select(func.max(hook_calls.c.created_s)).where(hook_calls.c.rule == rule, hook_calls.c.kind == kind)
    found = connection.execute(query).scalar_one()
    return None if found is None else float(found)


def _rule(row: Row[Any]) -> StoredRule:
    return StoredRule(
        rule=_rule_decoder.decode(row.rule), secret=row.secret, created_s=row.created_s, next_s=row.next_s
    )


def _call(row: Row[Any]) -> HookCall:
    return HookCall(**row._mapping)  # noqa: SLF001  (public in spite of its name: sqlalchemy.Row documents it)
