"""The multiple-choice knapsack: one option per group, least latency, total noise within a bound.

Solved exactly over the states that no other state beats in both latency and noise (Nemhauser and Ullmann, 1969). Where
there are more such states than are worth keeping, only the fastest of each small step of noise stays, so that the
answer keeps the bound and may be slower than the best by what those steps hide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MAX_STATES = 4096


@dataclass(frozen=True)
class Option:
    """One way to run a group; figures may be differences, and then negative."""

    latency_ms: float
    noise: float


@dataclass(frozen=True)
class _State:
    latency_ms: float
    noise: float
    choices: tuple[int, ...]


def solve(menus: Sequence[Sequence[Option]], bound: float, max_states: int = MAX_STATES) -> tuple[int, ...] | None:
    """The option of each group, or None where no choice keeps the bound.

    Least latency first, then least noise, then the options that stand first: the answer depends on nothing else.

    Raises:
        ValueError: a menu is empty.
    """
    if not all(menus):
        raise ValueError("every group needs at least one option")
    least = [min(option.noise for option in menu) for menu in menus]
    if sum(least) > bound:
        return None
    states = [_State(0.0, 0.0, ())]
    for index, menu in enumerate(menus):
        rest = sum(least[index + 1 :])
        grown = [
            _State(state.latency_ms + option.latency_ms, state.noise + option.noise, (*state.choices, choice))
            for state in states
            for choice, option in enumerate(menu)
        ]
        states = _thinned(_unbeaten([state for state in grown if state.noise + rest <= bound]), max_states)
    return states[0].choices if states else None


def _unbeaten(states: list[_State]) -> list[_State]:
    """By rising latency and falling noise."""
    kept: list[_State] = []
    for state in sorted(states, key=lambda state: (state.latency_ms, state.noise, state.choices)):
        if not kept or state.noise < kept[-1].noise:
            kept.append(state)
    return kept


def _thinned(states: list[_State], max_states: int) -> list[_State]:
    """The quietest state always stays, or the bound could be missed for no reason."""
    if len(states) <= max_states:
        return states
    step = (states[0].noise - states[-1].noise) / (max_states - 1)
    kept: list[_State] = []
    for state in states:
        if not kept or kept[-1].noise - state.noise >= step:
            kept.append(state)
    return kept if kept[-1] is states[-1] else [*kept, states[-1]]
