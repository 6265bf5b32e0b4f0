"""Solves for the fastest plan within a bound on the noise: knapsack first, then runs of neighbours together."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..quantize.plan import Plan
from .groups import Structure, integer_operators
from .knapsack import Option, solve
from .noise import NoiseModel
from .price import PriceList
from .refine import Choices, refine
from .repairs import FLOAT_REPAIR, KEEP, WIDE_REPAIR, Repair, repaired
from .search import Proposal


class Planner:
    """Choices of one repair per group, and what they cost."""

    def __init__(
        self,
        plan: Plan,
        structure: Structure,
        menus: Sequence[Sequence[Repair]],
        noise: NoiseModel,
        prices: PriceList,
    ) -> None:
        """`menus` has one menu per group of the structure; the first line of each leaves everything as planned."""
        self._plan = plan
        self._structure = structure
        self._menus = menus
        self._noise = noise
        self._prices = prices
        self._known: dict[Choices, Option] = {}
        self._found: list[Choices] = []
        self.plain: Choices = (0,) * len(menus)
        self._options = [[self._alone(index, line) for line in range(len(menu))] for index, menu in enumerate(menus)]

    def evaluate(self, choices: Choices) -> Option:
        """Predicted latency and noise."""
        if choices not in self._known:
            plan = self._repaired(choices)
            self._known[choices] = Option(self._prices.of(plan), self._noise.of(plan))
        return self._known[choices]

    def _alone(self, index: int, line: int) -> Option:
        """What one repair changes when it is the only one."""
        before = self.evaluate(self.plain)
        after = self.evaluate((*self.plain[:index], line, *self.plain[index + 1 :]))
        return Option(after.latency_ms - before.latency_ms, after.noise - before.noise)

    def changes(self, index: int) -> list[tuple[Repair, Option]]:
        """The menu of a group with what every repair changes when it is the only one; `as planned` left out."""
        return list(zip(self._menus[index], self._options[index], strict=True))[1:]

    def solve(self, bound: float) -> Proposal | None:
        """The fastest plan found whose predicted noise is within the bound, or None where no repair helps enough."""
        best: Choices | None = None
        quiet, loud = self._quiet(), self._loud()
        for start in self._starts(bound, quiet):
            found = refine(start, quiet, loud, self.evaluate, bound)
            option = self.evaluate(found)
            if option.noise <= bound and (best is None or option.latency_ms < self.evaluate(best).latency_ms):
                best = found
        if best is None:
            return None
        self._found.append(best)
        return self.proposal(best)

    def proposal(self, choices: Choices) -> Proposal:
        """The plan of some choices."""
        option = self.evaluate(choices)
        chosen = [self._menus[index][line] for index, line in enumerate(choices)]
        return Proposal(
            plan=_tidy(self._repaired(choices), self._structure),
            repairs={repair.group: repair.name for repair in chosen if repair.name != KEEP},
            latency_ms=option.latency_ms,
            noise=option.noise,
        )

    def _starts(self, bound: float, quiet: Choices) -> list[Choices]:
        """The knapsack's answer, in which every group is priced alone, the quietest plan, and what was found before."""
        chosen = solve(self._options, bound - self.evaluate(self.plain).noise)
        return [*([] if chosen is None else [chosen]), quiet, *dict.fromkeys(self._found)]

    def _quiet(self) -> Choices:
        """Float where float can run, else what adds the least noise."""
        return tuple(self._quietest(index) for index in range(len(self._menus)))

    def _quietest(self, index: int) -> int:
        lines = range(len(self._menus[index]))
        floats = [line for line in lines if self._menus[index][line].name == FLOAT_REPAIR]
        return floats[0] if floats else min(lines, key=lambda line: self._options[index][line].noise)

    def _loud(self) -> Choices:
        """The best that 8 bits can do."""
        return tuple(self._best_narrow(index) for index in range(len(self._menus)))

    def _best_narrow(self, index: int) -> int:
        def cost(line: int) -> tuple[float, float]:
            option = self._options[index][line]
            return option.latency_ms, option.noise

        menu = self._menus[index]
        return min((line for line in range(len(menu)) if menu[line].name not in {FLOAT_REPAIR, WIDE_REPAIR}), key=cost)

    def _repaired(self, choices: Choices) -> Plan:
        return repaired(self._plan, tuple(self._menus[index][line] for index, line in enumerate(choices) if line))


def _tidy(plan: Plan, structure: Structure) -> Plan:
    """Without encodings of tensors that nobody rounds any more."""
    integer = integer_operators(plan)
    idle = {
        tensor
        for rounding in structure.roundings.values()
        if not rounding.happens(integer)
        for tensor in rounding.tensors
    }
    kept = {name: encoding for name, encoding in plan.tensors.items() if name not in idle}
    return msgspec.structs.replace(plan, tensors=kept)
