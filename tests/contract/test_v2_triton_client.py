"""An unmodified third-party client, `tritonclient.http` from PyPI, is content with the server."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # gevent warns about what it finds imported before it
    import tritonclient.http as triton
    from tritonclient.utils import InferenceServerException

from tests.runtime.small_bundle import DATATYPES

pytestmark = pytest.mark.extension("binary_tensor_data")  # what this client sends unless told otherwise


@pytest.fixture
def client(v2_server: str) -> Iterator[Any]:
    client = triton.InferenceServerClient(v2_server)
    yield client
    client.close()


def image(rows: int = 1) -> np.ndarray:
    return np.random.default_rng(3).uniform(size=(rows, 64)).astype(np.float32)


def image_input(values: np.ndarray, *, binary: bool) -> Any:
    tensor = triton.InferInput("image", list(values.shape), "FP32")
    tensor.set_data_from_numpy(values, binary_data=binary)
    return tensor


def test_health_and_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits")
    assert client.is_model_ready("digits", "1")
    assert not client.is_model_ready("absent")
    assert {"name", "version", "extensions"} <= client.get_server_metadata().keys()
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    metadata = client.get_model_metadata("digits")
    assert metadata["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 64]}]
    assert metadata["outputs"] == [{"name": "scores", "datatype": "FP32", "shape": [-1, 10]}]


@pytest.mark.parametrize("rows", [1, 5, 300])
@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
def test_binary_and_json_give_the_same_answer(client: Any, rows: int, binary_in: bool, binary_out: bool | None) -> None:
    values = image(rows)
    reference = client.infer("digits", [image_input(values, binary=True)]).as_numpy("scores")
    wanted = None if binary_out is None else [triton.InferRequestedOutput("scores", binary_data=binary_out)]
    result = client.infer(
        "digits", [image_input(values, binary=binary_in)], outputs=wanted, request_id="seven", model_version="1"
    )
    assert reference.shape == (rows, 10)
    np.testing.assert_allclose(result.as_numpy("scores"), reference, rtol=1e-5)
    np.testing.assert_allclose(reference.sum(axis=1), 1, rtol=1e-4)
    assert result.get_response()["id"] == "seven"
    assert result.get_response()["model_version"] == "1"


@pytest.mark.parametrize("binary", [True, False])
def test_every_datatype_survives_the_round_trip(client: Any, binary: bool) -> None:
    random = np.random.default_rng(5)
    values: dict[str, np.ndarray] = {}
    for datatype, (_, kind) in DATATYPES.items():
        if np.issubdtype(kind, np.integer):
            limits = np.iinfo(kind)
            values[datatype] = np.array([[limits.min, limits.max, 1]], kind)
        else:
            values[datatype] = (
                random.normal(size=(1, 3)) > 0 if kind is np.bool_ else random.normal(size=(1, 3))
            ).astype(kind)
    values["BYTES"] = np.array([[b"", "grün".encode(), b"two words"]], np.object_)
    inputs, outputs = [], []
    for datatype, array in values.items():
        as_binary = binary or datatype == "FP16"
        tensor = triton.InferInput(f"in_{datatype.lower()}", [1, 3], datatype)
        tensor.set_data_from_numpy(array, binary_data=as_binary)
        inputs.append(tensor)
        outputs.append(triton.InferRequestedOutput(f"out_{datatype.lower()}", binary_data=as_binary))
    result = client.infer("echo", inputs, outputs=outputs)
    for datatype, array in values.items():
        found = result.as_numpy(f"out_{datatype.lower()}")
        if datatype == "BYTES" and not binary:  # of JSON it makes texts
            found = np.vectorize(str.encode, otypes=[object])(found)
        np.testing.assert_array_equal(found, array)


def test_statistics_count_what_was_done(client: Any) -> None:
    def totals() -> tuple[int, int]:
        (entry,) = client.get_inference_statistics("digits")["model_stats"]
        return entry["inference_count"], entry["inference_stats"]["success"]["count"]

    rows_before, requests_before = totals()
    client.infer("digits", [image_input(image(3), binary=True)])
    assert totals() == (rows_before + 3, requests_before + 1)


def test_an_error_is_one_that_the_client_understands(client: Any) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer("absent", [image_input(image(), binary=True)])
    assert caught.value.status() == "404"
    wrong = triton.InferInput("image", [1, 63], "FP32")
    wrong.set_data_from_numpy(np.zeros((1, 63), np.float32))
    with pytest.raises(InferenceServerException, match="expected \\[-1, 64\\]"):
        client.infer("digits", [wrong])


def test_asynchronous_requests_of_one_client(client: Any) -> None:
    values = image(2)
    pending = [client.async_infer("digits", [image_input(values, binary=True)]) for _ in range(8)]
    for request in pending:
        assert request.get_result().as_numpy("scores").shape == (2, 10)


@pytest.mark.parametrize("request_algorithm", [None, "gzip", "deflate"])
@pytest.mark.parametrize("response_algorithm", [None, "gzip", "deflate"])
def test_compression(client: Any, request_algorithm: str | None, response_algorithm: str | None) -> None:
    values = image(200)
    result = client.infer(
        "digits",
        [image_input(values, binary=True)],
        request_compression_algorithm=request_algorithm,
        response_compression_algorithm=response_algorithm,
    )
    reference = client.infer("digits", [image_input(values, binary=True)]).as_numpy("scores")
    np.testing.assert_array_equal(result.as_numpy("scores"), reference)


@pytest.mark.extension("classification")
def test_classification_is_strings(client: Any) -> None:
    wanted = [triton.InferRequestedOutput("scores", class_count=3)]
    found = client.infer("digits", [image_input(image(2), binary=True)], outputs=wanted).as_numpy("scores")
    assert found.shape == (2, 3)
    assert all(len(entry.decode().split(":")) >= 2 for entry in found.ravel())


@pytest.mark.extension("model_repository")
def test_model_control(v2_admin: str) -> None:
    client = triton.InferenceServerClient(v2_admin)
    assert {"digits", "echo"} <= {entry["name"] for entry in client.get_model_repository_index()}
    client.unload_model("echo")
    assert not client.is_model_ready("echo")
    client.load_model("echo")
    assert client.is_model_ready("echo")
    with pytest.raises(InferenceServerException):
        client.load_model("absent")
    client.close()


@pytest.mark.extension("model_configuration")
def test_configuration(client: Any) -> None:
    assert client.get_model_config("digits")["name"] == "digits"


@pytest.mark.extension("schedule_policy")
def test_priority_and_timeout(client: Any) -> None:
    result = client.infer("digits", [image_input(image(), binary=True)], priority=1, timeout=10_000_000)
    assert result.as_numpy("scores").shape == (1, 10)


def test_a_client_that_waits_no_longer(v2_server: str) -> None:
    """The client gives up, and the server is well."""
    impatient = triton.InferenceServerClient(v2_server, network_timeout=0.0001, connection_timeout=5.0)
    with contextlib.suppress(Exception):
        impatient.infer("digits", [image_input(image(5000), binary=True)])
    impatient.close()
    patient = triton.InferenceServerClient(v2_server)
    assert patient.infer("digits", [image_input(image(), binary=True)]).as_numpy("scores").shape == (1, 10)
    patient.close()
