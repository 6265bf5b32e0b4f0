"""Identical requests under way at one time run once, and nobody suffers from what befalls the one that runs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.runtime.server.assembly import assemble
from edgewright.runtime.server.pipeline import Outcome, SequenceStep
from edgewright.runtime.server.refusal import Refusal
from edgewright.runtime.serving import BreakerSettings, ModelSettings
from tests.runtime.server.pipeline_stand_ins import Client, HeldModel


def coalesced(**settings: Any) -> tuple[HeldModel, Client]:
    model = HeldModel()
    return model, Client(assemble(model, ModelSettings(coalesce=True, **settings), moved=lambda *_: None).endpoint)


def test_identical_requests_run_once_and_others_run_too() -> None:
    model, client = coalesced()
    for value in (1, 1, 2, 1):
        client.ask(value)
    assert len(model.held) == 2
    model.answer(5)
    assert [float(outcome.outputs["y"][0]) for outcome in client.outcomes if outcome.outputs] == [5, 5, 5]
    assert len(model.shared) == 2
    client.outcomes[0].notes["arm"] = "a"
    assert client.outcomes[1].notes == {}
    client.ask(1)  # the flight is over: this one runs
    assert len(model.held) == 2


@pytest.mark.parametrize("status", [429, 499, 503, 504])
def test_a_leader_that_is_shed_or_late_hands_over(status: int) -> None:
    model, client = coalesced()
    for _ in range(3):
        client.ask(1)
    model.refuse(status)
    assert client.statuses == [status]
    assert len(model.held) == 1
    model.answer()
    assert client.statuses == [status, 200, 200]


def test_a_cancelled_leader_hands_over_to_one_that_still_waits() -> None:
    model, client = coalesced()
    leader, gone, waiting = client.ask(1), client.ask(1), client.ask(1)
    leader.cancel()
    gone.cancel()
    model.refuse(500)
    assert [job for job, _ in model.held] == [waiting]
    model.answer()
    assert sorted(client.statuses) == [200, 200, 500]


def test_a_model_that_fails_or_is_lost_fails_for_all_and_is_not_tried_again() -> None:
    for lost in (False, True):
        model, client = coalesced()
        for _ in range(3):
            client.ask(1)
        model.refuse(503 if lost else 500, lost=lost)
        assert len(set(client.statuses)) == 1
        assert (len(client.statuses), model.held) == (3, [])


def test_where_nothing_is_taken_any_more_everybody_is_told() -> None:
    model, client = coalesced()
    for _ in range(3):
        client.ask(1)
    model.full = True
    model.refuse(504)
    assert sorted(client.statuses) == [503, 503, 504]
    with pytest.raises(Refusal):
        client.ask(1)
    model.full = False
    client.ask(1)
    assert len(model.held) == 1


def test_who_would_give_up_sooner_than_the_leader_does_not_wait_for_it() -> None:
    model, client = coalesced()
    patient, hasty, late = (client.ask(1, deadline_ns=deadline_ns) for deadline_ns in (200, 100, 300))
    whoever = client.ask(1)
    assert [job for job, _ in model.held] == [patient, hasty]
    model.refuse(504)
    assert [job for job, _ in model.held] == [hasty, late], "of those that wait the first to give up leads"
    model.answer()
    model.answer()
    assert model.shared == [whoever]
    assert sorted(client.statuses) == [200, 200, 200, 504]


def test_whoever_cannot_take_an_answer_costs_no_other_theirs() -> None:
    def broken(_: Outcome) -> None:
        raise ConnectionError("gone")

    model, client = coalesced()
    client.ask(1)
    client.ask(1, broken)
    client.ask(1)
    model.answer()
    assert client.statuses == [200, 200]


def test_who_asks_for_the_same_again_while_being_refused_leads_a_flight_of_its_own() -> None:
    """A pipelined request comes while the answer of the one before it is written."""
    model, client = coalesced()

    def ask_again(outcome: Outcome) -> None:
        client.outcomes.append(outcome)
        model.full = False
        client.ask(1)
        model.full = True

    client.ask(1)
    client.ask(1, ask_again)
    client.ask(1)
    model.full = True
    model.refuse(504)
    model.full = False
    model.answer()
    assert model.held == []
    assert sorted(client.statuses) == [200, 503, 503, 504]


def test_who_joins_a_leader_that_is_then_refused_is_answered() -> None:
    """The scheduler tells others that they are too late before it refuses one, and they may ask for the same."""
    model, client = coalesced()

    def somebody_joins() -> None:
        model.on_submit = lambda: None
        client.ask(1)

    model.full = True
    model.on_submit = somebody_joins
    with pytest.raises(Refusal):
        client.ask(1)
    assert client.statuses == [503]


def test_one_failure_that_many_share_is_one_for_the_breaker() -> None:
    model, client = coalesced(breaker=BreakerSettings(failures=2))
    for _ in range(5):
        client.ask(1)
    model.refuse(500)
    client.ask(1)
    assert len(model.held) == 1


def test_an_answer_from_the_cache_says_nothing_of_a_model_that_is_tried() -> None:
    model = HeldModel()
    settings = ModelSettings(cache_bytes=10_000, breaker=BreakerSettings(failures=1))
    guarded = assemble(model, settings, moved=lambda *_: None).endpoint
    client = Client(guarded)
    client.ask(1)
    model.answer()
    client.ask(2)
    model.refuse(500)
    guarded.back()
    client.ask(1)
    assert (client.statuses[-1], guarded.breaker.state) == (200, "half_open")
    client.ask(2)
    model.answer()
    assert guarded.breaker.state == "closed"


def test_priorities_and_sequences_do_not_share() -> None:
    model, client = coalesced()
    step = SequenceStep("s", start=True, end=False)
    for priority, sequence in ((0, None), (1, None), (0, step), (0, step)):
        client.ask(1, priority=priority, sequence=sequence)
    assert len(model.held) == 4


ACTIONS = st.one_of(
    st.tuples(st.just("ask"), st.integers(0, 2)),
    st.tuples(st.just("cancel"), st.integers(0, 20)),
    st.tuples(st.just("answer"), st.just(0)),
    st.tuples(st.just("refuse"), st.sampled_from([500, 503, 504])),
    st.tuples(st.just("full"), st.integers(0, 1)),
)


@given(st.lists(ACTIONS, max_size=60), st.booleans())
def test_every_job_that_was_taken_ends_once(actions: list[tuple[str, int]], cache: bool) -> None:
    model, client = coalesced(cache_bytes=10_000 if cache else 0)
    client_jobs, ends = [], 0
    for action, value in actions:
        if action == "ask":
            try:
                client_jobs.append(client.ask(value))
            except Refusal:
                assert model.full or client._endpoint.breaker.state != "closed"
        elif action == "cancel" and client_jobs:
            client_jobs[value % len(client_jobs)].cancel()
        elif action == "answer" and model.held:
            model.answer()
        elif action == "refuse" and model.held:
            model.refuse(value)
        elif action == "full":
            model.full = bool(value)
        ends = max(ends, len(client.outcomes))
    model.full = False
    for _ in range(200):
        if model.held:
            model.answer()
    assert len(client.outcomes) == len(client_jobs)
