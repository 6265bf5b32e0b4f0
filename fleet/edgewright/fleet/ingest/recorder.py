"""Stores what devices send, a batch in one transaction, and says what to answer once it is committed."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection

from edgewright.runtime.telemetry import wire
from edgewright.runtime.telemetry.records import GapRecord, UpdateRecord, WindowRecord

from ..store import desired, enrolment, telemetry
from ..store import windows as window_store
from ..store.database import Database
from ..store.mark import Mark, advance
from .downlink import Letter
from .downlink import ack as ack_letter
from .downlink import desired as desired_letter
from .intake import Message, RecordRun, Refused, read_message

log = logging.getLogger(__name__)

LOG_INTERVAL_S = 10.0
"""A flood of bad messages makes one log line in this time, with a count."""


class Arrival(msgspec.Struct, frozen=True):
    """A message as it came from the broker."""

    topic: str
    payload: bytes


class Recorder:
    """One batch at a time; whoever calls it decides about threads and queues.

    Idempotent: the same message again stores nothing new and is answered again, because the first answer may be lost.
    """

    def __init__(self, database: Database, *, tenant: str) -> None:
        self._database = database
        self._tenant = tenant
        self._secrets: dict[str, bytes] = {}
        self._last_seq: dict[str, tuple[str, int]] = {}
        self.counts: Counter[str] = Counter()
        self._next_log_s = 0.0
        self._unlogged = 0

    def record(self, arrivals: Sequence[Arrival], *, now_s: float) -> list[Letter]:
        """Store a batch and return the answers. When this returns, everything is on disk."""
        self._secrets.clear()  # a device may have been removed, or enrolled anew, since the last batch
        with self._database.write() as connection:
            messages = [
                message for each in arrivals if (message := self._read(connection, each, now_s=now_s)) is not None
            ]
            marks = _store_runs(connection, messages, now_s=now_s, counts=self.counts)
            greeted = [(message.device, message.body) for message in messages if isinstance(message.body, wire.Hello)]
            for message in messages:
                self._note_state(connection, message, now_s=now_s)
            orders = [order for device, _ in greeted if (order := desired.order_of(connection, device)) is not None]
            for device, hello in greeted:
                marks.setdefault((device, hello.spool), telemetry.mark_of(connection, device, hello.spool))
        self.counts["messages"] += len(messages)
        return self._answers(marks, orders, now_s=now_s)

    def _answers(
        self, marks: dict[tuple[str, str], Mark], orders: Sequence[desired.Order], *, now_s: float
    ) -> list[Letter]:
        acks = [
            ack_letter(device, self._secrets[device], spool=spool, seq=mark.upto)
            for (device, spool), mark in marks.items()
        ]
        return acks + [desired_letter(order, self._secrets[order.device], now_s=now_s) for order in orders]

    def _read(self, connection: Connection, arrival: Arrival, *, now_s: float) -> Message | None:
        try:
            message = read_message(
                arrival.topic,
                arrival.payload,
                tenant=self._tenant,
                now_s=now_s,
                secret_of=lambda device: self._secret_of(connection, device),
            )
        except wire.WireError as error:
            self._refuse("refused messages", f"refused a message on {arrival.topic[:200]!r}: {error}", now_s=now_s)
            return None
        if message is None:
            self.counts["messages of an unknown kind"] += 1
            return None
        if isinstance(message.body, RecordRun):
            for refused in (record for record in message.body.records if isinstance(record, Refused)):
                self._refuse(
                    "refused records",
                    f"passed over record {refused.seq} of {message.device}: {refused.reason}",
                    now_s=now_s,
                )
        return message

    def _secret_of(self, connection: Connection, device: str) -> bytes | None:
        secret = self._secrets.get(device)
        if secret is None:
            secret = enrolment.secret_of(connection, device)
            if secret is not None:
                self._secrets[device] = secret
        return secret

    def _note_state(self, connection: Connection, message: Message, *, now_s: float) -> None:
        """Take down what a device says of itself, unless a later message of that run was seen."""
        incarnation, last = self._last_seq.get(message.device, ("", 0))
        if incarnation == message.incarnation and message.seq <= last:
            self.counts["stale messages"] += 1
            return
        self._last_seq[message.device] = (message.incarnation, message.seq)
        match message.body:
            case wire.Hello():
                enrolment.greet(connection, message.device, message.body, now_s=now_s)
            case wire.Heartbeat():
                enrolment.beat(connection, message.device, message.body, now_s=now_s)
            case RecordRun():
                enrolment.seen(connection, [message.device], now_s=now_s)

    def _refuse(self, kind: str, text: str, *, now_s: float) -> None:
        self.counts[kind] += 1
        self._unlogged += 1
        if now_s >= self._next_log_s:
            log.warning("%s (%d since the last such line)", text, self._unlogged)
            self._next_log_s = now_s + LOG_INTERVAL_S
            self._unlogged = 0


def _store_runs(
    connection: Connection, messages: Sequence[Message], *, now_s: float, counts: Counter[str]
) -> dict[tuple[str, str], Mark]:
    """Store the records of all messages and return the new mark of each spool that was touched."""
    marks: dict[tuple[str, str], Mark] = {}
    windows: list[tuple[str, WindowRecord]] = []
    updates: list[telemetry.StoredUpdate] = []
    gaps: list[tuple[str, str, int, GapRecord]] = []
    for message in messages:
        run = message.body
        if isinstance(run, wire.Hello) and run.spool_first_seq is not None:
            _begin_spool(connection, message.device, run.spool, run.spool_first_seq, marks)
        if not isinstance(run, RecordRun):
            continue
        place = (message.device, run.spool)
        mark = advance(marks.get(place) or telemetry.mark_of(connection, *place), run.first_seq, run.last_seq)
        for seq, record in enumerate(run.records, run.first_seq):
            match record:
                case WindowRecord():
                    windows.append((message.device, record))
                case UpdateRecord():
                    updates.append(
                        telemetry.StoredUpdate(
                            device=message.device, spool=run.spool, seq=seq, received_s=now_s, record=record
                        )
                    )
                case GapRecord():
                    gaps.append((*place, seq, record))
                    mark = advance(mark, record.first_seq, record.last_seq)
        marks[place] = mark
        counts["records"] += len(run.records)
    counts["repetitions of folded windows"] += window_store.put_windows(connection, windows, now_s=now_s)
    telemetry.put_updates(connection, updates)
    telemetry.put_gaps(connection, gaps)
    for (device, spool), mark in marks.items():
        telemetry.put_mark(connection, device, spool, mark)
    return marks


def _begin_spool(
    connection: Connection, device: str, spool: str, first_seq: int, marks: dict[tuple[str, str], Mark]
) -> None:
    """Take what a spool still has as all that there is of it.

    Another fleet may have had the rest, where the device is enrolled here anew: without this, the mark would wait for
    it for ever, and the device would keep everything.
    """
    mark = marks.get((device, spool)) or telemetry.mark_of(connection, device, spool)
    if mark.upto < first_seq - 1:
        log.info("spool %s of %s begins at %d; records after %d are not here", spool, device, first_seq, mark.upto)
        marks[device, spool] = advance(mark, 0, first_seq - 1)
