"""Requests that differ in the numbers of their JSON lists only.

Clients send the same JSON around other numbers. What stands around the lists is planned once; of the next request only
the lists are read. That a text has a known form is no guess: each list takes the place of a value in a text that was
read, and is itself one whole JSON value, and JSON means the same around any value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from numpy.typing import NDArray

from ..limits import Limits
from ..pipeline import Signature
from ..refusal import Refusal
from .json_lists import MISFITS, ListReader, list_reader
from .plan import Plan, plan_around
from .request_json import read_json

_LABEL = b'"data"'
_LISTS = 64
"""More are read the long way; so is what is nested deeper than `_NESTED`."""
_NESTED = 16
_AROUND_BYTES = 2048
_MARK = 10**17 + 7
"""Lists of this number and of the next ones show where a text has its data."""


class Form(msgspec.Struct, frozen=True):
    """The requests of one plan, whose inputs are all JSON lists."""

    plan: Plan
    """Its inputs have no arrays."""
    readers: tuple[tuple[str, ListReader], ...]
    """Name of the input that each list is of, and what reads it."""

    def read(self, lists: Sequence[bytes]) -> tuple[Plan, dict[str, NDArray[Any]]] | None:
        """Return the plan and the inputs, or None where a list is not what it must be: the long way says what is."""
        tensors: dict[str, NDArray[Any]] = {}
        try:
            for (name, read), text in zip(self.readers, lists, strict=True):
                tensors[name] = read(text)
        except MISFITS:
            return None
        return self.plan, tensors

    def read_one(self, text: bytes) -> tuple[Plan, dict[str, NDArray[Any]]] | None:
        """`read` of one list, the commonest number of them."""
        name, read = self.readers[0]
        try:
            return self.plan, {name: read(text)}
        except MISFITS:
            return None


def form_of(around: Sequence[bytes], signature: Signature, limits: Limits) -> Form | None:
    """Return the form of the texts that have JSON lists between these parts; None where there is no such form."""
    marks = [b"[%d]" % (_MARK + index) for index in range(len(around) - 1)]
    text = b"".join(part for pair in zip(around, marks, strict=False) for part in pair) + around[-1]
    if any(text.count(mark) != 1 for mark in marks):
        return None
    try:
        plan = plan_around(text, marks, signature, limits)
    except Refusal:
        return None
    if plan is None or plan.id is not None or not takes_id(text):  # an id is of one request
        return None
    return Form(
        plan,
        tuple((each.name, list_reader(each.datatype, each.shape, each.name, limits.rank)) for each in plan.inputs),
    )


def takes_id(text: bytes) -> bool:
    """Whether an id that is written in front of all else is the request's: the last one counts, be it null."""
    try:
        return read_json(b'{"id":"-",' + text[1:]).id == "-"
    except Refusal:
        return False


def cut(text: bytes) -> tuple[list[bytes], list[bytes]] | None:
    """Return what stands around the lists behind each `"data"`, and the lists: in turn, they are the text.

    A list is taken to end where as many brackets close in a row as open it. In strings and in unusual spellings that
    is wrong, and then it is no JSON list.
    """
    around: list[bytes] = []
    lists: list[bytes] = []
    at = around_bytes = 0
    label = text.find(_LABEL)
    while label >= 0:
        begin = text.find(b"[", label)
        end = _end_of_list(text, begin)
        if begin < 0 or end <= 0 or len(lists) == _LISTS:
            return None
        around_bytes += begin - at
        around.append(text[at:begin])
        lists.append(text[begin:end])
        at = end
        label = text.find(_LABEL, at)
    if around_bytes + len(text) - at > _AROUND_BYTES or not lists:
        return None
    around.append(text[at:])
    return around, lists


def _end_of_list(text: bytes, begin: int) -> int:
    """Where it ends, below 1 where it does not."""
    if text[begin + 1 : begin + 2] != b"[":
        return text.find(b"]", begin) + 1
    opening = text[begin : begin + _NESTED]
    depth = len(opening) - len(opening.lstrip(b"["))
    closing = text.find(b"]" * depth, begin)
    return closing + depth if closing >= 0 else 0
