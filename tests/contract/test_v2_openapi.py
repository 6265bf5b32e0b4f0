"""The server does what its OpenAPI says, for requests that schemathesis makes of that: no 5xx, no status unheard of."""

from __future__ import annotations

import json
from collections.abc import Iterator
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


def check_all_operations(server: str, examples: int, *, wanted: str = "POST /v2/models/{model}/infer") -> None:
    schema = schemathesis.openapi.from_dict(ask(server, "GET", "/v2/openapi.json").json)
    results: list[Any] = list(schema.get_all_operations())
    operations = [result.ok() for result in results]
    assert wanted in {operation.label for operation in operations}
    for operation in operations:
        check_operation(server, operation, examples)


def check_operation(server: str, operation: Any, examples: int) -> None:
    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=operation.as_strategy(), real=st.booleans())
    def check(case: Any, real: bool) -> None:
        if real and "model" in case.path_parameters:  # else nearly all would be unknown
            # What is unloaded is not there for the operations that come after.
            case.path_parameters["model"] = "echo" if case.path.endswith("/unload") else "digits"
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


@pytest.fixture
def everything_restored(v2_admin: str) -> Iterator[None]:
    """Whatever was unloaded, logged or traced: the tests that follow find it as it was."""
    before = {target: ask(v2_admin, "GET", target).json for target in SETTINGS}
    yield
    for target, settings_before in before.items():
        changed = {name: value for name, value in settings_before.items() if name not in UNCHANGEABLE}
        assert ask(v2_admin, "POST", target, json.dumps(changed)).status == 200
    for model in ("digits", "echo"):
        assert ask(v2_admin, "POST", f"/v2/repository/models/{model}/load").status == 200
        assert ask(v2_admin, "POST", f"/v2/models/{model}/trace/setting", json.dumps(NO_TRACE)).status == 200
    assert infer(v2_admin, {"inputs": [image()]}).status == 200


SETTINGS = ("/v2/logging", "/v2/trace/setting")
UNCHANGEABLE = {"log_file", "log_format", "log_frequency", "trace_file", "trace_mode"}
NO_TRACE = {"trace_level": None, "trace_rate": None, "trace_count": None}
UNLOAD = "POST /v2/repository/models/{model}/unload"


@pytest.mark.usefixtures("everything_restored")
def test_every_operation_of_the_admin_listener(v2_admin: str) -> None:
    check_all_operations(v2_admin, examples=4, wanted=UNLOAD)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("everything_restored")
def test_every_operation_of_the_admin_listener_at_length(v2_admin: str) -> None:
    check_all_operations(v2_admin, examples=100, wanted=UNLOAD)
