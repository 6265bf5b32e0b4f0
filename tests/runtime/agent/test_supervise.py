"""The supervisor with a server that the test plays."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from edgewright.runtime.agent.crashes import LOOP_CRASHES, MAX_DELAY_S, CrashHistory
from edgewright.runtime.agent.loop import VirtualLoop
from edgewright.runtime.agent.model_state import Slot
from edgewright.runtime.agent.supervise import Supervisor
from edgewright.runtime.agent.vital_signs import Signs
from edgewright.runtime.agent.watch import Crash, Watch
from edgewright.runtime.control import Accept, Done, Drain, Failed, Load, Ping, Ready, Reply, Request

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
        self.supervisor.orders.load("m", SLOT, Path("/x"), answers.append)
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
    assert stage.heard[-1] == "crash: it did not answer within 30 s"


def test_stopped_server_is_killed_at_once_and_a_stuck_one_after_a_second() -> None:
    for state, within_s in (("T", 0.6), ("S", 1.2)):
        stage = Stage()
        stage.run.say(Ready(incarnation="i"))
        stage.run.state = state
        stage.loop.advance(5.0)
        assert isinstance(stage.run.requests[-1], Ping)
        stage.loop.advance(within_s)
        assert stage.run.signals == [signal.SIGKILL]
        stage.run.die("killed by SIGKILL")
        assert stage.crashes[0].verdict == {"T": "stopped", "S": "stuck"}[state]


def test_slow_server_is_left_alone_until_the_deadline() -> None:
    stage = Stage()
    stage.run.say(Ready(incarnation="i"))
    stage.run.state = "S"
    stage.loop.advance(5.0)
    for _ in range(56):
        stage.run.cpu_ticks += 1
        stage.loop.advance(0.5)
    assert stage.run.signals == []
    stage.loop.advance(3.0)
    assert stage.run.signals == [signal.SIGKILL]


def test_server_that_answers_while_an_execution_hangs_is_killed() -> None:
    stage = Stage()
    stage.run.say(Ready(incarnation="i"))
    stage.loop.advance(5.0)
    stage.overdue = "m 1 was executed for 13.0 s and did not end"
    stage.run.say(Done(id=stage.run.requests[-1].id))
    assert stage.run.signals == [signal.SIGKILL]
    stage.run.die("killed by SIGKILL")
    assert (stage.crashes[0].reason, stage.crashes[0].verdict) == (stage.overdue, "busy")


def test_crash_that_a_model_is_to_blame_for_does_not_slow_the_restart_down() -> None:
    stage = Stage()
    stage.blame = True
    for _ in range(2 * LOOP_CRASHES):
        runs = len(stage.runs)
        stage.run.die("killed by SIGSEGV")
        stage.loop.advance(0.15)
        assert len(stage.runs) == runs + 1
    assert not [line for line in stage.heard if line.startswith("loop")]


def test_load_that_was_under_way_is_told() -> None:
    stage = Stage()
    stage.run.say(Ready(incarnation="i"))
    stage.load()
    stage.run.die("killed by SIGSEGV")
    assert stage.crashes[0].loading == ("m", "1")


def replaced(stage: Stage) -> list[str | None]:
    stage.run.say(Ready(incarnation="i1"))
    stage.load()
    stage.run.say(Done(id=stage.run.requests[-1].id))
    answers: list[str | None] = []
    stage.supervisor.replace(answers.append)
    return answers


def test_replacement_loads_the_same_then_accepts_then_the_old_one_leaves() -> None:
    stage = Stage()
    answers = replaced(stage)
    old, new = stage.runs
    assert (old.paused, new.paused) == (False, True)
    new.say(Ready(incarnation="i2"))
    assert isinstance(new.requests[-1], Load)
    assert stage.supervisor.alive == {"i1", "i2"}
    assert stage.supervisor.pid == old.pid
    new.say(Done(id=new.requests[-1].id))
    assert isinstance(new.requests[-1], Accept)
    assert answers == []
    new.say(Done(id=new.requests[-1].id))
    assert answers == [None]
    assert (stage.supervisor.pid, stage.supervisor.incarnation) == (new.pid, "i2")
    assert isinstance(old.requests[-1], Drain)
    old.die("exit code 0")
    assert stage.heard[-1] == "left"
    assert stage.supervisor.alive == {"i2"}
    stage.loop.advance(5.5)
    assert isinstance(new.requests[-1], Ping)
    assert stage.crashes == []


@pytest.mark.parametrize("end", ["refuses", "dies", "late", "change", "old dies"])
def test_replacement_that_fails_changes_nothing(end: str) -> None:
    stage = Stage()
    answers = replaced(stage)
    old, new = stage.runs
    if end == "late":
        for _ in range(20):
            stage.loop.advance(3.1)
            old.say(Done(id=old.requests[-1].id))
    else:
        new.say(Ready(incarnation="i2"))
    if end == "refuses":
        new.say(Failed(id=new.requests[-1].id, reason="no memory"))
    elif end == "dies":
        new.die("killed by SIGSEGV")
    elif end == "change":
        stage.load()
    elif end == "old dies":
        old.die("killed by SIGSEGV")
    assert len(answers) == 1
    assert answers[0]
    if end != "dies":
        assert new.signals == [signal.SIGKILL]
        new.die("killed by SIGKILL")
    assert stage.crashes == [] if end != "old dies" else len(stage.crashes) == 1
    if end != "old dies":
        assert stage.supervisor.incarnation == "i1"
        assert not any(isinstance(request, Drain) for request in old.requests)


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
