"""The knapsack against trying everything, and what refining a choice may never do."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.compiler.control.knapsack import Option, solve
from edgewright.compiler.control.refine import refine

# Whole numbers, so that sums are exact whatever their order.
OPTIONS = st.builds(Option, latency_ms=st.integers(-5, 20).map(float), noise=st.integers(-10, 30).map(float))
MENUS = st.lists(st.lists(OPTIONS, min_size=1, max_size=4), max_size=5)


def total(menus: list[list[Option]], choices: tuple[int, ...]) -> Option:
    chosen = [menu[choice] for menu, choice in zip(menus, choices, strict=True)]
    return Option(sum(option.latency_ms for option in chosen), sum(option.noise for option in chosen))


def by_trying_all(menus: list[list[Option]], bound: float) -> Option | None:
    sums = [total(menus, choices) for choices in product(*(range(len(menu)) for menu in menus))]
    return min((one for one in sums if one.noise <= bound), key=lambda one: (one.latency_ms, one.noise), default=None)


@given(MENUS, st.data())
def test_the_answer_is_as_good_as_trying_everything(menus: list[list[Option]], data: st.DataObject) -> None:
    """The bound is what some choice just keeps, or just misses: there a lost state shows."""
    choices = tuple(data.draw(st.integers(0, len(menu) - 1)) for menu in menus)
    bound = total(menus, choices).noise - data.draw(st.sampled_from([0, 1]))
    found = solve(menus, bound)
    assert (None if found is None else total(menus, found)) == by_trying_all(menus, bound)


@given(MENUS, st.integers(-30, 100), st.integers(0, 50))
def test_a_looser_bound_is_never_slower(menus: list[list[Option]], bound: int, slack: int) -> None:
    tight, loose = solve(menus, bound), solve(menus, bound + slack)
    if tight is not None:
        assert loose is not None
        assert total(menus, loose).latency_ms <= total(menus, tight).latency_ms


@given(MENUS, st.integers(-30, 100), st.integers(2, 5))
def test_with_few_states_the_bound_still_holds_and_an_answer_is_still_found(
    menus: list[list[Option]], bound: int, max_states: int
) -> None:
    found, best = solve(menus, bound, max_states), by_trying_all(menus, bound)
    assert (found is None) == (best is None)
    if found is not None:
        assert total(menus, found).noise <= bound


def test_sixty_groups_that_all_differ_are_solved_at_once() -> None:
    menus = [[Option(0.0, 1.0 + i / 61), Option(0.01 + (i * 7919 % 97) / 97, 0.3)] for i in range(60)]
    found = solve(menus, 50.0)
    assert found is not None
    assert total(menus, found).noise <= 50.0


def test_an_empty_menu_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one option"):
        solve([[Option(0, 0)], []], 1.0)


def chain(step_ms: float) -> tuple[int, ...]:
    """Five operators in a row, 0 = integer (1 ms), 1 = float (2 ms); a step between the two costs time."""
    noises = [1.0, 5.0, 1.0, 5.0, 1.0]

    def evaluate(choices: tuple[int, ...]) -> Option:
        steps = sum(one != other for one, other in zip((1, *choices), (*choices, 1), strict=True))
        noise = sum(noise for noise, choice in zip(noises, choices, strict=True) if choice == 0)
        return Option(steps * step_ms + sum(1.0 + choice for choice in choices), noise)

    return refine((0, 1, 0, 1, 0), (1,) * 5, (0,) * 5, evaluate, bound=3.0)


def test_an_operator_between_two_float_ones_becomes_float_where_steps_cost_more() -> None:
    assert chain(step_ms=0.1) == (0, 1, 0, 1, 0)
    assert chain(step_ms=0.6) == (1, 1, 1, 1, 1)
    assert chain(step_ms=0.0) == (0, 1, 0, 1, 0)


@given(
    st.lists(st.integers(0, 9).map(float), min_size=2, max_size=6),
    st.lists(st.integers(1, 9).map(float), min_size=6, max_size=6),
    st.integers(0, 30),
)
def test_refining_keeps_the_bound_and_never_gets_slower(noises: list[float], costs: list[float], bound: int) -> None:
    count = len(noises)

    def evaluate(choices: tuple[int, ...]) -> Option:
        steps = sum(one != other for one, other in zip(choices[1:], choices, strict=False))
        return Option(
            3.0 * steps + sum(cost for cost, choice in zip(costs, choices, strict=False) if choice),
            sum(noise for noise, choice in zip(noises, choices, strict=True) if choice == 0),
        )

    for start in ((0,) * count, (1,) * count):
        found = evaluate(refine(start, (1,) * count, (0,) * count, evaluate, float(bound)))
        assert found.noise <= bound
        if evaluate(start).noise <= bound:
            assert found.latency_ms <= evaluate(start).latency_ms * 1.01
