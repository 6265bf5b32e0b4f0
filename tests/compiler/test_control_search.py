"""The search on models of nets whose noise adds, and whose drop grows with it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.compiler.control.search import MAX_EVALUATIONS, Goal, Proposal, search
from edgewright.compiler.metrics import Z_95, Comparison, Estimate
from edgewright.compiler.quantize.plan import Operator, Plan
from edgewright.compiler.quantize.scheme import Scheme

EMPTY = Plan(model_digest="sha256:0", scheme=Scheme())


class AdditiveNet:
    """Operators with noise of their own; float ones have none and cost more. The plan says which are float."""

    def __init__(self, noises: list[float], costs: list[float], drop_of: Callable[[float], float]) -> None:
        self.noises, self.costs, self.drop_of = noises, costs, drop_of
        self.width = 0.0
        self.asked: list[float] = []
        self.evaluated = 0

    def proposal(self, floats: int) -> Proposal:
        """The noisiest `floats` operators are float."""
        order = sorted(range(len(self.noises)), key=lambda index: -self.noises[index])[:floats]
        return Proposal(
            plan=Plan(
                model_digest=EMPTY.model_digest,
                scheme=EMPTY.scheme,
                operators={str(index): Operator(compute="float") for index in order},
            ),
            repairs={str(index): "float" for index in order},
            latency_ms=1.0 + sum(self.costs[index] for index in order),
            noise=sum(noise for index, noise in enumerate(self.noises) if index not in order),
        )

    def solve(self, bound: float) -> Proposal | None:
        self.asked.append(bound)
        proposals = [self.proposal(floats) for floats in range(len(self.noises) + 1)]
        return next((proposal for proposal in proposals if proposal.noise <= bound), None)

    def score(self, plan: Plan) -> Comparison:
        self.evaluated += 1
        noise = sum(noise for index, noise in enumerate(self.noises) if str(index) not in plan.operators)
        drop = self.drop_of(noise)
        return Comparison(
            "agreement",
            "points",
            Estimate(1 - drop, 0, 1),
            1.0,
            Estimate(drop, drop - self.width, drop + self.width),
            100,
            0.0,
            None,
        )


NETS = st.builds(
    AdditiveNet,
    st.lists(st.floats(0.01, 10), min_size=3, max_size=8),
    st.lists(st.floats(0.01, 1), min_size=8, max_size=8),
    st.sampled_from([lambda noise: 0.1 * math.sqrt(noise), lambda noise: 0.03 * noise, lambda noise: noise > 2.0]),
)


def goal(limit: float, worth_ms: float, margin: float = 0.0) -> Goal:
    return Goal(limit=limit, worth_ms=worth_ms, margin=margin)


def test_a_plan_that_keeps_the_budget_takes_one_evaluation() -> None:
    net = AdditiveNet([1.0, 1.0], [0.5, 0.5], lambda _: 0.01)
    found = search(net.proposal(0), net.solve, net.score, goal(0.02, 3.0))
    assert found.best is not None
    assert (found.best.proposal.repairs, net.evaluated, net.asked) == ({}, 1, [])


def test_one_bad_operator_is_found_in_two_evaluations() -> None:
    net = AdditiveNet([0.01, 50.0, 0.02, 0.01], [0.5, 0.1, 0.5, 0.5], lambda noise: 0.01 * math.sqrt(noise))
    found = search(net.proposal(0), net.solve, net.score, goal(0.01, 3.0))
    assert found.best is not None
    assert found.best.proposal.repairs == {"1": "float"}
    assert net.evaluated == 2


@given(NETS, st.floats(0.0, 0.5), st.floats(0.5, 6))
def test_what_is_called_the_best_keeps_the_budget_and_beats_float(
    net: AdditiveNet, limit: float, worth_ms: float
) -> None:
    found = search(net.proposal(0), net.solve, net.score, goal(limit, worth_ms))
    assert net.evaluated == len(found.steps) <= MAX_EVALUATIONS
    if found.best is not None:
        assert net.score(found.best.proposal.plan).drop.value <= limit
        assert found.best.proposal.latency_ms < worth_ms
        for step in found.steps:
            assert not step.within or step.proposal.latency_ms >= found.best.proposal.latency_ms


@given(NETS, st.floats(0.001, 0.5))
def test_where_float_cannot_run_a_plan_within_the_budget_is_found_if_the_quietest_is_one(
    net: AdditiveNet, limit: float
) -> None:
    found = search(net.proposal(0), net.solve, net.score, goal(limit, math.inf), max_evaluations=40)
    assert found.best is not None  # the last proposal adds no noise at all


@given(NETS, st.floats(0.001, 0.5))
def test_no_plan_is_evaluated_twice(net: AdditiveNet, limit: float) -> None:
    found = search(net.proposal(0), net.solve, net.score, goal(limit, math.inf), max_evaluations=40)
    plans = [tuple(sorted(step.proposal.repairs)) for step in found.steps]
    assert len(set(plans)) == len(plans)


def test_repairs_that_are_no_faster_than_float_are_not_evaluated() -> None:
    net = AdditiveNet([5.0, 5.0], [10.0, 10.0], lambda noise: noise)
    found = search(net.proposal(0), net.solve, net.score, goal(1.0, 4.0))
    assert found.best is None
    assert found.too_slow is not None
    assert net.evaluated == 1


def test_a_good_plan_that_is_slower_than_float_is_tried_with_less_in_integers() -> None:
    net = AdditiveNet([1.0, 0.5], [-0.5, 0.2], lambda _: 0.0)
    found = search(net.proposal(0), lambda _: net.proposal(1), net.score, goal(0.01, 0.8))
    assert found.best is not None
    assert found.best.proposal.repairs == {"0": "float"}


def lucky(noise: float) -> float:
    """Too much above 1, but for what lies around 5."""
    return 0.0 if noise <= 1 or 4.5 < noise < 5.5 else 0.03


@pytest.mark.parametrize(("width", "floats"), [(0.1, 1), (0.01, 3)])
def test_louder_plans_are_tried_where_a_miss_may_have_been_chance(width: float, floats: int) -> None:
    net = AdditiveNet([4.0, 3.0, 1.0, 0.9], [0.2] * 4, lucky)
    net.width = width
    found = search(net.proposal(0), net.solve, net.score, goal(0.02, 3.0))
    assert found.best is not None
    assert len(found.best.proposal.repairs) == floats
    assert net.evaluated <= 5


def test_nothing_is_evaluated_that_could_save_no_time_worth_speaking_of() -> None:
    costly = AdditiveNet([1.0, 1.0, 1.0, 1.0, 1.0, 1.0], [0.1] * 6, lambda noise: 0.011 * noise)
    cheap = AdditiveNet(costly.noises, [0.001] * 6, costly.drop_of)
    for net in (costly, cheap):
        found = search(net.proposal(0), net.solve, net.score, goal(0.04, 3.0))
        assert found.best is not None
    assert (cheap.evaluated, costly.evaluated) == (2, 4)


def test_a_safe_plan_comes_first_and_one_within_the_budget_where_there_is_none() -> None:
    net = AdditiveNet([4.0, 2.0, 1.0], [0.5, 0.5, 0.5], lambda noise: 0.01 * noise)
    net.width = 0.025 * Z_95
    found = search(net.proposal(0), net.solve, net.score, goal(0.04, 9.0, margin=1.0))
    assert [(len(step.proposal.repairs), step.safe) for step in found.good] == [(2, True), (1, False)]
    found = search(net.proposal(0), net.solve, net.score, goal(0.04, 2.0, margin=1.0))
    assert [(len(step.proposal.repairs), step.safe) for step in found.good] == [(1, False)]


def test_the_margin_is_that_of_the_plan_itself() -> None:
    """The plain plan's drop is large and unsure; that of a repaired one is neither."""
    net = AdditiveNet([90.0, 1.0], [0.5, 0.5], lambda noise: 0.01 * noise)

    def score(plan: Plan) -> Comparison:
        found = net.score(plan)
        return replace(found, drop=Estimate(found.drop.value, 0.0, 2 * found.drop.value))

    found = search(net.proposal(0), net.solve, score, goal(0.05, 9.0, margin=1.0))
    assert found.best is not None
    assert (len(found.best.proposal.repairs), found.best.safe) == (1, True)


def test_where_no_plan_is_safe_the_one_with_the_least_drop_is_likeliest_to_keep_the_budget() -> None:
    net = AdditiveNet([4.0, 2.0, 1.0], [0.5, 0.5, 0.5], lambda noise: 0.01 * noise)
    net.width = 0.4
    found = search(net.proposal(0), net.solve, net.score, goal(0.08, 9.0, margin=1.0))
    drops = [step.comparison.drop.value for step in found.good]
    assert len(drops) > 1
    assert drops == sorted(drops)
    assert not any(step.safe for step in found.good)
