"""A client that is made from the specification's own .proto file, without any of Triton's additions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from tests.contract.grpc.conftest import image
from tests.runtime.small_bundle import DATATYPES

SPECIFICATION = Path(__file__).parent / "open_inference_grpc.proto"

CONTENTS = {"BOOL": "bool", "FP32": "fp32", "FP64": "fp64", "INT64": "int64", "UINT64": "uint64"}
CONTENTS |= dict.fromkeys(("INT8", "INT16", "INT32"), "int") | dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint")


class Stub:
    """The six calls of the specification."""

    def __init__(self, pool: DescriptorPool, channel: Any) -> None:
        self._pool = pool
        self._channel = channel

    def message(self, name: str, /, **fields: Any) -> Any:
        return GetMessageClass(self._pool.FindMessageTypeByName(f"inference.{name}"))(**fields)

    def __call__(self, call: str, request: Any) -> Any:
        answer = type(self.message(f"{call}Response"))
        method = self._channel.unary_unary(
            f"/inference.GRPCInferenceService/{call}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        return method(request, timeout=20)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> DescriptorPool:
    protoc = pytest.importorskip("grpc_tools.protoc", reason="pip install grpcio-tools")
    made = tmp_path_factory.mktemp("oip") / "oip.binpb"
    words = ["protoc", f"-I{SPECIFICATION.parent}", f"--descriptor_set_out={made}", SPECIFICATION.name]
    assert protoc.main(words) == 0
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(made.read_bytes()).file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


@pytest.fixture
def stub(grpc_address: str, pool: DescriptorPool) -> Iterator[Stub]:
    with grpc.insecure_channel(grpc_address) as channel:
        yield Stub(pool, channel)


def test_health_and_metadata(stub: Stub) -> None:
    assert stub("ServerLive", stub.message("ServerLiveRequest")).live
    assert stub("ServerReady", stub.message("ServerReadyRequest")).ready
    assert stub("ModelReady", stub.message("ModelReadyRequest", name="digits")).ready
    assert not stub("ModelReady", stub.message("ModelReadyRequest", name="absent")).ready
    assert stub("ServerMetadata", stub.message("ServerMetadataRequest")).name
    metadata = stub("ModelMetadata", stub.message("ModelMetadataRequest", name="digits", version="1"))
    assert [(each.name, each.datatype, list(each.shape)) for each in metadata.inputs] == [("image", "FP32", [-1, 64])]


def test_typed_contents_are_answered_with_typed_contents(stub: Stub) -> None:
    values = image()
    request = stub.message("ModelInferRequest", model_name="digits", id="seven")
    tensor = request.inputs.add(name="image", datatype="FP32", shape=values.shape)
    tensor.contents.fp32_contents.extend(values.ravel().tolist())
    answer = stub("ModelInfer", request)
    assert answer.id == "seven"
    assert not answer.raw_output_contents
    assert sum(answer.outputs[0].contents.fp32_contents) == pytest.approx(1, rel=1e-4)
    request.inputs[0].ClearField("contents")
    request.raw_input_contents.append(values.tobytes())
    raw = stub("ModelInfer", request)
    assert not raw.outputs[0].HasField("contents")
    assert len(raw.raw_output_contents[0]) == 40


def test_every_datatype_has_a_typed_or_a_raw_form(stub: Stub) -> None:
    request = stub.message("ModelInferRequest", model_name="echo")
    for datatype in DATATYPES:
        tensor = request.inputs.add(name=f"in_{datatype.lower()}", datatype=datatype, shape=[1, 3])
        if datatype in CONTENTS:
            getattr(tensor.contents, f"{CONTENTS[datatype]}_contents").extend([0, 1, 1])
    texts = request.inputs.add(name="in_bytes", datatype="BYTES", shape=[1, 3])
    texts.contents.bytes_contents.extend([b"", b"a", "grün".encode()])
    with pytest.raises(grpc.RpcError, match="FP16 has no typed form") as caught:
        stub("ModelInfer", request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_an_error_has_a_code_and_a_reason(stub: Stub) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub("ModelMetadata", stub.message("ModelMetadataRequest", name="absent"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == "unknown model 'absent'"
