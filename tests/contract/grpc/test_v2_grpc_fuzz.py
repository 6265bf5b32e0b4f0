"""Whatever bytes a client sends to whatever call, it gets a status that blames the client, and the server lives on.

Ten seconds by default; `EDGEWRIGHT_FUZZ_S=3600 pytest tests/contract/grpc -k fuzz` for an hour. The seed is printed.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from typing import Any

import grpc
import grpc.aio
from tritonclient.grpc import service_pb2

from tests.contract.grpc.conftest import GrpcRunning, image

FUZZ_S = float(os.environ.get("EDGEWRIGHT_FUZZ_S", "10"))
SEED = int(os.environ.get("EDGEWRIGHT_FUZZ_SEED", str(time.time_ns())))
AT_A_TIME = 16

Code = grpc.StatusCode
CLIENTS_FAULT = {
    Code.OK,
    Code.INVALID_ARGUMENT,
    Code.NOT_FOUND,
    Code.RESOURCE_EXHAUSTED,
    Code.UNIMPLEMENTED,
    Code.DEADLINE_EXCEEDED,  # the client's own deadline
    Code.UNAVAILABLE,  # shed; the models are unloaded and loaded by some of these calls
}

SERVICE = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
PATHS = [f"/inference.GRPCInferenceService/{method.name}" for method in SERVICE.methods]
STREAMS = {"/inference.GRPCInferenceService/ModelStreamInfer"}


def seeds() -> list[bytes]:
    infer = service_pb2.ModelInferRequest(model_name="digits", id="7", raw_input_contents=[image().tobytes()])
    infer.inputs.add(name="image", datatype="FP32", shape=[1, 64]).parameters["a"].int64_param = 3
    infer.outputs.add(name="scores").parameters["classification"].int64_param = 2
    infer.parameters["priority"].uint64_param = 1
    infer.parameters["timeout"].int64_param = 1_000_000
    typed = service_pb2.ModelInferRequest(model_name="digits")
    typed.inputs.add(name="image", datatype="FP32", shape=[1, 64]).contents.fp32_contents.extend([0.5] * 64)
    echo = service_pb2.ModelInferRequest(model_name="echo")
    for datatype, field in (("int8", "int_contents"), ("bool", "bool_contents"), ("uint64", "uint64_contents")):
        tensor = echo.inputs.add(name=f"in_{datatype}", datatype=datatype.upper(), shape=[1, 3])
        getattr(tensor.contents, field).extend([1, 0, 1])
    trace = service_pb2.TraceSettingRequest(model_name="digits")
    trace.settings["trace_rate"].value.append("7")
    log = service_pb2.LogSettingsRequest()
    log.settings["log_verbose_level"].uint32_param = 0
    others = [
        service_pb2.ModelReadyRequest(name="digits", version="1"),
        service_pb2.RepositoryIndexRequest(ready=True),
        service_pb2.RepositoryModelLoadRequest(model_name="digits"),
        trace,
        log,
    ]
    return [message.SerializeToString() for message in (infer, typed, echo, *others)]


def mutated(randomness: random.Random, pool: list[bytes]) -> bytes:
    kind = randomness.random()
    if kind < 0.1:
        return randomness.randbytes(randomness.choice([0, 1, 2, 10, 100, 5000]))
    data = bytearray(randomness.choice(pool))
    if kind < 0.2:
        data += randomness.choice(pool)
    for _ in range(randomness.choice([0, 1, 1, 2, 5])):
        where = randomness.randrange(len(data) + 1)
        match randomness.randrange(5):
            case 0 if where < len(data):
                data[where] ^= 1 << randomness.randrange(8)
            case 1:
                data[where:where] = randomness.randbytes(randomness.randrange(1, 9))
            case 2:
                del data[where : where + randomness.randrange(1, 9)]
            case 3:
                data[where : where + 1] = b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f"
            case _:
                data[where:where] = data[where : where + 40]
    return bytes(data)


async def code_of(channel: Any, path: str, data: bytes) -> grpc.StatusCode:
    try:
        if path in STREAMS:
            call = channel.stream_stream(path)(iter([data, data]), timeout=20)
            async for _ in call:
                pass
        else:
            await channel.unary_unary(path)(data, timeout=20)
    except grpc.aio.AioRpcError as error:
        found: grpc.StatusCode = error.code()
        return found
    return Code.OK


async def fuzz(address: str, seconds: float, seed: int) -> dict[grpc.StatusCode, int]:
    """Return how often each code was answered."""
    codes: dict[grpc.StatusCode, int] = {}
    end_s = time.monotonic() + seconds

    async def work(number: int) -> None:
        randomness, pool = random.Random(seed + number), seeds()
        async with grpc.aio.insecure_channel(address) as channel:
            while time.monotonic() < end_s:
                # Inferences are where the most is to be got wrong.
                path = PATHS[5] if randomness.random() < 0.5 else randomness.choice(PATHS)
                data = mutated(randomness, pool)
                code = await code_of(channel, path, data)
                assert code in CLIENTS_FAULT, f"{code} for {path} {data.hex()}"
                codes[code] = codes.get(code, 0) + 1

    await asyncio.gather(*map(work, range(AT_A_TIME)))
    return codes


def test_fuzzed_messages_never_hurt_the_server(grpc_running: GrpcRunning) -> None:
    print(f"seed {SEED}")
    assert PATHS[5].endswith("ModelInfer")
    codes = asyncio.run(fuzz(grpc_running.address, FUZZ_S, SEED))
    print({code.name: count for code, count in codes.items()})
    grpc_running.load_all()  # some of these messages have unloaded a model
    assert codes[Code.INVALID_ARGUMENT] > 10
    assert codes[Code.OK] > 10
    assert grpc_running.child.process.poll() is None
