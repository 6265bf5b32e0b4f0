"""The agent's end of the control channel, against processes that end badly."""

from __future__ import annotations

import socket
import subprocess
import sys
import time

import pytest

from edgewright.runtime.agent.loop import VirtualLoop
from edgewright.runtime.agent.server_process import _Run, describe_exit
from edgewright.runtime.control import Drain, Reply

READY = r'{"type": "ready", "incarnation": "i"}\n'


@pytest.mark.parametrize(
    ("code", "replies", "reason"),
    [
        ("import time; time.sleep(0.3)", 0, "exit code 0"),  # our request was never read: the channel is reset
        (f"s.sendall(b'{READY}'); s.recv(1000)", 1, "exit code 0"),
        ("s.sendall(b'nonsense\\n'); s.recv(1000); s.recv(1000)", 0, "no reply"),
        ("import os; os.kill(os.getpid(), 11)", 0, "killed by SIGSEGV"),
    ],
    ids=["unread", "ready", "nonsense", "segfault"],
)
def test_end_of_a_server_is_always_told(code: str, replies: int, reason: str) -> None:
    ours, theirs = socket.socketpair()
    preamble = f"import socket; s = socket.socket(fileno={theirs.fileno()}); "
    with theirs:
        process = subprocess.Popen([sys.executable, "-c", preamble + code], pass_fds=(theirs.fileno(),))
    loop = VirtualLoop()
    heard: list[Reply] = []
    gone: list[str] = []
    run = _Run(process, ours)
    run.send(Drain(id=1))
    run.listen(loop, heard.append, gone.append)
    loop.settle()
    assert len(heard) == replies
    assert len(gone) == 1
    assert reason in gone[0]


def test_server_that_closes_its_channel_and_stays_is_ended() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    loop = VirtualLoop()
    gone: list[str] = []
    begun_s = time.monotonic()
    _Run(process, ours).listen(loop, lambda _: None, gone.append)
    loop.settle()
    assert time.monotonic() - begun_s < 60
    assert gone == ["it closed its control channel and did not end"]


def test_exit_codes_in_words() -> None:
    assert describe_exit(3) == "exit code 3"
    assert describe_exit(-9) == "killed by SIGKILL"
    assert describe_exit(-200) == "killed by signal 200"
