"""The server does what its OpenAPI says, for requests that schemathesis makes of that: no 5xx, no status unheard of."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.contract.exchange import ask, image, infer

pytestmark = pytest.mark.own

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


def check_all_operations(server: str, examples: int) -> None:
    schema = schemathesis.openapi.from_dict(ask(server, "GET", "/v2/openapi.json").json)
    results: list[Any] = list(schema.get_all_operations())
    operations = [result.ok() for result in results]
    assert "POST /v2/models/{model}/infer" in {operation.label for operation in operations}
    for operation in operations:
        check_operation(server, operation, examples)


def check_operation(server: str, operation: Any, examples: int) -> None:
    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=operation.as_strategy(), real=st.booleans())
    def check(case: Any, real: bool) -> None:
        if real and "model" in case.path_parameters:  # else nearly all would be unknown
            case.path_parameters["model"] = "digits"
        case.call_and_validate(base_url=f"http://{server}", checks=CHECKS, timeout=20)

    check()


def test_every_operation(v2_server: str) -> None:
    check_all_operations(v2_server, examples=5)
    assert infer(v2_server, {"inputs": [image()]}).status == 200


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_operation_at_length(v2_server: str) -> None:
    check_all_operations(v2_server, examples=100)
    assert infer(v2_server, {"inputs": [image()]}).status == 200
