"""The contract tests run against a server of their own, or against any V2 server: `pytest tests/contract --server URL`.

A foreign server must serve two models: `digits` (`image FP32 [-1, 64] -> scores FP32 [-1, 10]`, version 1) and `echo`
(`in_<datatype> [-1, 3] -> out_<datatype>`, for each datatype that it can). docs/guides/conformance.md says how, and
`servers/` has what other servers need for it. Where a server is known to differ, `known_deviations` says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgewright.runtime.control import Done
from edgewright.runtime.server.child import ServerChild, listen_tcp
from edgewright.runtime.serving import ListenerSettings
from tests.contract.exchange import ask
from tests.contract.known_deviations import DEVIATIONS
from tests.runtime.small_bundle import DATATYPES, digits_bundle, echo_bundle

HERE = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--server", metavar="URL", default=None, help="V2 server to test instead of an own one")
    parser.addoption("--fuzz-seconds", type=float, default=30.0, help="how long to throw bytes at the server")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "extension(name): tests what a server announces under this name")
    config.addinivalue_line("markers", "own: promises of Edgewright that the protocol does not ask of every server")


def _given(config: pytest.Config) -> str | None:
    url: str | None = config.getoption("--server", default=None)
    return None if url is None else url.removeprefix("http://").rstrip("/")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    server = _given(config)
    if server is None:
        return
    deviations = DEVIATIONS.get(ask(server, "GET", "/v2").json.get("name", ""), ())
    for item in items:
        if HERE not in item.path.parents:
            continue
        if item.get_closest_marker("own"):
            item.add_marker(pytest.mark.skip(reason="a promise of Edgewright, not of the protocol"))
        for deviation in deviations:
            if deviation.covers(item.nodeid):
                item.add_marker(pytest.mark.xfail(reason=deviation.reason, strict=deviation.always))


@pytest.fixture(scope="session")
def v2_servers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Return `host:port` of a server with the models `digits` and `echo`, and that of its admin listener."""
    given = _given(request.config)
    if given is not None:
        yield given, given
        return
    base = tmp_path_factory.mktemp("contract")
    digits, echo = digits_bundle(base / "digits-1"), echo_bundle(base / "echo-1", (*DATATYPES, "BYTES"))
    with listen_tcp() as tcp, listen_tcp() as admin:
        listeners = (ListenerSettings(fd=tcp.fileno()), ListenerSettings(fd=admin.fileno(), kind="admin"))
        with ServerChild([tcp, admin], base, listeners=listeners) as child:
            assert isinstance(child.load(digits.directory, "digits", "1", digits.digest), Done)
            assert isinstance(child.load(echo.directory, "echo", "1", echo.digest), Done)
            yield f"127.0.0.1:{tcp.getsockname()[1]}", f"127.0.0.1:{admin.getsockname()[1]}"
            assert isinstance(child.ping(), Done), "the server must outlive its tests"


@pytest.fixture(scope="session")
def v2_server(v2_servers: tuple[str, str]) -> str:
    """Return `host:port` of a server with the models `digits` and `echo`."""
    return v2_servers[0]


@pytest.fixture(scope="session")
def v2_admin(v2_servers: tuple[str, str]) -> str:
    """Return `host:port` where models may be loaded and unloaded; for a foreign server the same port."""
    return v2_servers[1]


@pytest.fixture(scope="session")
def announced(v2_server: str) -> frozenset[str]:
    """Return the extensions that the server says it has."""
    extensions: list[Any] = ask(v2_server, "GET", "/v2").json.get("extensions", [])
    return frozenset(map(str, extensions))


@pytest.fixture(autouse=True)
def only_what_is_announced(request: pytest.FixtureRequest) -> None:
    marker = request.node.get_closest_marker("extension")
    if marker is None:
        return
    extensions: frozenset[str] = request.getfixturevalue("announced")
    if not any(name == marker.args[0] or name.startswith(f"{marker.args[0]}(") for name in extensions):
        pytest.skip(f"the server does not announce the extension '{marker.args[0]}'")


@pytest.fixture
def fuzz_seconds(request: pytest.FixtureRequest) -> float:
    """Return how long a fuzz runs: 30 s, or what `--fuzz-seconds` says."""
    chosen: float = request.config.getoption("--fuzz-seconds", default=30.0)
    return chosen
