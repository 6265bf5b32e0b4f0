"""The envelope: what is sealed comes back, and nothing else does."""

from __future__ import annotations

import cbor2
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.runtime.telemetry import records, wire

SECRET = b"s" * 32

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)

envelopes = st.builds(
    wire.Envelope,
    v=st.just(1),
    kind=st.sampled_from(sorted(wire.BODY_OF_KIND)),
    device=st.text(min_size=1, max_size=40),
    incarnation=st.text(min_size=1, max_size=40),
    seq=st.integers(1, 2**62),
    command=st.none() | st.text(max_size=40),
    epoch=st.integers(0, 2**62),
    expires_s=st.none() | st.floats(0, 4e9),
    body=st.dictionaries(st.text(max_size=8), json_values, max_size=5),
)


@given(envelopes, st.sampled_from(["up", "down"]))
def test_what_is_sealed_comes_back(envelope: wire.Envelope, direction: wire.Direction) -> None:
    message = wire.seal(envelope, secret=SECRET, tenant="t", direction=direction)
    assert wire.unseal(message, secret=SECRET, tenant="t", direction=direction) == envelope


@given(envelopes, st.data())
def test_a_flipped_bit_is_refused(envelope: wire.Envelope, data: st.DataObject) -> None:
    message = bytearray(wire.seal(envelope, secret=SECRET, tenant="t", direction="up"))
    message[data.draw(st.integers(0, len(message) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        assert wire.unseal(bytes(message), secret=SECRET, tenant="t", direction="up") == envelope
    except wire.WireError:
        return


@given(st.binary(max_size=200))
def test_noise_is_refused_with_our_error(noise: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.unseal(noise, secret=SECRET, tenant="t", direction="up")


def an_envelope(**changes: object) -> wire.Envelope:
    fields: dict[str, object] = {"v": 1, "kind": "ack", "device": "d", "incarnation": "i", "seq": 1}
    return msgspec.convert({**fields, **changes}, wire.Envelope)


@pytest.mark.parametrize(
    ("secret", "tenant", "direction"), [(b"other", "t", "up"), (SECRET, "other", "up"), (SECRET, "t", "down")]
)
def test_another_secret_tenant_or_direction_is_refused(secret: bytes, tenant: str, direction: wire.Direction) -> None:
    message = wire.seal(an_envelope(), secret=SECRET, tenant="t", direction="up")
    with pytest.raises(wire.WireError, match="wrong MAC"):
        wire.unseal(message, secret=secret, tenant=tenant, direction=direction)


def test_an_unknown_version_is_named() -> None:
    message = wire.seal(an_envelope(v=9), secret=SECRET, tenant="t", direction="up")
    with pytest.raises(wire.WireError, match="version 9; this side reads 1 to 1"):
        wire.unseal(message, secret=SECRET, tenant="t", direction="up")


def test_keys_that_a_newer_side_adds_are_ignored() -> None:
    newer = {**msgspec.to_builtins(an_envelope()), "later": 1}
    packed = cbor2.dumps(newer)
    mac = cbor2.loads(wire.seal(an_envelope(), secret=SECRET, tenant="t", direction="up"))[1]
    assert len(mac) == 32
    message = cbor2.dumps([packed, wire.mac(SECRET, "up", "t", packed)])
    assert wire.unseal(message, secret=SECRET, tenant="t", direction="up") == an_envelope()


def test_an_oversized_message_is_refused_unread() -> None:
    with pytest.raises(wire.WireError, match="the limit is"):
        wire.unseal(b"\0" * (wire.MAX_MESSAGE_BYTES + 1), secret=SECRET, tenant="t", direction="up")


@given(st.binary(max_size=100))
def test_deep_nesting_is_refused(tail: bytes) -> None:
    packed = b"\x81" * 100_000 + tail
    message = cbor2.dumps([packed, wire.mac(SECRET, "up", "t", packed)])
    with pytest.raises(wire.WireError):
        wire.unseal(message, secret=SECRET, tenant="t", direction="up")


def test_a_body_of_the_wrong_shape_names_the_key() -> None:
    with pytest.raises(wire.WireError, match="seq"):
        wire.body(an_envelope(body={"spool": "x", "seq": "three"}), wire.Ack)


def test_topics_come_back() -> None:
    assert wire.parse_topic(wire.topic("t", "d", "up", "hello")) == ("t", "d", "up", "hello")


@pytest.mark.parametrize(
    "name",
    ["", "edgewright/1/t/d/up", "edgewright/2/t/d/up/hello", "other/1/t/d/up/hello", "edgewright/1/t/d/in/hello"],
)
def test_other_topics_are_refused(name: str) -> None:
    with pytest.raises(wire.WireError):
        wire.parse_topic(name)


def test_latency_edges_grow() -> None:
    assert all(low < high for low, high in zip(records.LATENCY_EDGES_US, records.LATENCY_EDGES_US[1:], strict=False))


def test_records_are_told_apart_by_their_type() -> None:
    gap = records.GapRecord(first_seq=1, last_seq=2, at_s=0.0)
    packed = msgspec.to_builtins(wire.Records(spool="s", first_seq=3, records=(gap,)))
    assert packed["records"][0]["type"] == "gap"
    assert msgspec.convert(packed, wire.Records).records == (gap,)
