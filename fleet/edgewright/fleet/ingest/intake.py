"""What may come in: one message, checked from its topic to the last number in it. Pure.

The broker is not trusted and a device may be broken or taken over, so nothing here believes a size or a count. A record
that is wrong inside a message that is right is *refused but passed over*: were it not, the device would send it again
for ever and nothing behind it would arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from edgewright.runtime.telemetry import wire
from edgewright.runtime.telemetry.records import LATENCY_EDGES_US, GapRecord, Record, UpdateRecord, WindowRecord

MAX_INTEGER = 2**53
MAX_TEXT = 2000
MAX_NAME = 200
MAX_MODELS = 64
MAX_ISA = 256
MAX_HISTOGRAMS = 1024
MAX_BINS = 65_536
MAX_WINDOW_S = 86_400
MAX_COUNT = 2**36
"""Of one device in one window: a thousand million a second. Sums of millions of devices stay far below 64 bits."""
MAX_LATENCY_SUM_US = 2**46
MAX_ENERGY_SUM_UJ = 2**50
"""A kilowatt for a month."""
LATEST_S = 4_102_444_800
"""The year 2100: a clock past it is broken."""


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """A record that is passed over, and why."""

    seq: int
    reason: str


class RecordRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run of spool records `first_seq`, `first_seq + 1`, … as they stood in the spool."""

    spool: str
    first_seq: int
    records: tuple[Record | Refused, ...]

    @property
    def last_seq(self) -> int:
        """Sequence number of the last one; `first_seq - 1` for an empty run."""
        return self.first_seq + len(self.records) - 1


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """An authentic message of a device."""

    device: str
    incarnation: str
    seq: int
    body: wire.Hello | wire.Heartbeat | RecordRun


class _RawRun(msgspec.Struct, frozen=True, kw_only=True):
    """`wire.Records` with its records not looked at yet, so that one bad record does not spoil the rest."""

    spool: str
    first_seq: int
    records: list[Any]


def read_message(
    topic: str, payload: bytes, *, tenant: str, now_s: float, secret_of: Callable[[str], bytes | None]
) -> Message | None:
    """Return the message, or None for a kind that this version does not know or that is meant for later readers.

    Raises:
        WireError: it is not for us, not from an enrolled device, malformed, expired, or out of bounds.
    """
    topic_tenant, device, direction, kind = wire.parse_topic(topic)
    if topic_tenant != tenant or direction != "up":
        raise wire.WireError(f"topic {topic!r} is not one that tenant {tenant!r} receives")
    secret = secret_of(device)
    if secret is None:
        raise wire.WireError(f"device {device!r} is not enrolled here")
    envelope = wire.unseal(payload, secret=secret, tenant=tenant, direction="up")
    if (envelope.device, envelope.kind) != (device, kind):
        raise wire.WireError(f"{envelope.kind} of {envelope.device} came on the topic for {kind} of {device}")
    if envelope.expires_s is not None and envelope.expires_s <= now_s:
        raise wire.WireError(f"{kind} of {device} has expired")
    body = _body(envelope)
    if body is None:
        return None
    _check_text(envelope.incarnation, "incarnation")
    _check_integer(envelope.seq, "seq")
    return Message(device=device, incarnation=envelope.incarnation, seq=envelope.seq, body=body)


def _body(envelope: wire.Envelope) -> wire.Hello | wire.Heartbeat | RecordRun | None:
    if envelope.kind == "hello":
        return _checked_hello(wire.body(envelope, wire.Hello))
    if envelope.kind == "heartbeat":
        return _checked_heartbeat(wire.body(envelope, wire.Heartbeat))
    if envelope.kind == "records":
        return _run(wire.body(envelope, _RawRun))
    return None


def _checked_hello(hello: wire.Hello) -> wire.Hello:
    for name in ("software", "target", "target_digest", "boot", "spool"):
        _check_text(getattr(hello, name), name)
    _check_integer(hello.spool_next_seq, "spool_next_seq")
    if hello.spool_first_seq is not None:
        _check_integer(hello.spool_first_seq, "spool_first_seq", hello.spool_next_seq)
    _check_integer(hello.desired_epoch, "desired_epoch")
    _check_length(hello.isa, MAX_ISA, "isa")
    for feature in hello.isa:
        _check_text(feature, "isa")
    _check_models(hello.models)
    return hello


def _checked_heartbeat(heartbeat: wire.Heartbeat) -> wire.Heartbeat:
    _check_integer(heartbeat.spool_bytes, "spool_bytes")
    _check_integer(heartbeat.spool_backlog, "spool_backlog")
    _check_models(heartbeat.models)
    return heartbeat


def _check_models(models: Sequence[wire.ModelState]) -> None:
    _check_length(models, MAX_MODELS, "models")
    for state in models:
        for text in (state.model, state.version, state.bundle, state.rollback or ""):
            _check_text(text, "models")


def _run(raw: _RawRun) -> RecordRun:
    _check_text(raw.spool, "spool")
    _check_integer(raw.first_seq, "first_seq")
    records = tuple(_record(value, raw.first_seq + place) for place, value in enumerate(raw.records))
    return RecordRun(spool=raw.spool, first_seq=raw.first_seq, records=records)


def _record(value: Any, seq: int) -> Record | Refused:
    try:
        record: Record = msgspec.convert(value, Record)
        _check_record(record, seq)
    except (msgspec.ValidationError, wire.WireError, ValueError, OverflowError) as error:
        return Refused(seq=seq, reason=str(error))
    return record


def _check_record(record: Record, seq: int) -> None:
    match record:
        case WindowRecord():
            _check_window(record)
        case UpdateRecord():
            for name in ("command", "model", "version", "bundle", "boot"):
                _check_text(getattr(record, name), name)
            _check_text(record.reason, "reason", MAX_TEXT)
            _check_time(record.at_s)
        case GapRecord():
            _check_time(record.at_s)
            if not 0 <= record.first_seq <= record.last_seq < seq:
                raise wire.WireError(
                    f"gap {record.first_seq} to {record.last_seq} does not lie before its record {seq}"
                )


def _check_window(record: WindowRecord) -> None:
    for name in ("model", "version", "bundle", "reference", "boot", "incarnation"):
        _check_text(getattr(record, name), name)
    _check_integer(record.seq, "seq")
    for name in ("requests", "failures", "rows"):
        _check_integer(getattr(record, name), name, MAX_COUNT)
    _check_integer(record.latency_us_sum, "latency_us_sum", MAX_LATENCY_SUM_US)
    for name in ("crashes", "energy_requests", "shadow_rows"):
        _check_integer(getattr(record, name), name, MAX_COUNT)
    _check_integer(record.shadow_disagreements, "shadow_disagreements", record.shadow_rows)
    _check_integer(record.energy_uj_sum, "energy_uj_sum", MAX_ENERGY_SUM_UJ)
    _check_labels(record)
    _check_integer(record.window_start_s, "window_start_s", LATEST_S)
    if not 1 <= record.window_s <= MAX_WINDOW_S or record.window_start_s % record.window_s:
        raise wire.WireError(
            f"window {record.window_start_s} of {record.window_s} s: expected a multiple of 1 to {MAX_WINDOW_S} s"
        )
    if len(record.latency) != len(LATENCY_EDGES_US) + 1:
        raise wire.WireError(f"latency has {len(record.latency)} bins, expected {len(LATENCY_EDGES_US) + 1}")
    _check_length(record.histograms, MAX_HISTOGRAMS, "histograms")
    for counts in (record.latency, *record.histograms):
        _check_length(counts, MAX_BINS, "bins")
        if counts and not (min(counts) >= 0 and max(counts) <= MAX_COUNT):
            raise wire.WireError(f"a count is outside 0 to {MAX_COUNT}")


def _check_labels(record: WindowRecord) -> None:
    for counts in (record.labelled, record.labelled_correct):
        _check_length(counts, MAX_BINS, "labelled bins")
    pairs = zip(record.labelled_correct, record.labelled, strict=False)
    if len(record.labelled) != len(record.labelled_correct) or not all(0 <= a <= b <= MAX_COUNT for a, b in pairs):
        raise wire.WireError("labelled_correct: expected as many bins as labelled, and no more in any of them")


def _check_text(text: str, name: str, limit: int = MAX_NAME) -> None:
    if len(text) > limit:
        raise wire.WireError(f"{name} has {len(text)} characters; the limit is {limit}")


def _check_integer(value: int, name: str, most: int = MAX_INTEGER) -> None:
    if not 0 <= value <= most:
        raise wire.WireError(f"{name} is {value}, expected 0 to {most}")


def _check_length(values: Sequence[Any], limit: int, name: str) -> None:
    if len(values) > limit:
        raise wire.WireError(f"{name} has {len(values)} items; the limit is {limit}")


def _check_time(at_s: float) -> None:
    if not 0 <= at_s <= LATEST_S:
        raise wire.WireError(f"at_s is {at_s}, expected seconds since 1970")
