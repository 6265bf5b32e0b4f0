"""gRPC over HTTP/2, rule by rule, as its document has it (grpc/doc/PROTOCOL-HTTP2.md); by raw frames."""

from __future__ import annotations

import base64
import gzip
import random
import re
import struct
import urllib.parse
import zlib
from collections.abc import Callable
from functools import partial

import grpc
import pytest
from tritonclient.grpc import service_pb2

from tests.contract.grpc.conftest import SLOW_ROWS, GrpcRunning, image
from tests.contract.grpc.peer import Answer, Peer, served, unary
from tests.contract.grpc.raw_http2 import (
    CANCEL,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    INFER,
    LIVE,
    NO_ERROR,
    SERVICE,
    STREAM,
    WATCH,
    Field,
    block,
    call,
    frame,
    head,
    message,
    request_fields,
    reset,
)

OK, CANCELLED, UNKNOWN, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND = range(6)
RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE = 8, 12, 13, 14


def inference(rows: int = 1, model: str = "digits", **more: object) -> bytes:
    request = service_pb2.ModelInferRequest(model_name=model, raw_input_contents=[image(rows).tobytes()], **more)
    request.inputs.add(name="image", datatype="FP32", shape=[rows, 64])
    data: bytes = request.SerializeToString()
    return data


def scores(answer: Answer) -> bytes:
    """Return the one tensor of an answered inference."""
    assert answer.grpc_status == OK, answer
    (body,) = answer.messages
    (tensor,) = service_pb2.ModelInferResponse.FromString(body).raw_output_contents
    found: bytes = tensor
    return found


def executions(address: str, model: str) -> int:
    """Return how many inferences of a model were executed."""
    request = service_pb2.ModelStatisticsRequest(name=model).SerializeToString()
    answer = unary(address, SERVICE + b"ModelStatistics", message(request))
    (entry,) = service_pb2.ModelStatisticsResponse.FromString(answer.messages[0]).model_stats
    count: int = entry.inference_stats.success.count
    return count


def test_an_answer_is_head_messages_and_trailers(grpc_address: str) -> None:
    answer = unary(grpc_address)
    first, last = answer.heads
    assert first[b":status"] == b"200"
    assert first[b"content-type"].startswith(b"application/grpc")
    assert answer.messages == [b"\x08\x01"]
    assert last[b"grpc-status"] == b"0"
    assert not any(name.startswith(b":") for name in last)


def test_an_error_at_once_is_trailers_only(grpc_address: str) -> None:
    answer = unary(grpc_address, SERVICE + b"Absent")
    (only,) = answer.heads
    assert (only[b":status"], answer.grpc_status, bytes(answer.body)) == (b"200", UNIMPLEMENTED, b"")
    assert only[b"content-type"].startswith(b"application/grpc")


@pytest.mark.parametrize(
    "path", [b"/", b"/x", b"/a/b/c", b"/inference.GRPCInferenceService", b"/\xc3\xa4/\xff", b"*", b"//"]
)
def test_a_path_that_is_none(grpc_address: str, path: bytes) -> None:
    with Peer(grpc_address) as peer:
        peer.send(call(1, path))
        answer = peer.answer(1)
        assert answer.grpc_status == UNIMPLEMENTED or (answer.http_status or b"").startswith(b"4") or answer.reset
        assert peer.alive()


@pytest.mark.parametrize("size", [1, 2, 5, 7, 100])
def test_a_message_is_split_anywhere(grpc_address: str, size: int) -> None:
    body = message(inference())
    expected = scores(unary(grpc_address, INFER, body))
    with Peer(grpc_address) as peer:
        peer.send(frame(HEADERS, END_HEADERS, 1, head(INFER)))
        for at in range(0, len(body), size):
            peer.send(frame(DATA, 0, 1, body[at : at + size]))
        peer.send(frame(DATA, END_STREAM, 1))
        assert scores(peer.answer(1)) == expected


def test_messages_lie_across_frames_of_any_size(grpc_address: str) -> None:
    chance = random.Random(1)
    sent = b"".join(message(inference(1 + number % 5, id=str(number))) for number in range(40))
    with Peer(grpc_address) as peer:
        peer.send(frame(HEADERS, END_HEADERS, 1, head(STREAM)))
        while sent:
            size = chance.choice([0, 1, 3, 5, 400, 4000, 16_000])
            piece, sent = sent[:size], sent[size:]
            peer.send(frame(DATA, 0, 1, piece))
        peer.send(frame(DATA, END_STREAM, 1))
        answer = peer.answer(1)
    assert answer.grpc_status == OK
    answers = [service_pb2.ModelStreamInferResponse.FromString(each) for each in answer.messages]
    assert [each.error_message for each in answers] == [""] * 40
    assert [each.infer_response.id for each in answers] == [str(number) for number in range(40)]


@pytest.mark.parametrize("count", [0, 2])
def test_a_unary_call_has_one_message(grpc_address: str, count: int) -> None:
    answer = unary(grpc_address, LIVE, message() * count) if count else _without_a_message(grpc_address)
    assert answer.grpc_status in {UNIMPLEMENTED, INTERNAL, INVALID_ARGUMENT}
    assert served(grpc_address)


def _without_a_message(address: str) -> Answer:
    with Peer(address) as peer:
        peer.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, head(LIVE)))
        return peer.answer(1)


@pytest.mark.parametrize("cut", [1, 4, 5, 100])
def test_a_message_that_ends_early(grpc_address: str, cut: int) -> None:
    answer = unary(grpc_address, INFER, message(inference())[:cut])
    assert answer.grpc_status in {INTERNAL, INVALID_ARGUMENT}


PACKED: list[tuple[bytes, Callable[[bytes], bytes]]] = [
    (b"gzip", gzip.compress),
    (b"deflate", zlib.compress),
]


@pytest.mark.parametrize(("name", "compress"), PACKED)
def test_compressed_messages(grpc_address: str, name: bytes, compress: Callable[[bytes], bytes]) -> None:
    body, expected = inference(), scores(unary(grpc_address, INFER, message(inference())))
    encoding = (b"grpc-encoding", name)
    assert scores(unary(grpc_address, INFER, message(compress(body), 1), encoding)) == expected
    assert scores(unary(grpc_address, INFER, message(body), encoding)) == expected, "each message may stay as it is"


@pytest.mark.parametrize(
    ("name", "flag", "statuses"),
    [
        (b"identity", 0, {OK}),
        (b"identity", 1, {INTERNAL}),
        (None, 1, {INTERNAL}),
        (b"snappy", 1, {UNIMPLEMENTED}),
        (b"gzip", 1, {INTERNAL, INVALID_ARGUMENT}),
        (b"deflate", 1, {INTERNAL, INVALID_ARGUMENT}),
        (None, 2, {INTERNAL, INVALID_ARGUMENT}),
        (b"gzip", 0x81, {INTERNAL, INVALID_ARGUMENT}),
        (None, 0xFF, {INTERNAL, INVALID_ARGUMENT}),
    ],
)
def test_flags_and_encodings_that_do_not_fit(
    grpc_address: str, name: bytes | None, flag: int, statuses: set[int]
) -> None:
    more = () if name is None else ((b"grpc-encoding", name),)
    answer = unary(grpc_address, INFER, message(inference(), flag), *more)
    assert answer.grpc_status in statuses
    if answer.grpc_status == UNIMPLEMENTED:
        assert b"gzip" in answer.heads[0].get(b"grpc-accept-encoding", b""), "what the server can take is said with it"


@pytest.mark.parametrize(("name", "compress"), PACKED)
def test_a_bomb_is_refused_before_it_is_large(
    grpc_running: GrpcRunning, name: bytes, compress: Callable[[bytes], bytes]
) -> None:
    bomb = compress(bytes(64 * 2**20))
    answer = unary(grpc_running.address, INFER, message(bomb, 1), (b"grpc-encoding", name))
    assert answer.grpc_status == RESOURCE_EXHAUSTED


@pytest.mark.parametrize("length", [2**32 - 1, 70 * 2**20])
def test_a_length_beyond_the_limit_is_refused_before_it_comes(grpc_address: str, length: int) -> None:
    with Peer(grpc_address) as peer:
        peer.send(frame(HEADERS, END_HEADERS, 1, head(INFER)), frame(DATA, 0, 1, struct.pack(">BI", 0, length)))
        answer = peer.answer(1)
        assert answer.grpc_status == RESOURCE_EXHAUSTED
        assert peer.alive()


@pytest.mark.parametrize("content", [b"application/json", b"text/plain", b"application/grp", b"", None])
def test_another_content_type_is_415(grpc_address: str, content: bytes | None) -> None:
    fields = [each for each in request_fields(LIVE) if each[0] != b"content-type"]
    more = [] if content is None else [(b"content-type", content)]
    with Peer(grpc_address) as peer:
        peer.send(frame(HEADERS, END_HEADERS, 1, block(*fields, *more)), frame(DATA, END_STREAM, 1, message()))
        assert peer.answer(1).http_status == b"415"
        assert peer.alive()


@pytest.mark.parametrize("content", [b"application/grpc", b"application/grpc+proto", b"application/grpc;charset=utf-8"])
def test_content_types_of_grpc(grpc_address: str, content: bytes) -> None:
    fields = [each for each in request_fields(LIVE) if each[0] != b"content-type"]
    with Peer(grpc_address) as peer:
        head_ = block(*fields, (b"content-type", content))
        peer.send(frame(HEADERS, END_HEADERS, 1, head_), frame(DATA, END_STREAM, 1, message()))
        assert peer.answer(1).grpc_status == OK


@pytest.mark.parametrize("method", [b"GET", b"PUT", b"OPTIONS", b"HEAD", b"DELETE", b"X"])
def test_another_verb_than_post(grpc_address: str, method: bytes) -> None:
    fields = [(b":method", method), *request_fields(LIVE)[1:]]
    with Peer(grpc_address) as peer:
        peer.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block(*fields)))
        assert peer.answer(1).http_status in {b"404", b"405"}
        assert peer.alive()


def test_without_te_a_call_is_refused_with_a_reason(grpc_address: str) -> None:
    """It is there to find out proxies that lose trailers (grpcio's server refuses such calls, too)."""
    fields = [each for each in request_fields(LIVE) if each[0] != b"te"]
    with Peer(grpc_address) as peer:
        peer.send(frame(HEADERS, END_HEADERS, 1, block(*fields)), frame(DATA, END_STREAM, 1, message()))
        answer = peer.answer(1)
        assert answer.grpc_status == INVALID_ARGUMENT or (answer.http_status or b"").startswith(b"4")
        assert b"te: trailers" in answer.heads[-1].get(b"grpc-message", b"te: trailers")


@pytest.mark.parametrize(
    "timeout", [b"1H", b"99999999H", b"5M", b"30S", b"60000m", b"60000000u", b"99999999n", b"99999999S"]
)
def test_timeouts_in_every_unit(grpc_address: str, timeout: bytes) -> None:
    long = timeout != b"99999999n"  # a tenth of a second: this machine may be busy for so long
    answer = unary(grpc_address, LIVE, None, (b"grpc-timeout", timeout))
    assert answer.grpc_status in ({OK} if long else {OK, DEADLINE_EXCEEDED}) or (not long and answer.reset == CANCEL)


@pytest.mark.parametrize(
    "timeout", [b"", b"1", b"S", b"-1S", b"1.5S", b"1s", b"123456789S", b"1 S", b"0x1S", b"\xd9\xa1S"]
)
def test_a_timeout_that_is_none(grpc_address: str, timeout: bytes) -> None:
    """grpcio's own server takes such a call as one without a timeout, grpc-go refuses it: both are sound."""
    with Peer(grpc_address) as peer:
        peer.send(call(1, LIVE, None, (b"grpc-timeout", timeout)))
        answer = peer.answer(1)
        sound = {OK, INVALID_ARGUMENT, INTERNAL, DEADLINE_EXCEEDED}
        assert answer.grpc_status in sound or answer.http_status == b"400"
        assert peer.alive()


@pytest.mark.parametrize("timeout", [b"0S", b"1n", b"20m"])
def test_the_server_ends_what_is_too_late_itself(grpc_address: str, timeout: bytes) -> None:
    """No client of ours says anything when its time is over."""
    rows = SLOW_ROWS * 4
    with Peer(grpc_address) as peer:
        peer.send(frame(HEADERS, END_HEADERS, 1, head(INFER, (b"grpc-timeout", timeout))))
        peer.upload(1, message(inference(rows, "slow")))
        answer = peer.answer(1)
        assert answer.grpc_status == DEADLINE_EXCEEDED or answer.reset == CANCEL
        peer.send(call(3, LIVE))
        assert peer.answer(3).grpc_status == OK


def test_a_call_that_never_sends_its_message_ends_with_its_deadline(grpc_address: str) -> None:
    with Peer(grpc_address) as peer:
        peer.send(frame(HEADERS, END_HEADERS, 1, head(INFER, (b"grpc-timeout", b"100m"))))
        answer = peer.answer(1)
        assert answer.grpc_status == DEADLINE_EXCEEDED or answer.reset == CANCEL


def test_a_watch_ends_with_its_deadline(grpc_address: str) -> None:
    with Peer(grpc_address) as peer:
        peer.send(call(1, WATCH, None, (b"grpc-timeout", b"100m")))
        answer = peer.answer(1)
        assert answer.grpc_status == DEADLINE_EXCEEDED or answer.reset == CANCEL


def test_messages_are_percent_encoded(grpc_address: str) -> None:
    request = service_pb2.ModelMetadataRequest(name="100% grün\n\u2028 ~ 😀").SerializeToString()
    answer = unary(grpc_address, SERVICE + b"ModelMetadata", message(request))
    assert answer.grpc_status == NOT_FOUND
    text = answer.heads[-1][b"grpc-message"]
    assert re.fullmatch(rb"(?:[\x20-\x24\x26-\x7e]|%[0-9A-F]{2})+", text)
    assert "100% grün\n\u2028 ~ 😀" in urllib.parse.unquote(text.decode(), errors="strict")


@pytest.mark.parametrize(
    "more",
    [
        ((b"x-trace-bin", base64.b64encode(bytes(range(256)))),),
        ((b"x-trace-bin", base64.b64encode(b"a").rstrip(b"=")),),
        ((b"x-trace-bin", b"YQ==,YmM"), (b"x-trace-bin", b"")),
        ((b"x-ascii", b"a\xc3\xa4b"), (b"x-ascii", b"second")),
        ((b"grpc-accept-encoding", b"identity, gzip"), (b"grpc-message-type", b"x"), (b"grpc-future", b"1")),
        ((b"user-agent", b"grpc-python/1.0"), (b"cookie", b"a=b"), (b"cookie", b"c=d")),
    ],
)
def test_metadata_of_all_kinds(grpc_address: str, more: tuple[Field, ...]) -> None:
    assert unary(grpc_address, LIVE, None, *more).grpc_status == OK


def test_binary_metadata_that_is_no_base64(grpc_address: str) -> None:
    with Peer(grpc_address) as peer:
        peer.send(call(1, LIVE, None, (b"x-trace-bin", b"!!!")))
        answer = peer.answer(1)
        assert answer.done
        assert peer.alive()


def test_a_stream_goes_on_after_its_client_has_said_everything(grpc_address: str) -> None:
    with Peer(grpc_address) as peer:
        peer.send(call(1, STREAM, message(inference(id="1")) + message(inference(id="2"))))
        answer = peer.answer(1)
        assert answer.grpc_status == OK
        assert len(answer.messages) == 2


def _longer(peer: Peer, size: int) -> bool:
    return 1 in peer.answers and len(peer.answers[1].body) > size


def test_answers_come_while_a_stream_is_open(grpc_address: str) -> None:
    with Peer(grpc_address) as peer:
        peer.send(frame(HEADERS, END_HEADERS, 1, head(STREAM)))
        size = 0
        for number in range(3):
            peer.send(frame(DATA, 0, 1, message(inference(id=str(number)))))
            assert peer.until(partial(_longer, peer, size))
            size = len(peer.answers[1].body)
        peer.send(frame(DATA, END_STREAM, 1))
        answer = peer.answer(1)
        assert (answer.grpc_status, len(answer.messages)) == (OK, 3)


def test_an_error_before_the_end_of_the_request_frees_the_stream(grpc_address: str) -> None:
    """The document: trailers, and behind them RST_STREAM with NO_ERROR; a client may as well go on for a while."""
    with Peer(grpc_address) as peer:
        peer.send(frame(HEADERS, END_HEADERS, 1, head(SERVICE + b"Absent")))
        answer = peer.answer(1)
        assert answer.grpc_status == UNIMPLEMENTED
        peer.send(frame(DATA, 0, 1, message(bytes(100))), frame(DATA, END_STREAM, 1))
        assert peer.alive()
        assert answer.reset in {None, NO_ERROR}
        assert not peer.goaways


def test_a_client_that_resets_its_call_cancels_the_job(grpc_running: GrpcRunning) -> None:
    """Twelve inferences of a tenth of a second each; those that were reset are not executed."""
    address, calls = grpc_running.address, 12
    before = executions(address, "slow")
    with Peer(address) as peer:
        for number in range(calls):
            peer.send(frame(HEADERS, END_HEADERS, 2 * number + 1, head(INFER)))
            peer.upload(2 * number + 1, message(inference(SLOW_ROWS // 8, "slow")))
            if number:
                peer.send(reset(2 * number + 1))
        assert peer.answer(1).grpc_status == OK
        peer.send(call(101, INFER, message(inference(1, "slow"))))
        assert peer.answer(101).grpc_status == OK
    assert executions(address, "slow") - before < calls


def test_a_client_that_vanishes_cancels_its_jobs(grpc_running: GrpcRunning) -> None:
    address, calls = grpc_running.address, 12
    before = executions(address, "slow")
    with Peer(address) as peer:
        for number in range(calls):
            peer.send(frame(HEADERS, END_HEADERS, 2 * number + 1, head(INFER)))
            peer.upload(2 * number + 1, message(inference(SLOW_ROWS // 8, "slow")))
    assert unary(address, INFER, message(inference(1, "slow"))).grpc_status == OK
    assert executions(address, "slow") - before < calls + 1


def test_the_end_of_tcp_in_one_direction_is_an_end(grpc_address: str) -> None:
    """A client that has sent everything and closes its side: its answer, or the end, and no call that hangs."""
    with Peer(grpc_address) as peer:
        peer.send(call(1, LIVE))
        peer.finish()
        peer.until(lambda: False)
        assert peer.closed


def test_every_status_of_this_server_has_a_name(grpc_address: str) -> None:
    known = {code.value[0] for code in grpc.StatusCode}
    for path in (LIVE, INFER, SERVICE + b"SystemSharedMemoryStatus", SERVICE + b"ModelMetadata", b"/x/y"):
        for body in (b"", b"\xff\xff", inference()):
            assert unary(grpc_address, path, message(body)).grpc_status in known
