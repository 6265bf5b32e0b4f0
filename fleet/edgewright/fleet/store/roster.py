"""Devices and orders as the core sees them, kept in memory and brought up to date by reading only what changed.

A fleet of 100,000 devices is too much to read every second, and nearly all of it is as it was a second ago. Rows of
devices and assignments carry the number of their last change (schema.TRIGGERS), update events and orders only ever
grow; so each look costs what happened since the last one. What comes out is what a fresh read would give
(`tests/fleet/store/test_roster.py` compares the two after every step of random histories).
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection

from edgewright.runtime.telemetry.wire import ModelState

from ..core.rows import Assignment, Device, Rollout
from . import releases
from .order_book import MOST_SINGLY, OrderBook
from .order_rows import Shared

DAY_S = 86400.0
MOST_KINDS = 4096
"""Devices that report the same share one decoded report: a fleet has few kinds of them."""
_decoder = msgspec.msgpack.Decoder(tuple[ModelState, ...])

_COLUMNS = (
    "changed, device, target, last_seen_s, models, models_s, site, time_zone, labels, software, enrolled_s, "
    "removed_s, desired_epoch, epoch_seen"
)


class _Row(NamedTuple):
    changed: int
    device: str
    target: str
    last_seen_s: float | None
    models: bytes | None
    models_s: float | None
    site: str
    time_zone: str
    labels: str
    software: str
    enrolled_s: float
    removed_s: float | None
    desired_epoch: int
    epoch_seen: int


class Roster:
    """One reader's picture; `refresh` before each use. Not thread-safe."""

    def __init__(self, *, most_singly: int = MOST_SINGLY) -> None:
        self._most_singly = most_singly
        self._rows: dict[str, _Row] = {}
        self._shared = Shared()
        self._changed = 0
        self._has_new = False
        self._epoch_of: dict[str, int] = {}
        self._by_model: dict[str, dict[str, Device]] = {}
        self._books: dict[str, OrderBook] = {}
        self._model_of: dict[str, str] = {}
        self._order = 0
        self._recent: deque[tuple[float, str, str]] = deque()
        self._orders: dict[str, Counter[str]] = {}
        self.revision = 0
        """Grows when a device changed what it runs, or where it stands; not when it only was heard."""

    def refresh(self, connection: Connection, open_rollouts: Sequence[Rollout], *, now_s: float) -> set[str]:
        """Read what changed; returns those devices of it that do not know their newest order (`unseen_epoch`)."""
        if self._read_epochs(connection):
            self._by_model.clear()
            self._books.clear()
        self._model_of = {rollout.id: rollout.model for rollout in open_rollouts}
        touched = self._read_devices(connection)
        aged = self._read_orders(connection, now_s=now_s)
        self._fill_models(touched, aged)
        self._books = {
            one: self._books.get(one) or OrderBook(connection, one, self._epoch_of, most_singly=self._most_singly)
            for one in self._model_of
        }
        for book in self._books.values():
            book.refresh(connection)
        rows = self._rows
        return {name for name in touched if name in rows and rows[name].desired_epoch > rows[name].epoch_seen}

    def devices_for(self, rollout: Rollout) -> list[Device]:
        """Return every enrolled device as a rollout sees it, in the order of their ids."""
        found = self._by_model[rollout.model]
        taken: set[str] = set()
        for other, model in self._model_of.items():
            if model == rollout.model and other != rollout.id:
                taken.update(self._books[other].devices)
        if not taken:
            return list(found.values())
        return [
            msgspec.structs.replace(device, taken=True) if name in taken else device for name, device in found.items()
        ]

    def assignments_of(self, rollout: str) -> Sequence[Assignment]:
        """Return a rollout's assignments in their dispatch order; the same object as long as none changed."""
        return self._books[rollout].assignments

    def unseen_epoch(self, device: str) -> int | None:
        """Return the epoch of a device's desired state, if it has not said that it knows it."""
        row = self._rows.get(device)
        return row.desired_epoch if row is not None and row.desired_epoch > row.epoch_seen else None

    def last_seen_s(self, device: str) -> float | None:
        """Return when a device was heard last; None where it never was, or is not enrolled any more."""
        row = self._rows.get(device)
        return None if row is None else row.last_seen_s

    @property
    def size(self) -> int:
        """How many devices and orders it holds."""
        return len(self._rows) + sum(len(book.devices) for book in self._books.values())

    @property
    def bundle_count(self) -> int:
        """How many bundles were uploaded; none is ever removed."""
        return len(self._epoch_of)

    def _read_epochs(self, connection: Connection) -> bool:
        bundles = connection.exec_driver_sql("SELECT count(*) FROM bundles").scalar_one()
        if bundles == len(self._epoch_of):
            return False
        self._epoch_of = releases.epochs(connection)
        return True

    def _read_devices(self, connection: Connection) -> set[str]:
        if not self._rows:
            return self._read_every_device(connection)
        query = f"SELECT {_COLUMNS} FROM devices WHERE changed > ? ORDER BY changed"  # noqa: S608  (a constant)
        rows = [_Row(*row) for row in connection.exec_driver_sql(query, (self._changed,)).cursor.fetchall()]
        self._has_new = False
        if not rows:
            return set()
        self._changed = rows[-1].changed
        is_new = False
        for row in rows:
            before = self._rows.get(row.device)
            if row.removed_s is not None:
                self._rows.pop(row.device, None)
            else:
                is_new = is_new or before is None
                self._rows[row.device] = row
            if before is None or row.removed_s is not None or _essence(before) != _essence(row):
                self.revision += 1
        if is_new:
            self._rows = dict(sorted(self._rows.items()))
        self._has_new = is_new
        return {row.device for row in rows}

    def _read_every_device(self, connection: Connection) -> set[str]:
        query = f"SELECT {_COLUMNS} FROM devices"  # noqa: S608  (a constant); in no order: a table is read fastest as it lies
        every = list(map(_Row._make, connection.exec_driver_sql(query).cursor.fetchall()))
        rows = sorted((row for row in every if row.removed_s is None), key=itemgetter(1))
        self._rows = {row[1]: row for row in rows}
        self._changed = max((row[0] for row in every), default=0)
        self._has_new = bool(rows)
        self.revision += len(rows)
        return set(self._rows)

    def _read_orders(self, connection: Connection, *, now_s: float) -> set[str]:
        """Count the orders of the last day; returns the devices whose number changed."""
        changed: set[str] = set()
        query = "SELECT id, at_s, model, device FROM orders WHERE id > ? ORDER BY id"
        rows = connection.exec_driver_sql(query, (self._order,)).cursor.fetchall()
        if rows:
            self._order = rows[-1][0]
            recent = [(at_s, model, device) for _, at_s, model, device in rows if at_s > now_s - DAY_S]
            self._recent.extend(recent)
            for named in {model for _, model, _ in recent}:
                devices = [device for _, model, device in recent if model == named]
                self._orders.setdefault(named, Counter()).update(devices)
                changed.update(devices)
        while self._recent and self._recent[0][0] <= now_s - DAY_S:
            _, model, device = self._recent.popleft()
            self._orders[model][device] -= 1
            changed.add(device)
        return changed

    def _fill_models(self, touched: Iterable[str], aged: Iterable[str]) -> None:
        models = set(self._model_of.values())
        self._by_model = {model: found for model, found in self._by_model.items() if model in models}
        changed = {*touched, *aged}
        for model in models:
            found = self._by_model.get(model)
            if found is None:
                self._by_model[model] = {name: self._device(row, model) for name, row in self._rows.items()}
                continue
            for name in changed:
                row = self._rows.get(name)
                if row is None:
                    found.pop(name, None)
                else:
                    found[name] = self._device(row, model)
            if self._has_new:
                self._by_model[model] = dict(sorted(found.items()))

    def _device(self, row: _Row, model: str) -> Device:
        _, name, target, last_seen_s, models, models_s, site, zone, labels, software, enrolled_s, _, _, _ = row
        state = _state(models, model) if models else None
        counts = self._orders.get(model)
        shared = self._shared
        return Device(
            id=name,
            target=shared[target],
            last_seen_s=last_seen_s,
            version=shared[state.version] if state else None,
            bundle=shared[state.bundle] if state else None,
            idle=state is None or state.phase == "idle",
            reported_s=models_s,
            site=shared[site],
            time_zone=shared[zone],
            labels=_labels(labels),
            software=shared[software],
            enrolled_s=enrolled_s,
            security_epoch=self._epoch_of.get(state.bundle, 0) if state and state.bundle else 0,
            orders_last_day=counts.get(name, 0) if counts else 0,
        )


@lru_cache(maxsize=MOST_KINDS)
def _state(reported: bytes, model: str) -> ModelState | None:
    return next((each for each in _decoder.decode(reported) if each.model == model), None)


@lru_cache(maxsize=MOST_KINDS)
def _labels(text: str) -> dict[str, str]:
    """Return labels that nobody changes: devices share them."""
    found: dict[str, str] = json.loads(text)
    return found


def _essence(row: _Row) -> tuple[Any, ...]:
    return row.target, row.models, row.site, row.time_zone, row.labels
