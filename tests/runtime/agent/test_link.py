"""The link against a fleet that loses, repeats and reorders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgewright.runtime.agent.credentials import Credentials, MqttAddress
from edgewright.runtime.agent.link import Link, LinkSurroundings, MemoryTransport
from edgewright.runtime.agent.link_memory import LinkMemory
from edgewright.runtime.agent.loop import VirtualLoop
from edgewright.runtime.agent.model_state import Order
from edgewright.runtime.agent.pause import jittered_s
from edgewright.runtime.memory_storage import MemoryStorage
from edgewright.runtime.telemetry import wire
from edgewright.runtime.telemetry.records import UpdateRecord
from edgewright.runtime.telemetry.spool import Spool

CREDENTIALS = Credentials(
    tenant="t", device="d1", secret="ab" * 32, mqtt=MqttAddress(host="h", port=1), fleet_url="http://h"
)
NOW_S = 1_800_000_000.0


class Fleet:
    """Holds a link, and what the fleet on its other side sees."""

    def __init__(self, storage: MemoryStorage | None = None) -> None:
        self.storage = storage or MemoryStorage()
        self.loop = VirtualLoop()
        self.transport = MemoryTransport()
        self.spool = Spool.open(self.storage, Path("/spool"), new_identity="s1", now_s=0.0)
        self.orders: list[Order] = []
        self.seq = 0
        self.link = Link(
            LinkSurroundings(
                loop=self.loop,
                transport=self.transport,
                credentials=CREDENTIALS,
                spool=self.spool,
                memory=LinkMemory(self.storage, Path("/link.json"), "fleet"),
                incarnation="run",
                wall_clock=lambda: NOW_S,
                chance=lambda: 0.5,
                heartbeat_s=30.0,
                hello=self._hello,
                heartbeat=lambda: wire.Heartbeat(
                    uptime_s=1.0, spool_bytes=0, spool_backlog=0, server_running=True, models=()
                ),
                order=self.orders.append,
            )
        )
        self.link.start()

    def _hello(self, epoch: int) -> wire.Hello:
        return wire.Hello(
            software="x",
            target="host",
            target_digest="y",
            emulated=False,
            isa=(),
            boot="b",
            spool=self.spool.identity,
            spool_next_seq=self.spool.next_seq,
            desired_epoch=epoch,
            models=(),
        )

    def received(self, kind: str) -> list[wire.Envelope]:
        secret = CREDENTIALS.secret_bytes
        return [
            wire.unseal(message, secret=secret, tenant="t", direction="up")
            for sent, message in self.transport.sent
            if sent == kind
        ]

    def records(self) -> list[int]:
        found: list[int] = []
        for envelope in self.received("records"):
            body = wire.body(envelope, wire.Records)
            found += range(body.first_seq, body.first_seq + len(body.records))
        return found

    def say(self, kind: str, body: msgspec.Struct, *, epoch: int = 0, secret: bytes | None = None, **more: Any) -> None:
        self.seq += 1
        envelope = wire.Envelope(
            v=1,
            kind=kind,
            device=more.pop("device", "d1"),
            incarnation="fleet",
            seq=more.pop("seq", self.seq),
            epoch=epoch,
            body=msgspec.to_builtins(body),
            **more,
        )
        sealed = wire.seal(envelope, secret=secret or CREDENTIALS.secret_bytes, tenant="t", direction="down")
        self.transport.deliver(kind, sealed)

    def fill(self, count: int) -> None:
        for _ in range(count):
            self.spool.append(
                UpdateRecord(
                    command="c", model="m", version="1", bundle="b", phase="trial", reason="", at_s=1.0, boot="b"
                ),
                1.0,
            )
        self.spool.commit()


def desired(**changes: Any) -> wire.Desired:
    model = wire.DesiredModel(
        model="m",
        version="1",
        bundle="sha256:" + "a" * 64,
        size_bytes=1,
        path="/v1/artifacts/a",
        command="c1",
        security_epoch=0,
        probation_s=1.0,
    )
    return wire.Desired(models=(msgspec.structs.replace(model, **changes),))


def test_hello_is_repeated_until_the_fleet_answers() -> None:
    fleet = Fleet()
    fleet.transport.up()
    fleet.loop.advance(60.0)
    asked = len(fleet.received("hello"))
    assert asked >= 3
    fleet.say("desired", wire.Desired(models=()), epoch=1)
    fleet.loop.advance(60.0)
    assert len(fleet.received("hello")) == asked
    assert len(fleet.received("heartbeat")) == 4


def test_records_are_sent_until_they_are_acknowledged() -> None:
    fleet = Fleet()
    fleet.fill(1200)
    fleet.transport.up()
    assert fleet.records() == list(range(1, 1201))
    fleet.say("ack", wire.Ack(spool="another", seq=1200))
    fleet.say("ack", wire.Ack(spool="s1", seq=500))
    assert fleet.spool.acked_seq == 500
    fleet.transport.sent.clear()
    fleet.loop.advance(60.0)
    assert sorted(set(fleet.records())) == list(range(501, 1201))
    fleet.say("ack", wire.Ack(spool="s1", seq=1200))
    fleet.transport.sent.clear()
    fleet.loop.advance(60.0)
    assert fleet.records() == []


def test_window_is_bounded_and_moves_on_with_the_acknowledgement() -> None:
    fleet = Fleet()
    fleet.fill(5000)
    fleet.transport.up()
    first = fleet.records()
    assert 0 < len(first) < 5000
    assert len(fleet.received("records")) == 4
    fleet.say("ack", wire.Ack(spool="s1", seq=first[-1]))
    assert len(fleet.received("records")) == 8


def test_nothing_is_sent_without_a_connection_and_everything_after_it() -> None:
    fleet = Fleet()
    fleet.fill(3)
    fleet.link.send_records()
    assert fleet.transport.sent == []
    fleet.transport.up()
    fleet.transport.down("the broker went away")
    fleet.transport.sent.clear()
    fleet.loop.advance(300.0)
    assert fleet.transport.sent == []
    fleet.transport.up()
    assert fleet.records() == [1, 2, 3]
    assert next(kind for kind, _ in fleet.transport.sent) == "hello"


def test_desired_state_never_goes_back_also_across_a_restart() -> None:
    fleet = Fleet()
    fleet.transport.up()
    fleet.say("desired", desired(), epoch=5)
    fleet.say("desired", desired(command="old"), epoch=4)
    assert [order.command for order in fleet.orders] == ["c1"]
    again = Fleet(fleet.storage)
    again.transport.up()
    assert wire.body(again.received("hello")[0], wire.Hello).desired_epoch == 5
    again.say("desired", desired(command="old"), epoch=4)
    again.say("desired", desired(command="new"), epoch=5)
    assert [order.command for order in again.orders] == ["new"]


@pytest.mark.parametrize(
    "what",
    [
        {"secret": b"x" * 32},
        {"device": "d2"},
        {"expires_s": NOW_S - 1},
        {"body": desired(path="file:/etc/passwd")},
        {"body": desired(model="../../etc")},
        {"body": desired(probation_s=-1.0)},
    ],
    ids=lambda what: next(iter(what)),
)
def test_message_that_must_not_be_obeyed_is_not(what: dict[str, Any]) -> None:
    fleet = Fleet()
    fleet.transport.up()
    fleet.say("desired", what.pop("body", desired()), epoch=1, **what)
    assert fleet.orders == []
    fleet.say("desired", desired(), epoch=1)
    assert len(fleet.orders) == 1


def test_repeated_message_is_dropped_and_reordered_kinds_are_not() -> None:
    fleet = Fleet()
    fleet.transport.up()
    fleet.say("ack", wire.Ack(spool="s1", seq=0), seq=9)
    fleet.say("desired", desired(), epoch=1, seq=8)
    fleet.say("desired", desired(), epoch=1, seq=8)
    assert len(fleet.orders) == 1


def test_noise_on_the_topic_is_ignored() -> None:
    fleet = Fleet()
    fleet.transport.up()
    for noise in (b"", b"\xff" * 50, b"\x9f" * 10_000):
        fleet.transport.deliver("desired", noise)
    assert fleet.orders == []


def test_pauses_grow_and_spread() -> None:
    assert jittered_s(0, 1.0) == 1.0
    assert jittered_s(50, 1.0) == 120.0
    assert jittered_s(3, 0.0) < jittered_s(3, 0.5) < jittered_s(3, 1.0)
