"""Triton's extensions of the protocol, each tested where the server announces it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tests.contract.exchange import ONE_IMAGE, ask, assert_refused, image, infer, scores


def of_digits(server: str) -> Any:
    (entry,) = ask(server, "GET", "/v2/models/digits/stats").json["model_stats"]
    return entry


@pytest.mark.extension("statistics")
@pytest.mark.parametrize(
    "target", ["/v2/models/stats", "/v2/models/digits/stats", "/v2/models/digits/versions/1/stats"]
)
def test_statistics_have_their_fields(v2_server: str, target: str) -> None:
    answer = ask(v2_server, "GET", target)
    assert answer.status == 200
    entry = {each["name"]: each for each in answer.json["model_stats"]}["digits"]
    assert entry["version"] == "1"
    assert {"last_inference", "inference_count", "execution_count", "inference_stats", "batch_stats"} <= entry.keys()
    for name in ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output"):
        assert entry["inference_stats"][name].keys() >= {"count", "ns"}


@pytest.mark.extension("statistics")
def test_statistics_count_rows_and_requests(v2_server: str) -> None:
    before = of_digits(v2_server)
    infer(v2_server, {"inputs": [image(shape=[3, 64], data=ONE_IMAGE.tolist() * 3)]})
    after = of_digits(v2_server)
    assert after["inference_count"] == before["inference_count"] + 3
    assert after["inference_stats"]["success"]["count"] == before["inference_stats"]["success"]["count"] + 1
    assert after["inference_stats"]["compute_infer"]["ns"] > before["inference_stats"]["compute_infer"]["ns"]
    assert after["execution_count"] > before["execution_count"]


@pytest.mark.extension("statistics")
def test_statistics_of_what_is_not_there(v2_server: str) -> None:
    assert_refused(ask(v2_server, "GET", "/v2/models/absent/stats"))


@pytest.mark.extension("classification")
@pytest.mark.parametrize("count", [1, 3, 10])
def test_classification_is_the_best_classes(v2_server: str, count: int) -> None:
    request = {"inputs": [image()], "outputs": [{"name": "scores", "parameters": {"classification": count}}]}
    answer = infer(v2_server, request)
    assert answer.status == 200, answer.body
    (output,) = answer.json["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [1, count])
    found = [str(entry).split(":") for entry in np.ravel(output["data"])]
    expected = scores(v2_server)
    order = np.argsort(-expected, kind="stable")[:count]
    assert [int(index) for _, index, *_ in found] == order.tolist()
    np.testing.assert_allclose([float(score) for score, *_ in found], expected[order], rtol=1e-3)


@pytest.mark.extension("classification")
@pytest.mark.parametrize("count", [-1, "three", 2.5])
def test_classification_of_no_number(v2_server: str, count: Any) -> None:
    request = {"inputs": [image()], "outputs": [{"name": "scores", "parameters": {"classification": count}}]}
    assert_refused(infer(v2_server, request))


@pytest.mark.extension("schedule_policy")
@pytest.mark.parametrize("parameters", [{"priority": 1}, {"priority": 0, "timeout": 10_000_000}, {"timeout": 0}])
def test_priorities_and_timeouts_are_taken(v2_server: str, parameters: dict[str, Any]) -> None:
    assert infer(v2_server, {"inputs": [image()], "parameters": parameters}).status == 200


@pytest.mark.extension("schedule_policy")
@pytest.mark.parametrize("parameters", [{"priority": -1}, {"priority": "high"}, {"timeout": "soon"}, {"timeout": -5}])
def test_priorities_that_are_none(v2_server: str, parameters: dict[str, Any]) -> None:
    assert_refused(infer(v2_server, {"inputs": [image()], "parameters": parameters}))


@pytest.mark.extension("model_configuration")
def test_a_configuration_names_the_model(v2_server: str) -> None:
    answer = ask(v2_server, "GET", "/v2/models/digits/config")
    assert answer.status == 200
    assert answer.json["name"] == "digits"
    assert_refused(ask(v2_server, "GET", "/v2/models/absent/config"))


@pytest.mark.extension("model_repository")
@pytest.mark.parametrize("body", ["", "{}", '{"ready": true}'])
def test_the_index_lists_the_models(v2_admin: str, body: str) -> None:
    answer = ask(v2_admin, "POST", "/v2/repository/index", body, {"Content-Type": "application/json"})
    assert answer.status == 200, answer.body
    entries = {entry["name"]: entry for entry in answer.json}
    assert {"digits", "echo"} <= entries.keys()
    assert entries["digits"]["state"] == "READY"


@pytest.mark.extension("model_repository")
@pytest.mark.parametrize("action", ["load", "unload"])
def test_what_is_not_in_the_repository(v2_admin: str, action: str) -> None:
    target = f"/v2/repository/models/absent/{action}"
    assert_refused(ask(v2_admin, "POST", target, "{}", {"Content-Type": "application/json"}))


@pytest.mark.extension("model_repository")
def test_a_model_goes_and_comes_back(v2_admin: str) -> None:
    def change(action: str) -> int:
        target = f"/v2/repository/models/echo/{action}"
        return ask(v2_admin, "POST", target, "{}", {"Content-Type": "application/json"}).status

    assert change("unload") == 200
    try:
        assert ask(v2_admin, "GET", "/v2/models/echo/ready").status != 200
    finally:
        assert change("load") == 200
    assert ask(v2_admin, "GET", "/v2/models/echo/ready").status == 200


@pytest.mark.extension("model_repository")
@pytest.mark.parametrize("name", ["..", "%2e%2e%2fetc", "a%00b", "x" * 5000])
def test_names_that_are_paths_load_nothing(v2_admin: str, name: str) -> None:
    target = f"/v2/repository/models/{name}/load"
    assert_refused(ask(v2_admin, "POST", target, "{}", {"Content-Type": "application/json"}))


@pytest.mark.extension("model_repository")
def test_files_are_not_taken_by_http(v2_admin: str) -> None:
    """A server that writes files for its clients hands them its machine; Edgewright and MLServer do not."""
    body = json.dumps({"parameters": {"config": "{}", "file:1/model.onnx": "AAAA"}})
    target = "/v2/repository/models/planted/load"
    assert_refused(ask(v2_admin, "POST", target, body, {"Content-Type": "application/json"}))


@pytest.mark.extension("trace")
def test_trace_settings_can_be_read(v2_admin: str) -> None:
    assert isinstance(ask(v2_admin, "GET", "/v2/trace/setting").json, dict)


@pytest.mark.extension("logging")
def test_log_settings_can_be_read(v2_admin: str) -> None:
    assert isinstance(ask(v2_admin, "GET", "/v2/logging").json, dict)
