"""Downloads against a real HTTP server that cuts, lies and goes away."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edgewright.runtime.agent.credentials import Credentials, MqttAddress
from edgewright.runtime.agent.fetch import Downloads, FetchFault, FetchLimits, WrongArchive
from edgewright.runtime.agent.http_source import HttpSource, SourceGone, device_token
from edgewright.runtime.agent.jobs import Cancelled
from edgewright.runtime.storage import LocalStorage

CONTENT = bytes(range(256)) * 2000
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


class Fleet:
    """A file server with faults to order."""

    def __init__(self) -> None:
        self.cut_after: list[int] = []
        self.status = 0
        self.content = CONTENT
        self.ranges = True
        self.sent_bytes = 0
        self.authorization = ""
        fleet = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                fleet.answer(self)

            def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
                """Say nothing."""

            def log_error(self, *args: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.authorization = request.headers.get("Authorization", "")
        if self.status:
            request.send_error(self.status)
            return
        wanted = request.headers.get("Range") if self.ranges else None
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        body = self.content[start:]
        request.send_response(206 if wanted else 200)
        if wanted:
            request.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        body = body[: self.cut_after.pop(0)] if self.cut_after else body
        self.sent_bytes += len(body)
        request.wfile.write(body)

    @property
    def source(self) -> HttpSource:
        url = f"http://127.0.0.1:{self.server.server_port}"
        return HttpSource(
            Credentials(tenant="t", device="d", secret="ab", mqtt=MqttAddress(host="h", port=1), fleet_url=url)
        )


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    made = Fleet()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def downloads(tmp_path: Path) -> Downloads:
    return Downloads(LocalStorage(), tmp_path / "downloads", FetchLimits(max_bytes=10**6, deadline_s=5.0))


def fetch(downloads: Downloads, fleet: Fleet, digest: str = DIGEST, size_bytes: int = len(CONTENT)) -> bytes:
    return downloads.fetch(digest, "/v1/artifacts/x", size_bytes, fleet.source, Cancelled()).read_bytes()


def test_cut_connections_cost_no_byte_twice(downloads: Downloads, fleet: Fleet) -> None:
    fleet.cut_after = [200_000, 100_000]
    assert fetch(downloads, fleet) == CONTENT
    assert fleet.sent_bytes == len(CONTENT)
    assert fetch(downloads, fleet) == CONTENT  # it is here already
    assert fleet.sent_bytes == len(CONTENT)
    assert fleet.authorization == f"Bearer {device_token(fleet.source._credentials)}"


def test_server_without_ranges_is_read_from_the_start(downloads: Downloads, fleet: Fleet) -> None:
    fleet.ranges = False
    fleet.cut_after = [200_000]
    assert fetch(downloads, fleet) == CONTENT


def test_torn_rest_of_an_earlier_run_is_thrown_away(downloads: Downloads, fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / f"{DIGEST[7:]}.part").write_bytes(bytes(50_000))
    assert fetch(downloads, fleet) == CONTENT


def test_wrong_archive_is_refused_and_leaves_nothing(downloads: Downloads, fleet: Fleet, tmp_path: Path) -> None:
    fleet.content = CONTENT[:-1] + b"!"
    with pytest.raises(WrongArchive, match="has digest sha256:"):
        fetch(downloads, fleet)
    assert list((tmp_path / "downloads").iterdir()) == []


def test_giant_is_refused_before_it_is_asked_for(downloads: Downloads, fleet: Fleet) -> None:
    with pytest.raises(WrongArchive, match="takes 1 to 1000000"):
        fetch(downloads, fleet, size_bytes=10**9)
    with pytest.raises(WrongArchive, match="expected sha256:"):
        fetch(downloads, fleet, digest="sha256:../../x")
    assert fleet.sent_bytes == 0


def test_refusal_is_final_and_trouble_is_tried_again(tmp_path: Path, fleet: Fleet) -> None:
    times = iter([0.0, 1.0, 99.0])
    limits = FetchLimits(max_bytes=10**6, deadline_s=5.0, clock=lambda: next(times))
    downloads = Downloads(LocalStorage(), tmp_path / "downloads", limits)
    fleet.status = 403
    with pytest.raises(SourceGone, match="403"):
        fetch(downloads, fleet)
    fleet.status = 503
    with pytest.raises(FetchFault, match=r"gave up after 5 s: .*503"):
        fetch(downloads, fleet)
