"""Refusals become statuses; what REST writes as JSON becomes messages."""

from __future__ import annotations

from urllib.parse import unquote

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.runtime.server.refusal import Refusal, not_now
from edgewright.runtime.server.v2.grpc.filling import fill
from edgewright.runtime.server.v2.grpc.schema import message
from edgewright.runtime.server.v2.grpc.status import Code, code_of, message_of, trailers_of


def test_codes_are_grpcs() -> None:
    for code in Code:
        assert getattr(grpc.StatusCode, code.name).value[0] == code


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, Code.INVALID_ARGUMENT),
        (401, Code.UNAUTHENTICATED),
        (403, Code.PERMISSION_DENIED),
        (404, Code.NOT_FOUND),
        (413, Code.RESOURCE_EXHAUSTED),
        (422, Code.INVALID_ARGUMENT),
        (499, Code.CANCELLED),
        (500, Code.INTERNAL),
        (501, Code.UNIMPLEMENTED),
        (408, Code.DEADLINE_EXCEEDED),
        (431, Code.RESOURCE_EXHAUSTED),
        (415, Code.UNIMPLEMENTED),
        (503, Code.UNAVAILABLE),
        (504, Code.DEADLINE_EXCEEDED),
        (599, Code.INTERNAL),
    ],
)
def test_a_status_has_its_code(status: int, code: Code) -> None:
    assert code_of(Refusal(status, "why")) is code


def test_a_shed_request_is_told_when_to_come_again() -> None:
    assert trailers_of(not_now("busy", 3)) == (
        (b"grpc-status", b"14"),
        (b"grpc-message", b"busy"),
        (b"grpc-retry-pushback-ms", b"3000"),
    )
    assert trailers_of(Refusal(400, "why")) == ((b"grpc-status", b"3"), (b"grpc-message", b"why"))


def test_a_reason_fits_the_trailers() -> None:
    assert len(message_of(Refusal(400, "x" * 100_000))) == 4096
    for text in ("x" * 100_000, "ä" * 100_000, "x" + "ä" * 3000, "xx" + "ä" * 3000):
        (_, (_, written)) = trailers_of(Refusal(400, text))
        assert len(written) <= 4096
        assert unquote(written.decode(), errors="ignore") == text[: len(unquote(written.decode(), errors="ignore"))]


@given(st.text(max_size=200))
def test_a_reason_of_any_letters_arrives(text: str) -> None:
    (_, (_, written)) = trailers_of(Refusal(400, text.encode(errors="replace").decode()))
    assert all(0x20 <= byte <= 0x7E for byte in written)
    assert unquote(written.decode()) == text.encode(errors="replace").decode()


def test_plain_values_fill_messages_and_unknown_names_are_left_out() -> None:
    config = fill(
        message("ModelConfigResponse")(),
        {
            "config": {
                "name": "m",
                "max_batch_size": 4,
                "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [-1, 2]}],
                "dynamic_batching": {},
                "parameters": {"a": {"string_value": "b"}},
                "unheard_of": {"x": 1},
                "backend": None,
            }
        },
    ).config
    assert config.input[0].data_type == 11
    assert list(config.input[0].dims) == [-1, 2]
    assert config.HasField("dynamic_batching")
    assert config.parameters["a"].string_value == "b"
