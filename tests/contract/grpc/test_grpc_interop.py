"""Clients that others have written: grpcio sync and asyncio, h2, curl; with and without TLS, with large messages."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
import tritonclient.grpc as triton
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, StreamEnded, TrailersReceived
from tritonclient.grpc import service_pb2

from edgewright.runtime.control import Done
from edgewright.runtime.server.child import ServerChild, listen_tcp
from edgewright.runtime.serving import GrpcSettings, TlsSettings
from tests.contract.grpc.conftest import GrpcRunning
from tests.contract.grpc.peer import Peer, connect
from tests.contract.grpc.raw_http2 import LIVE, call, message, request_fields
from tests.contract.grpc.test_v2_grpc_own import openssl
from tests.runtime.small_bundle import echo_bundle

INFER = "/inference.GRPCInferenceService/ModelInfer"
MB = 2**20
UNBOUNDED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def echo(values: int, **more: Any) -> bytes:
    request = service_pb2.ModelInferRequest(model_name="echo", **more)
    request.inputs.add(name="in_fp64", datatype="FP64", shape=[values // 3, 3])
    request.raw_input_contents.append(np.arange(values, dtype=np.float64).tobytes())
    data: bytes = request.SerializeToString()
    return data


def echoed(data: bytes) -> bytes:
    (raw,) = service_pb2.ModelInferResponse.FromString(data).raw_output_contents
    found: bytes = raw
    return found


@pytest.fixture(scope="module")
def echoing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrpcRunning]:
    """A server whose model gives back FP64 alone."""
    base = tmp_path_factory.mktemp("echoing")
    bundles = (echo_bundle(base / "echo-1", ("FP64",)),)
    with listen_tcp() as tcp, ServerChild([tcp], base, grpc=GrpcSettings(address="127.0.0.1:0")) as child:
        assert child.grpc_address is not None
        running = GrpcRunning(child, child.grpc_address, bundles)
        running.load_all()
        yield running
        assert isinstance(child.ping(), Done)


def test_32_mb_both_ways(echoing: GrpcRunning) -> None:
    values = 32 * MB // 8 // 3 * 3
    with grpc.insecure_channel(echoing.address, options=UNBOUNDED) as channel:
        answer = channel.unary_unary(INFER)(echo(values), timeout=120)
    assert echoed(answer) == np.arange(values, dtype=np.float64).tobytes()


def test_many_streams_of_asyncio_at_once(echoing: GrpcRunning) -> None:
    """More than a connection may have open: the client waits for its turn."""

    async def run() -> None:
        async with grpc.aio.insecure_channel(echoing.address) as channel:
            asked = [
                channel.unary_unary(INFER)(echo(3 * number, id=str(number)), timeout=120) for number in range(1, 301)
            ]
            for number, data in enumerate(await asyncio.gather(*asked), 1):
                answer = service_pb2.ModelInferResponse.FromString(data)
                assert (answer.id, len(echoed(data))) == (str(number), 24 * number)

    asyncio.run(run())


def test_streams_of_large_messages_at_once(echoing: GrpcRunning) -> None:
    """Each larger than any window, all on one connection."""

    async def run() -> None:
        async with grpc.aio.insecure_channel(echoing.address, options=UNBOUNDED) as channel:
            sizes = [3 * 50_000 * number for number in range(1, 7)]
            answers = await asyncio.gather(*(channel.unary_unary(INFER)(echo(size), timeout=120) for size in sizes))
            assert [len(echoed(each)) for each in answers] == [8 * size for size in sizes]

    asyncio.run(run())


@pytest.mark.parametrize("algorithm", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_a_channel_that_compresses(echoing: GrpcRunning, algorithm: Any) -> None:
    with grpc.insecure_channel(echoing.address, compression=algorithm) as channel:
        assert len(echoed(channel.unary_unary(INFER)(echo(3000), timeout=60))) == 24_000


def test_a_client_that_pings_to_keep_its_connection(echoing: GrpcRunning) -> None:
    options = [
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    with grpc.insecure_channel(echoing.address, options=options) as channel:
        for _ in range(3):
            assert echoed(channel.unary_unary(INFER)(echo(3), timeout=60))


def test_large_tensors_of_triton_on_a_stream(echoing: GrpcRunning) -> None:
    ends: queue.Queue[Any] = queue.Queue()
    values = np.arange(3 * 100_000, dtype=np.float64).reshape(-1, 3)
    client = triton.InferenceServerClient(echoing.address)
    with contextlib.closing(client):
        client.start_stream(lambda result, error: ends.put((result, error)))
        tensor = triton.InferInput("in_fp64", list(values.shape), "FP64")
        tensor.set_data_from_numpy(values)
        for number in range(6):
            client.async_stream_infer("echo", [tensor], request_id=str(number))
        for number in range(6):
            result, error = ends.get(timeout=60)
            assert error is None
            assert result.get_response().id == str(number)
            np.testing.assert_array_equal(result.as_numpy("out_fp64"), values)
        client.stop_stream()


def test_h2_a_client_that_checks_every_frame(echoing: GrpcRunning) -> None:
    """It raises where a server's frames break RFC 9113; windows are its own defaults of 65 535."""
    body = message(echo(3 * 40_000))
    client = H2Connection(H2Configuration(client_side=True, header_encoding=None))
    with connect(echoing.address) as connection:
        client.initiate_connection()
        client.send_headers(1, request_fields(INFER.encode()))
        answer, trailers, ended = bytearray(), dict[bytes, bytes](), False
        while not ended:
            room = min(client.local_flow_control_window(1), client.max_outbound_frame_size, len(body))
            if room > 0:
                client.send_data(1, body[:room], end_stream=room == len(body))
                body = body[room:]
            connection.sendall(client.data_to_send())
            if room > 0 and body:
                continue
            received = connection.recv(1 << 16)
            assert received
            for event in client.receive_data(received):
                if isinstance(event, DataReceived):
                    answer += event.data
                    client.acknowledge_received_data(event.flow_controlled_length, 1)
                elif isinstance(event, TrailersReceived):
                    trailers.update({bytes(name): bytes(value) for name, value in event.headers or ()})
                elif isinstance(event, StreamEnded):
                    ended = True
    assert trailers[b"grpc-status"] == b"0"
    assert len(echoed(bytes(answer[5:]))) == 8 * 3 * 40_000


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_curl_with_prior_knowledge(echoing: GrpcRunning, tmp_path: Path) -> None:
    if "HTTP2" not in subprocess.run(["curl", "--version"], capture_output=True, text=True, check=True).stdout:
        pytest.skip("a curl without HTTP/2")
    (tmp_path / "empty").write_bytes(message())
    words = [
        "curl",
        "-s",
        "--http2-prior-knowledge",
        "--max-time",
        "60",
        "-o",
        str(tmp_path / "out"),
        "-w",
        "%{http_code}",
    ]
    url = f"http://{echoing.address}{LIVE.decode()}"
    as_grpc = ["-H", "content-type: application/grpc", "-H", "te: trailers", "--data-binary", f"@{tmp_path / 'empty'}"]
    assert subprocess.run([*words, *as_grpc, url], capture_output=True, text=True, check=True).stdout == "200"
    assert (tmp_path / "out").read_bytes() == message(b"\x08\x01")
    assert subprocess.run([*words, url], capture_output=True, text=True, check=True).stdout in {"404", "405", "415"}


def test_a_unix_socket_by_raw_frames(tmp_path: Path) -> None:
    settings = GrpcSettings(address=f"unix:{tmp_path}/g")
    with listen_tcp() as tcp, ServerChild([tcp], tmp_path, grpc=settings) as child:
        assert child.grpc_address is not None
        with Peer(child.grpc_address) as peer:
            peer.send(call(1, LIVE))
            assert peer.answer(1).grpc_status == 0


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificate")
    words = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    subject = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    openssl(*words, *subject, "-keyout", folder / "key.pem", "-out", folder / "cert.pem")
    return folder


@contextlib.contextmanager
def secured(base: Path, certificate: Path, *, mutual: bool) -> Iterator[str]:
    own = str(certificate / "cert.pem")
    tls = TlsSettings(certificate=own, key=str(certificate / "key.pem"), client_ca=own if mutual else None)
    bundle = echo_bundle(base / "echo-1", ("FP64",))
    grpc_settings = GrpcSettings(address="127.0.0.1:0", tls=tls)
    with listen_tcp() as tcp, ServerChild([tcp], base, grpc=grpc_settings) as child:
        assert isinstance(child.load(bundle.directory, "echo", "1", bundle.digest), Done)
        yield child.grpc_address or ""


def context(certificate: Path, *protocols: str, own: bool = False) -> ssl.SSLContext:
    found = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
    if protocols:
        found.set_alpn_protocols(list(protocols))
    if own:
        found.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    return found


@pytest.fixture(scope="module")
def tls_address(tmp_path_factory: pytest.TempPathFactory, certificate: Path) -> Iterator[str]:
    with secured(tmp_path_factory.mktemp("secured"), certificate, mutual=False) as address:
        yield address


def test_tls_with_alpn(tls_address: str, certificate: Path) -> None:
    with Peer(tls_address, tls=context(certificate, "http/1.1", "h2")) as peer:
        assert peer.protocol == "h2"
        peer.send(call(1, LIVE))
        assert peer.answer(1).grpc_status == 0
    credentials = grpc.ssl_channel_credentials((certificate / "cert.pem").read_bytes())
    port = tls_address.rpartition(":")[2]
    with grpc.secure_channel(f"localhost:{port}", credentials, options=UNBOUNDED) as channel:
        values = 8 * MB // 8 // 3 * 3
        assert len(echoed(channel.unary_unary(INFER)(echo(values), timeout=120))) == 8 * values


def test_tls_by_a_client_that_speaks_only_http1(tls_address: str, certificate: Path) -> None:
    """No protocol in common: the handshake fails, or nothing of HTTP/1.1 is answered."""
    only_http1 = context(certificate, "http/1.1")
    with connect(tls_address) as plain, contextlib.suppress(ssl.SSLError, ConnectionError):  # noqa: SIM117
        with only_http1.wrap_socket(plain, server_hostname="localhost") as wrapped:
            wrapped.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert not wrapped.recv(1 << 16).startswith(b"HTTP/1.1")


def test_mutual_tls(tmp_path: Path, certificate: Path) -> None:
    with secured(tmp_path, certificate, mutual=True) as address:
        with Peer(address, tls=context(certificate, "h2", own=True)) as peer:
            peer.send(call(1, LIVE))
            assert peer.answer(1).grpc_status == 0
        with contextlib.suppress(ssl.SSLError, ConnectionError), Peer(address, tls=context(certificate, "h2")) as peer:
            peer.send(call(1, LIVE))
            assert peer.answer(1).grpc_status is None
