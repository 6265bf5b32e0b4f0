"""Improves a choice of options where groups depend on each other.

The knapsack prices every group alone. In truth the step between float and integers is paid once per run of
neighbours, and a tensor stays unrounded only where all its neighbours are float. So runs of neighbours are switched
together, as long as that makes the plan faster within the bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from .knapsack import Option

MAX_RUN = 8
"""Longer runs come about by joining; runs to either end of the model have any length."""
MIN_GAIN = 1e-9
"""Relative; less is rounding of the arithmetic."""
WORTH_OF_DB = 2e-4
"""Share of the latency that 1 dB less noise is worth: it decides between plans that are as good as equally fast."""
QUIET_ENOUGH = 1e-4
"""Share of the bound below which less noise is worth nothing."""

Choices = tuple[int, ...]
Evaluate = Callable[[Choices], Option]


def refine(start: Choices, quiet: Choices, loud: Choices, evaluate: Evaluate, bound: float) -> Choices:
    """A choice within the bound that no switch of a run improves; the least noise where the bound cannot be kept.

    Args:
        start: the option of each group.
        quiet: per group the option with no noise of its own (float).
        loud: per group the option that it is switched back to.
        evaluate: latency and noise of a whole choice.
        bound: of the noise.
    """
    best, found = start, evaluate(start)
    improved = True
    while improved:
        improved = False
        for run in _runs(len(start)):
            for options in (quiet, loud):
                trial = (*best[: run.start], *options[run.start : run.stop], *best[run.stop :])
                if trial == best:
                    continue
                option = evaluate(trial)
                if _is_better(option, found, bound):
                    best, found, improved = trial, option, True
    return best


def _runs(count: int) -> Iterator[range]:
    for length in range(1, min(MAX_RUN, count) + 1):
        for first in range(count - length + 1):
            yield range(first, first + length)
    for length in range(MAX_RUN + 1, count + 1):
        yield range(length)
        yield range(count - length, count)


def _is_better(new: Option, old: Option, bound: float) -> bool:
    if old.noise > bound:
        return new.noise < old.noise * (1 - MIN_GAIN)
    return new.noise <= bound and _merit(new, bound) < _merit(old, bound) * (1 - MIN_GAIN)


def _merit(option: Option, bound: float) -> float:
    """Latency, with a little off for what stays clear of the bound."""
    share = max(option.noise / bound, QUIET_ENOUGH) if bound > 0 else 1.0
    return option.latency_ms * (1 + WORTH_OF_DB * 10 * math.log10(share))
