"""Receivers and programs that misbehave: every call ends in time, and counts."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgewright.fleet.core.drift.alert_rules import rule_from
from edgewright.fleet.hooks import webhook
from edgewright.fleet.hooks.outcome import HookFailed
from edgewright.fleet.hooks.program import MOST_PRINTED_BYTES, Programs
from edgewright.fleet.store import alerts, schema
from edgewright.fleet.store.database import Database

LIMIT_S = 0.5
ENOUGH_S = 30.0
"""A machine may stand still for a while; whoever waits for the receiver waits for two minutes."""
PLENTY_S = 60.0


@contextlib.contextmanager
def receiver(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve each connection with a function, and yield the port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    serve(connection)

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    yield listener.getsockname()[1]
    with contextlib.suppress(OSError):  # elsewhere than on Linux
        listener.shutdown(socket.SHUT_RDWR)
    accepting.join(10)  # its next `accept` would take the number of this socket, which may be that of another
    listener.close()


def drips(connection: socket.socket) -> None:
    for _ in range(2400):
        connection.sendall(b"H")
        time.sleep(0.05)


def never_ends_its_headers(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"x: y\r\n" * 1000)


def has_one_endless_header(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nx: ")
    while True:
        connection.sendall(b"y" * 65536)


def says_continue_for_ever(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        time.sleep(0.01)


def is_silent(connection: socket.socket) -> None:
    connection.settimeout(120)
    while connection.recv(65536):
        pass


def speaks_no_http(connection: socket.socket) -> None:
    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")


@pytest.mark.parametrize(
    "serve",
    [drips, never_ends_its_headers, has_one_endless_header, says_continue_for_ever, is_silent, speaks_no_http],
)
def test_a_receiver_that_misbehaves_is_left_in_time(serve: Callable[[socket.socket], None]) -> None:
    with receiver(serve) as port:
        begin = time.monotonic()
        with pytest.raises(HookFailed, match=r"127\.0\.0\.1: ."):
            webhook.post(f"http://127.0.0.1:{port}/", b"{}", {}, timeout_s=LIMIT_S)
        assert time.monotonic() - begin < ENOUGH_S


@pytest.mark.parametrize("serve", [is_silent, speaks_no_http, drips])
def test_a_receiver_that_does_not_speak_tls_is_left_in_time(serve: Callable[[socket.socket], None]) -> None:
    with receiver(serve) as port:
        begin = time.monotonic()
        with pytest.raises(HookFailed):
            webhook.post(f"https://127.0.0.1:{port}/", b"{}", {}, timeout_s=LIMIT_S)
        assert time.monotonic() - begin < ENOUGH_S


def test_a_body_is_not_read() -> None:
    def has_an_endless_body(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b"y" * 65536)

    with receiver(has_an_endless_body) as port:
        assert webhook.post(f"http://127.0.0.1:{port}/", b"{}", {}, timeout_s=PLENTY_S) == "200 OK"


def test_an_answer_cannot_steer_a_terminal() -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 500 \x1b[2Jgone\x9b1m\r\n\r\n")

    with receiver(answer) as port, pytest.raises(HookFailed, match="gone") as caught:
        webhook.post(f"http://127.0.0.1:{port}/", b"{}", {}, timeout_s=PLENTY_S)
    assert str(caught.value).isprintable()


def test_a_name_that_nobody_knows() -> None:
    with pytest.raises(HookFailed, match=r"no\.such\.name\.invalid: ."):
        webhook.post("http://no.such.name.invalid/", b"{}", {}, timeout_s=LIMIT_S)
    with pytest.raises(HookFailed):
        webhook.post(f"http://{'a' * 70}.invalid/", b"{}", {}, timeout_s=LIMIT_S)


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path)


def put(folder: Path, text: str) -> None:
    (folder / "job").write_text(text)
    (folder / "job").chmod(0o755)


def test_a_program_that_prints_for_ever_is_ended(programs: Programs, tmp_path: Path) -> None:
    put(tmp_path, "#!/bin/sh\nexec yes\n")
    begin = time.monotonic()
    with pytest.raises(HookFailed, match=f"more than {MOST_PRINTED_BYTES >> 20} MiB"):
        programs.run(["job"], b"{}", timeout_s=60)
    assert time.monotonic() - begin < 30


def test_what_a_program_leaves_running_ends_with_it(programs: Programs, tmp_path: Path) -> None:
    put(tmp_path, "#!/bin/sh\nsleep 300 &\necho $!\n")
    left = int(programs.run(["job"], b"{}", timeout_s=60))
    deadline = time.monotonic() + 60
    while is_running(left) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_running(left)


def test_a_program_cannot_steer_a_terminal(programs: Programs, tmp_path: Path) -> None:
    put(tmp_path, "#!/bin/sh\nprintf 'a\\033[2Jb\\nc'\n")
    assert programs.run(["job"], b"{}", timeout_s=60) == "a\ufffd[2Jb\nc"


def is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


KILLED = """
import sys
from pathlib import Path
from edgewright.fleet.artifacts import Artifacts
from edgewright.fleet.hooks.worker import HookWorker
from edgewright.fleet.service import Fleet
from edgewright.fleet.store.database import Database

data = Path(sys.argv[1])
fleet = Fleet(Database(data), Artifacts(data / "artifacts"), now=lambda: float(sys.argv[2]))
HookWorker(fleet, clock=fleet.now).step(fleet.now())
"""


def test_a_call_in_which_the_server_is_killed_is_made_again_a_bounded_number_of_times(tmp_path: Path) -> None:
    """A job that takes the whole memory takes the server with it, each time."""
    put_rule(tmp_path)
    put(tmp_path / "hooks", "#!/bin/sh\necho x >>tries\nkill -9 $PPID\n")
    now_s = 1000.0
    for _ in range(3):
        ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(now_s)], check=False, timeout=60)
        assert ended.returncode in (0, -signal.SIGKILL)
        now_s += 4000
    database = Database(tmp_path)
    with database.read() as connection:
        (call,) = alerts.calls_of(connection, ["a-1"])
        assert connection.execute(schema.audit.select()).all()[-1].action == "hook.failed"
    database.close()
    assert (call.attempts, call.is_done) == (5, False)
    assert call.ended_s is not None
    assert "server ended" in call.reason
    assert (tmp_path / "hooks" / "tries").read_text().count("x") == 2


def put_rule(directory: Path) -> None:
    database = Database(directory)
    (directory / "hooks").mkdir()
    rule = rule_from(
        {"name": "r", "model": "m", "metric": "inputs", "command": {"argv": ["job"]}},
        where="rule",
    )
    with database.write() as connection:
        alerts.put_rule(connection, alerts.StoredRule(rule=rule, secret=b"", created_s=0.0, next_s=0))
        alerts.add_call(
            connection,
            alerts.HookCall(
                call="c-1",
                rule="r",
                alert="a-1",
                kind="command",
                event="raised",
                body=b"{}",
                attempts=3,  # of five
                due_s=0.0,
                created_s=0.0,
            ),
        )
    database.close()
