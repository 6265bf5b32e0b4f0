"""An unmodified third-party client, `tritonclient.grpc` from PyPI, is content with the server."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from tests.contract.grpc.conftest import SLOW_ROWS, image
from tests.runtime.small_bundle import DATATYPES, TEXTS


@pytest.fixture
def client(grpc_address: str) -> Iterator[Any]:
    client = triton.InferenceServerClient(grpc_address)
    yield client
    client.close()


def image_input(values: np.ndarray) -> Any:
    tensor = triton.InferInput("image", list(values.shape), "FP32")
    tensor.set_data_from_numpy(values)
    return tensor


def status_of(caught: pytest.ExceptionInfo[InferenceServerException]) -> str:
    return str(caught.value.status()).removeprefix("StatusCode.")


def test_health_and_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits")
    assert client.is_model_ready("digits", "1")
    assert not client.is_model_ready("digits", "2")
    assert not client.is_model_ready("absent")
    metadata = client.get_server_metadata()
    assert metadata.name
    assert {"statistics", "model_repository", "sequence"} <= set(metadata.extensions)
    model = client.get_model_metadata("digits", as_json=True)
    assert model["inputs"] == [{"name": "image", "datatype": "FP32", "shape": ["-1", "64"]}]
    assert model["outputs"] == [{"name": "scores", "datatype": "FP32", "shape": ["-1", "10"]}]
    assert (model["versions"], model["platform"]) == (["1"], "onnx_onnxv1")


def test_the_configuration_is_tritons(client: Any) -> None:
    config = client.get_model_config("digits").config
    assert config.name == "digits"
    assert [(each.name, each.data_type, list(each.dims)) for each in config.input] == [("image", 11, [64])]
    assert [(each.name, each.data_type, list(each.dims)) for each in config.output] == [("scores", 11, [10])]
    assert config.max_batch_size > 1


@pytest.mark.parametrize("rows", [1, 5, 300])
def test_an_inference_is_answered(client: Any, rows: int) -> None:
    values = image(rows)
    result = client.infer("digits", [image_input(values)], request_id="seven", model_version="1")
    scores = result.as_numpy("scores")
    assert scores.shape == (rows, 10)
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-4)
    one_by_one = client.infer("digits", [image_input(values[:1])]).as_numpy("scores")
    np.testing.assert_allclose(scores[:1], one_by_one, rtol=1e-4)
    response = result.get_response()
    assert (response.id, response.model_name, response.model_version) == ("seven", "digits", "1")


def test_every_datatype_survives_the_round_trip(client: Any) -> None:
    random = np.random.default_rng(5)
    inputs, expected = [], {}
    for datatype, (_, kind) in {**DATATYPES, **TEXTS}.items():
        if datatype in TEXTS:
            array: np.ndarray = np.array([[b"", "grün".encode(), b"two words"]], kind)
        elif np.issubdtype(kind, np.integer):
            limits = np.iinfo(kind)
            array = np.array([[limits.min, limits.max, 1]], kind)
        else:
            array = (random.normal(size=(1, 3)) > 0 if kind is np.bool_ else random.normal(size=(1, 3))).astype(kind)
        tensor = triton.InferInput(f"in_{datatype.lower()}", [1, 3], datatype)
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
        expected[f"out_{datatype.lower()}"] = array
    wanted = [triton.InferRequestedOutput(name) for name in reversed(expected)]
    result = client.infer("echo", inputs, outputs=wanted)
    assert [output.name for output in result.get_response().outputs] == list(reversed(expected))
    for name, array in expected.items():
        np.testing.assert_array_equal(result.as_numpy(name), array)


def test_strings_come_back_where_the_best_classes_are_wanted(client: Any) -> None:
    values = image(2)
    scores = client.infer("digits", [image_input(values)]).as_numpy("scores")
    wanted = [triton.InferRequestedOutput("scores", class_count=3)]
    best = client.infer("digits", [image_input(values)], outputs=wanted).as_numpy("scores")
    assert best.shape == (2, 3)
    assert [int(text.split(b":")[1]) for text in best[:, 0]] == scores.argmax(axis=1).tolist()


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_a_compressed_request(client: Any, algorithm: str) -> None:
    result = client.infer("digits", [image_input(image(4))], compression_algorithm=algorithm)
    assert result.as_numpy("scores").shape == (4, 10)


def test_a_large_tensor(client: Any) -> None:
    values = image(50_000)
    assert client.infer("digits", [image_input(values)]).as_numpy("scores").shape == (50_000, 10)


def totals(client: Any) -> tuple[int, int]:
    (entry,) = client.get_inference_statistics("digits").model_stats
    return entry.inference_count, entry.inference_stats.success.count


def test_statistics_count_what_was_done(client: Any) -> None:
    rows, requests = totals(client)
    client.infer("digits", [image_input(image(3))])
    assert totals(client) == (rows + 3, requests + 1)
    names = {entry.name for entry in client.get_inference_statistics().model_stats}
    assert {"digits", "echo"} <= names
    (entry,) = client.get_inference_statistics("digits", "1").model_stats
    assert entry.inference_stats.compute_output.count > 0
    assert entry.inference_stats.compute_infer.ns > 0


def test_models_are_unloaded_and_loaded(client: Any) -> None:
    client.unload_model("echo")
    assert not client.is_model_ready("echo")
    states = {entry.name: (entry.state, entry.reason) for entry in client.get_model_repository_index().models}
    assert states["digits"][0] == "READY"
    assert states["echo"] == ("UNAVAILABLE", "unloaded")
    client.load_model("echo")
    assert client.is_model_ready("echo")
    with pytest.raises(InferenceServerException) as caught:
        client.load_model("absent")
    assert status_of(caught) == "NOT_FOUND"
    with pytest.raises(InferenceServerException, match="come as bundles") as caught:
        client.load_model("echo", config="{}")
    assert status_of(caught) == "INVALID_ARGUMENT"


def test_an_error_has_the_code_that_fits(client: Any) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer("absent", [image_input(image())])
    assert status_of(caught) == "NOT_FOUND"
    wrong = triton.InferInput("image", [1, 63], "FP32")
    wrong.set_data_from_numpy(np.zeros((1, 63), np.float32))
    with pytest.raises(InferenceServerException, match="expected \\[-1, 64\\]") as caught:
        client.infer("digits", [wrong])
    assert status_of(caught) == "INVALID_ARGUMENT"
    with pytest.raises(InferenceServerException, match="shared memory") as caught:
        client.get_system_shared_memory_status()
    assert status_of(caught) == "UNIMPLEMENTED"


def test_trace_and_log_settings_are_read_and_changed(client: Any) -> None:
    assert client.get_trace_settings(as_json=True)["settings"]["trace_level"]["value"] == ["OFF"]
    client.update_trace_settings(settings={"trace_level": ["TIMESTAMPS"], "trace_rate": "1"})
    try:
        response = client.infer("digits", [image_input(image())]).get_response()
        assert response.parameters["compute_ns"].int64_param > 0
    finally:
        client.update_trace_settings(settings={"trace_level": ["OFF"], "trace_rate": None})
    assert not client.infer("digits", [image_input(image())]).get_response().parameters
    before = client.get_log_settings(as_json=True)["settings"]["log_verbose_level"]["uint32_param"]
    client.update_log_settings({"log_verbose_level": 1})
    assert client.get_log_settings().settings["log_verbose_level"].uint32_param == 1
    client.update_log_settings({"log_verbose_level": before})


def test_requests_of_one_client_run_at_the_same_time(client: Any) -> None:
    done: queue.Queue[Any] = queue.Queue()
    for _ in range(8):
        client.async_infer("digits", [image_input(image(2))], lambda result, error: done.put((result, error)))
    for _ in range(8):
        result, error = done.get(timeout=20)
        assert error is None
        assert result.as_numpy("scores").shape == (2, 10)


def test_a_cancelled_request_is_not_executed(client: Any) -> None:
    def slow_requests() -> int:
        (entry,) = client.get_inference_statistics("slow").model_stats
        count: int = entry.inference_stats.success.count
        return count

    before = slow_requests()
    done: queue.Queue[Any] = queue.Queue()
    values = image(SLOW_ROWS)
    calls = [
        client.async_infer("slow", [image_input(values)], lambda result, error: done.put((result, error)))
        for _ in range(6)
    ]
    for call in calls[2:]:
        call.cancel()
    ends = [done.get(timeout=30) for _ in calls]
    cancelled = [error for _, error in ends if error is not None]
    assert len(cancelled) == 4
    assert all("CANCELLED" in str(error.status()) for error in cancelled)
    assert client.infer("slow", [image_input(image(1))]).as_numpy("scores").shape == (1, 10)
    # At most one more than those that were wanted had begun when its client left.
    assert slow_requests() - before <= 4


def test_a_deadline_that_is_over_is_one(client: Any) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer("slow", [image_input(image(SLOW_ROWS))], client_timeout=0.01)
    assert status_of(caught) == "DEADLINE_EXCEEDED"


def test_the_timeout_parameter_is_a_deadline_of_the_server(client: Any) -> None:
    done: queue.Queue[Any] = queue.Queue()
    values = image(SLOW_ROWS)
    for _ in range(2):
        client.async_infer("slow", [image_input(values)], lambda result, error: done.put((result, error)))
    time.sleep(0.02)
    with pytest.raises(InferenceServerException) as caught:
        client.infer("slow", [image_input(values)], timeout=1000)
    assert status_of(caught) in {"DEADLINE_EXCEEDED", "UNAVAILABLE"}
    for _ in range(2):
        assert done.get(timeout=30)[1] is None


def test_a_stream_answers_in_order_and_goes_on_after_an_error(client: Any) -> None:
    ends: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: ends.put((result, error)))
    for number in range(20):
        model = "absent" if number == 7 else "digits"
        client.async_stream_infer(
            model, [image_input(image(1 + number))], request_id=str(number), enable_empty_final_response=True
        )
    for number in range(20):
        result, error = ends.get(timeout=20)
        if number == 7:
            assert "unknown model 'absent'" in str(error)
            continue
        response = result.get_response()
        assert (response.id, result.as_numpy("scores").shape) == (str(number), (1 + number, 10))
        assert response.parameters["triton_final_response"].bool_param
    client.stop_stream()


def test_a_stream_that_is_cancelled_leaves_the_server_well(client: Any) -> None:
    ends: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: ends.put((result, error)))
    for _ in range(5):
        client.async_stream_infer("slow", [image_input(image(SLOW_ROWS))])
    client.stop_stream(cancel_requests=True)
    assert client.infer("digits", [image_input(image())]).as_numpy("scores").shape == (1, 10)


def test_health_as_load_balancers_ask_for_it(grpc_address: str) -> None:
    def health(service: bytes) -> bytes:
        request = b"" if not service else b"\x0a" + bytes([len(service)]) + service
        with grpc.insecure_channel(grpc_address) as channel:
            answer: bytes = channel.unary_unary("/grpc.health.v1.Health/Check")(request, timeout=10)
            return answer

    serving = b"\x08\x01"
    assert health(b"") == serving
    assert health(b"inference.GRPCInferenceService") == serving
    assert health(b"digits") == serving
    with pytest.raises(grpc.RpcError) as caught:
        health(b"absent")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
