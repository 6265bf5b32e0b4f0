"""What Edgewright promises of REST beyond the protocol: which status, which sentence, which bytes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.exchange import DIGITS, LENGTH, ask, assert_refused, assert_told, image, infer
from tests.contract.test_v2_errors import WRONG

pytestmark = pytest.mark.own


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models/digits/ready", {"name": "digits", "ready": True}),
        ("/v2/models/digits/versions/1/ready", {"name": "digits", "ready": True}),
    ],
)
def test_health(v2_server: str, target: str, expected: Any) -> None:
    answer = ask(v2_server, "GET", target)
    assert (answer.status, answer.json) == (200, expected)


def test_head_has_the_headers_and_no_body(v2_server: str) -> None:
    answer = ask(v2_server, "HEAD", "/v2/models/digits")
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["content-length"]) == len(ask(v2_server, "GET", "/v2/models/digits").body)


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v2/nothing", 404),
        ("GET", "/v2/models/absent", 404),
        ("GET", "/v2/models/digits/versions/99", 404),
        ("GET", "/v2/models/digits/nothing", 404),
        ("GET", "/v2/models/%2e%2e%2fetc/ready", 404),
        ("POST", "/v2/models/absent/infer", 404),
        ("GET", DIGITS, 405),
        ("DELETE", "/v2/models/digits", 405),
        ("POST", "/v2/health/live", 405),
    ],
)
def test_wrong_resources_and_verbs(v2_server: str, method: str, target: str, status: int) -> None:
    answer = ask(v2_server, method, target)
    assert answer.status == status
    assert_told(answer)
    assert ("allow" in answer.headers) == (status == 405)


TOO_LARGE = {"dimension overflows", "dimension beyond 64 bits", "product wraps to 64"}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_request_has_the_status_that_fits(v2_server: str, name: str) -> None:
    answer = infer(v2_server, WRONG[name])
    assert answer.status == (413 if name in TOO_LARGE else 400), answer.body
    assert_told(answer)


@pytest.mark.parametrize("length", ["-1", "x", "", "1e3", "99999999999999999999", "100000"])
def test_wrong_header_lengths_are_named(v2_server: str, length: str) -> None:
    answer = infer(v2_server, {"inputs": [image()]}, headers={LENGTH: length})
    assert answer.status == 400
    assert LENGTH in answer.json["error"]


@pytest.mark.parametrize(
    ("extension", "parameters"),
    [
        ("system_shared_memory", {"shared_memory_region": "r"}),
        ("sequence", {"sequence_id": 7, "sequence_start": True}),
    ],
)
def test_what_is_not_served_is_said_so(
    v2_server: str, announced: frozenset[str], extension: str, parameters: dict[str, Any]
) -> None:
    if extension in announced:
        pytest.skip(f"'{extension}' is served")
    answer = infer(v2_server, {"inputs": [image()], "parameters": parameters})
    assert answer.status in {400, 501}
    assert_refused(answer, also=frozenset({501}))


def test_half_precision_has_no_json_form(v2_server: str) -> None:
    tensors = [{"name": "in_fp16", "shape": [1, 3], "datatype": "FP16", "data": [1, 2, 3]}]
    answer = infer(v2_server, {"inputs": tensors}, target="/v2/models/echo/infer")
    assert answer.status == 400
    assert "binary" in answer.json["error"]


def test_numbers_beyond_their_datatype_are_refused(v2_server: str) -> None:
    answer = infer(
        v2_server,
        {"inputs": [{"name": "in_uint8", "shape": [1, 3], "datatype": "UINT8", "data": [1, 2, 256]}]},
        target="/v2/models/echo/infer",
    )
    assert answer.status == 400
    assert "UINT8" in answer.json["error"]
