"""The contract tests run against a server of their own, or against any V2 server: `pytest tests/contract --server URL`.

A foreign server must serve two models: `digits` (`image FP32 [-1, 64] -> scores FP32 [-1, 10]`) and `echo`
(`in_<datatype> [-1, 3] -> out_<datatype>` for each numeric datatype).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edgewright.runtime.control import Done
from edgewright.runtime.server.child import ServerChild, listen_tcp
from tests.runtime.small_bundle import digits_bundle, echo_bundle


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--server", metavar="HOST:PORT", default=None, help="V2 server to test instead of an own one")


@pytest.fixture(scope="session")
def v2_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return `host:port` of a server with the models `digits` and `echo`."""
    given: str | None = request.config.getoption("--server", default=None)
    if given is not None:
        yield given.removeprefix("http://")
        return
    base = tmp_path_factory.mktemp("contract")
    digits, echo = digits_bundle(base / "digits-1"), echo_bundle(base / "echo-1")
    with listen_tcp() as tcp, ServerChild([tcp], base) as child:
        assert isinstance(child.load(digits.directory, "digits", "1", digits.digest), Done)
        assert isinstance(child.load(echo.directory, "echo", "1", echo.digest), Done)
        yield f"127.0.0.1:{tcp.getsockname()[1]}"
