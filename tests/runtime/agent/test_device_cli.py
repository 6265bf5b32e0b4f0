"""`edgewright device`: what a person types and sees; and what the control socket does with nonsense."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from edgewright.runtime.agent.config import ConfigError, DeviceConfig, parse_listen, read_config
from edgewright.runtime.agent.credentials import read_credentials
from edgewright.runtime.agent.sockets import connect_unix
from tests.runtime.agent.conftest import MakeBundle
from tests.runtime.agent.daemon_process import DaemonProcess


def device(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgewright.runtime.cli", "device", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    process = DaemonProcess(tmp_path / "state")
    yield process
    process.end()


def test_a_person_installs_looks_goes_back_and_reads_the_log(daemon: DaemonProcess, make_bundle: MakeBundle) -> None:
    where = ("--state-dir", daemon.state)
    daemon.start()
    done = device("install", *where, make_bundle("1").archive, "--wait", "confirmed")
    assert (done.returncode, done.stdout) == (0, "digits 1 is active, phase confirmed.\n")
    done = device("install", *where, make_bundle("2", seed=2).archive, "--json", "--wait", "confirmed")
    assert json.loads(done.stdout)["phase"] == "confirmed"
    refused = device("install", *where, make_bundle("3", target="imx93").archive)
    assert refused.returncode == 2
    assert "compiled for target imx93" in refused.stderr
    assert "Traceback" not in refused.stderr
    shown = device("status", *where).stdout
    assert "digits 2, slot B, idle, can go back to 1, last update: 3 refused" in shown
    assert device("rollback", *where, "digits").stdout == "digits: probation, version 1.\n"
    log = device("logs", *where, "-n", "3", "--json").stdout.splitlines()
    assert len(log) == 3
    assert all(json.loads(line)["log"] == "agent" for line in log)
    assert stat.S_IMODE((daemon.state / "agent.sock").stat().st_mode) == 0o600
    assert stat.S_IMODE((daemon.state / "server.sock").stat().st_mode) == 0o600

    for nonsense in (b"\n", b"[]\n", b'{"op": "rm"}\n', b'{"op": "install", "path": "x"}\n', b"{" * 70_000 + b"\n"):
        with connect_unix(daemon.state / "agent.sock", 5.0) as connection:
            connection.sendall(nonsense)
            answer = json.loads(connection.makefile("rb").readline())
        assert (answer["ok"], answer["kind"]) == (False, "user")
    assert daemon.status()["ready"]


def test_enrolment_stores_what_the_fleet_gives_and_keeps_it_private(tmp_path: Path) -> None:
    asked: list[dict[str, object]] = []

    class Fleet(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            good = asked[-1]["token"] == "right"
            answer = {"tenant": "t", "device": "d7", "secret": "ab" * 32, "mqtt": {"host": "0.0.0.0", "port": 1883}}
            body = json.dumps(answer if good else {"error": "this token was used"}).encode()
            self.send_response(201 if good else 401)
            self.end_headers()
            self.wfile.write(body)

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Fleet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        fleet = f"http://127.0.0.1:{server.server_port}"
        where = ("--state-dir", tmp_path, "--fleet", fleet)
        wrong = device("enroll", *where, "--token", "wrong")
        right = device("enroll", *where, "--token", "right", "--name", "d7", "--json")
        server.shutdown()
        thread.join()
    assert (wrong.returncode, read_credentials(tmp_path / "x")) == (2, None)
    assert "401" in wrong.stderr
    assert "this token was used" in wrong.stderr
    assert json.loads(right.stdout) == {"device": "d7", "tenant": "t", "connecting": False}
    credentials = read_credentials(tmp_path)
    assert credentials is not None
    assert (credentials.device, credentials.mqtt.host, credentials.fleet_url) == ("d7", "127.0.0.1", fleet)
    assert stat.S_IMODE((tmp_path / "credentials.json").stat().st_mode) == 0o600
    assert asked[0]["target"] == "host"
    away = device("enroll", "--state-dir", tmp_path, "--fleet", fleet, "--token", "x")
    assert away.returncode == 5
    assert "cannot reach the fleet" in away.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("listen = 8000", "listen: Expected `str`, got `int`"),
        ("lisen = 'x'", "unknown field `lisen`"),
        ("window_s = 0", "window_s: Expected `int` >= 1"),
        ("window_s = ", "is not TOML"),
    ],
)
def test_wrong_configuration_names_the_key(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "device.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(said)):
        read_config(path)


def test_defaults_need_no_file_and_addresses_are_checked() -> None:
    assert parse_listen(DeviceConfig().listen) == ("127.0.0.1", 8000)
    assert parse_listen("[::1]:0") == ("::1", 0)
    for wrong in ("8000", "localhost", "host:99999", ":80"):
        with pytest.raises(ConfigError, match="expected an address and a port"):
            parse_listen(wrong)


def test_commands_without_a_daemon_say_how_to_start_one(tmp_path: Path) -> None:
    for command in (("status",), ("rollback", "m"), ("install", __file__)):
        done = device(*command, "--state-dir", tmp_path)
        assert done.returncode == 5
        assert "edgewright device run --state-dir" in done.stderr
    logs = device("logs", "--state-dir", tmp_path)
    assert logs.returncode == 2
    assert "no log" in logs.stderr
