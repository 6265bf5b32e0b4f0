"""Plans of requests that came before.

A client sends the same JSON before each of its binary tensors, so that plans are kept by their exact bytes; and the
same JSON around the numbers of each request, so that those are kept by what stands around the numbers.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from numpy.typing import NDArray

from ..limits import Limits
from ..pipeline import Signature
from .forms import Form, cut, form_of, takes_id
from .plan import Plan, plan_request

_KEPT = 256
_LONGEST_TEXT = 2048
_LEADING_ID = re.compile(rb'\{"id": ?"([ !#-\[\]-~]{0,128})", ?')
"""Clients write the id first; one without escapes is what its bytes say, and the rest is as good as without it."""


class Plans:
    """The last few plans, by signature and JSON: bounded, whatever clients send."""

    def __init__(self) -> None:
        # Each entry holds its signature, so that nothing else gets the identity that is in the key.
        self._plans: dict[tuple[int, bytes], tuple[Signature, Plan]] = {}
        self._forms: dict[tuple[object, ...], tuple[Signature, Form | None]] = {}
        """By what stands around the lists; None for what has no form, so that it is not looked for again."""
        self._latest: dict[int, tuple[Signature, bytes, bytes, Form]] = {}
        """The last form with one list, and what stands before and behind it: most requests of a model have the same."""

    def plan(self, text: bytes, signature: Signature, limits: Limits) -> tuple[Plan, str | None]:
        """`plan_request`, from memory where the same was asked before, and the request's id.

        Raises:
            Refusal: as `plan_request`.
        """
        identity, rest = _split_id(text)
        key = (id(signature), rest)
        kept = self._plans.get(key)
        if kept is None:
            plan = plan_request(text, signature, limits)
            # An id is of one request, and so are numbers in JSON: keeping those would only drive out the others.
            listed = any(each.array is not None for each in plan.inputs)
            if listed or len(rest) > _LONGEST_TEXT or not takes_id(rest):
                return plan, plan.id
            kept = signature, msgspec.structs.replace(plan, id=None)
            _keep(self._plans, key, kept)
        return kept[1], identity

    def read(
        self, text: bytes, signature: Signature, limits: Limits
    ) -> tuple[Plan, str | None, dict[str, NDArray[Any]] | None]:
        """`plan_request` of a request that is all JSON: its plan, its id, and its inputs where the plan has none.

        Raises:
            Refusal: as `plan_request`.
        """
        identity, rest = _split_id(text)
        if len(text) <= limits.json_bytes:
            known = self._known(rest, signature)
            if known is not None:
                return known[0], identity, known[1]
        plan = plan_request(text, signature, limits)
        if plan.id == identity:
            self._learn(rest, signature, limits)
        return plan, plan.id, None

    def _known(self, text: bytes, signature: Signature) -> tuple[Plan, dict[str, NDArray[Any]]] | None:
        latest = self._latest.get(id(signature))
        if latest is not None:
            _, head, tail, form = latest
            if text.startswith(head) and text.endswith(tail):
                return form.read_one(text[len(head) : len(text) - len(tail)])
        parts = cut(text)
        if parts is None:
            return None
        around, lists = parts
        kept = self._forms.get((id(signature), *around))
        if kept is None or kept[1] is None:
            return None
        if len(lists) == 1:
            _keep(self._latest, id(signature), (signature, *around, kept[1]))
        return kept[1].read(lists)

    def _learn(self, text: bytes, signature: Signature, limits: Limits) -> None:
        parts = cut(text)
        if parts is None:
            return
        key = (id(signature), *parts[0])
        if key not in self._forms:
            _keep(self._forms, key, (signature, form_of(parts[0], signature, limits)))


def _split_id(text: bytes) -> tuple[str | None, bytes]:
    found = _LEADING_ID.match(text)
    return (None, text) if found is None else (found[1].decode(), b"{" + text[found.end() :])


def _keep(memory: dict[Any, Any], key: object, value: object) -> None:
    if key not in memory and len(memory) >= _KEPT:
        del memory[next(iter(memory))]
    memory[key] = value
