"""Who is to blame for a crash, and what follows: rules, and the guard that carries them out in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.runtime.agent import blame
from edgewright.runtime.agent.blame import Memory, is_workers_own_fault, suspects
from edgewright.runtime.agent.breaker_memory import BreakerMemory
from edgewright.runtime.agent.guard import Guard
from edgewright.runtime.agent.loop import VirtualLoop
from edgewright.runtime.agent.model_state import Slot
from edgewright.runtime.black_box import Executing
from edgewright.runtime.control import BreakerMoved, BreakerState
from edgewright.runtime.memory_storage import MemoryStorage
from edgewright.runtime.serving import BreakerSettings, ModelSettings
from edgewright.runtime.storage import LocalStorage

KWS, DIGITS = ("kws", "1"), ("digits", "1")
FRESH = Memory(model="kws", version="1", bundle="sha256:1")


def strike(memory: Memory, now_s: float, share: float = 1.0) -> Memory:
    return blame.struck(memory, now_s, share, "killed by SIGSEGV", first_s=1.0, longest_s=60.0)


@pytest.mark.parametrize(
    ("executing", "loading", "reason", "hung", "found"),
    [
        ([KWS], None, "killed by SIGSEGV", None, (KWS,)),
        ([KWS], None, "exit code 7", None, (KWS,)),
        ([KWS], None, "exit code 1", None, ()),
        ([], DIGITS, "killed by SIGABRT", None, (DIGITS,)),
        ([KWS, KWS], DIGITS, "killed by SIGSEGV", None, (KWS, DIGITS)),
        ([], None, "killed by SIGSEGV", None, ()),
        ([KWS], None, "killed by SIGKILL", None, ()),
        ([KWS], None, "killed by SIGTERM", None, ()),
        ([KWS], None, "it did not answer", "stopped", ()),
        ([KWS], None, "it did not answer", "stuck", (KWS,)),
        ([KWS], None, "it did not answer", "busy", (KWS,)),
    ],
)
def test_suspects(
    executing: list[tuple[str, str]],
    loading: tuple[str, str] | None,
    reason: str,
    hung: str | None,
    found: tuple[tuple[str, str], ...],
) -> None:
    assert suspects(executing, loading, reason, hung) == found


@pytest.mark.parametrize(
    ("reason", "own"),
    [
        ("killed by SIGSEGV", True),
        ("exit code 1", True),
        ("it did not answer for 0.2 s", True),
        ("killed by SIGKILL", False),
        ("killed by SIGTERM", False),
        ("the model's process has ended: it is stopped (SIGSTOP); it is being started again", False),
    ],
)
def test_a_worker_that_somebody_kills_or_stops_is_not_its_models_fault(reason: str, own: bool) -> None:
    assert is_workers_own_fault(reason) is own


def test_pauses_double_to_a_limit_and_the_third_crash_in_ten_minutes_is_the_last() -> None:
    first = strike(FRESH, 100.0)
    assert (first.state, first.until_s) == ("open", 101.0)
    second = strike(first, 110.0)
    assert (second.state, second.until_s) == ("open", 112.0)
    third = strike(second, 120.0)
    assert third.state == "out"
    assert "3 times within 10 min" in third.reason
    assert blame.pause_left_s(third, 1e9, longest_s=60.0) is None
    memory = FRESH
    for number in range(12):
        memory = strike(memory, 1000.0 * number)
        assert memory.state == "open"
    assert memory.until_s - 11_000.0 == 60.0


def test_models_that_were_executed_together_share_a_strike() -> None:
    memory = FRESH
    for number in range(5):
        memory = strike(memory, float(number), share=0.5)
        assert memory.state == "open"
    assert strike(memory, 5.0, share=0.5).state == "out"


def test_trust_comes_back_after_a_minute_of_service() -> None:
    tried = blame.tried(strike(FRESH, 0.0), 1.0)
    assert tried.state == "half_open"
    assert blame.steady(tried, 60.9).state == "half_open"
    closed = blame.steady(tried, 61.0)
    assert (closed.state, closed.pauses) == ("closed", 0)
    assert strike(closed, 62.0).until_s == 63.0


@given(
    events=st.lists(st.tuples(st.sampled_from(["strike", "half", "try", "steady"]), st.floats(-1e5, 1e5)), max_size=40)
)
def test_no_clock_makes_a_pause_longer_than_the_limit_or_a_memory_grow(events: list[tuple[str, float]]) -> None:
    memory, now_s = FRESH, 1e9
    for what, after_s in events:
        now_s += after_s
        match what:
            case "strike":
                memory = strike(memory, now_s)
            case "half":
                memory = strike(memory, now_s, 0.5)
            case "try":
                memory = blame.tried(memory, now_s)
            case _:
                memory = blame.steady(memory, now_s)
        left_s = blame.pause_left_s(memory, now_s, longest_s=60.0)
        assert (left_s is None) == (memory.state == "out")
        assert left_s is None or 0 <= left_s <= 60.0
        assert len(memory.strikes) <= 32


class PlayedServer:
    """Keeps what it is told to load; the test answers."""

    def __init__(self) -> None:
        self.loads: list[tuple[str, str, BreakerState]] = []
        self.unloads: list[str] = []
        self.answers: list[Callable[[str | None], None]] = []

    def load(
        self,
        model: str,
        slot: Slot,
        directory: Path,
        done: Callable[[str | None], None],
        *,
        settings: ModelSettings,
        breaker: BreakerState,
        beside: bool,
    ) -> None:
        del directory, settings, beside
        self.loads.append((model, slot.version, breaker))
        self.answers.append(done)

    def unload(self, model: str, version: str | None = None) -> None:
        del version
        self.unloads.append(model)


class Stage:
    """A guard on a virtual loop, whose clock starts at 1000."""

    def __init__(self, path: Path) -> None:
        self.loop = VirtualLoop()
        self.server = PlayedServer()
        self.memory = BreakerMemory(LocalStorage(), path)
        settings = ModelSettings(breaker=BreakerSettings(open_s=1.0, max_open_s=60.0))
        self.guard = Guard(self.loop, self.server, self.memory, lambda _: settings, self.now_s)
        self.answers: list[str | None] = []

    def now_s(self) -> float:
        return 1000.0 + self.loop.now_s

    def load(self, model: str = "kws", version: str = "1") -> None:
        slot = Slot(bundle=f"sha256:{version}", version=version, security_epoch=0, peak_bytes=0, command="c")
        self.guard.load(model, slot, Path("/x"), self.answers.append)

    def crash(self, *executing: tuple[str, str], since_ns: int = 1) -> frozenset[str]:
        at_work = [Executing(model, version, since_ns) for model, version in executing]
        return self.guard.crashed(at_work, None, reason="killed by SIGSEGV", verdict=None, now_ns=10**9)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path / "breakers.json")


def test_blamed_model_waits_is_tried_and_others_load_at_once(stage: Stage) -> None:
    stage.load("kws")
    stage.load("digits")
    assert stage.crash(KWS) == {"kws"}
    stage.server.loads.clear()
    stage.load("kws")
    stage.load("digits")
    assert stage.server.loads == [("digits", "1", "closed")]
    stage.loop.advance(1.1)
    assert stage.server.loads[-1] == ("kws", "1", "half_open")
    stage.server.answers[-1](None)
    stage.loop.advance(61.0)
    kept = stage.memory.get("kws", "sha256:1")
    assert kept is not None
    assert kept.state == "closed"


def test_models_that_are_executed_together_have_half_the_blame_each(stage: Stage) -> None:
    stage.load("kws")
    stage.load("digits")
    for _ in range(5):
        assert stage.crash(KWS, DIGITS) == {"kws", "digits"}
    assert [memory.state for memory in stage.memory] == ["open", "open"]
    stage.crash(KWS, DIGITS)
    assert [memory.state for memory in stage.memory] == ["out", "out"]


def test_third_crash_fails_the_load_with_the_reason_and_a_person_can_forgive(stage: Stage) -> None:
    stage.load()
    for _ in range(3):
        stage.loop.advance(5.0)
        stage.crash(KWS)
    stage.server.loads.clear()
    stage.load()
    stage.loop.settle()
    assert stage.server.loads == []
    assert "crashed 3 times" in (stage.answers[-1] or "")
    stage.guard.forgive("kws", "sha256:1")
    assert stage.server.loads == [("kws", "1", "closed")]


def test_memory_outlives_the_agent_and_another_bundle_is_innocent(stage: Stage, tmp_path: Path) -> None:
    stage.load()
    stage.crash(KWS)
    later = Stage(tmp_path / "breakers.json")
    later.load()
    assert later.server.loads == []
    later.load(version="2")
    assert later.server.loads == [("kws", "2", "closed")]


def test_worker_that_crashes_again_and_again_goes_back_too(stage: Stage) -> None:
    stage.load()
    for _ in range(3):
        stage.guard.breaker_moved(BreakerMoved(model="kws", version="1", state="open", crashed=True, reason="SIGSEGV"))
    assert "last: SIGSEGV" in (stage.answers[-1] or "")
    assert stage.server.unloads == ["kws"]
    stage.guard.breaker_moved(BreakerMoved(model="strange", version="1", state="open", crashed=True))


def test_execution_that_began_after_a_hang_is_not_blamed(stage: Stage) -> None:
    stage.load("kws")
    stage.load("digits")
    at_work = [Executing("kws", "1", 10**9), Executing("digits", "1", 5 * 10**9 - 1000)]
    assert stage.guard.crashed(at_work, None, reason="x", verdict="stuck", now_ns=5 * 10**9) == {"kws"}


def test_execution_beyond_its_limit_is_overdue(stage: Stage) -> None:
    executing = [Executing("kws", "1", 10**9)]
    assert stage.guard.overdue(executing, int(12.9e9)) is None
    assert "kws 1 was executed for 12.1 s" in (stage.guard.overdue(executing, int(13.1e9)) or "")


@given(content=st.binary(max_size=200))
def test_damaged_memory_is_an_empty_one(content: bytes) -> None:
    storage = MemoryStorage()
    storage.write(Path("/breakers.json"), content)
    assert list(BreakerMemory(storage, Path("/breakers.json"))) == []
