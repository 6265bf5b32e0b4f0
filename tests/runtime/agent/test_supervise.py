"""The supervisor with a server that the test plays."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from edgewright.runtime.agent.crashes import LOOP_CRASHES, MAX_DELAY_S, CrashHistory
from edgewright.runtime.agent.loop import VirtualLoop
from edgewright.runtime.agent.model_state import Slot
from edgewright.runtime.agent.supervise import Crash, Supervisor, Watch
from edgewright.runtime.agent.vital_signs import Signs
from edgewright.runtime.control import Done, Drain, Failed, Load, Ping, Ready, Reply, Request

SLOT = Slot(bundle="sha256:a", version="1", security_epoch=0, peak_bytes=0, command="c")


class PlayedServer:
    """One run of a server: keeps what it is told, answers when the test says so."""

    def __init__(self, pid: int, on_reply: Callable[[Reply], None], on_gone: Callable[[str], None]) -> None:
        self.pid = pid
        self.say = on_reply
        self.die = on_gone
        self.requests: list[Request] = []
        self.signals: list[int] = []
        self.deaf = False
        self.black_box: Path | None = None
        self.paused = False
        self.state, self.cpu_ticks = "R", 0

    def send(self, request: Request) -> bool:
        self.requests.append(request)
        return not self.deaf

    def signal(self, number: int) -> None:
        self.signals.append(number)


class Stage:
    """A supervisor, its runs, and what it told the agent."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.runs: list[PlayedServer] = []
        self.heard: list[str] = []
        self.crashes: list[Crash] = []
        self.blame = False
        self.overdue: str | None = None
        self.supervisor = Supervisor(self.loop, self._spawn)
        self.supervisor.start()
        self.supervisor.watch(
            Watch(
                ping_interval_s=5.0,
                ping_deadline_s=30.0,
                clock=lambda: self.loop.now_s,
                look=self._look,
                overdue=lambda _: self.overdue,
                on_ready=lambda: self.heard.append("ready"),
                on_serving=lambda: self.heard.append("serving"),
                on_alive=lambda: self.heard.append("alive"),
                on_breaker=lambda moved: self.heard.append(f"breaker: {moved.model} {moved.state}"),
                on_crash=self._crashed,
                on_crash_loop=lambda reason: self.heard.append(f"loop: {reason}"),
                on_left=lambda: self.heard.append("left"),
            )
        )

    def _spawn(
        self, on_reply: Callable[[Reply], None], on_gone: Callable[[str], None], *, paused: bool
    ) -> PlayedServer:
        self.runs.append(PlayedServer(100 + len(self.runs), on_reply, on_gone))
        self.runs[-1].paused = paused
        return self.runs[-1]

    def _look(self, pid: int, at_s: float) -> Signs:
        run = self.runs[pid - 100]
        return Signs(at_s, run.state, run.cpu_ticks)

    def _crashed(self, crash: Crash) -> bool:
        self.crashes.append(crash)
        self.heard.append(f"crash: {crash.reason}")
        return self.blame

    @property
    def run(self) -> PlayedServer:
        return self.runs[-1]

    def load(self) -> list[str | None]:
        answers: list[str | None] = []
        self.supervisor.load("m", SLOT, Path("/x"), answers.append)
        return answers


def test_load_is_answered_or_refused_with_the_reason() -> None:
    stage = Stage()
    assert stage.load() == []  # no server is ready: nothing is asked
    assert stage.run.requests == []
    stage.run.say(Ready(incarnation="i1"))
    good, bad = stage.load(), stage.load()
    first, second = stage.run.requests
    assert isinstance(first, Load)
    stage.run.say(Failed(id=second.id, reason="golden"))
    stage.run.say(Done(id=first.id))
    stage.run.say(Done(id=first.id))
    assert (good, bad) == ([None], ["golden"])


def test_dead_server_is_started_again_after_a_growing_pause() -> None:
    stage = Stage()
    pauses = []
    for _ in range(4):
        stage.run.say(Ready(incarnation="i"))
        runs, died_s = len(stage.runs), stage.loop.now_s
        stage.run.die("killed by SIGSEGV")
        while len(stage.runs) == runs:
            stage.loop.advance(0.05)
        pauses.append(stage.loop.now_s - died_s)
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8], abs=0.06)
    assert stage.heard.count("crash: killed by SIGSEGV") == 4


def test_crash_loop_is_called_out_once() -> None:
    stage = Stage()
    for _ in range(LOOP_CRASHES):
        stage.run.die("exit code 1")
        stage.loop.advance(5.0)
    assert [line for line in stage.heard if line.startswith("loop")] == [
        "loop: crash loop: the server process ended: exit code 1"
    ]


def test_server_that_does_not_answer_a_ping_is_killed() -> None:
    stage = Stage()
    stage.run.say(Ready(incarnation="i"))
    stage.loop.advance(6.0)
    ping = stage.run.requests[-1]
    assert isinstance(ping, Ping)
    stage.run.say(Done(id=ping.id))
    assert "alive" in stage.heard
    stage.loop.advance(36.0)
    assert stage.run.signals == [signal.SIGKILL]
    stage.run.die("killed by SIGKILL")
    assert stage.heard[-1] == "crash: it did not answer for 30.0 s (busy)"


def test_server_that_never_becomes_ready_is_killed() -> None:
    stage = Stage()
    stage.loop.advance(61.0)
    assert stage.run.signals == [signal.SIGKILL]


def test_answers_of_a_dead_server_never_come() -> None:
    stage = Stage()
    stage.run.say(Ready(incarnation="i1"))
    answers = stage.load()
    stage.run.die("exit code 1")
    stage.loop.advance(400.0)
    assert answers == []


def test_ready_is_told_before_serving_and_serving_after_the_loads() -> None:
    stage = Stage()
    stage.run.say(Ready(incarnation="i1"))
    assert stage.heard == ["ready", "serving"]


def test_stop_drains_then_insists() -> None:
    stage = Stage()
    stage.run.say(Ready(incarnation="i1"))
    stopped: list[bool] = []
    stage.supervisor.stop(lambda: stopped.append(True))
    assert isinstance(stage.run.requests[-1], Drain)
    stage.loop.advance(10.0)
    assert stage.run.signals == [signal.SIGTERM, signal.SIGKILL]
    stage.run.die("killed by SIGKILL")
    assert stopped == [True]
    stage.loop.advance(100.0)
    assert len(stage.runs) == 1


def test_crash_delays_grow_to_a_limit_and_forget_after_a_steady_run() -> None:
    history = CrashHistory()
    delays = [history.crashed(now_s=1000.0 * n, uptime_s=1.0) for n in range(20)]
    assert delays[0] == pytest.approx(0.1)
    assert delays == sorted(delays)
    assert delays[-1] == MAX_DELAY_S
    assert not history.take_loop()
    assert history.crashed(now_s=10**6, uptime_s=3600.0) == pytest.approx(0.1)
