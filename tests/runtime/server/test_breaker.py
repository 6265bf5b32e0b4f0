"""The breaker: moves by the table, pauses that double, one try at a time; and the endpoint that asks it."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edgewright.runtime.control import BreakerState
from edgewright.runtime.server.assembly import assemble
from edgewright.runtime.server.breaker import Breaker, Ticket
from edgewright.runtime.server.guarded import Guarded
from edgewright.runtime.server.pipeline import Deliver, Job, Outcome
from edgewright.runtime.server.refusal import Refusal
from edgewright.runtime.serving import BreakerSettings, ModelSettings
from tests.runtime.server.pipeline_stand_ins import Client, HeldModel

SETTINGS = BreakerSettings(failures=3, open_s=1.0, max_open_s=8.0)


def fail(breaker: Breaker, now_s: float, times: int = 1) -> None:
    for _ in range(times):
        ticket = breaker.admit(now_s)
        assert ticket is not None
        breaker.failed(ticket, now_s)


def test_it_opens_after_failures_in_a_row_and_a_success_between_them_counts_anew() -> None:
    breaker = Breaker(SETTINGS)
    fail(breaker, 0, 2)
    breaker.succeeded(0, 0)
    fail(breaker, 0, 2)
    assert breaker.state == "closed"
    fail(breaker, 0)
    assert (breaker.state, breaker.admit(0.99)) == ("open", None)


def test_half_open_lets_one_through_at_a_time() -> None:
    breaker = Breaker(SETTINGS)
    fail(breaker, 0, 3)
    probe = breaker.admit(1.0)
    assert probe is not None
    assert (breaker.state, breaker.admit(1.0), breaker.admit(5.0)) == ("half_open", None, None)
    breaker.release(probe)  # shed: it said nothing
    again = breaker.admit(5.0)
    assert again is not None
    breaker.succeeded(again, 5.0)
    assert (breaker.state, breaker.failures) == ("closed", 0)


def test_pauses_double_up_to_the_longest_and_begin_anew_after_a_success() -> None:
    breaker = Breaker(SETTINGS)
    fail(breaker, 0, 3)
    pauses, now_s = [breaker.pause_left_s(0)], 0.0
    for _ in range(5):
        now_s = breaker.open_until_s
        fail(breaker, now_s)
        pauses.append(breaker.pause_left_s(now_s))
    assert pauses == [1, 2, 4, 8, 8, 8]
    now_s = breaker.open_until_s
    ticket = breaker.admit(now_s)
    assert ticket is not None
    breaker.succeeded(ticket, now_s)
    fail(breaker, now_s, 3)
    assert breaker.pause_left_s(now_s) == pytest.approx(1)


def test_what_was_admitted_before_a_move_changes_nothing_after_it() -> None:
    breaker = Breaker(SETTINGS)
    early = breaker.admit(0)
    assert early is not None
    fail(breaker, 0, 3)
    breaker.succeeded(early, 0.5)
    assert breaker.state == "open"
    assert breaker.admit(1.0) is not None
    breaker.succeeded(early, 1.0)
    breaker.failed(early, 1.0)
    assert (breaker.state, breaker.admit(1.0)) == ("half_open", None)


def test_a_lost_process_opens_it_at_once_and_its_return_ends_the_pause() -> None:
    breaker = Breaker(SETTINGS)
    breaker.lost(0)
    breaker.lost(0)  # the execution and the supervisor both say it
    assert (breaker.state, breaker.failures, breaker.pause_left_s(0)) == ("open", 1, 1)
    assert breaker.admit(1000.0) is None  # nothing could run it
    breaker.back(0.1)
    breaker.lost(0.1, ticket=0)  # a job that the old process took with it
    ticket = breaker.admit(0.1)
    assert ticket is not None
    breaker.succeeded(ticket, 0.2)
    assert breaker.state == "closed"


class BreakerMachine(RuleBasedStateMachine):
    """Any order of events, against what a breaker must never do."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(SETTINGS)
        self.now_s = 0.0
        self.tickets: list[Ticket] = []
        self.probes: set[Ticket] = set()
        self.away = False

    @rule(step_s=st.floats(0, 20))
    def wait(self, step_s: float) -> None:
        self.now_s += step_s

    @rule()
    def admit(self) -> None:
        left_s, admits = self.breaker.pause_left_s(self.now_s), self.breaker.admits(self.now_s)
        ticket = self.breaker.admit(self.now_s)
        assert admits == (ticket is not None)
        assert ticket is None or (left_s == 0 and not self.away)
        if self.breaker.state == "half_open":
            assert ticket is None or ticket not in self.probes, "two probes at one time"
            if ticket is not None:
                self.probes.add(ticket)
        if ticket is not None:
            self.tickets.append(ticket)

    @rule(end=st.sampled_from(["succeeded", "failed", "release"]), place=st.integers(0, 9))
    def finish(self, end: str, place: int) -> None:
        if not self.tickets:
            return
        ticket = self.tickets.pop(place % len(self.tickets))
        self.probes.discard(ticket)
        if end == "release":
            self.breaker.release(ticket)
        else:
            getattr(self.breaker, end)(ticket, self.now_s)

    @rule()
    def lost(self) -> None:
        self.breaker.lost(self.now_s)
        self.away = True
        assert self.breaker.state == "open"

    @rule()
    def back(self) -> None:
        was, self.away = self.breaker.state, False
        self.breaker.back(self.now_s)
        assert self.breaker.state == ("closed" if was == "closed" else "half_open")

    @invariant()
    def bounded(self) -> None:
        assert 0 <= self.breaker.pause_left_s(self.now_s) <= SETTINGS.max_open_s + 1e-6
        assert self.breaker.state != "closed" or self.breaker.failures < SETTINGS.failures


TestBreakerMachine = BreakerMachine.TestCase


@given(st.lists(st.booleans(), max_size=40))
def test_closed_it_opens_exactly_at_the_first_run_of_failures(ends: list[bool]) -> None:
    breaker, run = Breaker(SETTINGS), 0
    for good in ends:
        ticket = breaker.admit(0)
        if ticket is None:
            break
        (breaker.succeeded if good else breaker.failed)(ticket, 0)
        run = 0 if good else run + 1
        assert (breaker.state == "open") == (run == SETTINGS.failures)


class Guard:
    """A guarded model whose tests end its jobs."""

    def __init__(self, state: BreakerState = "closed", **settings: float) -> None:
        self.model = HeldModel()
        self.told: list[tuple[BreakerState, bool]] = []
        wanted = ModelSettings(breaker=BreakerSettings(**{"failures": 2, "open_s": 30.0, **settings}))  # type: ignore[arg-type]
        self.endpoint: Guarded = assemble(
            self.model, wanted, moved=lambda state, _, crashed: self.told.append((state, crashed)), state=state
        ).endpoint
        self.client = Client(self.endpoint)

    def end(self, status: int, *, lost: bool = False) -> None:
        self.client.ask()
        self.model.refuse(status, lost=lost) if status != 200 else self.model.answer()


def test_only_the_models_own_failures_open_it() -> None:
    guard = Guard()
    for status in (400, 404, 429, 499, 503, 504) * 2:
        guard.end(status)
    assert guard.endpoint.breaker.state == "closed"
    guard.end(500)
    guard.end(400)  # says nothing of the model, so the row goes on
    guard.end(500)
    assert guard.told == [("open", False)]
    with pytest.raises(Refusal) as caught:
        guard.client.ask()
    assert caught.value.status == 503
    assert caught.value.headers == ((b"retry-after", b"30"),)
    assert "2 times in a row" in caught.value.message
    assert guard.model.held == []


def test_a_shed_probe_makes_room_for_the_next_and_a_good_one_closes() -> None:
    guard = Guard(state="half_open")
    guard.model.full = True
    with pytest.raises(Refusal, match="too many"):
        guard.client.ask()
    guard.model.full = False
    guard.client.ask()
    with pytest.raises(Refusal, match="being tried"):
        guard.client.ask()
    guard.model.answer()
    guard.end(200)
    assert guard.told == [("closed", False)]
    assert guard.client.statuses == [200, 200]


def test_a_lost_worker_opens_it_until_it_is_back() -> None:
    guard = Guard()
    guard.end(500, lost=True)
    guard.endpoint.lost("killed by SIGSEGV")
    with pytest.raises(Refusal, match="left alone"):
        guard.client.ask()
    guard.endpoint.back()
    guard.end(200)
    assert guard.told == [("open", True), ("half_open", False), ("closed", False)]


def test_a_job_that_tells_of_a_loss_late_does_not_wait_for_a_return_that_was_told_already() -> None:
    guard = Guard()
    guard.endpoint.back()
    guard.end(500, lost=True)
    assert guard.endpoint.breaker.state == "open"
    assert guard.endpoint.breaker.admit(guard.endpoint.breaker.open_until_s) is not None


def test_a_try_that_cannot_even_begin_makes_room_for_the_next() -> None:
    def no_memory() -> None:
        raise MemoryError

    guard = Guard(state="half_open")
    guard.model.on_submit = no_memory
    with pytest.raises(MemoryError):
        guard.client.ask()
    guard.model.on_submit = lambda: None
    guard.end(200)
    assert guard.told == [("closed", False)]


def test_the_agents_memory_keeps_it_open_from_the_start() -> None:
    guard = Guard(state="half_open")
    guard.end(500)
    assert guard.told == [("open", False)]


def test_whoever_asks_before_reading_a_body_is_told_what_the_job_would_be_told() -> None:
    guard = Guard(state="half_open")
    assert guard.endpoint.turn_away() is None
    guard.client.ask()
    refusal = guard.endpoint.turn_away()
    assert refusal is not None
    assert (refusal.status, "being tried" in refusal.message) == (503, True)
    guard.model.refuse(500)
    refusal = guard.endpoint.turn_away()
    assert refusal is not None
    assert refusal.headers == ((b"retry-after", b"30"),)
    guard.endpoint.back()
    guard.end(200)
    assert guard.endpoint.turn_away() is None
    guard.model.full = True
    assert guard.endpoint.turn_away(3) is not None


@pytest.mark.parametrize("settings", [ModelSettings(cache_bytes=10_000), ModelSettings(coalesce=True)])
def test_nobody_is_turned_away_whom_another_answer_might_serve(settings: ModelSettings) -> None:
    model = HeldModel()
    model.full = True
    assert assemble(model, settings, moved=lambda *_: None).endpoint.turn_away() is None


class Instant:
    """Answers at once, to time what stands before it."""

    signature = HeldModel().signature
    outcome = Outcome({}, None, "digits", "1")

    def submit(self, job: Job, deliver: Deliver) -> None:
        del job
        deliver(self.outcome)


def test_the_closed_breaker_costs_about_a_microsecond() -> None:
    model = Instant()
    guarded = Guarded(model, Breaker(SETTINGS), lambda *_: None)
    job = Job({}, 1, 0)

    def took_s(endpoint: Instant | Guarded) -> float:
        times_s = []
        for _ in range(7):
            begun_s = time.perf_counter()
            for _ in range(1000):
                endpoint.submit(job, lambda _: None)
            times_s.append((time.perf_counter() - begun_s) / 1000)
        return min(times_s)

    added_us = (took_s(guarded) - took_s(model)) * 1e6
    print(f"closed breaker: {added_us:.2f} us")
    assert added_us < 10
