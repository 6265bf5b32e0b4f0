"""Promises of Edgewright beyond the protocol: who is let in, what is bounded, how it ends."""

from __future__ import annotations

import http.client
import os
import queue
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from edgewright.runtime.control import Accept, Done
from edgewright.runtime.server.child import ServerChild, listen_tcp
from edgewright.runtime.serving import GrpcSettings, ServerSettings, TlsSettings, encode_settings
from tests.contract.grpc.conftest import SLOW_ROWS, image
from tests.contract.grpc.test_v2_grpc import image_input
from tests.runtime.small_bundle import SmallBundle, digits_bundle

SERVICE = "/inference.GRPCInferenceService"


@contextmanager
def serving(bundle: SmallBundle, directory: Path, **settings: Any) -> Iterator[ServerChild]:
    settings.setdefault("address", "127.0.0.1:0")
    with listen_tcp() as tcp, ServerChild([tcp], directory, grpc=GrpcSettings(**settings)) as child:
        assert isinstance(child.load(bundle.directory, bundle.manifest.model, "1", bundle.digest), Done)
        yield child


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> SmallBundle:
    return digits_bundle(tmp_path_factory.mktemp("own") / "digits-1")


def answered(error: Any) -> grpc.StatusCode:
    code: grpc.StatusCode = error.code()
    return code


def code(address: str | None, path: str, data: bytes = b"", **call: Any) -> grpc.StatusCode:
    assert address is not None
    channel: Any = grpc.insecure_channel(address)
    with channel:
        try:
            channel.unary_unary(path)(data, timeout=20, **call)
        except grpc.RpcError as error:
            return answered(error)
    return grpc.StatusCode.OK


def test_models_are_changed_on_an_admin_address_only(bundle: SmallBundle, tmp_path: Path) -> None:
    with serving(bundle, tmp_path) as child:
        client = triton.InferenceServerClient(child.grpc_address)
        changes: tuple[Callable[[], object], ...] = (
            lambda: client.unload_model("digits"),
            lambda: client.load_model("digits"),
            client.get_model_repository_index,
            lambda: client.update_log_settings({"log_verbose_level": 1}),
            lambda: client.update_trace_settings(settings={"trace_rate": "1"}),
        )
        for change in changes:
            with pytest.raises(InferenceServerException) as caught:
                change()
            assert "PERMISSION_DENIED" in str(caught.value.status())
        assert client.is_model_ready("digits")
        client.close()


def test_a_token_is_needed_where_there_are_tokens(bundle: SmallBundle, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("# of the robot\nsesame\n")
    tokens.chmod(0o600)
    with serving(bundle, tmp_path, token_file=str(tokens)) as child:
        client = triton.InferenceServerClient(child.grpc_address)
        assert client.is_server_live()
        for headers in (None, {"authorization": "Bearer wrong"}, {"authorization": "Basic sesame"}):
            with pytest.raises(InferenceServerException, match="a token is needed") as caught:
                client.infer("digits", [image_input(image())], headers=headers)
            assert "UNAUTHENTICATED" in str(caught.value.status())
        result = client.infer("digits", [image_input(image())], headers={"authorization": "Bearer sesame"})
        assert result.as_numpy("scores").shape == (1, 10)
        client.close()


def openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate that is its own authority, for server and client."""
    folder = tmp_path_factory.mktemp("pki")
    words = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    subject = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    openssl(*words, *subject, "-keyout", folder / "key.pem", "-out", folder / "cert.pem")
    return folder


def test_clients_without_a_certificate_are_not_let_in(bundle: SmallBundle, tmp_path: Path, pki: Path) -> None:
    certificate, key = (pki / "cert.pem").read_bytes(), (pki / "key.pem").read_bytes()
    tls = TlsSettings(certificate=str(pki / "cert.pem"), key=str(pki / "key.pem"), client_ca=str(pki / "cert.pem"))
    with serving(bundle, tmp_path, address="0.0.0.0:0", tls=tls) as child:
        port = (child.grpc_address or "").rpartition(":")[2]
        request = service_pb2.ServerReadyRequest().SerializeToString()

        def ask(**pair: bytes) -> None:
            credentials = grpc.ssl_channel_credentials(certificate, **pair)
            with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
                channel.unary_unary(f"{SERVICE}/ServerReady")(request, timeout=10)

        with pytest.raises(grpc.RpcError):
            ask()
        ask(private_key=key, certificate_chain=certificate)
        assert code(f"localhost:{port}", f"{SERVICE}/ServerReady") is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"address": "0.0.0.0:0"}, "can be reached from other machines"),
        ({"address": "nonsense"}, "expected host:port"),
        ({"address": "127.0.0.1:0", "token_file": "/absent"}, "tokens for gRPC cannot be read"),
        ({"address": "unix:/absent/folder/s"}, "gRPC cannot listen on"),
        (
            {"address": "127.0.0.1:0", "tls": TlsSettings(certificate="/absent", key="/k")},
            "cannot be set up with /absent",
        ),
    ],
)
def test_settings_that_cannot_be_served_end_with_a_sentence(
    tmp_path: Path, settings: dict[str, Any], sentence: str
) -> None:
    wanted = ServerSettings(listeners=(), counters_dir=str(tmp_path), boot="boot", grpc=GrpcSettings(**settings))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        words = ["-m", "edgewright.runtime.server", "--control-fd", str(theirs.fileno()), encode_settings(wanted)]
        run = subprocess.run(
            [sys.executable, *words],
            pass_fds=[theirs.fileno()],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert run.returncode == 1
    assert sentence in run.stderr
    assert "Traceback" not in run.stderr


WITHOUT = """
import sys
sys.modules[{!r}] = None
from edgewright.runtime.server.grpc_port import grpc_server
from edgewright.runtime.serving import GrpcSettings
from edgewright.targets.faults import EnvironmentFault
try:
    grpc_server(GrpcSettings(address="127.0.0.1:0"), None)
except EnvironmentFault as fault:
    print(fault)
"""


@pytest.mark.parametrize("package", ["hpack", "google.protobuf"])
def test_without_its_packages_the_extra_is_named(package: str) -> None:
    run = subprocess.run([sys.executable, "-c", WITHOUT.format(package)], capture_output=True, text=True, check=True)
    assert "install edgewright[grpc]" in run.stdout


def mapped(child: ServerChild) -> str:
    return Path(f"/proc/{child.process.pid}/maps").read_text()


def test_a_server_without_grpc_imports_nothing_of_it(bundle: SmallBundle, tmp_path: Path) -> None:
    with listen_tcp() as tcp, ServerChild([tcp], tmp_path) as child:
        assert isinstance(child.load(bundle.directory, "digits", "1", bundle.digest), Done)
        assert child.grpc_address is None
        assert "_upb" not in mapped(child)


def test_a_server_with_grpc_needs_neither_grpcio_nor_openssl(bundle: SmallBundle, tmp_path: Path) -> None:
    with serving(bundle, tmp_path) as child:
        assert code(child.grpc_address, f"{SERVICE}/ServerLive") is grpc.StatusCode.OK
        assert "_upb" in mapped(child)
        assert "grpc/_cython" not in mapped(child)
        assert "libssl" not in mapped(child)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def test_a_unix_socket(bundle: SmallBundle, tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/g"
    with umask(0), serving(bundle, tmp_path, address=address) as child:  # a service manager's may be so wide
        assert child.grpc_address == address
        assert stat.S_IMODE((tmp_path / "g").stat().st_mode) == 0o600
        client = triton.InferenceServerClient(address)
        assert client.infer("digits", [image_input(image())]).as_numpy("scores").shape == (1, 10)
        client.close()


def test_the_next_server_binds_the_port_while_this_one_still_has_it(bundle: SmallBundle, tmp_path: Path) -> None:
    with serving(bundle, tmp_path) as old:
        assert old.grpc_address is not None
        (tmp_path / "next").mkdir()
        with serving(bundle, tmp_path / "next", address=old.grpc_address) as new:
            assert new.grpc_address == old.grpc_address
            assert old.drain() == 0
            assert code(new.grpc_address, f"{SERVICE}/ServerLive") is grpc.StatusCode.OK


def test_a_server_that_waits_for_its_turn_binds_when_it_may_accept(tmp_path: Path) -> None:
    settings = GrpcSettings(address="127.0.0.1:0")
    with listen_tcp() as tcp, ServerChild([tcp], tmp_path, grpc=settings, paused=True) as child:
        assert child.grpc_address is None
        reply = child.ask(Accept(id=7))
        assert isinstance(reply, Done)
        assert code(str(reply.detail["grpc_address"]), f"{SERVICE}/ServerLive") is grpc.StatusCode.OK


def test_what_is_too_large_is_refused_before_it_is_read(bundle: SmallBundle, tmp_path: Path) -> None:
    with serving(bundle, tmp_path) as child:
        address = child.grpc_address
        huge = service_pb2.ModelInferRequest(raw_input_contents=[bytes(70 * 1024 * 1024)]).SerializeToString()
        assert code(address, f"{SERVICE}/ModelInfer", huge) is grpc.StatusCode.RESOURCE_EXHAUSTED
        typed = service_pb2.ModelInferRequest(model_name="digits")
        typed.inputs.add(name="image").contents.bytes_contents.extend([b""] * 9_000_000)
        assert code(address, f"{SERVICE}/ModelInfer", typed.SerializeToString()) is grpc.StatusCode.RESOURCE_EXHAUSTED
        metadata = [("x-long", "a" * 60_000)]
        assert code(address, f"{SERVICE}/ServerLive", metadata=metadata) is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert code(address, f"{SERVICE}/Nothing") is grpc.StatusCode.UNIMPLEMENTED
        assert code(address, f"{SERVICE}/ServerLive") is grpc.StatusCode.OK


def accepted(port: int) -> int:
    """Return how many inferences the server has begun to answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    counts = ("edgewright_requests_in_flight{", "edgewright_requests_total{")
    return sum(int(float(line.rsplit(" ", 1)[1])) for line in lines if line.startswith(counts))


def test_draining_answers_what_was_accepted_and_ends_streams(tmp_path: Path) -> None:
    slow = digits_bundle(tmp_path / "slow-1", hidden=4096, name="slow")
    grpc_settings = GrpcSettings(address="127.0.0.1:0")
    with listen_tcp() as tcp, ServerChild([tcp], tmp_path, grpc=grpc_settings) as child:
        assert isinstance(child.load(slow.directory, "slow", "1", slow.digest), Done)
        address = child.grpc_address
        client = triton.InferenceServerClient(address)
        done: queue.Queue[Any] = queue.Queue()
        values = image(SLOW_ROWS)
        for _ in range(3):
            client.async_infer("slow", [image_input(values)], lambda result, error: done.put((result, error)))
        watched: list[bytes] = []
        ended = threading.Event()

        def watch() -> None:
            with grpc.insecure_channel(address) as channel:
                try:
                    for status in channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=30):
                        watched.append(status)
                        started.set()
                except grpc.RpcError:
                    ended.set()

        started = threading.Event()
        thread = threading.Thread(target=watch)
        thread.start()
        assert started.wait(60)
        # A request that is under way to a server that ends is sent to the next one by its client: there is none here.
        for _ in range(6000):
            if accepted(tcp.getsockname()[1]) == 3:
                break
            time.sleep(0.01)
        begun_s = time.monotonic()
        assert child.drain() == 0
        assert time.monotonic() - begun_s < 20, "streams are ended, not waited for until the limit of 30 s"
        thread.join(20)
        ends = [done.get(timeout=60) for _ in range(3)]
        assert [error for _, error in ends] == [None, None, None]
        np.testing.assert_allclose(ends[0][0].as_numpy("scores").sum(axis=1), 1, rtol=1e-3)
        assert ended.is_set()
        assert watched == [b"\x08\x01", b"\x08\x02"]
        client.close()
