"""Refusals become statuses; what REST writes as JSON becomes messages."""

from __future__ import annotations

import pytest
from grpc import StatusCode

from edgewright.runtime.server.refusal import Refusal, not_now
from edgewright.runtime.server.v2.grpc.filling import fill
from edgewright.runtime.server.v2.grpc.schema import message
from edgewright.runtime.server.v2.grpc.status import code_of, message_of, trailer_of


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, StatusCode.INVALID_ARGUMENT),
        (401, StatusCode.UNAUTHENTICATED),
        (403, StatusCode.PERMISSION_DENIED),
        (404, StatusCode.NOT_FOUND),
        (413, StatusCode.RESOURCE_EXHAUSTED),
        (422, StatusCode.INVALID_ARGUMENT),
        (499, StatusCode.CANCELLED),
        (500, StatusCode.INTERNAL),
        (501, StatusCode.UNIMPLEMENTED),
        (503, StatusCode.UNAVAILABLE),
        (504, StatusCode.DEADLINE_EXCEEDED),
        (599, StatusCode.INTERNAL),
    ],
)
def test_a_status_has_its_code(status: int, code: StatusCode) -> None:
    assert code_of(Refusal(status, "why")) is code


def test_a_shed_request_is_told_when_to_come_again() -> None:
    assert trailer_of(not_now("busy", 3)) == (("grpc-retry-pushback-ms", "3000"),)
    assert trailer_of(Refusal(400, "why")) == ()


def test_a_reason_fits_the_trailers() -> None:
    assert len(message_of(Refusal(400, "x" * 100_000))) == 4096


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
