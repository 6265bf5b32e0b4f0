"""What comes in from the broker: stored once, acknowledged after the commit, and nothing hostile gets through."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cbor2
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgewright.fleet.core.drift.report import latest, total
from edgewright.fleet.ingest.downlink import Letter
from edgewright.fleet.ingest.recorder import Arrival, Recorder
from edgewright.fleet.ingest.worker import IngestWorker
from edgewright.fleet.references import reference_of
from edgewright.fleet.sim.device import Behaviour, VirtualDevice
from edgewright.fleet.store import releases, telemetry, windows
from edgewright.runtime.telemetry import wire
from edgewright.runtime.telemetry.records import LATENCY_EDGES_US, GapRecord, UpdateRecord, WindowRecord
from tests.fleet.house import House, wait_for

QUIET = Behaviour()


def window(*, seq: int, requests: int, start_s: int = 60, incarnation: str = "run-1", **other: Any) -> WindowRecord:
    values: dict[str, Any] = {
        "model": "digits",
        "version": "1",
        "bundle": "sha256:" + "a" * 64,
        "reference": "",
        "window_start_s": start_s,
        "window_s": 60,
        "boot": "boot",
        "incarnation": incarnation,
        "seq": seq,
        "closed": False,
        "requests": requests,
        "failures": 0,
        "rows": requests,
        "latency_us_sum": requests,
        "latency": (requests, *(0,) * len(LATENCY_EDGES_US)),
        "histograms": ((requests, 0),),
    }
    return WindowRecord(**values | other)


def update(phase: str, *, command: str = "c-1", reason: str = "") -> UpdateRecord:
    values = {"command": command, "model": "digits", "version": "1", "bundle": "b", "phase": phase, "boot": "boot"}
    return msgspec.convert(values | {"reason": reason, "at_s": 1.0}, UpdateRecord)


class Sender:
    """Seals records as a device does."""

    def __init__(self, house: House, device: VirtualDevice) -> None:
        self.house = house
        self.device = device
        self._seq = 0

    def arrival(self, kind: str, body: Any, **changes: Any) -> Arrival:
        self._seq += 1
        identity = self.device.identity
        envelope = wire.Envelope(
            v=1, kind=kind, device=identity.device, incarnation="agent", seq=self._seq, body=msgspec.to_builtins(body)
        )
        envelope = msgspec.structs.replace(envelope, **changes)
        topic = wire.topic(identity.tenant, identity.device, "up", kind)
        return Arrival(topic, wire.seal(envelope, secret=identity.secret, tenant=identity.tenant, direction="up"))

    def run(self, first_seq: int, *records: Any) -> Arrival:
        return self.arrival(
            "records", {"spool": "s", "first_seq": first_seq, "records": [msgspec.to_builtins(r) for r in records]}
        )

    def give(self, *arrivals: Arrival) -> list[wire.Envelope]:
        """Record a batch and return the answers, sent and opened."""
        identity = self.device.identity
        for letter in self.house.recorder.record(arrivals, now_s=self.house.clock.now_s):
            self.house.postbox.send(letter)
        sent, self.house.network.published = self.house.network.published, []
        return [
            wire.unseal(payload, secret=identity.secret, tenant=identity.tenant, direction="down")
            for _, payload in sent
        ]

    def acked(self, *arrivals: Arrival) -> int:
        acks = [wire.body(answer, wire.Ack) for answer in self.give(*arrivals) if answer.kind == "ack"]
        return max(ack.seq for ack in acks)

    def requests(self) -> int:
        with self.house.database.read() as connection:
            return total(latest(windows.windows_of(connection))).requests


@pytest.fixture
def sender(house: House) -> Sender:
    return Sender(house, house.enrol("cam", lambda _: QUIET))


def test_a_hello_is_answered_with_the_desired_state_and_an_expiry(sender: Sender) -> None:
    topic, payload = sender.device.connect()[0]
    answers = {answer.kind: answer for answer in sender.give(Arrival(topic, payload))}
    assert wire.body(answers["desired"], wire.Desired).models == ()
    assert answers["desired"].expires_s is not None
    assert answers["desired"].expires_s > sender.house.clock.now_s
    assert wire.body(answers["ack"], wire.Ack).seq == 0


def test_records_are_acknowledged_up_to_the_first_hole(sender: Sender) -> None:
    assert sender.acked(sender.run(1, window(seq=1, requests=1), window(seq=2, requests=2))) == 2
    assert sender.acked(sender.run(4, window(seq=4, requests=9))) == 2
    assert sender.acked(sender.run(3, window(seq=3, requests=3))) == 4
    assert sender.requests() == 9


def test_a_gap_that_the_device_reports_closes_the_hole(sender: Sender) -> None:
    assert sender.acked(sender.run(1, window(seq=1, requests=1))) == 1
    gap = GapRecord(first_seq=2, last_seq=9, at_s=5.0)
    assert sender.acked(sender.run(10, gap)) == 10
    with sender.house.database.read() as connection:
        assert telemetry.gaps_of(connection, "cam") == [gap]


def test_a_gap_cannot_reach_into_the_future(sender: Sender) -> None:
    assert sender.acked(sender.run(1, GapRecord(first_seq=1, last_seq=10**9, at_s=5.0))) == 1
    assert sender.house.recorder.counts["refused records"] == 1


def test_the_highest_seq_of_a_window_stays(sender: Sender) -> None:
    sender.give(sender.run(2, window(seq=7, requests=70)))
    sender.give(sender.run(1, window(seq=3, requests=30)))
    assert sender.requests() == 70


def test_an_update_event_is_stored_once(sender: Sender) -> None:
    arrival = sender.run(1, update("fetching"), update("confirmed"))
    sender.give(arrival, arrival)
    sender.give(arrival)
    with sender.house.database.read() as connection:
        phases = [event.record.phase for event in telemetry.updates_of(connection, ["c-1"])]
    assert phases == ["fetching", "confirmed"]


def test_one_bad_record_does_not_hold_up_the_rest(sender: Sender) -> None:
    records = [
        msgspec.to_builtins(window(seq=1, requests=5)),
        {"type": "window", "model": "half a record"},
        {"type": "from the future"},
        msgspec.to_builtins(window(seq=2, requests=2**60, start_s=120)),
        msgspec.to_builtins(window(seq=2, requests=6)),
    ]
    body = {"spool": "s", "first_seq": 1, "records": records}
    assert sender.acked(sender.arrival("records", body)) == 5
    assert sender.requests() == 6
    assert sender.house.recorder.counts["refused records"] == 3


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), repeats=st.integers(1, 3))
def test_no_order_and_no_repetition_changes_a_sum(sender: Sender, seed: int, repeats: int) -> None:
    chosen = random.Random(seed)
    unique = sender._seq  # the house outlives one example
    spool = f"spool-{unique}"
    records = [
        window(seq=n, requests=3 * n, start_s=60 * chosen.randrange(3), incarnation=f"{unique}-{chosen.randrange(2)}")
        for n in range(1, 12)
    ]
    runs = [
        sender.arrival("records", {"spool": spool, "first_seq": place + 1, "records": [msgspec.to_builtins(record)]})
        for place, record in enumerate(records)
    ] * repeats
    chosen.shuffle(runs)
    before = sender.requests()
    last = 0
    while runs:
        size = chosen.randint(1, 5)
        batch, runs = runs[:size], runs[size:]
        last = sender.acked(*batch)
    highest = {(record.incarnation, record.window_start_s): record.requests for record in records}
    assert last == len(records)
    assert sender.requests() - before == sum(highest.values())


def _forged(sender: Sender) -> Arrival:
    good = sender.run(1, window(seq=1, requests=1))
    packed, mac = cbor2.loads(good.payload)
    return Arrival(good.topic, cbor2.dumps([packed, bytes(len(mac))]))


HOSTILE: dict[str, Callable[[Sender], Arrival]] = {
    "forged MAC": _forged,
    "not CBOR": lambda s: Arrival(s.run(1).topic, b"\xff\x00hello"),
    "empty": lambda s: Arrival(s.run(1).topic, b""),
    "oversized": lambda s: Arrival(s.run(1).topic, bytes(wire.MAX_MESSAGE_BYTES + 1)),
    "deeply nested": lambda s: Arrival(s.run(1).topic, b"\x81" * 5000),
    "another topic": lambda _: Arrival("weather/today", b"x"),
    "another tenant": lambda s: Arrival(wire.topic("t-other", "cam", "up", "records"), s.run(1).payload),
    "unknown device": lambda s: Arrival(wire.topic(s.house.fleet.tenant, "nobody", "up", "hello"), b"x"),
    "kind unlike topic": lambda s: Arrival(wire.topic(s.house.fleet.tenant, "cam", "up", "hello"), s.run(1).payload),
    "another device's name": lambda s: s.arrival("records", {"spool": "s", "first_seq": 1, "records": []}, device="x"),
    "future version": lambda s: s.arrival("records", {}, v=99),
    "expired": lambda s: s.arrival("records", {"spool": "s", "first_seq": 1, "records": []}, expires_s=1.0),
    "no body": lambda s: s.arrival("records", {}),
    "huge integer": lambda s: s.arrival("records", {"spool": "s", "first_seq": 2**80, "records": []}),
    "negative": lambda s: s.arrival("records", {"spool": "s", "first_seq": -5, "records": []}),
    "long name": lambda s: s.arrival("records", {"spool": "s" * 9999, "first_seq": 1, "records": []}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_message_is_counted_and_leaves_nothing(sender: Sender, name: str) -> None:
    assert sender.give(HOSTILE[name](sender)) == []
    assert sender.house.recorder.counts["refused messages"] == 1
    assert sender.requests() == 0
    assert sender.acked(sender.run(1, window(seq=1, requests=4))) == 1, "the next good message is taken"


ABSURD: dict[str, dict[str, Any]] = {
    "year 9999": {"start_s": 253_370_764_800 // 60 * 60},
    "before 1970": {"start_s": -60},
    "past 64 bits": {"start_s": 60 * 2**80},
    "no length": {"window_s": 0},
    "not a multiple": {"start_s": 61},
    "a year long": {"window_s": 366 * 86400, "start_s": 0},
    "negative requests": {"requests": -1},
    "negative count": {"histograms": ((5, -3),)},
    "count past 64 bits": {"histograms": ((2**70, 0),)},
    "huge count": {"histograms": ((2**50, 0),)},
    "huge rows": {"rows": 2**62},
    "huge latency": {"latency_us_sum": 2**62},
    "NaN": {"histograms": ((float("nan"), 0),)},
    "infinite": {"rows": float("inf")},
    "text": {"rows": "many"},
    "seq past 64 bits": {"seq": 2**64},
}


@pytest.mark.parametrize("name", ABSURD)
def test_absurd_numbers_of_one_device_do_not_reach_the_sums(sender: Sender, name: str) -> None:
    bad = msgspec.to_builtins(window(**{"seq": 1, "requests": 5} | ABSURD[name]))
    good = msgspec.to_builtins(window(seq=1, requests=7, start_s=600))
    body = {"spool": "s", "first_seq": 1, "records": [bad, good]}
    assert sender.acked(sender.arrival("records", body)) == 2
    assert sender.house.recorder.counts["refused records"] == 1
    assert sender.requests() == 7


def test_a_clock_that_is_ahead_does_not_bend_the_drift_of_others(sender: Sender, tmp_path: Path) -> None:
    house = sender.house
    digest = house.release(tmp_path, "1")
    now_s = int(house.clock.now_s) // 60 * 60
    shaped: dict[str, Any] = {"bundle": digest, "histograms": _shape_of(house, digest)}
    ahead = window(seq=1, requests=1000, start_s=now_s + 10 * 86400, incarnation="fast", **shaped)
    odd = window(seq=1, requests=1000, start_s=now_s, incarnation="odd", bundle=digest, histograms=((1, 2, 3),))
    sender.give(sender.run(1, ahead, odd, window(seq=1, requests=4, start_s=now_s, **shaped)))
    (view,) = house.fleet.drift()
    assert (view.requests, view.rows, view.devices) == (4, 4, 1)


def _shape_of(house: House, digest: str) -> tuple[tuple[int, ...], ...]:
    with house.database.read() as connection:
        reference = reference_of(releases.get_bundle(connection, digest))
    return tuple((0,) * len(one.counts) for one in reference.histograms)


def hello(sender: Sender, *, first_seq: int | None, next_seq: int) -> Arrival:
    body = wire.Hello(
        software="s",
        target="raspberry-pi-5",
        target_digest="sha256:" + "0" * 64,
        emulated=False,
        isa=(),
        boot="boot",
        spool="s",
        spool_next_seq=next_seq,
        spool_first_seq=first_seq,
        desired_epoch=0,
        models=(),
    )
    return sender.arrival("hello", body)


def test_a_spool_of_which_another_fleet_had_the_beginning_is_acknowledged(sender: Sender) -> None:
    assert sender.acked(hello(sender, first_seq=None, next_seq=92)) == 0, "an old device does not say where it begins"
    assert sender.acked(sender.run(90, window(seq=1, requests=3))) == 0
    assert sender.acked(hello(sender, first_seq=90, next_seq=92)) == 90
    assert sender.acked(sender.run(91, window(seq=2, requests=5))) == 91
    assert sender.acked(hello(sender, first_seq=40, next_seq=92)) == 91, "an older beginning takes nothing back"
    assert sender.requests() == 5


def test_a_spool_cannot_begin_after_its_end(sender: Sender) -> None:
    assert sender.give(hello(sender, first_seq=93, next_seq=92)) == []
    assert sender.house.recorder.counts["refused messages"] == 1


class Stumbling(Recorder):
    """A recorder with a bug that one message brings out."""

    def record(self, arrivals: Sequence[Arrival], *, now_s: float) -> list[Letter]:
        if any(each.topic == "poison" for each in arrivals):
            raise OverflowError
        return super().record(arrivals, now_s=now_s)


def test_a_message_that_brings_out_a_bug_does_not_hold_up_the_others(sender: Sender) -> None:
    house = sender.house
    recorder = Stumbling(house.database, tenant=house.fleet.tenant)
    worker = IngestWorker(recorder, house.postbox, clock=house.clock)
    for arrival in (sender.run(1, window(seq=1, requests=4)), Arrival("poison", b""), sender.run(2)):
        worker.offer(arrival.topic, arrival.payload)
    worker.start()
    worker.stop()
    assert sender.requests() == 4
    assert recorder.counts["messages not understood"] == 1


def test_an_unknown_kind_is_ignored(sender: Sender) -> None:
    assert sender.give(sender.arrival("selfie", {"pixels": 3})) == []
    assert sender.house.recorder.counts["messages of an unknown kind"] == 1


def test_a_flood_of_bad_messages_makes_few_log_lines(sender: Sender, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(200):
        sender.give(Arrival("weather/today", b"x"))
    assert len(caplog.records) == 1
    sender.house.clock.now_s += 60
    sender.give(Arrival("weather/today", b"x"))
    assert "200 since" in caplog.records[-1].getMessage()


def test_a_replayed_heartbeat_does_not_turn_the_clock_back(sender: Sender) -> None:
    def beat(backlog: int) -> Arrival:
        return sender.arrival(
            "heartbeat",
            wire.Heartbeat(uptime_s=1.0, spool_bytes=0, spool_backlog=backlog, server_running=True, models=()),
        )

    old, new = beat(9), beat(1)
    sender.give(old, new)
    sender.give(old)
    assert sender.house.fleet.device("cam").spool_backlog == 1
    assert sender.house.recorder.counts["stale messages"] == 1


def test_the_worker_outlives_a_database_that_refuses(sender: Sender) -> None:
    house = sender.house
    worker = IngestWorker(house.recorder, house.postbox, clock=house.clock)
    worker.start()
    with sqlite3.connect(house.directory / "fleet.sqlite") as connection:
        connection.execute("ALTER TABLE windows RENAME TO elsewhere")
    arrival = sender.run(1, window(seq=1, requests=4))
    worker.offer(arrival.topic, arrival.payload)
    wait_for(lambda: house.recorder.counts["batches not stored"] == 1, what="the failed batch")
    assert house.network.published == [], "what is not stored is not acknowledged"
    connection.execute("ALTER TABLE elsewhere RENAME TO windows")
    connection.close()
    worker.offer(arrival.topic, arrival.payload)
    worker.stop()
    assert sender.requests() == 4
    assert len(house.network.published) == 1


def test_a_full_queue_drops_and_counts(sender: Sender) -> None:
    worker = IngestWorker(sender.house.recorder, sender.house.postbox, queue_length=2, offer_s=0.01)
    for _ in range(5):
        worker.offer("weather/today", b"x")
    assert sender.house.recorder.counts["messages dropped, queue full"] == 3
    worker.start()
    worker.stop()
    assert sender.house.recorder.counts["refused messages"] == 2
