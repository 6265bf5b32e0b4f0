"""HTTP/2 that is none, or that is meant to hurt: garbage, floods of streams, resets, settings and pings.

The other clients are answered, and what a connection took is given back when it ends. Two seconds by default; for an
hour by hand: `EDGEWRIGHT_FUZZ_S=3600 pytest tests/contract/grpc/test_v2_grpc_http2_fuzz.py -s`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import grpc.aio
import pytest
from tritonclient.grpc import service_pb2

from edgewright.runtime.server.child import ServerChild, listen_tcp
from edgewright.runtime.serving import GrpcSettings
from tests.contract.grpc.conftest import GrpcRunning, image
from tests.contract.grpc.raw_http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INFER,
    LIVE,
    PING,
    PREFACE,
    PRIORITY,
    RESET,
    SETTINGS,
    STREAM,
    WINDOW,
    frame,
    head,
    literal,
    message,
)
from tests.contract.grpc.test_v2_grpc_fuzz import code_of, seeds
from tests.runtime.fuzzing import fuzz


def inference() -> bytes:
    request = service_pb2.ModelInferRequest(model_name="digits", raw_input_contents=[image().tobytes()])
    request.inputs.add(name="image", datatype="FP32", shape=[1, 64])
    return message(request.SerializeToString())


def some_frame(chance: random.Random, stream: int) -> bytes:
    kind, flags = chance.choice([*range(10), 11, 255]), chance.randrange(256)
    which = chance.choice([0, stream, stream, stream + 2, 2, 2**31 - 1])
    match chance.randrange(7):
        case 0:
            return frame(kind, flags, which, chance.randbytes(chance.choice([0, 1, 4, 5, 8, 100, 5000])))
        case 1:
            return frame(HEADERS, END_HEADERS, stream, head(chance.choice([INFER, STREAM, LIVE, b"/x", b""])))
        case 2:
            return frame(DATA, chance.choice([0, END_STREAM]), stream, inference()[: chance.randrange(300)])
        case 3:
            return frame(RESET, 0, which, struct.pack(">I", chance.choice([0, 8, 2**32 - 1])))
        case 4:
            return frame(
                SETTINGS, 0, 0, struct.pack(">HI", chance.randrange(8), chance.choice([0, 1, 2**31, 2**32 - 1]))
            )
        case 5:
            return frame(WINDOW, 0, which, struct.pack(">I", chance.choice([0, 1, 2**31 - 1])))
        case _:
            return frame(kind, flags, which, b"x", chance.choice([0, 2**14, 2**24 - 1]))


def garbage(chance: random.Random) -> bytes:
    parts = [some_frame(chance, 1 + 2 * chance.randrange(8)) for _ in range(chance.randrange(1, 40))]
    return b"".join(parts)


def rapid_reset(chance: random.Random) -> bytes:
    """CVE-2023-44487: streams that are begun and reset at once."""
    parts = []
    for stream in range(1, 2 * chance.randrange(1, 400), 2):
        parts.append(frame(HEADERS, END_HEADERS, stream, head(chance.choice([INFER, STREAM]))))
        if chance.random() < 0.5:
            parts.append(frame(DATA, END_STREAM, stream, inference()))
        parts.append(frame(RESET, 0, stream, struct.pack(">I", 8)))
    return b"".join(parts)


def endless_head(chance: random.Random) -> bytes:
    """CVE-2024-27316 and its like: a head that goes on and on."""
    more = literal(b"x", b"y" * 120) * 100
    parts = [frame(CONTINUATION, 0, 1, more)] * chance.randrange(1, 60)
    return frame(HEADERS, 0, 1, head(INFER)) + b"".join(parts)


def many_open(chance: random.Random) -> bytes:
    """Streams that never say anything."""
    return b"".join(frame(HEADERS, END_HEADERS, s, head(STREAM)) for s in range(1, 2 * chance.randrange(1, 600), 2))


def control_flood(chance: random.Random) -> bytes:
    each = chance.choice([frame(PING, 0, 0, bytes(8)), frame(SETTINGS, 0, 0), frame(PRIORITY, 0, 1, bytes(5))])
    return each * chance.randrange(1, 3000)


def no_http2(chance: random.Random) -> bytes:
    return chance.choice(
        [b"GET / HTTP/1.1\r\n\r\n", chance.randbytes(200), PREFACE[: chance.randrange(24)], b"\x16\x03\x01"]
    )


ATTACKS = [garbage, garbage, garbage, rapid_reset, endless_head, many_open, control_flood]


def attack(address: str, chance: random.Random) -> None:
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.settimeout(0.05)
        if chance.random() < 0.1:
            connection.sendall(no_http2(chance))
        else:
            connection.sendall(PREFACE + frame(SETTINGS, 0, 0))
            for _ in range(chance.randrange(1, 4)):
                connection.sendall(chance.choice(ATTACKS)(chance))
        if chance.random() < 0.5:
            connection.recv(1 << 16)


def eventually(condition: Callable[[], bool]) -> bool:
    end_s = time.monotonic() + 10
    while not (met := condition()) and time.monotonic() < end_s:
        time.sleep(0.1)
    return met


async def answered(address: str) -> grpc.StatusCode:
    async with grpc.aio.insecure_channel(address) as channel:
        return await code_of(channel, INFER.decode(), seeds()[0])


def measured(running: GrpcRunning) -> tuple[int, int]:
    """Descriptors, and resident memory in kB."""
    process = Path(f"/proc/{running.child.process.pid}")
    lines = process.joinpath("smaps_rollup").read_text().splitlines()
    resident = next(int(line.split()[1]) for line in lines if line.startswith("Rss"))
    return len(list(process.joinpath("fd").iterdir())), resident


@pytest.mark.timeout(7200)
def test_http2_that_is_meant_to_hurt(grpc_running: GrpcRunning) -> None:
    chance = random.Random(0)
    for _ in range(50):  # what it takes once, for its pools
        attack(grpc_running.address, chance)
    before = measured(grpc_running)

    def check(chance: random.Random) -> None:
        attack(grpc_running.address, chance)
        assert grpc_running.child.process.poll() is None

    fuzz(check)
    assert eventually(lambda: asyncio.run(answered(grpc_running.address)) is grpc.StatusCode.OK)
    after = measured(grpc_running)
    print(f"descriptors and kB: {before} before, {after} after")
    assert eventually(lambda: measured(grpc_running)[0] <= before[0] + 4), "descriptors of connections that are over"
    # An allocator keeps what the worst moment took.
    assert after[1] <= before[1] + 100_000


def test_what_strangers_send_is_not_written_to_the_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Escapes for a terminal among it; and a line for each frame fills a board's log."""
    with listen_tcp() as tcp, ServerChild([tcp], tmp_path, grpc=GrpcSettings(address="127.0.0.1:0")) as child:
        assert child.grpc_address is not None
        host, _, port = child.grpc_address.rpartition(":")
        farewell = frame(GOAWAY, 0, 0, struct.pack(">II", 0, 8) + b"\x1b[31mSTRANGER")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(PREFACE + frame(SETTINGS, 0, 0) + farewell + frame(PING, 0, 0, bytes(7)))
            with contextlib.suppress(ConnectionResetError):
                while connection.recv(1 << 16):
                    pass
    assert "STRANGER" not in capfd.readouterr().err
