"""The committed schema is what the .proto files say, says the same as Triton's, and stands beside it in one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from edgewright.runtime.server.v2.grpc.schema import FOLDER, SCHEMA_FILE, message, service

SERVICE = "inference.GRPCInferenceService"


def test_the_committed_schema_is_what_the_proto_files_say(tmp_path: Path) -> None:
    protoc = pytest.importorskip("grpc_tools.protoc", reason="pip install grpcio-tools")
    made = tmp_path / "schema.binpb"
    words = ["protoc", f"-I{FOLDER}", "--include_imports", f"--descriptor_set_out={made}"]
    assert protoc.main([*words, "inference.proto", "health.proto"]) == 0
    expected = FileDescriptorSet.FromString(made.read_bytes())
    assert FileDescriptorSet.FromString(SCHEMA_FILE.read_bytes()) == expected, "run `make protocol`"


def test_every_message_has_the_fields_and_numbers_of_tritons() -> None:
    triton = pytest.importorskip("tritonclient.grpc")
    seen: set[str] = set()
    for method in service(SERVICE).methods:
        for ours in (method.input_type, method.output_type):
            compare(ours, getattr(triton.service_pb2, ours.name).DESCRIPTOR, seen)
    assert "inference.ModelConfig" in seen
    assert "inference.ModelInferRequest.InferInputTensor" in seen


def compare(ours: Any, theirs: Any, seen: set[str]) -> None:
    """What we have, they have under the same name, number and type; a configuration may have more there."""
    if ours.full_name in seen:
        return
    seen.add(ours.full_name)
    for field in ours.fields:
        if (ours.name, field.name) == ("ModelMetadataResponse", "properties"):
            continue  # the Open Inference Protocol has it, Triton has not
        other = theirs.fields_by_name[field.name]
        assert (field.number, field.type, field.is_repeated) == (other.number, other.type, other.is_repeated), field
        if field.message_type is not None:
            compare(field.message_type, other.message_type, seen)
        if field.enum_type is not None:
            values = {value.name: value.number for value in other.enum_type.values}
            assert all(values[value.name] == value.number for value in field.enum_type.values)


def test_the_calls_are_tritons() -> None:
    triton = pytest.importorskip("tritonclient.grpc")
    theirs = triton.service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    assert [each.name for each in service(SERVICE).methods] == [each.name for each in theirs.methods]


def test_two_schemas_of_the_same_names_live_in_one_process() -> None:
    triton = pytest.importorskip("tritonclient.grpc")
    ours, theirs = message("ModelInferRequest"), triton.service_pb2.ModelInferRequest
    assert ours is not theirs
    assert ours.FromString(theirs(model_name="m", id="7").SerializeToString()).id == "7"
