"""Plans of requests that came before.

A client sends the same JSON before each of its binary tensors, so that plans are kept by their exact bytes.
"""

from __future__ import annotations

import re

from ..limits import Limits
from ..pipeline import Signature
from .plan import Plan, plan_request

_PLANS = 256
_LONGEST_TEXT = 2048
_LEADING_ID = re.compile(rb'\{"id": ?"([ !#-\[\]-~]{0,128})", ?')
"""Clients write the id first; one without escapes is what its bytes say, and the rest is as good as without it."""


class Plans:
    """The last few plans, by signature and exact JSON: bounded, whatever clients send."""

    def __init__(self) -> None:
        self._plans: dict[tuple[int, bytes], tuple[Signature, Plan]] = {}

    def plan(self, text: bytes, signature: Signature, limits: Limits) -> tuple[Plan, str | None]:
        """`plan_request`, from memory where the same was asked before, and the request's id.

        Raises:
            Refusal: as `plan_request`.
        """
        found = _LEADING_ID.match(text)
        if found is None:
            plan = self._planned(text, signature, limits)
            return plan, plan.id
        plan = self._planned(b"{" + text[found.end() :], signature, limits)
        return plan, found[1].decode() if plan.id is None else plan.id

    def _planned(self, text: bytes, signature: Signature, limits: Limits) -> Plan:
        key = (id(signature), text)  # the entry holds the signature, so that nothing else gets its identity
        kept = self._plans.get(key)
        if kept is not None:
            return kept[1]
        plan = plan_request(text, signature, limits)
        # An id is of one request, and so are numbers in JSON: keeping those would only drive out the others.
        if plan.id is None and len(text) <= _LONGEST_TEXT and all(each.array is None for each in plan.inputs):
            if len(self._plans) >= _PLANS:
                del self._plans[next(iter(self._plans))]
            self._plans[key] = signature, plan
        return plan
