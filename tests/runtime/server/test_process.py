"""The server as a process: loading, swapping under traffic, refusing, draining, dying with its agent."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright.runtime.control import Done, Drain, Failed, Load
from edgewright.runtime.server.child import ServerChild, listen_tcp
from edgewright.runtime.telemetry.counters import read_counters
from edgewright.runtime.telemetry.records import WindowRecord
from tests.runtime.server.conftest import Running
from tests.runtime.small_bundle import SmallBundle, digits_bundle

IMAGE = np.linspace(0, 1, 64, dtype=np.float32)
BODY = json.dumps(
    {"inputs": [{"name": "image", "shape": [1, 64], "datatype": "FP32", "data": IMAGE.tolist()}]}
).encode()
REQUEST = b"POST /v2/models/digits/infer HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)


@contextmanager
def serving(bundle: SmallBundle, directory: Path, *, window_s: int = 60) -> Iterator[tuple[ServerChild, int]]:
    with listen_tcp() as tcp, ServerChild([tcp], directory, window_s=window_s) as child:
        assert isinstance(load(child, bundle), Done)
        yield child, tcp.getsockname()[1]


def load(child: ServerChild, bundle: SmallBundle) -> Done | Failed:
    reply = child.load(bundle.directory, bundle.manifest.model, bundle.manifest.version, bundle.digest)
    assert isinstance(reply, Done | Failed)
    return reply


def get(port: int, target: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", target)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def counted(directory: Path) -> int:
    return sum(read_counters(path, writer_alive=False).requests for path in directory.glob("*.counters"))


def test_the_unix_socket_speaks_the_same_protocol(running: Running) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(running.unix_path))
        client.sendall(REQUEST)
        answer = client.recv(65536)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    expected = running.digits.run({"image": IMAGE[None]})["scores"][0]
    scores = json.loads(answer.partition(b"\r\n\r\n")[2])["outputs"][0]["data"]
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_the_drift_histograms_hold_every_sample(running: Running) -> None:
    before = sum(record.requests for record in records_of(running))
    for _ in range(5):
        status, _, _ = running.ask("POST", "/v2/models/digits/infer", BODY)
        assert status == 200

    def all_counted() -> bool:  # a sample is counted behind its answer, when the loop has time
        after = records_of(running)
        return sum(record.requests for record in after) == before + 5 and all(
            record.histograms and all(sum(histogram) == record.rows for histogram in record.histograms)
            for record in after
        )

    until(all_counted)


def records_of(running: Running) -> list[WindowRecord]:
    return [read_counters(path, writer_alive=True) for path in running.counters_dir.glob("*.counters")]


def until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def test_metrics_are_prometheus_text(running: Running) -> None:
    assert running.ask("POST", "/v2/models/digits/infer", BODY)[0] == 200
    assert running.ask("POST", "/v2/models/digits/infer", "{}")[0] == 400
    status, text, headers = running.ask("GET", "/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = dict(line.rsplit(" ", 1) for line in text.decode().splitlines() if not line.startswith("#"))
    labels = 'model="digits",version="1"'
    assert float(samples[f'edgewright_requests_total{{{labels},outcome="success"}}']) >= 1
    assert float(samples[f"edgewright_refused_requests_total{{{labels}}}"]) >= 1
    assert float(samples[f"edgewright_observer_errors_total{{{labels}}}"]) == 0
    count = samples[f"edgewright_request_duration_seconds_count{{{labels}}}"]
    assert samples[f'edgewright_request_duration_seconds_bucket{{{labels},le="+Inf"}}'] == count


def test_no_request_is_lost_or_answered_by_both_while_a_model_is_swapped(tmp_path: Path) -> None:
    versions = [digits_bundle(tmp_path / f"v{number}", seed=number, version=str(number)) for number in (1, 2, 3)]
    expected = {bundle.manifest.version: bundle.run({"image": IMAGE[None]})["scores"][0] for bundle in versions}
    seen: list[str] = []
    wrong: list[object] = []
    with serving(versions[0], tmp_path) as (child, port):
        stop = threading.Event()

        def client() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            while not stop.is_set():
                connection.request("POST", "/v2/models/digits/infer", BODY)
                response = connection.getresponse()
                answer = json.loads(response.read())
                if response.status != 200 or not np.allclose(
                    answer["outputs"][0]["data"], expected[answer["model_version"]], rtol=1e-5
                ):
                    wrong.append(answer)
                seen.append(answer["model_version"])
            connection.close()

        def until_seen(count: int) -> None:
            until(lambda: len(set(seen)) >= count)

        clients = [threading.Thread(target=client) for _ in range(3)]
        for thread in clients:
            thread.start()
        try:
            for number, bundle in enumerate(versions[1:], 1):
                until_seen(number)
                assert isinstance(load(child, bundle), Done)
            until_seen(3)
        finally:
            stop.set()
        for thread in clients:
            thread.join()
        assert child.drain() == 0
    assert wrong == []
    assert set(seen) == {"1", "2", "3"}
    assert counted(tmp_path) == len(seen)


@pytest.mark.parametrize("change", ["golden", "engine", "version", "absent"])
def test_a_bundle_that_cannot_serve_is_refused_and_the_running_one_serves_on(
    digits_like_bundle: SmallBundle, tmp_path: Path, change: str
) -> None:
    changes: dict[str, dict[str, Any]] = {"golden": {"golden_shift": 0.5}, "engine": {"engine_version": ">=99"}}
    bad = digits_bundle(tmp_path / "bad", version="2", **changes.get(change, {}))
    expected = {
        "golden": "golden self-test",
        "engine": "pip install",
        "version": "expected digits 7",
        "absent": "absent",
    }
    with serving(digits_like_bundle, tmp_path) as (child, port):
        directory = tmp_path / "absent" if change == "absent" else bad.directory
        reply = child.load(directory, "digits", "7" if change == "version" else "2", bad.digest)
        assert isinstance(reply, Failed)
        assert expected[change] in reply.reason
        assert json.loads(get(port, "/v2/models/digits")[1])["versions"] == ["1"]


def test_unload_takes_a_model_out_of_service(digits_like_bundle: SmallBundle, tmp_path: Path) -> None:
    with serving(digits_like_bundle, tmp_path) as (child, port):
        assert isinstance(child.unload("digits"), Done)
        assert isinstance(child.unload("digits"), Failed)
        assert get(port, "/v2/models/digits/ready")[0] == 404
        assert get(port, "/v2/health/ready")[0] == 200


@pytest.mark.parametrize("end", ["drain", "sigterm", "hang-up"])
def test_every_orderly_end_answers_what_was_accepted_and_exits_0(
    digits_like_bundle: SmallBundle, tmp_path: Path, end: str
) -> None:
    with (
        serving(digits_like_bundle, tmp_path) as (child, port),
        socket.create_connection(("127.0.0.1", port)) as client,
    ):
        asked = 0
        answer = b""
        while b"connection: close" not in answer:  # a client that was just busy may ask once more
            client.sendall(REQUEST)
            asked += 1
            answer = client.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200")
            if asked == 1:
                end_server(child, end)
        assert client.recv(65536) == b""
        assert child.process.wait(timeout=60) == 0
    records = [read_counters(path, writer_alive=True) for path in tmp_path.glob("*.counters")]
    assert all(record.closed for record in records)
    assert sum(record.requests for record in records) == asked > 1


def end_server(child: ServerChild, how: str) -> None:
    if how == "sigterm":
        child.process.send_signal(signal.SIGTERM)
    elif how == "hang-up":
        child.hang_up()
    else:
        child.send(Drain(id=99))


def test_what_waits_on_the_listening_socket_survives_a_restart(digits_like_bundle: SmallBundle, tmp_path: Path) -> None:
    with listen_tcp() as tcp:
        port = tcp.getsockname()[1]
        with ServerChild([tcp], tmp_path) as first:
            assert first.drain() == 0
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            client.sendall(REQUEST)  # nobody serves now; the kernel keeps it
            with ServerChild([tcp], tmp_path) as second:
                assert isinstance(load(second, digits_like_bundle), Done)
                assert client.recv(65536).startswith((b"HTTP/1.1 200", b"HTTP/1.1 503", b"HTTP/1.1 404"))


def test_an_unusable_control_line_ends_the_server_in_order(tmp_path: Path) -> None:
    for line in (b"{}\n", b"x" * 100_000 + b"\n"):
        with listen_tcp() as tcp, ServerChild([tcp], tmp_path) as child:
            child.send_line(line)
            assert child.process.wait(timeout=60) == 0


def test_a_load_that_hangs_does_not_hold_up_the_end(digits_like_bundle: SmallBundle, tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    shutil.copytree(digits_like_bundle.directory, slow)
    (slow / "reference.cbor").unlink()
    os.mkfifo(slow / "reference.cbor")  # as a card that does not answer: nobody will write
    with listen_tcp() as tcp, ServerChild([tcp], tmp_path) as child:
        child.send(Load(id=99, model="digits", version="1", bundle="sha256:0", directory=str(slow)))
        while "being loaded" not in ask_ready(tcp.getsockname()[1]):
            time.sleep(0.01)
        assert isinstance(child.ask(Drain(id=100)), Done)
        assert child.process.wait(60) == 0


def ask_ready(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/v2/models/digits/ready")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def test_windows_close_without_traffic(digits_like_bundle: SmallBundle, tmp_path: Path) -> None:
    with serving(digits_like_bundle, tmp_path, window_s=1) as (_, port):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(REQUEST)
            client.recv(65536)
        end_s = time.monotonic() + 60
        while time.monotonic() < end_s:
            records = [read_counters(path, writer_alive=True) for path in tmp_path.glob("*.counters")]
            if all(record.closed for record in records):
                break
            time.sleep(0.1)
        assert [(record.requests, record.closed) for record in records] == [(1, True)]


def test_a_slow_model_runs_in_a_thread_and_leaves_the_loop_free(tmp_path: Path) -> None:
    slow = digits_bundle(tmp_path / "slow", hidden=60_000)
    with serving(slow, tmp_path) as (child, port):
        reply = load(child, slow)
        assert isinstance(reply, Done)
        assert reply.detail["mode"] == "thread"
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(REQUEST * 4)
            assert get(port, "/v2/health/live")[0] == 200
            answers = b""
            while answers.count(b"HTTP/1.1 200") < 4:
                answers += client.recv(65536)
        assert child.drain() == 0
    assert counted(tmp_path) == 4


def trial(bundle: SmallBundle, *arguments: str) -> tuple[int, dict[str, object]]:
    command = [sys.executable, "-m", "edgewright.runtime.server.trial", str(bundle.directory), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert len(done.stdout.splitlines()) == 1
    return done.returncode, json.loads(done.stdout)


def test_a_trial_says_in_one_line_how_it_went(digits_like_bundle: SmallBundle, tmp_path: Path) -> None:
    code, verdict = trial(digits_like_bundle)
    assert (code, verdict["passed"], verdict["reason"]) == (0, True, "")
    assert verdict.keys() == {"passed", "reason", "p50_ms", "peak_bytes", "load_s"}
    assert trial(digits_like_bundle, "--emulated")[0] == 0
    code, verdict = trial(digits_like_bundle, "--limit-ms", "0.000001")
    assert code == 1
    assert "above the limit" in str(verdict["reason"])
    code, verdict = trial(digits_bundle(tmp_path / "bad", golden_shift=0.5))
    assert (code, verdict["passed"]) == (1, False)
    assert "golden" in str(verdict["reason"])
    (digits_like_bundle.directory / "model/model.onnx").write_bytes(b"junk")
    code, verdict = trial(digits_like_bundle)
    assert code == 1
    assert "cannot load" in str(verdict["reason"])
