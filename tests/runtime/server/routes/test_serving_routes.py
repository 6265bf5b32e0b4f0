"""Routes in a real server: over HTTP, under load, switched at run time, with a board that gets hot."""

from __future__ import annotations

import http.client
import importlib.util
import itertools
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright.runtime.control import Done, Failed
from edgewright.runtime.server.child import ServerChild, listen_tcp
from edgewright.runtime.serving import GrpcSettings, PowerSettings
from tests.runtime.power.fake_sysfs import rapl, write, zone
from tests.runtime.small_bundle import SmallBundle, digits_bundle, echo_bundle

IMAGE = np.linspace(0, 1, 64, dtype=np.float32)


@dataclass(frozen=True)
class Routed:
    """A server with the models `a`, `b` (digits of other weights) and `echo`, under a folder that is its /sys."""

    child: ServerChild
    port: int
    grpc_address: str | None
    models: dict[str, SmallBundle]
    sysfs: Path

    def set(self, text: str) -> Done:
        reply = self.child.set_routes(text)
        assert isinstance(reply, Done), reply
        return reply

    def get(self, target: str) -> tuple[int, Any]:
        with closing(self.connect()) as connection:
            return ask(connection, "GET", target)

    def infer(self, name: str, rows: int = 1) -> tuple[int, Any]:
        with closing(self.connect()) as connection:
            return ask(connection, "POST", f"/v2/models/{name}/infer", body(rows))

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)


def ask(connection: http.client.HTTPConnection, method: str, target: str, content: bytes = b"") -> tuple[int, Any]:
    connection.request(method, target, content or None)
    response = connection.getresponse()
    text = response.read()
    is_json = "json" in (response.headers["content-type"] or "")
    return response.status, json.loads(text) if is_json else text.decode()


def body(rows: int = 1) -> bytes:
    image = {"name": "image", "shape": [rows, 64], "datatype": "FP32", "data": np.tile(IMAGE, (rows, 1)).tolist()}
    return json.dumps({"inputs": [image]}).encode()


def serve(tcp: socket.socket, folder: Path, sysfs: Path, power: PowerSettings) -> ServerChild:
    has_grpc = importlib.util.find_spec("grpc") is not None
    grpc = GrpcSettings(address="127.0.0.1:0") if has_grpc else None
    return ServerChild([tcp], folder, sysfs=str(sysfs), power=power, grpc=grpc)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Routed]:
    folder = tmp_path_factory.mktemp("routes")
    models = {name: digits_bundle(folder / name, seed=seed, name=name) for seed, name in enumerate("ab")}
    models["echo"] = echo_bundle(folder / "echo")
    sysfs = write(folder / "sys", {**zone(0, 40), **rapl("0", "package-0", 0)})
    power = PowerSettings(hot_c=70, hold_s=0, saving_batch_rows=2, saving_cpus=1)
    with listen_tcp() as tcp, serve(tcp, folder, sysfs, power) as child:
        for name, bundle in models.items():
            assert isinstance(child.load(bundle.directory, name, "1", bundle.digest), Done)
        yield Routed(child, tcp.getsockname()[1], child.grpc_address, models, sysfs)


SPLIT = '[routes.kws]\nkind = "split"\narms = [{{ model = "a", weight = {} }}, {{ model = "b", weight = {} }}]\n'
NESTED = """
[routes.kws]
kind = "cascade"
stages = ["a", "inner"]
threshold = 0.5
[routes.inner]
kind = "fallback"
chain = ["missing", "b"]
"""


def test_a_route_is_asked_like_a_model(server: Routed) -> None:
    assert server.set(SPLIT.format(1, 0)).detail == {"routes": 1, "not_loaded": ""}
    status, answer = server.infer("kws")
    assert status == 200
    assert answer["model_name"] == "kws"
    assert answer["model_version"] == "1"
    assert answer["parameters"] == {"edgewright_arm": "a", "edgewright_model": "a"}
    expected = server.models["a"].run({"image": IMAGE[None]})["scores"][0]
    np.testing.assert_allclose(answer["outputs"][0]["data"], expected, rtol=1e-5)
    metadata = server.get("/v2/models/kws")[1]
    assert (metadata["name"], metadata["platform"]) == ("kws", "edgewright_route")
    assert metadata["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 64]}]
    assert server.get("/v2/models/kws/ready")[0] == 200
    assert server.get("/v2/models/kws/versions/1/ready")[0] == 404, "a route has no versions"
    assert server.infer("kws", rows=0)[0] == 400
    for resource in ("config", "stats"):
        status, answer = server.get(f"/v2/models/kws/{resource}")
        assert status == 400
        assert "is a route" in answer["error"]
    told = server.get("/v2/routes")[1]["routes"]["kws"]
    assert told["arms"]["a"]["jobs"] == 1
    assert server.get("/v2/models/kws/explain")[1] == {"name": "kws", **told}
    assert 'edgewright_route_jobs_total{route="kws",arm="a"} 1\n' in server.get("/metrics")[1]


def test_a_route_shadows_its_model_and_a_version_reaches_it(server: Routed) -> None:
    server.set('[routes.a]\nkind = "cascade"\nstages = ["a", "b"]\nthreshold = 1.0')
    assert server.infer("a")[1]["parameters"]["edgewright_model"] == "b"
    assert "parameters" not in server.infer("a/versions/1")[1]
    server.set("")
    assert "parameters" not in server.infer("a")[1]


def test_wrong_routes_are_refused_and_the_old_ones_serve_on(server: Routed) -> None:
    server.set(SPLIT.format(0, 1))
    for text, complaint in [
        ("[", "not TOML"),
        ('[routes.kws]\nkind = "fallback"\nchain = ["a", "echo"]', "'echo' does not fit 'a'"),
    ]:
        reply = server.child.set_routes(text)
        assert isinstance(reply, Failed)
        assert complaint in reply.reason
    assert server.infer("kws")[1]["parameters"]["edgewright_model"] == "b"
    assert server.set('[routes.x]\nkind = "fallback"\nchain = ["c", "d"]').detail["not_loaded"] == "c, d"
    assert server.infer("x")[0] == 503
    assert server.infer("kws")[0] == 404


def test_a_cascade_merges_what_two_models_say(server: Routed) -> None:
    server.set('[routes.eye]\nkind = "cascade"\nstages = ["a", "b"]\nthreshold = 1.0')
    status, answer = server.infer("eye", rows=3)
    assert status == 200
    expected = server.models["b"].run({"image": np.tile(IMAGE, (3, 1))})["scores"]
    np.testing.assert_allclose(np.reshape(answer["outputs"][0]["data"], (3, 10)), expected, rtol=1e-5)


def test_a_shadow_leaves_numbers_only(server: Routed) -> None:
    server.set('[routes.eye]\nkind = "shadow"\nprimary = "a"\nshadow = "b"\nfraction = 1.0\nmax_busy_share = 1.0')
    for _ in range(5):
        assert server.infer("eye")[1]["parameters"]["edgewright_model"] == "a"
        time.sleep(0.02)
    assert eventually(lambda: server.get("/v2/routes")[1]["routes"]["eye"]["agreement"]["rows"] > 0, wanted=True)
    told = server.get("/v2/routes")[1]["routes"]["eye"]
    classes = [int(server.models[name].run({"image": IMAGE[None]})["scores"].argmax()) for name in "ab"]
    assert told["agreement"]["joint"][classes[0]][classes[1]] == told["agreement"]["rows"] > 0


def test_no_request_is_lost_while_routes_are_switched(server: Routed) -> None:
    texts = [
        SPLIT.format(1, 0),
        SPLIT.format(1, 1),
        '[routes.kws]\nkind = "canary"\nprimary = "a"\ncanary = "b"\nfraction = 0.5\n',
        '[routes.kws]\nkind = "shadow"\nprimary = "a"\nshadow = "b"\nfraction = 1.0\n',
        NESTED,
    ]
    server.set(texts[0])
    expected = {
        name: np.tile(server.models[name].run({"image": IMAGE[None]})["scores"], (2, 1)).ravel() for name in "ab"
    }
    statuses: list[int] = []
    wrong: list[Any] = []
    stop = threading.Event()

    def client() -> None:
        connection, content = server.connect(), body(2)
        while not stop.is_set():
            status, answer = ask(connection, "POST", "/v2/models/kws/infer", content)
            statuses.append(status)
            who = answer.get("parameters", {}).get("edgewright_model")
            if status != 200 or not np.allclose(answer["outputs"][0]["data"], expected[who], rtol=1e-4):
                wrong.append(answer)
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(4)]
    for thread in threads:
        thread.start()
    end_s = time.monotonic() + 60
    for number in itertools.count():
        server.set(texts[number % len(texts)])
        time.sleep(0.005)
        if number >= 50 and (len(statuses) > 50 or time.monotonic() > end_s):
            break
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(statuses) > 50


def test_a_hot_board_takes_the_small_model_and_goes_back(server: Routed) -> None:
    server.set(SPLIT.format(1, 0) + 'when_hot = "b"\n')
    write(server.sysfs, {**zone(0, 75), **rapl("0", "package-0", 5_000_000)})
    assert eventually(lambda: server.infer("kws")[1]["parameters"]["edgewright_model"], "b") == "b"
    assert len(os.sched_getaffinity(server.child.process.pid)) == 1
    metrics = server.get("/metrics")[1]
    assert "edgewright_power_saving 1\n" in metrics
    assert "edgewright_hottest_celsius 75.0\n" in metrics
    assert 'edgewright_energy_joules_total{source="package-0@0"} 5.0\n' in metrics
    assert "edgewright_energy_joules_per_inference{" in metrics
    assert server.get("/v2/models/b/explain")[1]["max_batch_rows"] == 2
    write(server.sysfs, zone(0, 50))
    assert eventually(lambda: server.infer("kws")[1]["parameters"]["edgewright_model"], "a") == "a"
    assert server.get("/v2/models/b/explain")[1]["max_batch_rows"] == 32
    assert os.sched_getaffinity(server.child.process.pid) == os.sched_getaffinity(0)


def eventually(look: Any, wanted: object) -> object:
    end_s = time.monotonic() + 60
    while (seen := look()) != wanted and time.monotonic() < end_s:
        time.sleep(0.05)
    return seen


def test_grpc_clients_ask_routes_too(server: Routed) -> None:
    grpcclient = pytest.importorskip("tritonclient.grpc")
    server.set('[routes.ear]\nkind = "fallback"\nchain = ["missing", "a"]')
    client = grpcclient.InferenceServerClient(server.grpc_address)
    try:
        image = grpcclient.InferInput("image", [1, 64], "FP32")
        image.set_data_from_numpy(IMAGE[None])
        answer = client.infer("ear", [image])
        expected = server.models["a"].run({"image": IMAGE[None]})["scores"]
        np.testing.assert_allclose(answer.as_numpy("scores"), expected, rtol=1e-5)
        assert answer.get_response().parameters["edgewright_model"].string_param == "a"
        assert client.get_model_metadata("ear").platform == "edgewright_route"
        assert client.is_model_ready("ear")
    finally:
        client.close()
