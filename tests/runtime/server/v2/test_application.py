"""The resources of a real server: who may ask what, what trace and log settings do, and what describes it all."""

from __future__ import annotations

import gzip
import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgewright.runtime.control import Done
from edgewright.runtime.server.child import ServerChild, listen_tcp
from edgewright.runtime.server.v2.resources import RESOURCES, find_resource
from edgewright.runtime.serving import ListenerSettings
from tests.runtime.small_bundle import digits_bundle

INFER = "/v2/models/digits/infer"
ADMIN_ONLY = [
    "/v2/repository/index",
    "/v2/repository/models/digits/load",
    "/v2/repository/models/digits/unload",
    "/v2/trace/setting",
    "/v2/models/digits/trace/setting",
    "/v2/logging",
]


@dataclass(frozen=True)
class Server:
    data: int
    admin: int

    def ask(
        self, method: str, target: str, body: Any = None, headers: dict[str, str] | None = None, *, admin: bool = False
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.admin if admin else self.data, timeout=20)
        with closing(connection):
            text = None if body is None else body if isinstance(body, bytes) else json.dumps(body)
            connection.request(method, target, text, headers or {})
            response = connection.getresponse()
            fields = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, response.read(), fields)

    def infer(self, **parameters: Any) -> Any:
        tensor = {"name": "image", "shape": [1, 64], "datatype": "FP32", "data": [0.5] * 64}
        return self.ask("POST", INFER, {"inputs": [tensor], "parameters": parameters}).json


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of `digits`, with a data and an admin listener."""
    base = tmp_path_factory.mktemp("application")
    digits = digits_bundle(base / "digits-1")
    with listen_tcp() as data, listen_tcp() as admin:
        listeners = (ListenerSettings(fd=data.fileno()), ListenerSettings(fd=admin.fileno(), kind="admin"))
        with ServerChild([data, admin], base, listeners=listeners) as child:
            assert isinstance(child.load(digits.directory, "digits", "1", digits.digest), Done)
            yield Server(data.getsockname()[1], admin.getsockname()[1])


@pytest.mark.parametrize("target", ADMIN_ONLY)
def test_what_changes_the_server_is_answered_on_the_admin_listener_only(server: Server, target: str) -> None:
    answer = server.ask("POST", target, {})
    assert answer.status == 403
    assert "admin" in answer.json["error"]
    assert server.infer()["model_name"] == "digits"


def test_the_admin_listener_does_all_of_it(server: Server) -> None:
    for target in ("/v2/repository/models/digits/unload", "/v2/repository/models/digits/load"):
        assert server.ask("POST", target, {}, admin=True).status == 200
    (entry,) = server.ask("POST", "/v2/repository/index", admin=True).json
    assert (entry["name"], entry["version"], entry["state"]) == ("digits", "1", "READY")
    assert server.infer()["model_name"] == "digits"


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("/v2/repository/index", {"ready": "yes"}),
        ("/v2/repository/index", b"no json"),
        ("/v2/repository/index", []),
        ("/v2/repository/models/digits/load", {"parameters": 3}),
        ("/v2/repository/models/digits/load", {"parameters": {"config": "{}"}}),
        ("/v2/repository/models/digits/load", {"parameters": {"file:1/model.onnx": "AAAA"}}),
        ("/v2/trace/setting", {"trace_level": ["TENSORS"]}),
        ("/v2/trace/setting", {"trace_rate": "0"}),
        ("/v2/trace/setting", {"trace_file": "/etc/passwd"}),
        ("/v2/trace/setting", {"nonsense": 1}),
        ("/v2/logging", {"log_file": "/etc/passwd"}),
        ("/v2/logging", {"log_info": 1}),
        ("/v2/logging", {"log_verbose_level": -1}),
        ("/v2/logging", {"nonsense": True}),
        ("/v2/logging", b'{"a":' * 100_000),
    ],
)
def test_wrong_changes_are_refused_with_a_reason(server: Server, target: str, body: Any) -> None:
    answer = server.ask("POST", target, body, admin=True)
    assert answer.status == 400
    assert answer.json["error"]


def test_a_trace_tells_how_long_the_steps_took(server: Server) -> None:
    assert "parameters" not in server.infer()
    changed = server.ask(
        "POST",
        "/v2/models/digits/trace/setting",
        {"trace_level": ["TIMESTAMPS"], "trace_rate": "2", "trace_count": "2"},
        admin=True,
    )
    assert changed.json["trace_level"] == ["TIMESTAMPS"]
    assert server.ask("GET", "/v2/trace/setting").json["trace_level"] == ["OFF"]
    traced = ["parameters" in server.infer() for _ in range(8)]
    assert traced == [False, True, False, True, False, False, False, False]
    server.ask("POST", "/v2/models/digits/trace/setting", {"trace_count": "1", "trace_rate": "1"}, admin=True)
    times = server.infer()["parameters"]
    assert times["total_ns"] >= times["compute_ns"] > 0
    cleared = dict.fromkeys(("trace_level", "trace_rate", "trace_count"))
    assert server.ask("POST", "/v2/models/digits/trace/setting", cleared, admin=True).json["trace_level"] == ["OFF"]


def test_the_access_log_is_switched_while_the_server_runs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with listen_tcp() as tcp:
        listener = ListenerSettings(fd=tcp.fileno(), kind="admin")
        with ServerChild([tcp], tmp_path, listeners=(listener,)):  # of its own: what it says is captured here
            port = tcp.getsockname()[1]
            server = Server(port, port)

            def logged(**settings: Any) -> str:
                answer = server.ask("POST", "/v2/logging", settings)
                assert settings.items() <= answer.json.items()
                capfd.readouterr()
                server.ask("GET", "/v2/health/live")
                server.ask("GET", "/v2/models/absent/ready")
                return capfd.readouterr().err

            assert "GET /v2" not in logged()
            said = logged(log_verbose_level=1)
            assert "GET /v2/health/live 200" in said
            assert "GET /v2/models/absent/ready 404" in said
            assert "GET /v2" not in logged(log_info=False)
            assert "GET /v2" not in logged(log_info=True, log_verbose_level=0)


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda each: each.path)
def test_every_resource_says_its_methods(server: Server, resource: Any) -> None:
    target = resource.path.format(model="digits", version="1")
    allowed = {method.decode() for method in resource.methods}
    answer = server.ask("OPTIONS", target)
    assert (answer.status, set(answer.headers["allow"].split(", "))) == (200, allowed)
    wrong = server.ask("DELETE", target)
    assert (wrong.status, set(wrong.headers["allow"].split(", "))) == (405, allowed)
    assert wrong.json["error"]
    if resource.get is not None:
        whole, head = server.ask("GET", target), server.ask("HEAD", target)
        assert (whole.status, head.status, head.body) == (200, 200, b"")


def test_options_of_the_server_as_a_whole(server: Server) -> None:
    assert "POST" in server.ask("OPTIONS", "*").headers["allow"]


@pytest.mark.parametrize("admin", [False, True])
def test_the_description_names_exactly_what_is_answered(server: Server, *, admin: bool) -> None:
    described = server.ask("GET", "/v2/openapi.json", admin=admin).json
    assert described["openapi"].startswith("3.")
    for resource in RESOURCES:
        methods = described["paths"].get(resource.path, {}).keys() - {"parameters"}
        operations = {"get": resource.get, "post": resource.post}
        assert methods == {name for name, each in operations.items() if each is not None and (admin or not each.admin)}
    schemas = described["components"]["schemas"]
    references = json.dumps(described).split('"#/components/schemas/')[1:]
    assert {reference.partition('"')[0] for reference in references} <= schemas.keys()


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("v2/models/stats", "/v2/models/stats"),
        ("v2/models/other", "/v2/models/{model}"),
        ("v2/models/m/versions/2", "/v2/models/{model}/versions/{version}"),
        ("v2/models/m/trace/setting", "/v2/models/{model}/trace/setting"),
        ("v2/models", None),
        ("v2/models/m/versions", None),
        ("v3", None),
    ],
)
def test_paths_lead_to_one_resource(path: str, found: str | None) -> None:
    resource = find_resource(tuple(path.split("/")))
    assert (resource and resource[0].path) == found


def test_requests_that_do_not_fit_are_counted_and_not_executed(server: Server) -> None:
    def counted() -> tuple[int, int]:
        (stats,) = server.ask("GET", "/v2/models/digits/stats").json["model_stats"]
        lines = server.ask("GET", "/metrics").body.decode().splitlines()
        refused = [line for line in lines if line.startswith("edgewright_refused_requests_total{")]
        return stats["inference_stats"]["success"]["count"], sum(int(line.split()[-1]) for line in refused)

    before = counted()
    assert server.ask("POST", INFER, {"inputs": []}).status == 400
    assert counted() == (before[0], before[1] + 1)


def test_a_compressed_answer_and_its_header_length(server: Server) -> None:
    rows = 100
    tensor = {"name": "image", "shape": [rows, 64], "datatype": "FP32", "data": [0.5] * 64 * rows}
    request = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    answer = server.ask("POST", INFER, request, {"Accept-Encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    body = gzip.decompress(answer.body)
    head_bytes = int(answer.headers["inference-header-content-length"])
    assert json.loads(body[:head_bytes])["outputs"][0]["shape"] == [rows, 10]
    assert len(body) - head_bytes == rows * 40


def test_answers_say_why_batches_were_formed(server: Server) -> None:
    server.infer()
    assert isinstance(server.ask("GET", "/v2/models/digits/explain").json, dict)


def test_a_directory_is_not_told(server: Server, tmp_path: Path) -> None:
    for target in (f"/v2/repository/models/{tmp_path.name}/load", "/v2/repository/models/..%2f..%2fetc/load"):
        answer = server.ask("POST", target, {}, admin=True)
        assert answer.status == 404
        assert str(tmp_path.parent) not in answer.json["error"]


def test_told_truths_are_taken_by_model_and_by_version(server: Server) -> None:
    row = {"predicted": 3, "label": 3, "confidence": 0.9}
    for path in ("/v2/models/digits/labels", "/v2/models/digits/versions/1/labels"):
        answer = server.ask("POST", path, {"rows": [row]})
        assert answer.status == 200, answer.body
    assert server.ask("POST", "/v2/models/digits/labels", {"rows": "all"}).status == 400
    assert server.ask("POST", "/v2/models/nothing/labels", {"rows": [row]}).status == 404
